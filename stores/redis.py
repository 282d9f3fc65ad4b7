"""Runs in Redis or Valkey: one server, one under Sentinels, or a cluster.

A run is a hash (the head) and a list (the log). Three sorted sets are the index: `wakes` of the runs that
nobody holds, `leases` of the held ones, and `births` of all. Each call that writes is one Lua script, which
reads and judges before it writes, so head, log and index change together or not at all. All keys of a
store carry one hash tag, so that a cluster keeps them on one node; every script is given every key it touches.

Each script may be sent twice: an answer can get lost, and the link and the driver then send again.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from kvflow import checks
from kvflow.errors import Corrupt, MissingDriver
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Ids, Outcomes, Runs, Store

try:
    import redis as _  # noqa: F401
except ImportError as error:
    raise MissingDriver("RedisStore needs redis-py: pip install 'kvflow[redis]'") from error

from kvflow.stores import redis_scripts as scripts
from kvflow.stores.redis_batch import save_many
from kvflow.stores.redis_channels import Through, channel
from kvflow.stores.redis_heads import decode, facts, refused
from kvflow.stores.redis_keys import Keys, birth, name
from kvflow.stores.redis_link import Link
from kvflow.stores.redis_queue import BATCH, Queue, report
from kvflow.stores.redis_server import Server, refuse_unfit
from kvflow.stores.redis_urls import Client, connector

_logger = logging.getLogger("kvflow.stores")

_Texts = list[bytes]


class RedisStore(Store):
    """The contract over any redis-py client, which stays its owner's; ``from_url`` makes a client of its own."""

    def __init__(self, client: Client, *, prefix: str = "kvflow", timeout: float = 5.0) -> None:
        checks.check_options(1, timeout)
        refuse_unfit(client)
        self._begin(Link(timeout, channel=Through(client)), prefix)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "kvflow", pool_size: int = 10, timeout: float = 5.0) -> Self:
        """A store for a URL of ``redis``, ``rediss``, ``unix``, ``redis+cluster`` or ``redis+sentinel``."""
        checks.check_options(pool_size, timeout)
        self = cls.__new__(cls)
        connect = connector(url)
        self._begin(Link(timeout, connect=lambda: channel(connect()), size=pool_size), prefix)
        return self

    def _begin(self, link: Link, prefix: str) -> None:
        checks.check_prefix(prefix)
        self._keys = Keys(prefix)
        self._server = Server(link, self._keys)
        self._queue = Queue(self._server, self._keys)

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        checks.check_save(run, new, lease)
        self._server.check_size(run.run_id, run.snapshot, new)
        keys = (*self._keys.of(run.run_id), *self._keys.indexes)
        reply = self._server.run(scripts.SAVE, keys, (facts(run, new, lease, _nonce(lease)), run.snapshot, *new))
        if isinstance(reply, int):
            return reply
        raise refused(reply, run.run_id, run.version)

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        checks.check_run_id(run_id)
        reply = self._server.run(scripts.LOAD, self._keys.of(run_id), (b"1" if log else b"",))
        if reply is None:
            return None
        lines, snapshot, records = reply
        return decode(run_id.encode(), lines, snapshot, records if log else None)

    def delete(self, run_id: str) -> None:
        checks.check_run_id(run_id)
        self._server.run(scripts.DELETE, (*self._keys.of(run_id), *self._keys.indexes))

    def due(self, now: int, limit: int) -> Ids:
        checks.check_limit(limit)
        return self._queue.due(checks.clamp(now), limit)

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        return [] if names == () else self._queue.claim(now, limit, lease, names)

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        keys = (*self._keys.of(run_id), *self._keys.index)
        reply = self._server.run(scripts.ACQUIRE, keys, (lease.token, lease.ttl))
        if isinstance(reply, bytes):
            raise refused(reply, run_id)
        try:
            return None if reply is None else decode(run_id.encode(), *reply)
        except Corrupt:
            self.release(run_id, lease)
            raise

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        checks.check_tokens(tokens, ttl)
        held, renewed = [*tokens.items()], set[str]()
        for start in range(0, len(held), BATCH):
            batch = held[start : start + BATCH]
            keys = (self._keys.leases, *[self._keys.head + run_id.encode() for run_id, _ in batch])
            places: Sequence[int] = self._server.run(scripts.RENEW, keys, (ttl, *[token for _, token in batch]))
            renewed.update(batch[at - 1][0] for at in places)
        return renewed

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        checks.check_wake_at(wake_at)
        keys = (self._keys.head + run_id.encode(), *self._keys.index)
        reply = self._server.run(scripts.RELEASE, keys, (lease.token, "" if wake_at is None else wake_at))
        if reply is not None:
            raise refused(reply, run_id)

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        checks.check_run_id(run_id)
        checks.check_records([record])
        now = checks.clamp(now)
        self._server.check_size(run_id, record, ())
        keys = (*self._keys.of(run_id), *self._keys.index)
        reply = self._server.run(scripts.POST, keys, (record, now, b"1" if wake else b""))
        if isinstance(reply, int):
            return reply == 1
        raise refused(reply, run_id)

    def save_many(self, saves: Iterable[checks.Save]) -> Outcomes:
        return save_many(self._server, self._keys, [*saves])

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_after(after)
        status = checks.check_status(status)
        found: Runs = []
        upto = b"+" if after is None else b"(" + birth(*after)
        while len(found) < limit:
            count = BATCH if status else min(limit - len(found), BATCH)
            entries: _Texts
            (entries,) = self._server.read([("ZREVRANGEBYLEX", self._keys.births, upto, b"-", "LIMIT", 0, count)])
            if not entries:
                break
            runs, looked = self._heads(entries, status)
            found += runs
            upto = b"(" + entries[looked - 1]
        return found[:limit]

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        names = checks.check_workflows(workflows)
        if names == ():
            return None
        reply = self._server.run(scripts.NEXT_WAKE, self._keys.index, names or ())
        return None if reply is None else int(reply)

    def close(self) -> None:
        self._server.close()

    def _heads(self, entries: _Texts, status: Status | None) -> tuple[Runs, int]:
        """The runs of these births, and how many of them were looked at."""
        keys = (self._keys.births, *[self._keys.head + name(entry) for entry in entries])
        rows, bad, looked = self._server.run(scripts.HEADS, keys, (status or "", *entries))
        report(entries, bad)
        found: Runs = []
        at: int
        for at, lines, snapshot in rows:
            try:
                found.append(decode(name(entries[at - 1]), lines, snapshot))
            except Corrupt as error:
                _logger.warning("%s", error)
        return found, looked


def _nonce(lease: Lease | None) -> str:
    """A name for one save without a lease; with one, its token is the name."""
    return os.urandom(12).hex() if lease is None else ""
