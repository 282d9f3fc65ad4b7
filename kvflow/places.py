"""Threads that keep no process: in one of them a step may stand for as long as it likes.

Those of ``concurrent.futures`` are waited for when the interpreter ends, and a worker whose grace is over would not
leave before its slowest step.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

Outcome = TypeVar("Outcome")


class Places:
    """Daemon threads as they are needed, up to so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._begun = 0

    def do(self, work: Callable[[], None]) -> None:
        """Do it in one of the threads; called from one thread alone."""
        self._work.put(work)
        if not self._idle.acquire(blocking=False) and self._begun < self._most:
            self._begun += 1
            threading.Thread(target=self._serve, name=f"kvflow-place-{self._begun}", daemon=True).start()

    def begin(self, call: Callable[..., Outcome], *args: object) -> Future[Outcome]:
        """Call likewise, for whoever wants to know what it came to."""
        future: Future[Outcome] = Future()
        self.do(partial(_settle, future, call, args))
        return future

    def close(self) -> None:
        """End the threads, each when it has done what it does."""
        for _ in range(self._begun):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            self._idle.release()


def begin(call: Callable[..., Outcome], *args: object) -> Future[Outcome]:
    """Call in a thread of its own."""
    place = Places(1)
    future = place.begin(call, *args)
    place.close()
    return future


def _settle(future: Future[Outcome], call: Callable[..., Outcome], args: tuple[object, ...]) -> None:
    try:
        outcome = call(*args)
    except BaseException as error:  # noqa: BLE001 (raised where the outcome is asked for)
        future.set_exception(error)
    else:
        future.set_result(outcome)
