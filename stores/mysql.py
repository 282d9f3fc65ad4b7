"""Runs in MySQL or MariaDB: a row for a run, a row for each record, and an index of what is due.

A save is one conditional UPDATE and the insertion of its records, in one transaction and one packet: the server
itself decides, and only where it refuses is the row read, to say why. Who is due is the matter of ``mysql_line``.

What the driver raises becomes our errors in one place, ``_call``, which also asks again: after a deadlock or a
wait for a lock, and once on a new connection where the old one turns out to be dead. Any call may be made twice
but a save without a lease, whose repeat could not be told from a conflict: that one is not, and says
that it may have happened.
"""

import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any, Self, TypeVar

from kvflow import checks, rules
from kvflow.errors import Conflict, Corrupt, InvalidArgument, KvflowError, StoreUnavailable
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Ids, Outcomes, Runs, Store
from kvflow.stores import mysql_schema
from kvflow.stores.mysql_batch import Batch
from kvflow.stores.mysql_driver import Connection, MySQLError
from kvflow.stores.mysql_line import Line
from kvflow.stores.mysql_parts import BATCH, in_parts
from kvflow.stores.mysql_pool import Pool
from kvflow.stores.mysql_rows import State, add, birth_of, is_whole, key_of, run_of, whole_run_of
from kvflow.stores.mysql_session import (
    LOCK_WAIT,
    Answer,
    Row,
    Session,
    is_in_the_way,
    is_taken,
    lasting,
    rows_of,
    wait_of,
    words_of,
)
from kvflow.stores.mysql_statements import BEGIN, COMMIT, FEW, SKIP, Change, Statements
from kvflow.stores.mysql_url import dialler

T = TypeVar("T")

Entries = list[tuple[int, checks.Save]]

_log = logging.getLogger("kvflow.stores")

_TRIES = 5
"""How often to begin anew where others were faster, before saying so."""

_LISTED = 100
"""The heads to read at once for a list, once some could not be read."""


