"""Runs in PostgreSQL: a row each, a row for each record, and three narrow indexes.

A call of the contract is one statement and one commit; those that give runs back read them in a second, when the
lease is already written, so that a client that stops while it reads holds no lock. What always holds:

- A statement judges the row as it is once its lock is had, so of two callers one sees the other's write.
- A save that changed nothing is judged by ``kvflow.rules`` on the row as it was read next; where the rule finds
  nothing wrong any more, the save is made again.
- Logs are read in portions, each on the same snapshot as the heads and only while the lease is ours.
- An acknowledged write is as durable as the server's ``synchronous_commit`` makes any commit.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from kvflow import checks, rules
from kvflow.errors import Conflict, Corrupt, InvalidArgument, KvflowError, MissingDriver, NotSupported, StoreUnavailable
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Ids, Outcomes, Runs, Store

try:
    import psycopg
except ImportError as error:
    raise MissingDriver(f"PostgresStore needs psycopg: pip install 'kvflow[postgres]' ({error})") from error

from kvflow.stores import postgres_rows as rows
from kvflow.stores import postgres_schema
from kvflow.stores.postgres_batch import call_of, check_size, save_many, values_of
from kvflow.stores.postgres_connections import Connections, OwnConnections, UsersConnections, connector
from kvflow.stores.postgres_protocol import Call
from kvflow.stores.postgres_server import Answer, Server
from kvflow.stores.postgres_statements import SAVED, Statements

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult
    from psycopg_pool import ConnectionPool

_PORTION = 2**25
_PUT_OFF = 60_000
_ROUNDS = 50  # in which a claim gets past runs that cannot be read; who stands further behind is for the next claim
_LISTED = 100  # rows at once, once some could not be read

_log = logging.getLogger("kvflow.stores")


class PostgresStore(Store):
    """The contract over two tables."""

    def __init__(self, pool: "ConnectionPool[Any]", *, prefix: str = "kvflow", timeout: float = 5.0) -> None:
        if not hasattr(pool, "getconn"):
            raise InvalidArgument(
                f"pool is a {type(pool).__name__}: it must be a psycopg_pool.ConnectionPool; for a URL, use from_url"
            )
        checks.check_options(1, timeout)
        self._open(UsersConnections(pool), prefix, timeout)

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "kvflow", pool_size: int = 10, timeout: float = 5.0) -> Self:
        """A store on connections of its own, at most ``pool_size``, made when they are wanted."""
        checks.check_options(pool_size, timeout)
        store = cls.__new__(cls)
        store._open(OwnConnections(connector(url, timeout), pool_size), prefix, timeout)
        return store

    def _open(self, connections: Connections, prefix: str, timeout: float) -> None:
        checks.check_prefix(prefix)
        if psycopg.pq.version() < 140000:
            raise NotSupported(f"libpq {psycopg.pq.version()} cannot pipeline: PostgresStore needs libpq 14 or later")
        self._prefix = prefix
        self._server = Server(connections, timeout)
        self._sql = Statements(prefix)
        self._ready = False

    def schema(self) -> str:
        """The DDL of the tables, which may be run any number of times."""
        return postgres_schema.ddl(self._prefix)

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        checks.check_save(run, new, lease)
        check_size(run.run_id, run.snapshot, *new)
        return self._save(run, new, lease)

    def _save(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None, again: bool = False) -> int:
        """``again``: it may have been sent before, and the answer have been lost."""
        values = dict(zip(SAVED, values_of(run, new, lease), strict=True))
        if len(new) == 1:
            call = (self._sql.save_one if run.version > 1 else self._sql.birth_one)(record=new[0], **values)
        else:
            call = (self._sql.save if run.version > 1 else self._sql.birth)(records=new, **values)
        while True:
            if run.version > 1 or not run.seen:
                answer = self._write(call)
                again = again or answer.again
                if answer.results[0].ntuples:
                    return rows.read_number(answer.results[0]) - len(new) - run.seen
            entry, clock = rows.read_entry(self._read(self._sql.judge(run_id=run.run_id)).results[0])
            try:
                after, unseen = rules.saved(entry, run, len(new), lease, clock)
            except Conflict as conflict:
                if again and lease is None:
                    doubt = f"the connection was lost in a save, perhaps after it was done: {conflict}"
                    raise StoreUnavailable(doubt) from conflict
                raise
            if after is entry:
                return unseen

    def save_many(self, saves: Iterable[checks.Save]) -> Outcomes:
        return save_many(list(saves), self._save_batch)

    def _save_batch(self, batch: Sequence[checks.Save]) -> Outcomes:
        """Entries of different runs in one statement; those that it did not save are saved, or refused, alone."""
        try:
            answer = self._write(call_of(batch, self._sql.save_many))
        except Corrupt:  # one of them is, and only alone does it show which
            answer = Answer([], again=False)
        before: dict[str, int] = {}
        for result in answer.results:
            before.update(zip(rows.read_names(result), rows.read_numbers(result, 1), strict=True))
        outcomes: Outcomes = []
        for run, new, lease in batch:
            try:
                records = before.get(run.run_id)
                outcomes.append(self._save(run, new, lease, answer.again) if records is None else records - run.seen)
            except KvflowError as error:
                outcomes.append(error)
        return outcomes

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        checks.check_run_id(run_id)
        for _, run in self._runs([run_id], log=log):
            return _sound(run)
        return None

    def delete(self, run_id: str) -> None:
        checks.check_run_id(run_id)
        self._write(self._sql.delete(run_id=run_id), self._sql.delete_log(run_id=run_id))

    def due(self, now: int, limit: int) -> Ids:
        checks.check_limit(limit)
        return rows.read_names(self._read(self._sql.due(now=checks.clamp(now), limit=limit)).results[0])

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        statement = self._sql.claim if names is None else self._sql.claim_of
        for _ in range(_ROUNDS):  # who stands behind what is put off has its turn
            claim = statement(now=now, limit=limit, token=lease.token, ttl=lease.ttl, workflow=names)
            leased = self._write(claim, found=self._sql.held(token=lease.token))
            claimed, passed = self._claimed(leased, now, lease)
            if claimed or not passed:
                return claimed
        return []

    def _claimed(self, leased: Answer, now: int, lease: Lease) -> tuple[Runs, Ids]:
        """What could be read of the runs just leased, and the ids of those that could not and are put off.

        Better some of what was asked for than leases that nobody knows of: so only where there is nothing to give is
        an error raised.
        """
        claimed: Runs = []
        unreadable: Ids = []
        try:
            for run_id, run in self._leased(leased, lease):
                if isinstance(run, Corrupt):
                    _log.warning("left out of a claim, and put off: %s", run)
                    unreadable.append(run_id)
                else:
                    claimed.append(run)
            if unreadable:
                put_off = self._sql.put_off
                ids = sorted(unreadable)
                self._write(*[put_off(run_id=run_id, token=lease.token, now=now, ttl=_PUT_OFF) for run_id in ids])
        except KvflowError as error:
            if not claimed:
                raise
            _log.warning("a claim gives %d runs and leaves others until their leases run out: %s", len(claimed), error)
        return claimed, unreadable

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        leased = self._write(self._sql.acquire(run_id=run_id, token=lease.token, ttl=lease.ttl))
        for _, run in self._leased(leased, lease):
            if isinstance(run, Corrupt):
                self.release(run_id, lease)
            return _sound(run)
        return None

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        checks.check_tokens(tokens, ttl)
        ids = sorted(tokens)
        renew = self._sql.renew(ids=ids, tokens=[tokens[run_id] for run_id in ids], ttl=ttl)
        return set(rows.read_names(self._write(renew).results[0]))

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        checks.check_wake_at(wake_at)
        self._write(self._sql.release(run_id=run_id, token=lease.token, wake_at=wake_at))

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        checks.check_run_id(run_id)
        checks.check_records([record])
        now = checks.clamp(now)
        check_size(run_id, record)
        answer = self._write(self._sql.post(run_id=run_id, record=record, now=now, wake=wake))
        return answer.results[0].ntuples > 0

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_after(after)
        status = checks.check_status(status)
        created_at, run_id = after or (checks.LATEST + 1, "")
        listed: Runs = []
        wanted = limit
        while len(listed) < limit:  # what cannot be read takes nobody's place
            listing = self._sql.list(created_at=created_at, run_id=run_id, status=status, limit=wanted)
            (found,) = self._read(listing).results
            listed += _heads(found)
            if found.ntuples < wanted:
                break
            created_at, run_id = rows.read_birth(found, found.ntuples - 1)
            wanted = max(limit - len(listed), _LISTED)
        return listed[:limit]

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        names = checks.check_workflows(workflows)
        statement = self._sql.next_wake if names is None else self._sql.next_wake_of
        return rows.read_wake(self._read(statement(now=checks.LATEST, workflow=names)).results[0])

    def close(self) -> None:
        """Close the store's own connections; a pool that was handed in stays open."""
        self._server.close()

    def _write(self, *calls: Call, found: Call | None = None) -> Answer:
        self._be_ready()
        return self._server.write(*calls, found=found)

    def _read(self, *calls: Call) -> Answer:
        self._be_ready()
        return self._server.read(*calls)

    def _be_ready(self) -> None:
        if not self._ready:
            postgres_schema.ensure(self._server, self._prefix)
            self._ready = True

    def _leased(self, leased: Answer, lease: Lease) -> "Iterator[tuple[str, StoredRun | Corrupt]]":
        """The runs that a statement has leased, given as ids and sizes; without those lost to somebody since."""
        ids, sizes = rows.read_names(leased.results[0]), rows.read_numbers(leased.results[0], 1)
        first, size = 0, 0
        for end in range(len(ids)):
            if size and size + sizes[end] > _PORTION:
                yield from self._runs(ids[first:end], lease)
                first, size = end, 0
            size += sizes[end]
        if first < len(ids):
            yield from self._runs(ids[first:], lease)

    def _runs(
        self, ids: Ids, lease: Lease | None = None, log: bool = True
    ) -> "Iterator[tuple[str, StoredRun | Corrupt]]":
        """These runs as they are on one snapshot, under this lease or whoever's."""
        heads = self._sql.heads(ids=ids) if lease is None else self._sql.heads_of_ours(ids=ids, token=lease.token)
        answer = self._read(heads, self._sql.logs(ids=ids)) if log else self._read(heads)
        logs = rows.read_logs(answer.results[1], len(ids)) if log else None
        found = {run_id: row for row, run_id in enumerate(rows.read_names(answer.results[0]))}
        for place, run_id in enumerate(ids):
            if run_id in found:
                try:
                    yield run_id, rows.read_run(answer.results[0], found[run_id], logs[place] if logs else None)
                except Corrupt as error:
                    yield run_id, error


def _heads(listed: "PGresult") -> Iterator[StoredRun]:
    """The runs of these rows; one that cannot be read stops no other."""
    for row in range(listed.ntuples):
        try:
            yield rows.read_head(listed, row)[0]
        except Corrupt as error:
            _log.warning("left out of a list: %s", error)


def _sound(run: StoredRun | Corrupt) -> StoredRun:
    if isinstance(run, Corrupt):
        raise run
    return run
