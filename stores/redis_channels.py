"""Two ways to put a command to Redis: through a client, or on connections of our own.

A client routes through a cluster, and is the only way that somebody else's may be used. To one server, ``Wire``
sends on the driver's connections itself: what the client does around each command costs a third of a round trip.
Neither knows of patience; both raise what the driver raises.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from redis import Redis, RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from kvflow.stores.redis_scripts import Script
from kvflow.stores.redis_urls import Client

Argument = bytes | str | int
Command = Sequence[Argument]
Call = tuple[Sequence[bytes], Sequence[Argument]]
"""Keys and arguments of a script."""


class Round(Protocol):
    """Several calls of one script, each made ready while the server works on those before it.

    Where one gets lost the whole round is made again: ``calls`` forgets what was taken, and gives the same calls.
    """

    def calls(self) -> Iterator[Call]: ...

    def take(self, answer: Any) -> None:
        """Take in the answer to the next call."""
        ...


_AHEAD = 8
"""Calls that are sent before the first of them is answered."""

_SIZE = b"\r\n$%d\r\n"
_SIZES = [_SIZE % size for size in range(1024)]


class Channel(Protocol):
    """What the store asks of either."""

    def run(self, script: Script, keys: Sequence[bytes], arguments: Iterable[Argument]) -> Any:
        """What the script answers."""
        ...

    def run_each(self, script: Script, each: Round) -> None:
        """Make the calls of a round."""
        ...

    def read(self, commands: Sequence[Command]) -> list[Any]:
        """What these commands answer, sent together."""
        ...

    def setting(self, name: str, key: bytes) -> bytes | str | None:
        """A setting of the server that holds this key."""
        ...

    def start_over(self) -> None:
        """Use no connection any more that is open now: the server is another, or gone."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class Through:
    """Through a client, which has connections, routes and retries of its own."""

    def __init__(self, client: Client) -> None:
        self._clustered = isinstance(client, RedisCluster)
        self._client: Any = client

    def run(self, script: Script, keys: Sequence[bytes], arguments: Iterable[Argument]) -> Any:
        execute = self._client.execute_command
        try:
            return execute("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return execute("EVAL", script.source, len(keys), *keys, *arguments)

    def run_each(self, script: Script, each: Round) -> None:
        for keys, arguments in each.calls():
            each.take(self.run(script, keys, arguments))

    def read(self, commands: Sequence[Command]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies

    def setting(self, name: str, key: bytes) -> bytes | str | None:
        told: dict[Any, Any] = self._client.config_get(name, **self._node(key))
        return told.get(name, told.get(name.encode()))

    def info(self, section: str, key: bytes) -> dict[str, str | None]:
        """What the server that holds this key tells of itself."""
        told: dict[str, Any] = self._client.info(section, **self._node(key))
        return {name: str(value) for name, value in told.items()}

    def _node(self, key: bytes) -> dict[str, Any]:
        return {"target_nodes": self._client.get_node_from_key(key.decode())} if self._clustered else {}

    def start_over(self) -> None:
        """Nothing: the client sees to that."""

    def close(self) -> None:
        self._client.close()


class Wire:
    """On connections that the pool of a client of our own has made, as many as there are calls at a time.

    A connection that failed is kept, closed, and opens again when it is used.
    """

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._idle: list[Any] = []

    def run(self, script: Script, keys: Sequence[bytes], arguments: Iterable[Argument]) -> Any:
        answers: list[Any] = []
        try:
            self._ask((_packed(_shortly(script, keys, arguments)),), answers.append)
        except NoScriptError:
            self._ask((_packed((b"EVAL", script.source, len(keys), *keys, *arguments)),), answers.append)
        return answers[0]

    def run_each(self, script: Script, each: Round) -> None:
        try:
            self._ask((_packed(_shortly(script, keys, arguments)) for keys, arguments in each.calls()), each.take)
        except NoScriptError:
            for keys, arguments in each.calls():
                each.take(self.run(script, keys, arguments))

    def read(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        self._ask(map(_packed, commands), answers.append)
        return answers

    def setting(self, name: str, key: bytes) -> bytes | str | None:
        (told,) = self.read([("CONFIG", "GET", name)])
        return dict(zip(told[::2], told[1::2], strict=True)).get(name.encode())

    def start_over(self) -> None:
        closed: list[Any] = []
        while (connection := self._taken()) is not None:
            connection.disconnect()
            closed.append(connection)
        self._idle += closed

    def close(self) -> None:
        self.start_over()

    def _taken(self) -> Any:
        """One that nobody uses, which is ours now; None where there is none. Other threads take at the same time."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _ask(self, messages: Iterable[bytes], take: Callable[[Any], object]) -> None:
        """Send these messages, some before the first is answered, and give each answer to ``take``."""
        connection = self._taken() or self._pool.make_connection()
        sent = read = 0
        try:
            for message in messages:
                connection.send_packed_command((message,))
                sent += 1
                if sent - read == _AHEAD:
                    read += 1
                    take(connection.read_response())
            while read < sent:
                read += 1
                take(connection.read_response())
        except BaseException as error:
            if sent > 1 or not isinstance(error, ResponseError):
                connection.disconnect()  # there may be answers still to come, so where this fails it is let go
            self._idle.append(connection)
            raise
        self._idle.append(connection)


def _shortly(script: Script, keys: Sequence[bytes], arguments: Iterable[Argument]) -> Command:
    """The call of a script by its name."""
    return (b"EVALSHA", script.sha, len(keys), *keys, *arguments)


def _packed(command: Command) -> bytes:
    """A command as the server reads it."""
    parts = [b"*%d" % len(command)]
    for part in command:
        text = part if isinstance(part, bytes) else str(part).encode()
        size = len(text)
        parts.append(_SIZES[size] if size < len(_SIZES) else _SIZE % size)
        parts.append(text)
    parts.append(b"\r\n")
    return b"".join(parts)


def channel(client: Client) -> Channel:
    """The quickest way over a client of our own."""
    return Wire(client) if isinstance(client, Redis) else Through(client)
