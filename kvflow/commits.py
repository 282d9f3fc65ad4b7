"""Group commit: saves of different runs that are in flight at the same time share one call of the store.

Whoever saves alone is not made to wait: a save goes out at once while few are under way, and only what comes while
they are is gathered, to go out together as soon as one of them is answered. An answer means what it always meant:
each save succeeds or fails by itself, and none is answered before it is stored.
"""

import asyncio
import os
import threading
from collections.abc import Sequence
from concurrent.futures import Executor
from copy import copy
from functools import partial
from typing import Any, Final
from weakref import WeakKeyDictionary

from kvflow.checks import Save
from kvflow.errors import KvflowError
from kvflow.run import Lease, StoredRun
from kvflow.store import Store

THREADS: Final = 16
"""How many calls of threads are under way before saves are gathered: up to here a store does better side by side."""

TASKS: Final = 2
"""The same for tasks, which share one loop: one call at the store while the next is gathered."""

MOST: Final = 200
"""How many saves go out together at most."""


def send(store: Store, saves: list[Save]) -> list[int | Exception]:
    """Save these; an error of the call as a whole is the outcome of each.

    After an error that is none of kvflow's each is sent by itself, so that it remains the trouble of its own run.
    """
    if len(saves) == 1:
        return [_alone(store, saves[0])]
    try:
        outcomes = list(store.save_many(saves))
    except KvflowError as error:
        return [_own(error) for _ in saves]
    except Exception:  # noqa: BLE001 (told by the run that it belongs to)
        return [_alone(store, save) for save in saves]
    return [_own(outcome) if isinstance(outcome, KvflowError) else outcome for outcome in outcomes]


def _own(error: KvflowError) -> KvflowError:
    """The same error for one run alone: whoever raises it leaves traces in it."""
    own = copy(error)
    own.__cause__ = error
    return own


def _alone(store: Store, save: Save) -> int | Exception:
    try:
        return store.save(*save)
    except Exception as error:  # noqa: BLE001 (raised by who waits for this answer)
        return error


class Waiting:
    """A save that goes out with others, and the thread that waits for its answer."""

    def __init__(self, save: Save) -> None:
        self.save = save
        self.crowd: list[Waiting] | None = None
        self.outcome: int | Exception = 0
        self._woken = threading.Lock()
        self._woken.acquire()

    def wait(self) -> None:
        """Wait for the answer, or to be the one who sends for a crowd."""
        self._woken.acquire()

    def wake(self) -> None:
        """Go on."""
        self._woken.release()


class Commits:
    """The saves of threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._under_way = 0
        self._gathered: list[Waiting] = []

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        """As ``store.save``."""
        if (waiting := self._joined((run, new, lease))) is None:
            try:
                return self._store.save(run, new, lease)
            finally:
                self._next()
        try:
            waiting.wait()
            self._send(waiting)
        except BaseException:
            self._leave(waiting)
            raise
        if isinstance(waiting.outcome, Exception):
            raise waiting.outcome
        return waiting.outcome

    def _joined(self, save: Save) -> Waiting | None:
        """A place among those that wait; None for whoever need not."""
        if self._process != os.getpid():  # into a forked child nobody came along whose answer could be waited for
            self._begin()
        with self._lock:
            if self._under_way < THREADS:
                self._under_way += 1
                return None
            waiting = Waiting(save)
            self._gathered.append(waiting)
            return waiting

    def _send(self, first: Waiting) -> None:
        """Send for the crowd, if there is one that this one leads."""
        if (crowd := first.crowd) is None:
            return
        outcomes = send(self._store, [one.save for one in crowd])
        first.crowd = None
        self._next()
        for one, outcome in zip(crowd, outcomes, strict=True):
            one.outcome = outcome
        for one in crowd[1:]:
            one.wake()

    def _next(self) -> None:
        """One call has been answered: the first of those that gathered meanwhile sends for all of them."""
        with self._lock:
            crowd, self._gathered = self._gathered[:MOST], self._gathered[MOST:]
            if not crowd:
                self._under_way -= 1
                return
            crowd[0].crowd = crowd
        crowd[0].wake()

    def _leave(self, waiting: Waiting) -> None:
        """Interrupted: those whom it led go out with another one, for a save can be sent again."""
        with self._lock:
            if waiting in self._gathered:
                self._gathered.remove(waiting)
            if waiting.crowd is None:
                return
            self._gathered[:0] = waiting.crowd[1:]
        self._next()


class AsyncCommits:
    """The saves of tasks, of each loop by themselves."""

    def __init__(self, store: Store, threads: Executor) -> None:
        self._send = partial(send, store)
        self._threads = threads
        self._of: WeakKeyDictionary[asyncio.AbstractEventLoop, _OfOneLoop] = WeakKeyDictionary()

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> "asyncio.Future[Any]":
        """As ``store.save``, to await; whoever is cancelled meanwhile gets the answer first."""
        loop = asyncio.get_running_loop()
        commits = self._of.get(loop)
        if commits is None:
            commits = self._of[loop] = _OfOneLoop(self._threads, self._send)
        return commits.save(loop, (run, new, lease))


class _OfOneLoop:
    """What comes within one turn of the loop goes out together."""

    def __init__(self, threads: Executor, send: Any) -> None:
        self._threads = threads
        self._send = send
        self._under_way = 0
        self._gathered: list[tuple[Save, Answer]] = []

    def save(self, loop: asyncio.AbstractEventLoop, save: Save) -> "Answer":
        answer = Answer(loop=loop)
        self._gathered.append((save, answer))
        if len(self._gathered) == 1 and self._under_way < TASKS:
            loop.call_soon(self._go)
        return answer

    def _go(self) -> None:
        if not self._gathered or self._under_way >= TASKS:
            return
        crowd, self._gathered = self._gathered[:MOST], self._gathered[MOST:]
        self._under_way += 1
        loop = asyncio.get_running_loop()
        try:
            sent = loop.run_in_executor(self._threads, self._send, [save for save, _ in crowd])
        except RuntimeError as error:  # the runtime is closed: told to each of them, and nobody waits for ever
            sent = loop.create_future()
            sent.set_exception(error)
        sent.add_done_callback(partial(self._answered, [answer for _, answer in crowd]))

    def _answered(self, answers: "list[Answer]", sent: "asyncio.Future[list[int | Exception]]") -> None:
        self._under_way -= 1
        self._go()
        outcomes: Sequence[Any]
        try:
            outcomes = sent.result()
        except BaseException as error:  # noqa: BLE001 (raised by who waits for these answers)
            outcomes = [error] * len(answers)
        for answer, outcome in zip(answers, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                answer.set_exception(outcome)
            else:
                answer.set_result(outcome)


class Answer(asyncio.Future[Any]):
    """Cannot be cancelled: a save that was sent is a save."""

    def cancel(self, msg: Any | None = None) -> bool:
        return False
