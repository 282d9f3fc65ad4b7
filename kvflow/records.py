"""What the engine keeps in a snapshot and a log, and how it becomes bytes and comes back.

The log holds records, one for each thing that happened, found again by their id. The head holds what
changes: open deadlines, retry counts, the error. Both are msgspec's msgpack, typed and strict, so
reading them runs no code; bytes that do not decode raise ``Corrupt`` and are left as they are. Times are
epoch milliseconds. A field may be added at the end with a default; none may change its meaning.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from kvflow.errors import UNDECODABLE, Corrupt

FORMAT = 1
NOTHING = Raw(msgspec.msgpack.encode(None))


class UndoFailure(Struct, frozen=True):
    """A step that could not be undone, and why, as strings; ``type`` is the class of the error."""

    id: str
    type: str
    message: str
    traceback: str = ""


class RunError(Struct, frozen=True):
    """A failure, as strings; ``type`` is the class of the error. ``undo`` names what could not be undone after it."""

    type: str
    message: str
    traceback: str = ""
    undo: tuple[UndoFailure, ...] = ()


class Record(Struct, frozen=True, array_like=True, tag=True):
    """One entry of the log."""

    at: int


class Born(Record, frozen=True, tag="born"):
    """The run's first record. ``nonce`` tells it from a later run of the same id."""

    payload: Raw
    nonce: str
    parent: str | None = None


class StepDone(Record, frozen=True, tag="step"):
    id: str
    result: Raw
    attempt: int = 1


class StepLost(Record, frozen=True, tag="fail"):
    """A step that failed for good."""

    id: str
    error: RunError
    attempt: int = 1


class Slept(Record, frozen=True, tag="slept"):
    id: str


class Got(Record, frozen=True, tag="got"):
    """A wait that got the event of this message."""

    id: str
    event: str
    message: str


class TimedOut(Record, frozen=True, tag="late"):
    """A wait that got nothing in its time."""

    id: str
    event: str


class Spawned(Record, frozen=True, tag="spawn"):
    id: str
    run_id: str


class Joined(Record, frozen=True, tag="join"):
    """A join whose children are all over, as their messages say."""

    id: str
    messages: tuple[str, ...]


class Posted(Record, frozen=True, tag="event"):
    """An event that somebody signalled."""

    message: str
    event: str
    payload: Raw


class CancelAsked(Record, frozen=True, tag="cancel"):
    message: str
    reason: str | None = None


class ChildOver(Record, frozen=True, tag="child"):
    """A child's word to its parent that it is over."""

    message: str
    run_id: str
    output: Raw = NOTHING
    error: RunError | None = None


class Undoing(Record, frozen=True, tag="undo"):
    """From here on the run only goes backward, for this reason."""

    error: RunError
    cancelled: bool = False


class Undone(Record, frozen=True, tag="undone"):
    """A step that was undone, or with an error one that could not be."""

    id: str
    error: RunError | None = None
    attempt: int = 1


class Retried(Record, frozen=True, tag="retry"):
    """A failed run is driven again: failed and undone steps count as not run."""


class Ended(Record, frozen=True, tag="end"):
    output: Raw = NOTHING


AnyRecord = (
    Born
    | StepDone
    | StepLost
    | Slept
    | Got
    | TimedOut
    | Spawned
    | Joined
    | Posted
    | CancelAsked
    | ChildOver
    | Undoing
    | Undone
    | Retried
    | Ended
)


class Open(Struct, frozen=True, omit_defaults=True):
    """Something that the run waits for: kind is sleep, event, join, retry or undo."""

    kind: str
    id: str
    event: str | None = None
    wake_at: int | None = None


class Tries(Struct, frozen=True):
    """How often a step has been tried, and when it is tried again."""

    attempt: int
    wake_at: int
    error: RunError


class Head(Struct, omit_defaults=True):
    """What each save rewrites. It is small: what grows is in the log."""

    format: int = FORMAT
    open: dict[str, Open] = field(default_factory=dict[str, Open])
    tries: dict[str, Tries] = field(default_factory=dict[str, Tries])
    error: RunError | None = None
    owes: bool = False
    forget_at: int | None = None


_encoder = msgspec.msgpack.Encoder(order="deterministic")
_records = msgspec.msgpack.Decoder(AnyRecord)
_heads = msgspec.msgpack.Decoder(Head)


def encode_record(record: Record) -> bytes:
    return _encoder.encode(record)


def encode_head(head: Head) -> bytes:
    return _encoder.encode(head)


def decode_log(run_id: str, log: tuple[bytes, ...]) -> list[AnyRecord]:
    """All records of a run, or ``Corrupt`` with the place of the first that is none."""
    decode = _records.decode
    try:
        return [decode(data) for data in log]
    except UNDECODABLE as error:
        raise Corrupt(f"run {run_id!r}, one of its {len(log)} records: {error}") from error


def decode_head(run_id: str, snapshot: bytes) -> Head:
    try:
        head = _heads.decode(snapshot)
    except UNDECODABLE as error:
        raise Corrupt(f"run {run_id!r}, snapshot: {error}") from error
    if head.format > FORMAT:
        raise Corrupt(
            f"run {run_id!r} was written in format {head.format}; this kvflow reads up to {FORMAT}: upgrade it"
        )
    return head


def builtins(raw: Raw) -> Any:
    """A payload or result as plain dicts, lists, strings and numbers; one of ``UNDECODABLE`` where it is none."""
    return msgspec.msgpack.decode(raw)
