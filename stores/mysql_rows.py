"""What the server's rows mean: runs, entries and places in line, or ``Corrupt`` where they mean nothing.

The tables refuse most of what could not be read, unless somebody has taken their checks away. What is left is a name
that is no name, a number too large, and a log from which somebody has taken records: the head counts them, and each
has its place, so that is seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvflow.checks import check_stored
from kvflow.errors import Corrupt
from kvflow.rules import Entry
from kvflow.run import Status, StoredRun
from kvflow.stores.mysql_session import Row


class Place(NamedTuple):
    """Where a due run stands in line; places sort as the contract wants runs."""

    kind: int
    at: int
    run_id: bytes
    workflow: bytes
    key: int = 0
    log_bytes: int = 0


def key_of(head: Row) -> int:
    return int(head[0])


def birth_of(head: Row) -> tuple[int, bytes]:
    """Where it stands in a list, whether or not it can be read."""
    return int(head[9]), bytes(head[2])


def name_of(head: Row) -> str:
    """What to call a run that may not be readable."""
    return repr(bytes(head[2]).decode(errors="backslashreplace"))


def add(log: list[bytes], seq: int, record: bytes) -> None:
    """Add the next record, if it is that: a log with a gap ends before it."""
    if seq == len(log):
        log.append(record)


def is_whole(head: Row, log: Sequence[bytes]) -> bool:
    """Whether the log has the records that the head counts; a post may have brought more since."""
    return len(log) >= int(head[1])


def run_of(head: Row, log: Sequence[bytes] = ()) -> StoredRun:
    """The run with the log that was read, as far as its head counts it."""
    _, records, run_id, workflow, status, version, wake_at, event, attempt, created_at, updated_at, snapshot = head
    log = tuple(log[:records])
    try:
        run = StoredRun(
            run_id=run_id.decode(),
            workflow=workflow.decode(),
            status=Status(status),
            version=version,
            wake_at=wake_at,
            event=None if event is None else event.decode(),
            attempt=attempt,
            created_at=created_at,
            updated_at=updated_at,
            snapshot=snapshot,
            seen=len(log),
            log=log,
        )
    except ValueError as error:
        raise Corrupt(f"the row of run {name_of(head)} does not decode: {error}") from error
    check_stored(run, records)
    return run


def whole_run_of(head: Row, log: Sequence[bytes]) -> StoredRun:
    """The run with its log, of which nothing may be missing."""
    if not is_whole(head, log):
        raise Corrupt(f"run {name_of(head)} has {len(log)} rows of a log of {head[1]} records")
    return run_of(head, log)


class State(NamedTuple):
    """What decides about a save: all of an entry that the head to be saved does not replace."""

    key: int
    run_id: bytes
    version: int
    attempt: int
    records: int
    token: bytes | None
    expires: int
    writer: bytes | None

    def entry(self) -> Entry:
        """The entry for ``rules.saved``, with nothing in its head but what that asks for."""
        if self.version < 1 or min(self.attempt, self.records, self.expires) < 0:
            raise Corrupt(f"the row of run {self.run_id!r} counts below what any kvflow counts from")
        try:
            return Entry(
                run=StoredRun(
                    run_id=self.run_id.decode(),
                    workflow="",
                    status=Status.RUNNING,
                    version=self.version,
                    attempt=self.attempt,
                    created_at=0,
                    updated_at=0,
                    snapshot=b"",
                ),
                records=self.records,
                token=None if self.token is None else self.token.decode(),
                expires=self.expires,
                writer=None if self.writer is None else self.writer.decode(),
            )
        except UnicodeDecodeError as error:
            raise Corrupt(f"the lease of run {self.run_id!r} does not decode: {error}") from error
