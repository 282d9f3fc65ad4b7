"""The server with our keys on it, found fit before the first call.

A store that may lose runs by its settings, or was written by a newer kvflow, is refused then; a
server that does not tell its settings is taken at its owner's word, and the log says so once.
"""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from redis import Redis, RedisCluster

from kvflow.errors import InvalidArgument, NotSupported, SchemaTooNew, TooLarge
from kvflow.stores.redis_channels import Argument, Command, Round
from kvflow.stores.redis_keys import Keys
from kvflow.stores.redis_link import Link
from kvflow.stores.redis_scripts import OPEN, Script
from kvflow.stores.redis_urls import Client

SCHEMA = 1
_KNOWN = {str(version).encode() for version in range(SCHEMA + 1)}

LIMIT = 512 * 1024 * 1024
"""Bytes of one argument that a server takes unless it is told otherwise (``proto-max-bulk-len``)."""

RECORDS = 1_000_000
"""Records of one save: a server takes 1,048,576 arguments in a call."""

_FACTS = 8192  # more than the facts of a save can be, which may share an argument with the rest

_logger = logging.getLogger("kvflow.stores")


class Server:
    """A link, and what is known of the other end."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._limit = LIMIT
        self._opened = False

    def run(self, script: Script, keys: Sequence[bytes], arguments: Iterable[Argument] = ()) -> Any:
        """What the script answers."""
        if not self._opened:
            self._open()
        return self._link.run(script, keys, arguments)

    def run_each(self, script: Script, each: Round) -> None:
        """Make the calls of a round."""
        if not self._opened:
            self._open()
        self._link.run_each(script, each)

    def read(self, commands: Sequence[Command]) -> Any:
        """What these commands answer, sent together."""
        if not self._opened:
            self._open()
        return self._link.read(commands)

    def check_size(self, run_id: str, snapshot: bytes, records: Sequence[bytes]) -> int:
        """The bytes of a write; one that this server would not take is refused."""
        size = len(snapshot) + sum(map(len, records))
        if size > self._limit - _FACTS:
            raise TooLarge(
                f"run {run_id!r}: {size} bytes in one write, and this server takes {self._limit} "
                "(proto-max-bulk-len): keep large data elsewhere, and its address in the run; nothing was written"
            )
        if len(records) > RECORDS:
            raise TooLarge(f"run {run_id!r}: {len(records)} records in one write: a server takes {RECORDS} at most")
        return size

    def close(self) -> None:
        """Close what we opened."""
        self._link.close()

    def _open(self) -> None:
        keys = self._keys
        stored = self._link.run(OPEN, (keys.schema, *keys.indexes), (SCHEMA,))
        if stored not in _KNOWN:
            raise SchemaTooNew(f"{keys.schema!r} is {stored[:40]!r}, and this kvflow knows {SCHEMA}: upgrade kvflow")
        policy = self._setting("maxmemory-policy")
        if policy is None:
            _logger.warning("this server does not tell its maxmemory-policy: unless it is noeviction, runs may vanish")
        elif policy.startswith("allkeys"):
            raise NotSupported(f"maxmemory-policy is {policy}, so this server would evict runs: set it to noeviction")
        largest = self._setting("proto-max-bulk-len")
        self._limit = int(largest) if largest is not None and largest.isdigit() else LIMIT
        self._opened = True

    def _setting(self, name: str) -> str | None:
        """A setting of the server that holds our keys; None where it does not tell."""
        try:
            told = self._link.call(lambda channel: channel.setting(name, self._keys.schema))
        except NotSupported:
            return None
        return told.decode(errors="replace") if isinstance(told, bytes) else told


def refuse_unfit(given: Client) -> None:
    """Refuse what is no client, one that would hand back text for bytes, or one that reads from replicas.

    A replica may not have heard yet of what was written.
    """
    client: Any = given
    if isinstance(client, str):
        raise InvalidArgument("a str is no client: for a URL there is RedisStore.from_url")
    if not isinstance(client, (Redis, RedisCluster)):
        raise InvalidArgument(
            f"the client is a {type(client).__module__}.{type(client).__qualname__}: give a redis.Redis or a"
            " redis.RedisCluster, none of redis.asyncio, or take RedisStore.from_url"
        )
    if client.get_encoder().decode_responses:
        raise InvalidArgument("this client has decode_responses=True, and a run is bytes: give one without it")
    if getattr(client, "read_from_replicas", False) or getattr(client, "load_balancing_strategy", None):
        raise InvalidArgument("this client reads from replicas, which may be behind: give one that does not")
