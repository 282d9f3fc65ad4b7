"""How a run stands in Redis: the facts that a save sends, and the fields that a reading gives back.

No name holds a control character, so lines keep the facts apart; numbers are decimal text.
"""

from collections.abc import Sequence

from kvflow.errors import Corrupt
from kvflow.run import Lease, Status, StoredRun

FIELDS = (
    "workflow",
    "status",
    "version",
    "wake",
    "attempt",
    "created",
    "updated",
    "token",
    "expires",
    "writer",
    "bytes",
    "event",
    "snapshot",
)
"""The fields of a head, in the order in which every script and ``decode`` take them."""

BYTES = FIELDS.index("bytes")

_STATUSES = {status.value.encode(): status for status in Status}

Row = Sequence[bytes | None]


def facts(run: StoredRun, lease: Lease | None, nonce: str) -> bytes:
    """All of a head but its snapshot, and the lease, as save.lua takes them.

    A save without a lease is written under a name made for this call alone, which is no token: so the driver may
    send it twice, and nobody else's is ever taken for its repeat.
    """
    wake = "" if run.wake_at is None else run.wake_at
    ttl, token, writer = (1, "", "\t" + nonce) if lease is None else (lease.ttl, lease.token, lease.token)
    return (
        f"{run.version}\n{run.seen}\n{run.status.value}\n{wake}\n{run.created_at}\n{run.updated_at}\n{ttl}\n"
        f"{run.workflow}\n{run.event or ''}\n{token}\n{writer}"
    ).encode()


def packed(parts: Sequence[bytes]) -> bytes:
    """Several byte strings as one argument: a line of their sizes, then all of them."""
    return b"%b\n%b" % (" ".join([str(len(part)) for part in parts]).encode(), b"".join(parts))


def decode(run_id: bytes, row: Row, log: Sequence[bytes] = ()) -> StoredRun:
    """The run whose head has these fields; Corrupt where they are not what a save writes."""
    if None in row:
        missing = FIELDS[list(row).index(None)]
        raise Corrupt(f"run {_shown(run_id)} is garbled: its head has no {missing}; it is left as it is")
    try:
        workflow, status, version, wake, attempt, created, updated, _, _, _, _, event, snapshot = row
        return StoredRun(
            run_id=run_id.decode(),
            workflow=_bytes(workflow).decode(),
            status=_STATUSES[_bytes(status)],
            version=_number(version),
            wake_at=_number(wake) if wake else None,
            event=_bytes(event).decode() or None,
            attempt=_number(attempt),
            created_at=_number(created),
            updated_at=_number(updated),
            snapshot=_bytes(snapshot),
            seen=len(log),
            log=tuple(log),
        )
    except (KeyError, ValueError) as error:
        raise Corrupt(f"run {_shown(run_id)} is garbled: {error!r} in its head; it is left as it is") from error


def _bytes(value: bytes | None) -> bytes:
    assert value is not None
    return value


def _number(text: bytes | None) -> int:
    if text is None or not text.isdigit():
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _shown(run_id: bytes) -> str:
    return repr(run_id.decode(errors="replace"))
