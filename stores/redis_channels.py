"""Two ways to put a command to Redis: through a client, or on connections of our own.

A client routes through a cluster, and is the only way that somebody else's may be used. To one server, ``Wire``
sends on the driver's connections itself: what the client does around each command costs a third of a round trip.
Neither knows of patience; both raise what the driver raises.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from redis import Redis, RedisCluster
from redis.exceptions import NoScriptError, ResponseError

from kvflow.stores.redis_scripts import Script
from kvflow.stores.redis_urls import Client

Argument = bytes | str | int
Command = Sequence[Argument]


class Channel(Protocol):
    """What the store asks of either."""

    def run(self, script: Script, keys: Sequence[bytes], arguments: Iterable[Argument]) -> Any:
        """What the script answers."""
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

    def read(self, commands: Sequence[Command]) -> list[Any]:
        with self._client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies

    def setting(self, name: str, key: bytes) -> bytes | str | None:
        node = {"target_nodes": self._client.get_node_from_key(key.decode())} if self._clustered else {}
        told: dict[Any, Any] = self._client.config_get(name, **node)
        return told.get(name) or told.get(name.encode())

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
        rest = (len(keys), *keys, *arguments)
        try:
            return self._ask(_packed((b"EVALSHA", script.sha, *rest)), 1)[0]
        except NoScriptError:
            return self._ask(_packed((b"EVAL", script.source, *rest)), 1)[0]

    def read(self, commands: Sequence[Command]) -> list[Any]:
        return self._ask(b"".join(map(_packed, commands)), len(commands))

    def setting(self, name: str, key: bytes) -> bytes | str | None:
        (told,) = self.read([("CONFIG", "GET", name)])
        return dict(zip(told[::2], told[1::2], strict=True)).get(name.encode())

    def start_over(self) -> None:
        closed: list[Any] = []
        while self._idle:
            closed.append(self._idle.pop())
            closed[-1].disconnect()
        self._idle += closed

    def close(self) -> None:
        self.start_over()

    def _ask(self, message: bytes, count: int) -> list[Any]:
        """The answers to a message of so many commands."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            connection.send_packed_command((message,))
            return [connection.read_response() for _ in range(count)]
        except ResponseError:
            if count > 1:
                connection.disconnect()  # the other answers are still to come
            raise
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._idle.append(connection)


def _packed(command: Iterable[Argument]) -> bytes:
    """A command as the server reads it."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n%b" % (len(parts), b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts]))


def channel(client: Client) -> Channel:
    """The quickest way over a client of our own."""
    return Wire(client) if isinstance(client, Redis) else Through(client)
