"""Heads and entries as they come back from the server, in binary.

A row that kvflow could not have written is Corrupt: the tables' constraints keep most such rows out, so somebody has
taken these away, or records with them, or has written by hand.
"""

from itertools import count, takewhile

from msgspec.structs import replace
from psycopg.pq.abc import PGresult

from kvflow.checks import check_stored
from kvflow.errors import Corrupt
from kvflow.rules import Entry
from kvflow.run import Status, StoredRun

_COLUMNS = 11
_CREATED_AT = 7
_STATUSES = {status.encode(): status for status in Status}


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", signed=True)


def _whole(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, signed=True)


def _name(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def read_names(result: PGresult, column: int = 0) -> list[str]:
    """A column of ids."""
    return [(result.get_value(row, column) or b"").decode() for row in range(result.ntuples)]


def read_number(result: PGresult) -> int:
    """The only value, which is not NULL."""
    return _number(result.get_value(0, 0))


def read_numbers(result: PGresult, column: int) -> list[int]:
    """A column of numbers of which none is NULL."""
    return [_number(result.get_value(row, column)) for row in range(result.ntuples)]


def read_wake(result: PGresult) -> int | None:
    """The only value, which may be NULL."""
    return _whole(result.get_value(0, 0))


def read_head(result: PGresult, row: int) -> tuple[StoredRun, int]:
    """The head in a row, and how many records its log must have."""
    (run_id, workflow, status, version, wake_at, event, attempt, created_at, updated_at, records, snapshot) = [
        result.get_value(row, column) for column in range(_COLUMNS)
    ]
    known = _STATUSES.get(status or b"")
    if known is None or run_id is None or workflow is None or snapshot is None:
        raise Corrupt(f"run {_name(run_id)!r} has the status {_name(status)!r}, which no kvflow writes")
    run = StoredRun(
        run_id=run_id.decode(),
        workflow=workflow.decode(),
        status=known,
        version=_number(version),
        wake_at=_whole(wake_at),
        event=_name(event),
        attempt=_number(attempt),
        created_at=_number(created_at),
        updated_at=_number(updated_at),
        snapshot=snapshot,
    )
    check_stored(run, _number(records))
    return run, _number(records)


def read_birth(result: PGresult, row: int) -> tuple[int, str]:
    """Where a row stands in a list, whether or not its head can be read."""
    return _number(result.get_value(row, _CREATED_AT)), (result.get_value(row, 0) or b"").decode()


def read_run(result: PGresult, row: int, log: tuple[bytes, ...] | None) -> StoredRun:
    """The run in a row with its log, or without where that was not asked for."""
    run, records = read_head(result, row)
    if log is None:
        return run
    if len(log) != records:
        raise Corrupt(f"run {run.run_id!r} has {len(log)} of the {records} records of its log")
    return replace(run, seen=records, log=log)


def read_entry(result: PGresult) -> tuple[Entry | None, int]:
    """The entry that a save is judged by, and the store's clock when it was read."""
    if not result.ntuples:
        return None, 0
    run, records = read_head(result, 0)
    token, expires, writer, clock = [result.get_value(0, _COLUMNS + column) for column in range(4)]
    if (token is None) != (expires is None):
        raise Corrupt(f"run {run.run_id!r} has half a lease, which no kvflow writes")
    entry = Entry(run=run, records=records, token=_name(token), expires=_number(expires), writer=_name(writer))
    return entry, _number(clock)


def read_logs(result: PGresult, runs: int) -> list[tuple[bytes, ...]]:
    """The log of each place, of rows ``place, seq, record``; a log with a gap ends before it."""
    logs: list[dict[int, bytes]] = [{} for _ in range(runs)]
    for row in range(result.ntuples):
        place, seq = _number(result.get_value(row, 0)), _number(result.get_value(row, 1))
        logs[place - 1][seq] = result.get_value(row, 2) or b""
    return [tuple(log[seq] for seq in takewhile(log.__contains__, count(1))) for log in logs]
