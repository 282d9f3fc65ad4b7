"""The SQL of the MySQL store: what each call says to the server, and nothing about when it is said.

What holds in every statement:

- It is plain ASCII. Ids, names and bytes travel as hexadecimal literals, so there is nothing to escape
  and no character set, quoting mode or collation that could change them.
- It is valid on MySQL 8.0 to 9 and MariaDB from 10.6 on alike: no user variables, no ``RETURNING``.
- An assignment reads no column that an earlier one of the same UPDATE has written, for servers and
  modes differ in whether it would see the old value or the new one.
- A statement that depends on an UPDATE in the same packet asks for its ``ROW_COUNT()``. Each such UPDATE
  changes something where it matches, so this is the same with ``FOUND_ROWS`` as without.
- Where several rows are locked, they are found by an index that is named, never by a scan that could wait
  for a row that nobody asked for.
- The clock is the server's UTC, whatever the time zone of the session.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from kvflow.rules import Entry
from kvflow.run import Lease, Status, StoredRun

CLOCK = "TIMESTAMPDIFF(MICROSECOND, DATE'1970-01-01', UTC_TIMESTAMP(3)) DIV 1000"

BEGIN, COMMIT, ROLLBACK = "BEGIN", "COMMIT", "ROLLBACK"

EXPIRED, WOKEN = 0, 1
"""The two ways to be due, in the order in which they are served."""

ROWS = 500
"""The most rows that one statement names: beyond a thousand values, some optimizers give up an index."""

T = TypeVar("T")

_INDEX = {EXPIRED: ("held", "expires_at", CLOCK), WOKEN: ("due", "due_at", None)}

_HEAD = (
    *("id", "records", "run_id", "workflow", "status", "version", "wake_at", "event"),
    *("attempt", "created_at", "updated_at"),
)
_WRITTEN = (
    *("workflow", "status", "version", "wake_at", "event", "attempt", "created_at", "updated_at", "snapshot"),
    *("records", "token", "expires_at", "writer"),
)


def _bytes(value: bytes | None) -> str:
    return "NULL" if value is None else f"X'{value.hex()}'"


def _text(value: str | None) -> str:
    return "NULL" if value is None else f"X'{value.encode().hex()}'"


def _number(value: int | None) -> str:
    return "NULL" if value is None else str(value)


def _size(records: Iterable[bytes]) -> int:
    return sum(map(len, records))


def in_parts(items: Iterable[T], weigh: Callable[[T], int], room: int) -> Iterator[list[T]]:
    """As few lists as hold all items, each of ``ROWS`` items and of this weight at most.

    An item that is alone heavier makes a list that is too, for its sender to refuse.
    """
    part: list[T] = []
    weight = 0
    for item in items:
        more = weigh(item)
        if part and (weight + more > room or len(part) == ROWS):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += more
    if part:
        yield part


def _fill(before: str, rows: Iterable[str], after: str = "", *, room: int, between: str = ",") -> Iterator[str]:
    """As few statements as hold all rows."""
    for part in in_parts(rows, lambda row: len(row) + len(between), room - len(before) - len(after)):
        yield before + between.join(part) + after


class Change(NamedTuple):
    """What is to be stored of a run, ``key`` being None for a new one, and the last records of its log."""

    key: int | None
    entry: Entry
    new: Sequence[bytes]

    def records(self) -> Iterator[tuple[int, bytes]]:
        """Each new record with its place in the log."""
        return zip(itertools.count(self.entry.records - len(self.new)), self.new, strict=False)


class Statements:
    """What is said about the tables of one prefix. ``room`` is the longest statement that the server takes."""

    def __init__(self, prefix: str) -> None:
        self._runs = f"{prefix}_runs"
        self._log = f"{prefix}_log"
        self._head_where = f"SELECT {', '.join(_HEAD)}, snapshot FROM {self._runs} AS r WHERE"

    # One run

    def save(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None, room: int) -> list[str]:
        """One head, and the records if there are any, in one transaction; the count of the head's statement is
        1 where it was saved, and its last id, but for a birth, the number of records that are then stored."""
        head = self._birth(run, new, lease) if run.version == 1 else self._rewrite(run, new, lease)
        if not new:
            return [head]
        append = self._first_records if run.version == 1 else self._more_records
        return [BEGIN, head, *append(run.run_id, new, room), COMMIT]

    def _birth(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> str:
        held = lease if run.status is Status.RUNNING else None
        values = (
            *_head(run, run.wake_at, 0),
            str(len(new)),
            _text(held and held.token),
            f"{CLOCK} + {held.ttl}" if held else "NULL",
            _text(lease and lease.token),
        )
        return f"{self._into_runs()} VALUES {self._row(run.run_id, values, _size(new))}"

    def _rewrite(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> str:
        keeps = lease is not None and run.status is Status.RUNNING
        values = dict(zip(_WRITTEN, _head(run, None, 0), strict=False))
        values["wake_at"] = _wake_after_save(run)
        if run.status is Status.RUNNING and not new:
            del values["attempt"]
        if not keeps:
            values["token"] = "NULL"
        values["expires_at"] = _prolonged(lease.ttl) if lease and keeps else "NULL"
        values["writer"] = _text(lease and lease.token)
        values["log_bytes"] = f"log_bytes + {_size(new)}"
        values["records"] = f"LAST_INSERT_ID(records + {len(new)})"
        mine = f"token = {_text(lease.token)}" if lease else f"(token IS NULL OR expires_at <= {CLOCK})"
        return (
            f"UPDATE {self._runs} SET {_assignments(values)} WHERE run_id = {_text(run.run_id)}"
            f" AND version = {run.version - 1} AND records >= {run.seen} AND {mine}"
        )

    def _first_records(self, run_id: str, records: Sequence[bytes], room: int) -> Iterator[str]:
        rows = (f"(LAST_INSERT_ID(), {seq}, {_bytes(record)})" for seq, record in enumerate(records))
        return _fill(f"INSERT INTO {self._log} (id, seq, record) VALUES ", rows, room=room)

    def _more_records(self, run_id: str, records: Sequence[bytes], room: int) -> Iterator[str]:
        """The last records of a run whose head counts them already, if the statement before did something."""
        done = f"r.run_id = {_text(run_id)} AND ROW_COUNT() > 0"
        into = f"INSERT INTO {self._log} (id, seq, record) SELECT r.id, r.records - "
        if len(records) == 1:
            return iter([f"{into}1, {_bytes(records[0])} FROM {self._runs} AS r WHERE {done}"])
        rows = (
            f"SELECT {back}, {_bytes(record)}"
            for back, record in zip(itertools.count(len(records), -1), records, strict=False)
        )
        return _fill(
            f"{into}v.back, v.record FROM {self._runs} AS r JOIN ({_no_row('back', 'record')}",
            rows,
            f") AS v WHERE {done}",
            room=room,
            between=" UNION ALL ",
        )

    def post(self, run_id: str, record: bytes, now: int, wake: bool, room: int) -> list[str]:
        """One record more for a run that is not over; the first count is 0 where there is none such."""
        woken = f"GREATEST(0, LEAST({now}, {CLOCK}))"
        woken = f"LEAST(COALESCE(wake_at, {woken}), {woken})"
        if not wake:
            woken = f"IF(status = 'waiting' OR token IS NOT NULL, {woken}, wake_at)"
        values = {
            "wake_at": woken,
            "log_bytes": f"log_bytes + {len(record)}",
            "records": "records + 1",
        }
        update = (
            f"UPDATE {self._runs} SET {_assignments(values)} WHERE run_id = {_text(run_id)}"
            " AND status IN ('running', 'suspended', 'waiting')"
        )
        return [BEGIN, update, *self._more_records(run_id, [record], room), COMMIT]

    def head(self, run_id: str) -> str:
        return f"{self._head_where} r.run_id = {_text(run_id)}"

    def load(self, run_id: str, token: str | None = None) -> list[str]:
        """The head and the log's rows, each with the id of its run; with a token, only where that holds it."""
        where = f"r.run_id = {_text(run_id)}" + (f" AND r.token = {_text(token)}" if token is not None else "")
        records = f"FROM {self._runs} AS r JOIN {self._log} AS l ON l.id = r.id WHERE {where} ORDER BY l.seq"
        return [f"{self._head_where} {where}", f"SELECT l.id, l.record {records}"]

    def acquire(self, run_id: str, lease: Lease) -> list[str]:
        """A lease, where it can be had, and then what is held under it; counts say nothing, the rows do."""
        token = _text(lease.token)
        take = (
            f"{self._take(lease)} WHERE run_id = {_text(run_id)}"
            f" AND (token IS NULL OR token = {token} OR expires_at <= {CLOCK})"
        )
        return [take, *self.load(run_id, lease.token)]

    def release(self, run_id: str, token: str, wake_at: int | None) -> str:
        own = "COALESCE(wake_at, IF(status = 'running', updated_at, NULL))"
        values = {"wake_at": own if wake_at is None else str(wake_at), "token": "NULL", "expires_at": "NULL"}
        where = f"run_id = {_text(run_id)} AND token = {_text(token)}"
        return f"UPDATE {self._runs} SET {_assignments(values)} WHERE {where}"

    def delete(self, run_id: str) -> str:
        """The log goes with its run, by its foreign key."""
        return f"DELETE FROM {self._runs} WHERE run_id = {_text(run_id)}"

    # Many runs

    def workflows(self) -> str:
        """Each name that there is, by skipping from one to the next in the index."""
        return f"SELECT DISTINCT workflow FROM {self._runs} FORCE INDEX (due)"

    def places(self, kind: int, workflow: bytes, now: int, limit: int) -> str:
        """Who is due, read from the index alone."""
        return self._due("run_id", kind, workflow, now, limit)

    def lock(self, kind: int, workflow: bytes, now: int, limit: int) -> str:
        """Who is due and locked by nobody, now locked by us."""
        return f"{self._due('run_id, id, log_bytes', kind, workflow, now, limit)} FOR UPDATE SKIP LOCKED"

    def _due(self, columns: str, kind: int, workflow: bytes, now: int, limit: int) -> str:
        index, at, clock = _INDEX[kind]
        return (
            f"SELECT {at}, {columns} FROM {self._runs} FORCE INDEX ({index})"
            f" WHERE workflow = {_bytes(workflow)} AND {at} <= {now if clock is None else clock}"
            f" ORDER BY {at}, run_id LIMIT {limit}"
        )

    def taken_before(self, workflow: bytes, token: str, limit: int) -> str:
        """Who is held under this token already: only for a claim whose first answer was lost."""
        return (
            f"SELECT expires_at, run_id, id, log_bytes FROM {self._runs} FORCE INDEX (held)"
            f" WHERE workflow = {_bytes(workflow)} AND expires_at > {CLOCK} AND token = {_text(token)} LIMIT {limit}"
        )

    def lease(self, keys: Sequence[int], lease: Lease, room: int) -> Iterator[str]:
        before = f"{self._take(lease, 'PRIMARY')} WHERE id IN ("
        return _fill(before, map(str, sorted(keys)), ")", room=room)

    def _take(self, lease: Lease, index: str = "run_id") -> str:
        token = _text(lease.token)
        values = {
            "attempt": f"attempt + (token IS NOT NULL AND token <> {token})",
            "expires_at": f"{CLOCK} + {lease.ttl}",
            "token": token,
        }
        return f"UPDATE {self._runs} FORCE INDEX ({index}) SET {_assignments(values)}"

    def heads(self, keys: Sequence[int], token: str) -> str:
        return f"{self._head_where} r.id IN ({','.join(map(str, keys))}) AND r.token = {_text(token)}"

    def logs(self, keys: Sequence[int]) -> str:
        return f"SELECT id, record FROM {self._log} WHERE id IN ({','.join(map(str, keys))}) ORDER BY id, seq"

    def set_aside(self, key: int, token: str, delay: int) -> str:
        """Give back a run that cannot be read, due again only after a while."""
        values = {"wake_at": f"{CLOCK} + {delay}", "token": "NULL", "expires_at": "NULL"}
        return f"UPDATE {self._runs} SET {_assignments(values)} WHERE id = {key} AND token = {_text(token)}"

    def renew(self, tokens: Mapping[bytes, bytes], ttl: int, room: int) -> list[str]:
        """Leases begun anew, in the order of ids, and then who holds these runs."""
        renewals: list[str] = []
        holders: list[str] = []
        for part in in_parts(sorted(tokens.items()), lambda pair: 4 * len(pair[0]) + 2 * len(pair[1]) + 16, room - 512):
            ids = ",".join(_bytes(run_id) for run_id, _ in part)
            ours = ",".join(f"({_bytes(run_id)},{_bytes(token)})" for run_id, token in part)
            renewals.append(
                f"UPDATE {self._runs} FORCE INDEX (run_id) SET expires_at = {CLOCK} + {ttl}"
                f" WHERE run_id IN ({ids}) AND (run_id, token) IN ({ours})"
            )
            holders.append(
                f"SELECT run_id, token FROM {self._runs} FORCE INDEX (run_id)"
                f" WHERE run_id IN ({ids}) AND token IS NOT NULL"
            )
        return [*renewals, *holders]

    def states(self, run_ids: Sequence[str], room: int, *, lock: bool = False) -> Iterator[str]:
        """What the rules ask of these runs, without snapshots; with ``lock``, of those that nobody has locked."""
        columns = f"{', '.join(_HEAD)}, X'', token, COALESCE(expires_at, 0), writer, {CLOCK}"
        before = f"SELECT {columns} FROM {self._runs} FORCE INDEX (run_id) WHERE run_id IN ("
        return _fill(before, map(_text, run_ids), ") FOR UPDATE SKIP LOCKED" if lock else ")", room=room)

    def clock(self) -> str:
        return f"SELECT {CLOCK}"

    def write(self, changes: Sequence[Change], room: int) -> Iterator[str]:
        """These entries over what is stored, and their records behind those that there are."""
        rows = (
            f"SELECT {change.key}, {','.join(_entry(change.entry))}, {_size(change.new)}"
            for change in sorted(changes, key=lambda change: change.key or 0)
        )
        values = {name: f"v.{name}" for name in _WRITTEN} | {"log_bytes": "r.log_bytes + v.log_bytes"}
        yield from _fill(
            f"UPDATE ({_no_row('id', *_WRITTEN, 'log_bytes')}",
            rows,
            f") AS v STRAIGHT_JOIN {self._runs} AS r FORCE INDEX (PRIMARY) ON r.id = v.id"
            f" SET {', '.join(f'r.{name} = {value}' for name, value in values.items())}",
            room=room,
            between=" UNION ALL ",
        )
        records = (f"({change.key},{seq},{_bytes(record)})" for change in changes for seq, record in change.records())
        yield from _fill(f"INSERT INTO {self._log} (id, seq, record) VALUES ", records, room=room)

    def bear(self, changes: Sequence[Change], room: int) -> Iterator[str]:
        """New runs with their records."""
        changes = sorted(changes, key=lambda change: change.entry.run.run_id.encode())
        rows = (self._row(change.entry.run.run_id, _entry(change.entry), _size(change.new)) for change in changes)
        yield from _fill(f"{self._into_runs()} VALUES ", rows, room=room)
        records = (
            f"SELECT {_text(change.entry.run.run_id)}, {seq}, {_bytes(record)}"
            for change in changes
            for seq, record in change.records()
        )
        yield from _fill(
            f"INSERT INTO {self._log} (id, seq, record)"
            f" SELECT r.id, v.seq, v.record FROM ({_no_row('run_id', 'seq', 'record')}",
            records,
            f") AS v STRAIGHT_JOIN {self._runs} AS r FORCE INDEX (run_id) ON r.run_id = v.run_id",
            room=room,
            between=" UNION ALL ",
        )

    def _into_runs(self) -> str:
        return f"INSERT INTO {self._runs} (run_id, {', '.join(_WRITTEN)}, log_bytes)"

    def _row(self, run_id: str, values: Iterable[str], log_bytes: int) -> str:
        return f"({_text(run_id)}, {', '.join(values)}, {log_bytes})"

    # For people and idle workers

    def list(self, limit: int, after: tuple[int, str] | None, status: Status | None) -> str:
        where = [f"status = '{status}'"] if status else []
        if after is not None:
            at, run_id = after
            where.append(f"created_at <= {at} AND (created_at < {at} OR run_id < {_text(run_id)})")
        return (
            f"SELECT {', '.join(_HEAD)}, snapshot FROM {self._runs} FORCE INDEX (born)"
            f"{' WHERE ' + ' AND '.join(where) if where else ''}"
            f" ORDER BY created_at DESC, run_id DESC LIMIT {limit}"
        )

    def next_wake(self, workflow: bytes) -> Iterator[str]:
        """The first of each index: the wake of a run that nobody holds, and a lease that ran out."""
        mine = f"workflow = {_bytes(workflow)}"
        yield f"SELECT MIN(due_at) FROM {self._runs} FORCE INDEX (due) WHERE {mine}"
        yield f"SELECT MIN(expires_at) FROM {self._runs} FORCE INDEX (held) WHERE {mine} AND expires_at <= {CLOCK}"


