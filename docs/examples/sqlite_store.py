"""Runs in a SQLite file: the four primitives and a listing, which under ``Derived`` are a whole store.

    store = Derived(SQLiteStore("runs.db"))

Each call opens the file, does all that it does in one transaction, and closes it: threads, processes and
forked children share nothing but the file. SQLite syncs a commit to the disk before it answers.
"""

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from msgspec import ValidationError, convert
from msgspec.structs import asdict

from kvflow import Conflict, Corrupt, Lease, Status, StoredRun, StoreUnavailable, TooLarge
from kvflow.store import Ids, Runs

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
    run_id TEXT PRIMARY KEY, workflow TEXT NOT NULL, status TEXT NOT NULL, version INTEGER NOT NULL,
    wake_at INTEGER, event TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    snapshot BLOB NOT NULL, records INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS record (
    run_id TEXT NOT NULL, number INTEGER NOT NULL, record BLOB NOT NULL, PRIMARY KEY (run_id, number));
CREATE INDEX IF NOT EXISTS run_wake ON run (wake_at, run_id) WHERE wake_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS run_birth ON run (created_at, run_id);
"""
_SAVE = """
INSERT OR REPLACE INTO run VALUES (
    :run_id, :workflow, :status, :version, :wake_at, :event, :created_at, :updated_at, :snapshot, :records)
"""
_LIST = """
SELECT * FROM run WHERE (created_at, run_id) < (?, ?) AND (?3 IS NULL OR status = ?3)
ORDER BY created_at DESC, run_id DESC LIMIT ?4
"""
_BEHIND_ALL = (2**63 - 1, "")


class SQLiteStore:
    """``timeout`` is how many seconds a call waits for the file while others write."""

    def __init__(self, path: str | Path, timeout: float = 5.0) -> None:
        self._path, self._timeout = path, timeout
        with self._transaction("IMMEDIATE") as db:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        """A compare-and-set on the version; ``lease`` is always None, for Derived keeps leases in the snapshot."""
        with self._transaction("IMMEDIATE") as db:  # nobody writes between the look and the write
            stored = db.execute("SELECT version, records FROM run WHERE run_id = ?", [run.run_id]).fetchone()
            version, records = stored or (0, 0)
            if run.version != version + 1:
                raise Conflict(f"run {run.run_id!r}: {run.version} does not follow version {version}, which is stored")
            db.execute(_SAVE, {**asdict(run), "records": records + len(new)})
            rows = [(run.run_id, number, record) for number, record in enumerate(new, records)]
            db.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
        return int(records) - run.seen

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        """Head and log of one moment: both are read in one transaction."""
        with self._transaction("DEFERRED") as db:
            head = db.execute("SELECT * FROM run WHERE run_id = ?", [run_id]).fetchone()
            records = "SELECT record FROM record WHERE run_id = ? ORDER BY number"
            rows = db.execute(records, [run_id]).fetchall() if log else []
        return None if head is None else _run(head, [row["record"] for row in rows])

    def delete(self, run_id: str) -> None:
        with self._transaction("IMMEDIATE") as db:
            db.execute("DELETE FROM record WHERE run_id = ?", [run_id])
            db.execute("DELETE FROM run WHERE run_id = ?", [run_id])

    def due(self, now: int, limit: int) -> Ids:
        """By wake, then by id: SQLite compares text byte by byte in UTF-8, which is the order of the contract."""
        due = "SELECT run_id FROM run WHERE wake_at <= ? ORDER BY wake_at, run_id LIMIT ?"
        with self._transaction("DEFERRED") as db:
            return [row["run_id"] for row in db.execute(due, [now, limit])]

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | None = None) -> Runs:
        """Not one of the four; a store without it cannot list."""
        with self._transaction("DEFERRED") as db:
            return [_run(head, []) for head in db.execute(_LIST, [*(after or _BEHIND_ALL), status, limit])]

    @contextmanager
    def _transaction(self, kind: str) -> Generator[sqlite3.Connection]:
        """All or nothing, and the one place where SQLite's errors become kvflow's."""
        try:
            with closing(sqlite3.connect(self._path, timeout=self._timeout, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute(f"BEGIN {kind}")
                yield db
                db.execute("COMMIT")
        except sqlite3.DataError as error:
            raise TooLarge(f"{error}: SQLite takes up to 1 GB in one value; nothing was written") from error
        except sqlite3.OperationalError as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise Corrupt(f"{self._path}: {error}") from error


def _run(head: sqlite3.Row, log: Sequence[bytes]) -> StoredRun:
    try:
        return convert({**dict(head), "seen": len(log), "log": log}, StoredRun)
    except ValidationError as error:
        raise Corrupt(f"run {head['run_id']!r} in SQLite: {error}") from error
