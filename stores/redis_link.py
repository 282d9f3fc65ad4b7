"""The way to the server: every call of the Redis store goes through here.

A call has one deadline for all that it waits for: its turn, connecting, the answer, and trying again. What
may pass (a lost connection, a failover, a server that is loading) is tried again until then; every script
is safe to send twice. What the driver raises becomes one of kvflow's errors here, and nowhere else.

A child process after a fork has a client of its own: locks that other threads held at that moment are
never given back in the child.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, TypeVar
from weakref import WeakSet

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    ConnectionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from kvflow.errors import Corrupt, KvflowError, NotSupported, StoreUnavailable, TooLarge
from kvflow.stores.redis_channels import Argument, Channel, Command, Round
from kvflow.stores.redis_deadline import deadline
from kvflow.stores.redis_scripts import Script

T = TypeVar("T")

Connect = Callable[[], Channel]

_DRIVER = (RedisError, RedisClusterException, OSError)

_PASSING = (ConnectionError, TimeoutError, OSError, RedisClusterException, ClusterError, ReadOnlyError, TryAgainError)
_PASSING_WORDS = re.compile(r"\b(LOADING|READONLY|BUSY|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|NOREPLICAS)\b")
_PATIENCE = 1_000_000.0  # seconds; the system takes no timeouts without end
_PAUSE = 0.01
_LONGEST_PAUSE = 0.25


class Link:
    """A channel, and the patience to use it.

    ``connect`` makes one that is the link's own, when it is first needed, for ``size`` calls at a time; ``channel``
    is over a client of somebody else's, who bounds its connections and their timeouts, and closes it.
    """

    def __init__(
        self, timeout: float, *, channel: Channel | None = None, connect: Connect | None = None, size: int = 0
    ) -> None:
        self._timeout = min(timeout, _PATIENCE)
        self._connect = connect
        self._channel = channel
        self._size = size
        self._inherited: list[Channel | None] = []
        self._renew_locks()
        _links.add(self)

    def run(self, script: Script, keys: Sequence[bytes], arguments: Iterable[Argument] = ()) -> Any:
        """What the script answers."""
        return self.call(lambda channel: channel.run(script, keys, arguments))

    def run_each(self, script: Script, each: Round) -> None:
        """Make the calls of a round."""
        self.call(lambda channel: channel.run_each(script, each))

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """What these commands answer, sent together."""
        return self.call(lambda channel: channel.read(commands))

    def call(self, send: Callable[[Channel], T]) -> T:
        """What ``send`` gives, when it is one of as many calls at a time as there may be connections."""
        end = monotonic() + self._timeout
        turns = self._turns
        if turns is not None:
            try:
                turns.get(timeout=self._timeout)
            except Empty:
                busy = f"all {self._size} connections were busy for {self._timeout} s: raise pool_size"
                raise StoreUnavailable(busy) from None
        deadline.at = end
        try:
            return self._insist(send, end)
        finally:
            deadline.at = None
            if turns is not None:
                turns.put(None)

    def _insist(self, send: Callable[[Channel], T], end: float) -> T:
        """``send`` until it comes through, it cannot, or the time is up."""
        pause = 0.0
        while True:
            try:
                return send(self._channel or self._connected())
            except _DRIVER as error:
                if not _may_pass(error) or monotonic() + pause >= end:
                    raise _translated(error) from error
                if self._channel is not None and self._connect is not None:
                    self._channel.start_over()
            sleep(pause)
            pause = min(max(2 * pause, _PAUSE), _LONGEST_PAUSE)

    def close(self) -> None:
        """Close the channel if it is our own."""
        if self._connect is None:
            return
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def start_over(self) -> None:
        """After a fork, in the child: forget what is shared with the parent, without touching it."""
        if self._connect is not None:
            self._inherited.append(self._channel)
            self._channel = None
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()
        self._turns = _turns(self._size) if self._size else None

    def _connected(self) -> Channel:
        with self._lock:
            if self._channel is None:
                assert self._connect is not None
                self._channel = self._connect()
            return self._channel


def _turns(size: int) -> SimpleQueue[None]:
    """As many turns as calls may be made at a time; a semaphore would cost five times as much."""
    turns: SimpleQueue[None] = SimpleQueue()
    for _ in range(size):
        turns.put(None)
    return turns


def _may_pass(error: Exception) -> bool:
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return False
    return isinstance(error, _PASSING) or _PASSING_WORDS.search(str(error)) is not None


def _text(error: Exception) -> str:
    """The error with its class, for redis-py cuts off the codes that it knows."""
    return f"{type(error).__name__}: {error}"


_REFUSALS: list[tuple[str, type[KvflowError], str]] = [
    ("WRONGTYPE", Corrupt, "a key of the store holds something else"),
    ("invalid bulk length|invalid multibulk length", TooLarge, "the server takes no arguments of that size"),
    ("OOM|OutOfMemory", StoreUnavailable, "the server is out of memory and wrote nothing"),
    ("MOVED|MovedError", NotSupported, "this is one node of a cluster: write redis+cluster://, or give a RedisCluster"),
    ("NOPERM|NoPermission|unknown command", NotSupported, "the server does not allow this"),
]


def _translated(error: Exception) -> KvflowError:
    text = _text(error)
    for pattern, kind, meaning in _REFUSALS:
        if re.search(pattern, text):
            return kind(f"{meaning}: {text}")
    return StoreUnavailable(f"Redis did not do what was asked: {text}")


_links: WeakSet[Link] = WeakSet()


def _start_over() -> None:
    for link in list(_links):
        link.start_over()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_over)
