"""The runs that are measured: driven ones, sleepers, due ones, and crowds that are saved together.

Each has a head of 200 bytes. Snapshots and records are random text, so nothing shrinks them on the way.
"""

import os
import random
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from msgspec.structs import replace

from bench.figures import clocked
from kvflow.errors import KvflowError
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Outcomes, Runs, Save, Store

SMALL = 200
"""Bytes of a head and of a usual record."""

TTL = 600_000
WORKFLOWS = ("billing", "import", "mail", "order", "report")
HELD = 3
"""Records in the log of a run that is claimed."""

_MEGABYTE = 2**20
_MONTH = 30 * 24 * 3600 * 1000


def now() -> int:
    return time.time_ns() // 1_000_000


def text(size: int) -> bytes:
    """So many bytes that do not compress to much less."""
    return b64encode(os.urandom(size * 3 // 4 + 1))[:size]


def lease() -> Lease:
    return Lease(uuid.uuid4().hex, TTL)


def head(run_id: str, status: Status, wake_at: int | None = None, number: int = 0) -> StoredRun:
    """A run's first version."""
    return StoredRun(
        run_id=run_id,
        workflow=WORKFLOWS[number % len(WORKFLOWS)],
        status=status,
        version=1,
        wake_at=wake_at,
        created_at=now(),
        updated_at=now(),
        snapshot=text(SMALL),
    )


def sleepers(number: int) -> Iterator[StoredRun]:
    """Runs that wake at some time in the month after the next hour."""
    dice = random.Random(number)
    soonest = now() + 3_600_000
    for at in range(number):
        yield head(f"sleeper-{at:07}", Status.SUSPENDED, soonest + dice.randrange(_MONTH), at)


def due(name: str, number: int) -> Iterator[StoredRun]:
    """Runs that should have woken within the last minutes."""
    since = now() - 120_000
    for at in range(number):
        yield head(f"{name}-{at:06}", Status.SUSPENDED, since + at, at)


def waiting(name: str, number: int) -> Iterator[StoredRun]:
    """Runs that wait for an event and nothing else."""
    return (head(f"{name}-{at:04}", Status.WAITING) for at in range(number))


def bear(store: Store, runs: Iterable[StoredRun], records: int = 0, together: int = 1000) -> None:
    """Save the first versions, many at a time."""
    remaining = iter(runs)
    while some := list(islice(remaining, together)):
        expect(store.save_many([(run, [text(SMALL) for _ in range(records)], None) for run in some]))


def expect(outcomes: Outcomes) -> None:
    """Fail where an entry of a save_many failed."""
    for outcome in outcomes:
        if isinstance(outcome, KvflowError):
            raise outcome


class Drive:
    """A run being driven under one lease; it gives the saves of its next steps, to be made in order."""

    def __init__(self, store: Store, run_id: str, records: int = 0, size: int = SMALL) -> None:
        self._lease = lease()
        self._size = size
        self._run = head(run_id, Status.RUNNING)
        store.save(self._run, (), self._lease)
        chunk = max(1, _MEGABYTE // size)
        for at in range(0, records, chunk):
            store.save(*self._next(min(chunk, records - at)))

    def steps(self, number: int) -> list[Save]:
        return [self._next(1) for _ in range(number)]

    def _next(self, records: int) -> Save:
        new = [text(self._size) for _ in range(records)]
        run = replace(self._run, version=self._run.version + 1, updated_at=now(), snapshot=text(SMALL))
        self._run = replace(run, seen=run.seen + records)
        return run, new, self._lease


class Crowd:
    """Runs at rest that nobody holds; it gives the saves by which each of them comes a record further."""

    def __init__(self, store: Store, name: str, number: int) -> None:
        self._runs = list(due(name, number))
        bear(store, self._runs)

    def saves(self) -> list[Save]:
        runs = [replace(run, version=run.version + 1, updated_at=now(), snapshot=text(SMALL)) for run in self._runs]
        self._runs = [replace(run, seen=run.seen + 1) for run in runs]
        return [(run, [text(SMALL)], None) for run in runs]


def rest(run: StoredRun, held: Lease) -> Save:
    """The save by which a claimed run is due again as it was before."""
    return replace(run, version=run.version + 1, log=()), (), held


def finish(run: StoredRun, held: Lease) -> Save:
    """The save by which a claimed run is over."""
    return replace(run, version=run.version + 1, status=Status.COMPLETED, wake_at=None, log=()), (), held


def clocked_claim(store: Store, limit: int, workflows: tuple[str, ...] | None) -> float:
    """The seconds to claim so many that are due; afterwards they are due again."""
    return clocked_taking(store, limit, lambda mine: store.claim(now(), limit, mine, workflows))


def clocked_taking(store: Store, limit: int, take: Callable[[Lease], Runs]) -> float:
    """The seconds to take so many that are due, each with ``HELD`` records; afterwards they are due again."""
    mine = lease()
    seconds, runs = clocked(take, mine)
    if len(runs) != limit or any(len(run.log) != HELD for run in runs):
        raise AssertionError(f"{limit} runs with {HELD} records each were due, and {len(runs)} were taken")
    expect(store.save_many([rest(run, mine) for run in runs]))
    return seconds
