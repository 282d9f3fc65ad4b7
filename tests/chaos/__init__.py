"""Random courses of kvflow, and the seeds that replay them: each failure names its own.

``make test`` takes the same few seeds each time. ``make chaos`` (the marker ``chaos``) takes new ones, for
``KVFLOW_CHAOS_MINUTES`` minutes a test; with ``KVFLOW_CHAOS_SEED`` it takes that one alone.
"""

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from random import SystemRandom

MINUTES = float(os.environ.get("KVFLOW_CHAOS_MINUTES", "1"))


def chaos_seeds() -> Iterator[int]:
    """New seeds until the time is over, at least one."""
    named = os.environ.get("KVFLOW_CHAOS_SEED")
    if named is not None:
        yield int(named)
        return
    seed, until = SystemRandom().randrange(1_000_000_000), time.monotonic() + 60 * MINUTES
    yield seed
    while time.monotonic() < until:
        seed += 1
        yield seed


@contextmanager
def replayable(seed: int) -> Generator[None]:
    """Whatever fails in here says how to see it again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f'seed {seed}: KVFLOW_CHAOS_SEED={seed} make chaos PYTEST_ARGS="-k <this test>" replays it')
        raise
