"""The SQL of the MySQL store: what each call says to the server, and nothing about when it is said.

What holds in every statement:

- It is plain ASCII. Ids, names and bytes travel as hexadecimal literals, so there is nothing to escape
  and no character set, quoting mode or collation that could change them.
- It is valid on MySQL 8.0 to 9 and MariaDB from 10.6 on alike: no user variables, no ``RETURNING``.
- An assignment reads no column that an earlier one of the same UPDATE has written, for servers and
  modes differ in whether it would see the old value or the new one.
- A statement that depends on an UPDATE in the same packet asks for its ``LAST_INSERT_ID()``, which is 0 before and the
  row's id where it has matched. Not for its ``ROW_COUNT()``: once a client is gone in mid-packet, MariaDB goes on with
  the packet, and may say 0 where a row was changed.
- Where several rows are locked, they are found by an index that is named, never by a scan that could wait
  for a row that nobody asked for.
- The clock is the server's UTC, whatever the time zone of the session.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kvflow.checks import LATEST
from kvflow.rules import Entry
from kvflow.run import Lease, Status, StoredRun
from kvflow.stores.mysql_parts import in_parts

CLOCK = "TIMESTAMPDIFF(MICROSECOND, DATE'1970-01-01', UTC_TIMESTAMP(3)) DIV 1000"

BEGIN, COMMIT, SKIP = "BEGIN", "COMMIT", "SKIP LOCKED"

FORGET = "DO LAST_INSERT_ID(0)"
"""Before an UPDATE that is asked which row it has matched."""

EXPIRED, WOKEN = 0, 1
"""The two ways to be due, in the order in which they are served."""

FEW = 8
"""The most records that are appended one by one, in the packet of their head; more are worth a packet of their own."""

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


def _fill(before: str, rows: Iterable[str], after: str = "", *, room: int) -> Iterator[str]:
    """As few statements as hold all rows."""
    for part in in_parts(rows, lambda row: len(row) + 1, room - len(before) - len(after)):
        yield before + ",".join(part) + after


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
        self._into_runs = f"INSERT INTO {self._runs} (run_id, {', '.join(_WRITTEN)}, log_bytes) VALUES "
        self._into_log = f"INSERT INTO {self._log} (id, seq, record) VALUES "

    # One run

    def save(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None, room: int) -> list[str]:
        """A head over exactly the version and the log that its writer knows, and in one transaction its records.

        The head's own statement changes a row if that is what is stored; the next ones go by its count.
        """
        head = self._birth(run, new, lease) if run.version == 1 else self._rewrite(run, new, lease)
        if not new:
            return [head]
        if run.version == 1:
            return [BEGIN, head, *self._first(new, room), COMMIT]
        return [FORGET, BEGIN, head, *self._append(run.seen, new), COMMIT]

    def _birth(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> str:
        held = lease if run.status is Status.RUNNING else None
        lasts = f"{_text(held.token)},{CLOCK} + {held.ttl}" if held else "NULL,NULL"
        writer = _text(lease.token) if lease else "NULL"
        return f"{self._into_runs}({_text(run.run_id)},{_head(run, 0)},{len(new)},{lasts},{writer},{_size(new)})"

    def _rewrite(self, run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> str:
        if lease is not None and run.status is Status.RUNNING:
            held = f"expires_at = {_prolonged(lease.ttl)}"
        else:
            held = "token = NULL, expires_at = NULL"
        progress = "" if run.status is Status.RUNNING and not new else " attempt = 0,"
        mine = f"token = {_text(lease.token)}" if lease else f"(token IS NULL OR expires_at <= {CLOCK})"
        return (
            f"UPDATE {self._runs} SET workflow = {_text(run.workflow)}, status = '{run.status}',"
            f" version = {run.version}, wake_at = {_number(run.wake_at)}, event = {_text(run.event)},{progress}"
            f" created_at = {run.created_at}, updated_at = {run.updated_at}, snapshot = {_bytes(run.snapshot)},"
            f" {held}, writer = {_text(lease.token) if lease else 'NULL'}, log_bytes = log_bytes + {_size(new)},"
            f" records = IF(LAST_INSERT_ID(id), {run.seen + len(new)}, NULL)"
            f" WHERE run_id = {_text(run.run_id)} AND version = {run.version - 1} AND records = {run.seen} AND {mine}"
        )

    def _first(self, new: Sequence[bytes], room: int) -> Iterator[str]:
        """Records of the run that the statement before has borne."""
        rows = (f"(LAST_INSERT_ID(),{seq},{_bytes(record)})" for seq, record in enumerate(new))
        return _fill(self._into_log, rows, room=room)

    def _append(self, seen: int, new: Sequence[bytes]) -> Iterator[str]:
        """Records of the run that the statement before has written, if it has.

        Each by itself: in a union, MariaDB takes a literal of more than 65,532 bytes for an empty one.
        """
        for seq, record in enumerate(new, seen):
            columns = f"(id, seq, record) SELECT LAST_INSERT_ID(), {seq}, {_bytes(record)}"
            yield f"INSERT INTO {self._log} {columns} FROM DUAL WHERE LAST_INSERT_ID() > 0"

    def post(self, run_id: str, record: bytes, now: int, wake: bool) -> list[str]:
        """One record more for a run that is not over; the head's statement changes nothing where there is none."""
        now = max(0, now)
        woken = f"LEAST(COALESCE(wake_at, {now}), {now}, {CLOCK})"
        if not wake:
            woken = f"IF(status = 'waiting' OR token IS NOT NULL, {woken}, wake_at)"
        run = f"run_id = {_text(run_id)}"
        update = (
            f"UPDATE {self._runs} SET wake_at = {woken}, log_bytes = log_bytes + {len(record)},"
            f" records = IF(LAST_INSERT_ID(id), records + 1, NULL)"
            f" WHERE {run} AND status IN ('running', 'suspended', 'waiting')"
        )
        insert = (
            f"INSERT INTO {self._log} (id, seq, record) SELECT id, records - 1, {_bytes(record)} FROM {self._runs}"
            " WHERE id = LAST_INSERT_ID()"
        )
        return [FORGET, BEGIN, update, insert, COMMIT]

    def head(self, run_id: str) -> str:
        return f"{self._head_where} r.run_id = {_text(run_id)}"

    def load(self, run_id: str, token: str | None = None) -> list[str]:
        """The head and the log's rows, each with the id of its run; with a token, only where that holds it."""
        where = f"r.run_id = {_text(run_id)}" + (f" AND r.token = {_text(token)}" if token is not None else "")
        records = f"FROM {self._runs} AS r JOIN {self._log} AS l ON l.id = r.id WHERE {where} ORDER BY l.seq"
        return [f"{self._head_where} {where}", f"SELECT l.id, l.seq, l.record {records}"]

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

    def workflow_after(self, workflow: bytes) -> str:
        """The next name in the index. DISTINCT would skip from one to the next only where statistics are fresh."""
        return f"SELECT MIN(workflow) FROM {self._runs} FORCE INDEX (due) WHERE workflow > {_bytes(workflow)}"

    def places(self, kind: int, workflow: bytes, now: int, limit: int) -> str:
        """Who is due, read from the index alone."""
        return self._due("run_id", kind, workflow, now, limit)

    def lock(self, kind: int, workflow: bytes, now: int, limit: int) -> str:
        """Who is due and locked by nobody, now locked by us."""
        return f"{self._due('run_id, id, log_bytes', kind, workflow, now, limit)} FOR UPDATE {SKIP}"

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
            "attempt": f"attempt + (token IS NOT NULL AND token <> {token} AND attempt < {LATEST})",
            "expires_at": f"{CLOCK} + {lease.ttl}",
            "token": token,
        }
        return f"UPDATE {self._runs} FORCE INDEX ({index}) SET {_assignments(values)}"

    def heads(self, keys: Sequence[int], token: str) -> str:
        return f"{self._head_where} r.id IN ({','.join(map(str, keys))}) AND r.token = {_text(token)}"

    def logs(self, keys: Sequence[int]) -> str:
        return f"SELECT id, seq, record FROM {self._log} WHERE id IN ({','.join(map(str, keys))}) ORDER BY id, seq"

    def set_aside(self, key: int, token: str, now: int, delay: int) -> str:
        """Give back a run that cannot be read, due again only after a while by anybody's clock."""
        wake = f"LEAST(GREATEST({now}, {CLOCK}) + {delay}, {LATEST})"
        values = {"wake_at": wake, "token": "NULL", "expires_at": "NULL"}
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

    def states(self, run_ids: Sequence[str], room: int, skip: str) -> Iterator[str]:
        """What decides about saves of these runs, and a lock on each."""
        columns = "id, run_id, version, attempt, records, token, COALESCE(expires_at, 0), writer"
        before = f"SELECT {columns} FROM {self._runs} FORCE INDEX (run_id) WHERE run_id IN ("
        return _fill(before, map(_text, run_ids), f") FOR UPDATE {skip}", room=room)

    def clock(self) -> str:
        return f"SELECT {CLOCK}"

    def write(self, changes: Sequence[Change], room: int) -> Iterator[str]:
        """These entries over what is stored under their keys, where nothing is inserted for it is all there."""
        rows = (
            _row(f"{change.key},{_text(change.entry.run.run_id)}", change)
            for change in sorted(changes, key=lambda change: change.key or 0)
        )
        values = {name: f"VALUES({name})" for name in _WRITTEN} | {"log_bytes": "log_bytes + VALUES(log_bytes)"}
        before = f"INSERT INTO {self._runs} (id, run_id, {', '.join(_WRITTEN)}, log_bytes) VALUES "
        return _fill(before, rows, f" ON DUPLICATE KEY UPDATE {_assignments(values)}", room=room)

    def bear(self, changes: Sequence[Change], room: int) -> Iterator[str]:
        """New runs, without their records, for which their keys must be known."""
        changes = sorted(changes, key=lambda change: change.entry.run.run_id.encode())
        rows = (_row(_text(change.entry.run.run_id), change) for change in changes)
        return _fill(self._into_runs, rows, room=room)

    def keys(self, changes: Sequence[Change], room: int) -> Iterator[str]:
        before = f"SELECT run_id, id FROM {self._runs} FORCE INDEX (run_id) WHERE run_id IN ("
        return _fill(before, (_text(change.entry.run.run_id) for change in changes), ")", room=room)

    def append(self, changes: Sequence[Change], room: int) -> Iterator[str]:
        """The new records of runs whose keys are known."""
        rows = (f"({change.key},{seq},{_bytes(record)})" for change in changes for seq, record in change.records())
        return _fill(self._into_log, rows, room=room)

    # For people and idle workers

    def list(self, limit: int, after: tuple[int, bytes] | None, status: Status | None) -> str:
        where = [f"status = '{status}'"] if status else []
        if after is not None:
            at, run_id = after
            where.append(f"created_at <= {at} AND (created_at < {at} OR run_id < {_bytes(run_id)})")
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


def _row(ids: str, change: Change) -> str:
    return f"({ids},{_entry(change.entry)},{_size(change.new)})"


def _head(run: StoredRun, attempt: int) -> str:
    """The first of the columns written, as literals."""
    return (
        f"{_text(run.workflow)},'{run.status}',{run.version},{_number(run.wake_at)},{_text(run.event)},{attempt},"
        f"{run.created_at},{run.updated_at},{_bytes(run.snapshot)}"
    )


def _entry(entry: Entry) -> str:
    """All columns written, as literals."""
    expires = "NULL" if entry.token is None else entry.expires
    head = _head(entry.run, entry.run.attempt)
    return f"{head},{entry.records},{_text(entry.token)},{expires},{_text(entry.writer)}"


def _prolonged(ttl: int) -> str:
    """The lease begun anew; left alone while most of it is left, which spares the index a change."""
    return f"IF(expires_at - ({CLOCK}) BETWEEN {ttl // 2 + 1} AND {ttl}, expires_at, {CLOCK} + {ttl})"
