"""A Redis or Valkey server as an operator sees it: what its settings promise, and how to be rid of a store's keys.

Managed servers hide ``CONFIG``, and an account may be kept from it. Much of the same stands in ``INFO``; what stands
in neither is said to be unknown. In a cluster, the node that holds the store's keys is asked. Nothing is written but
by ``drop``.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from kvflow.errors import NotSupported
from kvflow.findings import Finding, bad, good, limit, note, unknown
from kvflow.stores.redis_channels import Channel, Through
from kvflow.stores.redis_keys import Keys, name
from kvflow.stores.redis_link import Link
from kvflow.stores.redis_urls import connector

Told = dict[str, str | None]

_LEAST = 5
_SECTIONS = ("server", "replication", "persistence", "memory", "cluster")
_SETTINGS = ("appendonly", "appendfsync", "save", "maxmemory-policy", "min-replicas-to-write", "min-replicas-max-lag")
_FEW = 500
_NO_ACCESS = re.compile(r"permissions to access .*key")


class RedisUpkeep:
    """The keys of one prefix."""

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        connect = connector(url)
        self._keys = Keys(prefix)
        self._prefix = prefix
        self._link = Link(timeout, connect=lambda: Through(connect()), size=1)

    @property
    def names(self) -> str:
        return f"the keys {{{self._prefix}}}:*"

    def ddl(self) -> str:
        return ""

    def drop(self) -> None:
        """Each run by its birth, then the indexes; so no other key of a large server is looked at."""
        keys = self._keys
        try:
            while entries := self._read("ZRANGE", keys.births, 0, _FEW - 1):
                ids = [name(entry) for entry in entries]
                self._read("DEL", *(kind + run_id for run_id in ids for kind in (keys.head, keys.log)))
                self._read("ZREM", keys.births, *entries)
            self._read("DEL", *keys.indexes, keys.schema)
        except NotSupported as error:
            if not _NO_ACCESS.search(str(error)):
                raise  # an account that may not touch these keys has none of them
        finally:
            self._link.close()

    def _read(self, *command: bytes | str | int) -> Any:
        (told,) = self._link.read([command])
        return told

    def findings(self) -> list[Finding]:
        try:
            info = self._info()
            told = {setting: self._setting(setting) for setting in _SETTINGS}
        finally:
            self._link.close()
        told["maxmemory-policy"] = told["maxmemory-policy"] or info.get("maxmemory_policy")
        if told["appendonly"] is None and "aof_enabled" in info:
            told["appendonly"] = "yes" if info["aof_enabled"] == "1" else "no"
        asked: list[Callable[[Told], Finding | None]] = [_version, _writable, _disk, _eviction, _replicas]
        return [found for each in asked if (found := each({**info, **told})) is not None]

    def _setting(self, setting: str) -> str | None:
        try:
            told = self._link.call(lambda channel: channel.setting(setting, self._keys.schema))
        except NotSupported:
            return None
        return told.decode(errors="replace") if isinstance(told, bytes) else told

    def _info(self) -> Told:
        told: Told = {}
        for section in _SECTIONS:
            try:
                told |= self._link.call(partial(_info_of, section, self._keys.schema))
            except NotSupported:
                continue
        return told


def _info_of(section: str, key: bytes, channel: Channel) -> Told:
    return cast(Through, channel).info(section, key)


def _version(told: Told) -> Finding:
    if version := told.get("valkey_version"):
        return good("version", f"Valkey {version}")
    version = told.get("redis_version")
    if version is None:
        return unknown("version", "this server does not tell it", "see that it is Redis 5.0 or later, or Valkey")
    if int(version.partition(".")[0]) < _LEAST:
        return bad("version", f"Redis {version} is too old", "use Redis 5.0 or later, or Valkey")
    return good("version", f"Redis {version}")


def _writable(told: Told) -> Finding | None:
    if told.get("role") == "slave":
        return bad("role", "this is a replica, which takes no writes", "give the address of the primary")
    return None


def _disk(told: Told) -> Finding:
    kept, synced, dumps = told["appendonly"], told["appendfsync"], told["save"]
    remedy = "set appendonly yes, and appendfsync everysec, or always where a step moves money"
    if kept is None:
        return unknown(
            "appendonly",
            "this server does not tell what survives its death",
            "ask who runs it whether AOF is on, and how it syncs (appendfsync)",
        )
    if kept == "no" and dumps == "":
        return limit("appendonly", "no, and no dumps either: when the server stops, every run is gone", remedy)
    if kept == "no":
        when = f" (save {dumps})" if dumps else ""
        return limit("appendonly", f"no: when the server stops, runs are as the last dump has them{when}", remedy)
    if synced is None:
        return unknown(
            "appendfsync",
            "AOF is on, and this server does not tell how it syncs",
            "ask who runs it: everysec loses about a second when the machine dies, always nothing",
        )
    if synced == "always":
        return good("appendfsync", "always: an acknowledged write survives the death of the machine")
    lost = "about the last second" if synced == "everysec" else "what the system had not written yet, about 30 seconds"
    return limit(
        "appendfsync",
        f"{synced}: the death of the server loses nothing, that of the machine {lost}",
        "set appendfsync always where a step moves money",
    )


def _eviction(told: Told) -> Finding:
    policy = told["maxmemory-policy"]
    if policy is None:
        return unknown(
            "maxmemory-policy",
            "this server does not tell it: unless it is noeviction, runs may vanish",
            "ask who runs it, and have it set to noeviction",
        )
    if policy.startswith("allkeys"):
        return bad("maxmemory-policy", f"{policy}: a full server throws runs away", "set maxmemory-policy noeviction")
    return good("maxmemory-policy", f"{policy}: no run is thrown away")


def _replicas(told: Told) -> Finding:
    least, lag = told["min-replicas-to-write"], told["min-replicas-max-lag"]
    if told.get("connected_slaves") is None:
        return unknown(
            "replicas",
            "this server does not tell whether it has any",
            "ask what a failover loses: replication is asynchronous",
        )
    if told["connected_slaves"] == "0":
        return note("replicas", "none is connected: no failover, and no copy")
    if least is None:
        return unknown(
            "replicas",
            f"{told['connected_slaves']} connected; whether a primary that is cut off goes on writing is not told",
            "ask for min-replicas-to-write 1",
        )
    if least == "0":
        return limit(
            "replicas",
            f"{told['connected_slaves']} connected, asynchronous: a failover may lose the last"
            " writes, and a primary that is cut off goes on taking them",
            "set min-replicas-to-write 1 and a small min-replicas-max-lag",
        )
    return limit("replicas", f"asynchronous: a failover may lose the last writes, of {lag} seconds at most")