class MySQLStore(Store):
    """The contract over three tables of a MySQL or MariaDB database."""

    def __init__(
        self,
        connect: "Callable[[], Connection[Any]]",
        *,
        prefix: str = "kvflow",
        pool_size: int = 10,
        timeout: float = 5.0,
    ) -> None:
        checks.check_prefix(prefix)
        checks.check_options(pool_size, timeout)
        if not callable(connect):
            raise InvalidArgument(
                f"connect is a {type(connect).__name__}: it must be a function that connects; for a URL, use from_url"
            )
        self._dial: Callable[[float], Connection[Any]] = lambda _: connect()
        self._prefix = prefix
        self._timeout = timeout
        self._sql = Statements(prefix)
        self._line = Line(self._sql)
        self._pool = Pool(self._open, pool_size)
        self._prepared = False

    @classmethod
    def from_url(cls, url: str, *, prefix: str = "kvflow", pool_size: int = 10, timeout: float = 5.0) -> Self:
        """A store at ``mysql://user:password@host:port/database``; ``mysql_url`` says which options may follow."""
        dial = dialler(url)
        store = cls(lambda: dial(timeout), prefix=prefix, pool_size=pool_size, timeout=timeout)
        store._dial = dial
        return store

    def schema(self) -> str:
        """The DDL that a first use would run, for a team's own migrations."""
        return mysql_schema.ddl(self._prefix)

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        checks.check_save(run, new, lease)
        return self._save_alone((run, new, lease), self._timeout)

    def _save_alone(self, save: checks.Save, timeout: float) -> int:
        _, _, lease = save
        return self._call(lambda session: self._save(session, *save), lease is not None, timeout)

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        checks.check_run_id(run_id)
        if log:
            return self._call(lambda session: _read(session, self._sql.load(run_id)))
        heads = self._call(lambda session: session.ask(self._sql.head(run_id)))
        return run_of(heads[0]) if heads else None

    def delete(self, run_id: str) -> None:
        checks.check_run_id(run_id)
        self._call(lambda session: session.run([self._sql.delete(run_id)]))

    def due(self, now: int, limit: int) -> Ids:
        checks.check_limit(limit)
        now = checks.clamp(now)
        return self._call(lambda session: self._line.due(session, now, limit))

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        sent = itertools.count()
        return self._call(lambda session: self._line.claim(session, now, limit, lease, names, again=next(sent) > 0))

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        return self._call(lambda session: self._acquire(session, run_id, lease))

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        checks.check_tokens(tokens, ttl)
        ours = {run_id.encode(): token.encode() for run_id, token in tokens.items()}
        answers = self._call(lambda session: session.run(self._sql.renew(ours, ttl, session.room)))
        return {run_id.decode() for run_id, token in rows_of(answers) if ours[run_id] == token}

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        checks.check_wake_at(wake_at)
        self._call(lambda session: session.run([self._sql.release(run_id, lease.token, wake_at)]))

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        checks.check_run_id(run_id)
        checks.check_records([record])
        now = checks.clamp(now)
        answers = self._call(lambda session: session.run(self._sql.post(run_id, record, now, wake)))
        return _has_written(answers)

    def save_many(self, saves: Iterable[checks.Save]) -> Outcomes:
        entries = list(saves)
        outcomes: dict[int, int | KvflowError] = {}
        good: Entries = []
        for at, error in enumerate(checks.check_each(entries)):
            if error is None:
                good.append((at, entries[at]))
            else:
                outcomes[at] = error
        return self._save_parts(good, outcomes)

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_after(after)
        status = checks.check_status(status)
        return self._call(lambda session: self._list(session, limit, after, status))

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        names = checks.check_workflows(workflows)
        return self._call(lambda session: self._line.next_wake(session, names))

    def close(self) -> None:
        """Close the connections that the store has made."""
        self._pool.close()

    # Connections, and what can go wrong with them

    def _open(self, seconds: float) -> Session:
        connection = self._dial(seconds)
        try:
            session = Session(connection, seconds)
            if not self._prepared:
                mysql_schema.prepare(session, self._prefix)
                self._prepared = True
        except BaseException:
            if connection.open:
                connection.close()
            raise
        return session

    def _call(self, work: Callable[[Session], T], again: bool = True, timeout: float | None = None) -> T:
        """What ``work`` gives, tried anew within the timeout where that may help."""
        deadline = monotonic() + (self._timeout if timeout is None else timeout)
        while True:
            session: Session | None = None
            try:
                with self._pool.session(deadline) as session:
                    return work(session)
            except MySQLError as error:
                if (told := lasting(error)) is not None:
                    raise told from error
                if session is None or not self._may_help(session, error, deadline, again):
                    raise StoreUnavailable(f"not done within {self._timeout} s: {words_of(error)}") from error
                again = again and not session.lost
            except OSError as error:
                raise StoreUnavailable(f"no connection to the server: {error}") from error

    def _may_help(self, session: Session, error: MySQLError, deadline: float, again: bool) -> bool:
        """Whether to make the call again after this error."""
        if session.lost:
            self._pool.drop_idle()
            return again and monotonic() < deadline
        return is_in_the_way(error) and monotonic() + wait_of(error) < deadline

    # One run

    def _save(self, session: Session, run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> int:
        if run.seen == 0 if run.version == 1 else len(new) <= FEW:
            with _unless_born(session, run):
                if _has_written(session.run(self._sql.save(run, new, lease, session.room))):
                    return 0
        for _ in range(_TRIES):
            with _unless_born(session, run):
                return self._save_slowly(session, run, new, lease)
        raise Conflict(f"run {run.run_id!r} is born and deleted all the time; nothing was written")

    def _save_slowly(self, session: Session, run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> int:
        """Read why the server did not take a save; where that was for records not seen, it is taken all the same."""
        _, clock, *states = session.run([BEGIN, self._sql.clock(), *self._sql.states([run.run_id], session.room, "")])
        stored = [State(*row) for row in rows_of(states)]
        before = stored[0].entry() if stored else None
        after, unseen = rules.saved(before, run, len(new), lease, clock.rows[0][0])
        if after is not before:
            self._write(session, [Change(stored[0].key if stored else None, after, new)])
        return unseen

    def _write(self, session: Session, changes: Sequence[Change]) -> None:
        """Write to rows that are locked, bear those that are new, and end the transaction."""
        old = [change for change in changes if change.key is not None]
        born = [change for change in changes if change.key is None]
        room, sql = session.room, self._sql
        writes = [*sql.write(old, room), *sql.append(old, room), *sql.bear(born, room)]
        if any(change.new for change in born):
            keys: dict[bytes, int] = dict(rows_of(session.run([*writes, *sql.keys(born, room)])))
            born = [change._replace(key=keys[change.entry.run.run_id.encode()]) for change in born]
            writes = [*sql.append(born, room)]
        session.run([*writes, COMMIT])

    def _acquire(self, session: Session, run_id: str, lease: Lease) -> StoredRun | None:
        try:
            return _read(session, self._sql.acquire(run_id, lease))
        except Corrupt:
            session.run([self._sql.release(run_id, lease.token, None)])
            raise

    # Many saves

    def _save_parts(self, good: Entries, outcomes: dict[int, int | KvflowError]) -> Outcomes:
        """Part by part what is good, beside what is known. An error of the first part is raised, later it befalls
        the rest."""
        alone = _Alone(self._save_alone, self._timeout)
        begun = False
        for part in in_parts(good, _weight, BATCH):
            try:
                outcomes |= self._save_part(part, alone)
            except KvflowError as error:
                if not begun:
                    raise
                outcomes |= dict.fromkeys((at for at, _ in good if at not in outcomes), error)
                break
            begun = True
        return [outcomes[at] for at in range(len(outcomes))]

    def _save_part(self, entries: Entries, alone: "_Alone") -> dict[int, int | KvflowError]:
        """Together what can be, in one transaction; each by itself what somebody or its size keeps from that."""
        again = all(lease is not None for _, (_, _, lease) in entries)
        outcomes = self._call(lambda session: self._save_together(session, entries), again)
        for at, save in entries:
            if at not in outcomes:
                outcomes[at] = alone.save(save)
        return outcomes

    def _save_together(self, session: Session, entries: Entries) -> dict[int, int | KvflowError]:
        """What became of each entry; nothing of those that are better saved by themselves."""
        ids = sorted({run.run_id for _, (run, _, _) in entries})
        try:
            _, now, *states = session.run([BEGIN, self._sql.clock(), *self._sql.states(ids, session.room, SKIP)])
            batch = Batch(now.rows[0][0], rows_of(states), session.room)
            for at, save in entries:
                batch.judge(at, save)
            self._write(session, batch.changes())
        except MySQLError as error:
            if is_in_the_way(error) or isinstance(lasting(error), Corrupt):
                session.settle()
                return {}
            raise
        return batch.outcomes

    # For people and idle workers

    def _list(self, session: Session, limit: int, after: tuple[int, str] | None, status: Status | None) -> Runs:
        """The first so many; what cannot be read takes nobody's place."""
        place = None if after is None else (after[0], after[1].encode())
        listed: Runs = []
        wanted = limit
        while len(listed) < limit:
            heads = session.ask(self._sql.list(wanted, place, status))
            listed += _runs(heads)
            if len(heads) < wanted:
                break
            place = birth_of(heads[-1])
            wanted = max(limit - len(listed), _LISTED)
        return listed[:limit]


class _Alone:
    """Saves entries one by one, and waits for all of them together no longer than for one.

    What an entry took that was saved, or refused, is not counted: many large ones take their time.
    """

    def __init__(self, save: Callable[[checks.Save, float], int], timeout: float) -> None:
        self._save = save
        self._left = timeout
        self._error: StoreUnavailable | None = None

    def save(self, save: checks.Save) -> int | KvflowError:
        """What became of the entry; where the time is used up, the error that used it up."""
        if self._error is not None and self._left <= 0:
            return self._error
        began = monotonic()
        try:
            return self._save(save, self._left)
        except StoreUnavailable as error:
            # A wait for a lock ends a little before the time is up, where another would end behind it.
            self._left -= monotonic() - began + LOCK_WAIT
            self._error = error
            return error
        except KvflowError as error:
            return error


@contextmanager
def _unless_born(session: Session, run: StoredRun) -> Generator[None]:
    """Go on behind the block, nothing having happened, where the run that it bears has come to be meanwhile."""
    try:
        yield
    except MySQLError as error:
        if run.version > 1 or not is_taken(error):
            raise
        session.settle()


def _has_written(answers: Sequence[Answer]) -> bool:
    """Whether the head was written; without it, no other statement of its packet writes anything."""
    return any(answer.changed > 0 for answer in answers)


def _read(session: Session, statements: Sequence[str]) -> StoredRun | None:
    """The run that the last two statements read; once more where it was deleted and made anew in between."""
    once_more = True
    while True:
        heads, logs = session.run(statements)[-2:]
        if not heads.rows:
            return None
        head = heads.rows[0]
        log: list[bytes] = []
        for key, seq, record in logs.rows:
            if key == key_of(head):
                add(log, seq, record)
        if is_whole(head, log) or not once_more:
            return whole_run_of(head, log)
        once_more = False


def _runs(heads: Sequence[Row]) -> Iterator[StoredRun]:
    """The runs of these heads; one that cannot be read stops no other."""
    for head in heads:
        try:
            yield run_of(head)
        except Corrupt as error:
            _log.warning("not listed: %s", error)


def _weight(entry: tuple[int, checks.Save]) -> int:
    _, (run, new, _) = entry
    return len(run.snapshot) + sum(map(len, new))
