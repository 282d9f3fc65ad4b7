"""The runs that a worker has in flight: from the claim to the end of the drive, or until they are let go.

None begins once they were asked back, so whoever asked knows all there are.
"""

import threading
import time
from collections import deque

from kvflow.effects import Work
from kvflow.instance import MOST_AT_ONCE, QUICK, Instance
from kvflow.leases import Held
from kvflow.log import INFO, WARNING, say, tell
from kvflow.run import StoredRun
from kvflow.stats import Stats, Tally
from kvflow.turns import Turns


class Flights:
    """Safe to share between threads."""

    def __init__(self, instance: Instance, turns: Turns, most: int) -> None:
        self._instance = instance
        self._turns = turns
        self._most = most
        self._tally = Tally()
        self._lock = threading.Lock()
        self._held: dict[Held, StoredRun] = {}
        self._placed = 0
        self._closed = False
        self._ended: deque[float] = deque(maxlen=MOST_AT_ONCE)

    def __len__(self) -> int:
        return len(self._held)

    def free(self) -> int:
        """How many more there are places for."""
        return self._most - self._placed

    def leave_place(self) -> None:
        """One run takes no place any more: its drive has ended, or only its last save has still to go out."""
        with self._lock:
            self._placed -= 1

    def ahead(self) -> int:
        """How many may be claimed before there is a place: as many as were driven in the last moment."""
        since = time.monotonic() - QUICK
        return sum(ended > since for ended in list(self._ended))

    def take(self, run: StoredRun, held: Held) -> bool:
        """Whether the run may begin."""
        with self._lock:
            if not self._closed:
                self._held[held] = run
                self._placed += 1
            return not self._closed

    def drive(self, run: StoredRun, held: Held) -> Work[None]:
        """Drive a run that was taken."""
        try:
            if held.asked_back():
                yield from self._instance.let_go(held)
                return
            self._tally.woken(run, self._instance.now())
            driven = yield from self._instance.drive_claimed(run, held, patient=True)
            self._tally.ended(held, driven)
            self._ended.append(time.monotonic())
        finally:
            with self._lock:
                self._held.pop(held, None)
            self._turns.may_be_due()

    def ask_back(self) -> None:
        """Let nothing more begin, and have each run back at its next step boundary."""
        with self._lock:
            self._closed = True
            for held in self._held:
                held.ask_back()
        say(INFO, "the worker stops and asks %d runs back", len(self._held))

    def left(self) -> list[Held]:
        """What still stands in a step, given up: whatever becomes of the step is not written here."""
        with self._lock:
            self._closed = True
            left = dict(self._held)
        for held, run in left.items():
            held.lost()
            tell(WARNING, run, "stands in a step as its worker leaves; whoever takes it runs that step again")
        return list(left)

    def stats(self) -> Stats:
        """What came of all so far."""
        return self._tally.stats(min(len(self), self._most))
