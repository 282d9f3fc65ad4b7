"""How a run stands in Redis: the facts that a save sends, and the head that a reading gives back.

Both are lines of text, for no name holds a control character. Times are sixteen digits, as in the index.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kvflow.checks import check_stored
from kvflow.errors import Conflict, Corrupt, KvflowError
from kvflow.run import Lease, Status, StoredRun

_STATUSES = {status.value: status for status in Status}


class Head(NamedTuple):
    """The lines of a head, in their order."""

    version: str
    writer: str
    records: str
    bytes: str
    attempt: str
    wake: str
    token: str
    expires: str
    workflow: str
    created: str
    status: str
    updated: str
    event: str


_DIGITS = 18  # more than any log needs; Python refuses to read a number of thousands
_RECORDS, _BYTES = Head._fields.index("records"), Head._fields.index("bytes")


def facts(run: StoredRun, new: Sequence[bytes], lease: Lease | None, nonce: str) -> bytes:
    """All of a save but its snapshot and its records, as saving.lua takes it.

    A save without a lease is written under a name made for this call alone, which is no token: so the driver may
    send it twice, and nobody else's is ever taken for its repeat.
    """
    wake = "" if run.wake_at is None else _digits(run.wake_at)
    writer, token, ttl = ("\t" + nonce, "", 1) if lease is None else (lease.token, lease.token, lease.ttl)
    return (
        f"{run.version}\n{writer}\n{run.seen}\n{len(new)}\n{wake}\n{token}\n{ttl}\n"
        f"{run.workflow}\n{_digits(run.created_at)}\n{run.status}\n{_digits(run.updated_at)}\n{run.event or ''}"
    ).encode()


def _digits(time: int) -> str:
    return str(time).zfill(16)


def decode(run_id: bytes, lines: bytes | None, snapshot: bytes | None, log: Sequence[bytes] | None = None) -> StoredRun:
    """The run of these lines, with its log where that was read; Corrupt where they are not what a save writes.

    The scripts look at the form of a head only; but one whose next save would be refused must not be driven.
    """
    if lines is None or snapshot is None:
        raise _garbled(run_id, f"its {'head' if lines is None else 'snapshot'} is missing")
    try:
        head = Head(*lines.decode().split("\n"))
        numbers = (head.version, head.records, head.attempt, head.created, head.updated, head.wake or "0")
        _check_digits("".join(numbers))
        version, records, attempt, created_at, updated_at, wake_at = map(int, numbers)
        run = StoredRun(
            run_id=run_id.decode(),
            workflow=head.workflow,
            status=_STATUSES[head.status],
            version=version,
            wake_at=wake_at if head.wake else None,
            event=head.event or None,
            attempt=attempt,
            created_at=created_at,
            updated_at=updated_at,
            snapshot=snapshot,
            seen=len(log or ()),
            log=tuple(log or ()),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _garbled(run_id, "its head is not as it was written") from error
    if log is not None and len(log) != records:
        raise _garbled(run_id, f"it has {len(log)} records of {records}")
    check_stored(run, records)
    return run


def extent(lines: bytes) -> tuple[int, int]:
    """How many records a head that a script has read counts, and how many bytes they are."""
    head = lines.split(b"\n")
    return int(head[_RECORDS][:_DIGITS]), int(head[_BYTES][:_DIGITS])


def _check_digits(text: str) -> None:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no number")


def _garbled(run_id: bytes, why: str) -> Corrupt:
    return Corrupt(f"run {run_id.decode(errors='replace')!r} is garbled: {why}; it is left as it is")


def refused(reply: bytes, run_id: str, version: int | None = None) -> KvflowError:
    """The error that a script's refusal means."""
    kind, _, reason = reply.decode(errors="replace").partition(": ")
    if kind == "conflict":
        return Conflict(f"run {run_id!r}, version {version}: {reason}; nothing was written")
    return Corrupt(f"run {run_id!r} is garbled: {reason}; it is left as it is")
