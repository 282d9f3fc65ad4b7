"""Sessions kept open for the next call: a few at most, the last used first.

A session is one thread's at a time. It comes back to the pool only where it is known to be in order; one that
broke, or whose call was interrupted anywhere, is closed. One that was idle for long, or to which the server
has said good-bye, is replaced before it is used.

What is out is remembered weakly: a session that an interrupt, wherever it came, made everybody forget takes no
place.

A forked child forgets what its parent had open, for two processes cannot talk on one connection. It says no
good-bye on it either: to forget a connection closes the child's end only, and the server does not see it.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType

from kvflow.errors import KvflowError, StoreUnavailable
from kvflow.stores.mysql_driver import MySQLError
from kvflow.stores.mysql_session import IDLE, Session

_FRESH = IDLE * 2 / 3
"""Seconds for which an idle session is trusted; the server ends it a while later."""

_pools: "weakref.WeakSet[Pool]" = weakref.WeakSet()


class Pool:
    """At most ``size`` sessions, made by ``make``, which is told how many seconds it has."""

    def __init__(self, make: Callable[[float], Session], size: int) -> None:
        self._make = make
        self._size = size
        self._closed = False
        self._forget()
        _pools.add(self)

    def _forget(self) -> None:
        self._changed = threading.Condition()
        self._idle: deque[tuple[Session, float]] = deque()
        self._out: weakref.WeakSet[Session | _Place] = weakref.WeakSet()

    def session(self, deadline: float) -> "Loan":
        """A session for a block that may fail by the driver's errors or ours, and is else taken for broken."""
        return Loan(self, deadline)

    def take(self, deadline: float) -> Session:
        """A session that nobody else has until it is given back."""
        with self._changed:
            while not self._closed and not self._idle and len(self._out) >= self._size:
                if not self._changed.wait(deadline - monotonic()):
                    raise StoreUnavailable(f"all {self._size} connections of the pool were busy until the timeout")
            if self._closed:
                raise StoreUnavailable("this store is closed: open another")
            session = self._fresh()
            place = session or _Place()
            self._out.add(place)
        try:
            if session is None:
                session = self._make(max(deadline - monotonic(), 0.05))
                self._out.add(session)
                self._out.discard(place)
            session.limit(deadline - monotonic())
        except BaseException:
            self._leave(session or place, keep=False)
            raise
        return session

    def _fresh(self) -> Session | None:
        """The idle session that was used last, if it still stands."""
        while self._idle:
            session, since = self._idle.pop()
            if monotonic() - since < _FRESH and session.quiet():
                return session
            session.close()
        return None

    def give(self, session: Session, whole: bool) -> None:
        """Take back a session, in order if ``whole``, or at least the place of one."""
        try:
            if whole and session.in_transaction:
                session.settle()
        except MySQLError:
            whole = False  # the server rolls back by itself what a connection leaves open
        except BaseException:
            whole = False
            raise
        finally:
            if not self._leave(session, keep=whole):
                session.close()

    def _leave(self, session: "Session | _Place", keep: bool) -> bool:
        """Free this place; whether it is a session that is kept, which a pool closed meanwhile does not."""
        with self._changed:
            self._out.discard(session)
            self._changed.notify()
            if not keep or self._closed or not isinstance(session, Session):
                return False
            self._idle.append((session, monotonic()))
            while monotonic() - self._idle[0][1] > _FRESH:
                self._idle.popleft()[0].close()
            return True

    def drop_idle(self) -> None:
        """Close what is idle: where one session was lost, the others are likely to be lost too."""
        with self._changed:
            idle, self._idle = self._idle, deque()
        for session, _ in idle:
            session.close()

    def close(self) -> None:
        """Close what is idle now, and the rest as it comes back; who waits for a session is told at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.drop_idle()


class _Place:
    """Stands for a session that is being made."""


class Loan:
    """A session, out of the pool for one block."""

    def __init__(self, pool: Pool, deadline: float) -> None:
        self._pool = pool
        self._deadline = deadline

    def __enter__(self) -> Session:
        self._session = self._pool.take(self._deadline)
        return self._session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, MySQLError):
            self._session.failed(error)
        known = error is None or isinstance(error, (MySQLError, KvflowError))
        self._pool.give(self._session, whole=known and not self._session.lost)


def _forget_all() -> None:
    for pool in list(_pools):
        pool._forget()  # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