def _assignments(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _no_row(*names: str) -> str:
    """The names of a union's columns, as its first part, which has no rows."""
    return f"SELECT {', '.join(f'NULL AS {name}' for name in names)} FROM DUAL WHERE FALSE UNION ALL "


def _head(run: StoredRun, wake_at: int | None, attempt: int) -> tuple[str, ...]:
    """The first of the columns written, as literals."""
    return (
        _text(run.workflow),
        f"'{run.status}'",
        str(run.version),
        _number(wake_at),
        _text(run.event),
        str(attempt),
        str(run.created_at),
        str(run.updated_at),
        _bytes(run.snapshot),
    )


def _entry(entry: Entry) -> tuple[str, ...]:
    """All columns written, as literals."""
    return (
        *_head(entry.run, entry.run.wake_at, entry.run.attempt),
        str(entry.records),
        _text(entry.token),
        "NULL" if entry.token is None else str(entry.expires),
        _text(entry.writer),
    )


def _wake_after_save(run: StoredRun) -> str:
    """A run that comes to rest with records unseen is due now; how many are stored, only the server knows."""
    if run.status not in (Status.SUSPENDED, Status.WAITING):
        return _number(run.wake_at)
    now = run.updated_at if run.wake_at is None else min(run.wake_at, run.updated_at)
    return f"IF(records > {run.seen}, {now}, {_number(run.wake_at)})"


def _prolonged(ttl: int) -> str:
    """The lease begun anew; left alone while most of it is left, which spares the index a change."""
    return f"IF(expires_at - ({CLOCK}) BETWEEN {ttl // 2 + 1} AND {ttl}, expires_at, {CLOCK} + {ttl})"
