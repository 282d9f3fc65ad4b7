"""What a worker counts."""

import threading
from collections import deque
from datetime import timedelta
from typing import Final

from msgspec import Struct

from kvflow.info import Driven
from kvflow.leases import Held
from kvflow.run import Status, StoredRun

WAKES: Final = 1000
"""How many wakes the lateness is told of: enough for a picture, and of the recent past alone."""


class Stats(Struct, frozen=True):
    """What a worker has done since it began, how many runs it drives now, and how late its latest wakes were.

    ``busy`` is 0 when all that it did is stored; it is never more than the worker has places.

    ``driven`` counts drives that came to rest, to an end, or to a step boundary when the worker stopped; ``failed``
    those of them that left their run failed. ``lateness`` is the mean of the last thousand wakes.
    """

    driven: int
    failed: int
    deferred: int
    lost: int
    busy: int
    lateness: timedelta
    worst_lateness: timedelta


class Tally:
    """The counts, safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._driven = self._failed = self._deferred = self._lost = 0
        self._late: deque[int] = deque(maxlen=WAKES)

    def woken(self, run: StoredRun, now: int) -> None:
        """A run was claimed, so long after it was due."""
        if run.wake_at is not None:
            with self._lock:
                self._late.append(max(0, now - run.wake_at))

    def ended(self, held: Held, driven: Driven) -> None:
        """A drive has ended."""
        with self._lock:
            if held.gone:
                self._lost += 1
            elif driven.deferred is not None:
                self._deferred += 1
            else:
                self._driven += 1
                self._failed += driven.run.status is Status.FAILED

    def stats(self, busy: int) -> Stats:
        """The counts as they stand."""
        with self._lock:
            late = self._late or [0]
            return Stats(
                driven=self._driven,
                failed=self._failed,
                deferred=self._deferred,
                lost=self._lost,
                busy=busy,
                lateness=timedelta(milliseconds=sum(late) / len(late)),
                worst_lateness=timedelta(milliseconds=max(late)),
            )
