"""One deadline for all that one call to the store has to wait for.

redis-py gives each connection attempt and each answer a timeout of its own, and a client of a cluster or of
Sentinels makes several of both for one command. Connections of the classes here ask instead how much of the
call's time is left, so that the whole call ends when its time does, whatever it was doing.
"""

import threading
from socket import socket
from time import monotonic
from typing import TYPE_CHECKING, Any

from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelManagedConnection

_LEAST = 0.001
_OUTSIDE = 5.0


class _Deadline(threading.local):
    """When the call that this thread is making has to end; None outside any call."""

    at: float | None = None


deadline = _Deadline()


def left() -> float:
    """Seconds left to the call that this thread is making; a moment where there are none, for 0 would mean no wait."""
    return _OUTSIDE if deadline.at is None else max(deadline.at - monotonic(), _LEAST)


class _Sends:
    """What a connection of redis-py does that is bounded here; it declares no types of its own."""

    _sock: socket | None

    if TYPE_CHECKING:

        def connect(self) -> None: ...

        def send_packed_command(self, command: Any, check_health: bool = True) -> None: ...


class _Bounded(_Sends):
    """A connection that waits no longer than the call it serves. What timeouts it was made with does not count."""

    @property
    def socket_timeout(self) -> float:
        return left()

    @socket_timeout.setter
    def socket_timeout(self, value: object) -> None: ...

    @property
    def socket_connect_timeout(self) -> float:
        return left()

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: object) -> None: ...

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if self._sock is None:
            self.connect()  # by itself the driver would not ask the Sentinels here
        elif not 0.9 < (self._sock.gettimeout() or 0) / left() < 1.1:  # to set it is a call to the system
            self._sock.settimeout(left())
        super().send_packed_command(command, check_health)


def _bounded(kind: Any) -> Any:
    """This class of the driver's connections, bounded."""
    return type(f"Bounded{kind.__name__}", (_Bounded, kind), {"__doc__": kind.__doc__})


BoundedConnection = _bounded(Connection)
BoundedSSLConnection = _bounded(SSLConnection)
BoundedUnixConnection = _bounded(UnixDomainSocketConnection)
BoundedMasterConnection = _bounded(SentinelManagedConnection)
