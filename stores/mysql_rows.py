"""What the server's rows mean: runs, entries and places in line, or ``Corrupt`` where they mean nothing.

The tables refuse most of what could not be read. What is left is a name that is no text, and a log from which
somebody has taken records: the head counts them, so that is seen.
"""

from collections.abc import Sequence
from typing import NamedTuple

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


def name_of(head: Row) -> str:
    """What to call a run that may not be readable."""
    return repr(bytes(head[2]).decode(errors="backslashreplace"))


def is_whole(head: Row, log: Sequence[bytes]) -> bool:
    """Whether the log has the records that the head counts; a post may have brought more since."""
    return len(log) >= int(head[1])


def run_of(head: Row, log: Sequence[bytes] = ()) -> StoredRun:
    """The run with the log that was read, as far as its head counts it."""
    _, records, run_id, workflow, status, version, wake_at, event, attempt, created_at, updated_at, snapshot = head
    log = tuple(log[:records])
    try:
        return StoredRun(
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


def whole_run_of(head: Row, log: Sequence[bytes]) -> StoredRun:
    """The run with its log, of which nothing may be missing."""
    if not is_whole(head, log):
        raise Corrupt(f"run {name_of(head)} has {len(log)} rows of a log of {head[1]} records")
    return run_of(head, log)


def entry_of(state: Row) -> Entry:
    """What the rules ask of a run."""
    *head, token, expires, writer = state
    try:
        return Entry(
            run=run_of(tuple(head)),
            records=head[1],
            token=None if token is None else token.decode(),
            expires=expires,
            writer=None if writer is None else writer.decode(),
        )
    except UnicodeDecodeError as error:
        raise Corrupt(f"the lease of run {name_of(tuple(head))} does not decode: {error}") from error
