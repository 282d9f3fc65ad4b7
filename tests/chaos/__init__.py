"""Random courses of kvflow, and the seeds that replay them: each failure names its own.

``make test`` takes the same few seeds each time. ``make chaos`` (the marker ``chaos``) takes new ones and lasts about
``KVFLOW_CHAOS_MINUTES`` in all: each test says in its mark for which share of them it goes on, beside the others. With
``KVFLOW_CHAOS_SEED`` a test takes that one alone.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from random import SystemRandom
from typing import TypeVar

import pytest

T = TypeVar("T")

MINUTES = float(os.environ.get("KVFLOW_CHAOS_MINUTES", "1"))
SEED = os.environ.get("KVFLOW_CHAOS_SEED")

SMALL = 1 / 24
"""The share of a test that says none: one of many. A test that takes as long as it takes says 0."""


def chaos_seeds(share: float = SMALL) -> Iterator[int]:
    """New seeds until this share of the time is over, at least one."""
    if SEED is not None:
        yield int(SEED)
        return
    seed, until = SystemRandom().randrange(1_000_000_000), time.monotonic() + 60 * MINUTES * share
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


def share_of(test: pytest.Item) -> float:
    """What its mark says."""
    mark = test.get_closest_marker("chaos")
    return SMALL if mark is None else float(mark.kwargs.get("share", SMALL))


def side_by_side(tests: Sequence[T], length: Callable[[T], float]) -> list[T]:
    """The longest, the shortest, the second longest, and so on: xdist gives each of its processes two to begin with.
    So what lasts the whole time begins at once, and what waits behind it is short."""
    ranked = sorted(tests, key=length, reverse=True)
    return [test for pair in zip(ranked, reversed(ranked), strict=True) for test in pair][: len(ranked)]
