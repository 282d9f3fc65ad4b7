"""Where connections come from: a few of the store's own, or a psycopg_pool that is the user's.

The store's own are made in the thread that needs one, so whoever finds the server away is told why, at once and not
after a background thread's pauses. What always holds:

- A connection is lent to one thread at a time, and comes back idle or closed.
- One that was found dead takes the idle ones with it: whatever ended it most likely ended them.
- A forked child touches no connection of its parent's, not even to close it; it makes its own.
- A pool of the user's is never closed, and gets every connection back as it was.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

import psycopg
from psycopg import Connection, InterfaceError, OperationalError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from kvflow.errors import InvalidArgument
from kvflow.stores.postgres_protocol import Patience

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

Connect = Callable[[], Connection[Any]]

_NO_URL = (
    "this is no URL of a PostgreSQL server: postgresql://user:password@host/db; percent-encode what is special in name"
    " and password"
)


class Connections(Protocol):
    """What the store asks of either kind."""

    @property
    def spare(self) -> int:
        """How many connections may turn out dead one after the other though the server is there."""
        ...

    def lend(self, patience: Patience) -> Connection[Any]:
        """A connection for this thread, as soon as there is one."""
        ...

    def take_back(self, conn: Connection[Any]) -> None:
        """Whatever state it is in; only an idle one is lent again."""
        ...

    def distrust(self) -> None:
        """A connection was found dead."""
        ...

    def close(self) -> None:
        """Close what this store opened."""
        ...


class OwnConnections:
    """Up to ``size`` connections, made when they are wanted and kept for the next call."""

    spare = 1

    def __init__(self, connect: Connect, size: int) -> None:
        self._connect = connect
        self._size = size
        self._forget()
        _forgetful.add(self)

    def _forget(self) -> None:
        self._idle: list[Connection[Any]] = []
        self._open: set[Connection[Any]] = set()
        self._places = self._size
        self._closed = False
        self._changed = threading.Condition()

    def forked(self) -> None:
        """Start over in the child. The parent's connections are kept from being collected, which would end them."""
        _parents.append(self._open)
        closed = self._closed
        self._forget()
        self._closed = closed

    def lend(self, patience: Patience) -> Connection[Any]:
        with self._changed:
            while not self._closed and not self._places:
                if not self._changed.wait(patience.left()):
                    raise OperationalError(f"all {self._size} connections are in use")
            if self._closed:
                raise InterfaceError("this store is closed")
            self._places -= 1
            if self._idle:
                return self._idle.pop()
        try:
            conn = self._connect()
        except BaseException:
            with self._changed:
                self._places += 1
                self._changed.notify()
            raise
        self._open.add(conn)
        return conn

    def take_back(self, conn: Connection[Any]) -> None:
        idle = conn.pgconn.transaction_status == pq.TransactionStatus.IDLE
        with self._changed:
            keep = idle and not self._closed
            if keep:
                self._idle.append(conn)
            self._places += 1
            self._changed.notify()
        if not keep:
            self._end(conn)

    def distrust(self) -> None:
        with self._changed:
            idle, self._idle = self._idle, []
        for conn in idle:
            self._end(conn)

    def _end(self, conn: Connection[Any]) -> None:
        conn.close()
        self._open.discard(conn)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.distrust()


class UsersConnections:
    """The connections of a pool that was handed in; in a forked child, connections of its own to the same server."""

    def __init__(self, pool: "ConnectionPool[Any]") -> None:
        self._pool = pool
        self._childs: OwnConnections | None = None
        _forgetful.add(self)

    def forked(self) -> None:
        """Leave the pool, whose threads stayed with the parent."""
        if self._childs is None:
            self._childs = OwnConnections(self._connect, self._pool.max_size)

    def _connect(self) -> Connection[Any]:
        conninfo: Any = self._pool.conninfo
        made: Any = self._pool.kwargs
        kwargs: Any = made() if callable(made) else made
        connection: Connection[Any] = self._pool.connection_class.connect(
            conninfo() if callable(conninfo) else conninfo, **(kwargs or {})
        )
        return connection

    @property
    def spare(self) -> int:
        return 1 if self._childs else self._pool.max_size

    def lend(self, patience: Patience) -> Connection[Any]:
        if self._childs:
            return self._childs.lend(patience)
        connection: Connection[Any] = self._pool.getconn(timeout=patience.left())
        return connection

    def take_back(self, conn: Connection[Any]) -> None:
        if self._childs:
            self._childs.take_back(conn)
            return
        if conn.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            conn.close()
        self._pool.putconn(conn)

    def distrust(self) -> None:
        if self._childs:
            self._childs.distrust()

    def close(self) -> None:
        if self._childs:
            self._childs.close()


def connector(url: str, timeout: float) -> Connect:
    """Connects to ``url``, giving up in time and noticing a peer that vanished.

    What the URL says itself about these wins. psycopg waits 2 seconds at least, for each host that it tries.
    """
    params = _params(url)
    hosts = str(params.get("host") or params.get("hostaddr") or "").count(",") + 1
    defaults: dict[str, Any] = {
        "connect_timeout": max(2, ceil(timeout / hosts)),
        "tcp_user_timeout": ceil(timeout * 1000),
        "keepalives_idle": max(1, ceil(timeout)),
        "fallback_application_name": "kvflow",
    }
    conninfo = make_conninfo("", **{**defaults, **params})
    return lambda: psycopg.connect(conninfo, autocommit=True)


def _params(url: str) -> dict[str, Any]:
    """What the URL says. An error repeats none of it and is chained to none that does: there is a password in it."""
    scheme, colon, rest = url.partition("://")
    params: dict[str, Any] | None = None
    with suppress(psycopg.ProgrammingError, UnicodeError):
        params = conninfo_to_dict(scheme.lower() + colon + rest if colon else url)
    path = rest.partition("?")[0].partition("/")[2]
    if params is None or (scheme.isalpha() and "@" in path) or not _is_sound(params):
        raise InvalidArgument(_NO_URL)
    return params


def _is_sound(params: dict[str, Any]) -> bool:
    """Whether host and port are such: half of a password that holds ``@``, ``/`` or ``?`` is neither."""
    hosts, ports = str(params.get("host", "")), str(params.get("port", ""))
    try:
        for host in hosts.split(","):
            if not host.startswith("/"):
                host.encode("idna")
    except UnicodeError:
        return False
    return "@" not in hosts and all(not port or (port.isascii() and port.isdigit()) for port in ports.split(","))


_forgetful: "WeakSet[OwnConnections | UsersConnections]" = WeakSet()
_parents: list[object] = []


def _forked() -> None:
    for connections in list(_forgetful):
        connections.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
