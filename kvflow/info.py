"""A run as people see it: read-only, in datetimes and builtins, without the types of its workflow."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from kvflow.errors import UNDECODABLE, Corrupt
from kvflow.history import History
from kvflow.records import (
    AnyRecord,
    CancelAsked,
    ChildOver,
    Got,
    Head,
    Joined,
    Posted,
    Retried,
    RunError,
    Slept,
    Spawned,
    StepDone,
    StepLost,
    TimedOut,
    Undoing,
    Undone,
    builtins,
)
from kvflow.run import Status, StoredRun
from kvflow.times import from_ms


class Pending(Struct, frozen=True):
    """Something that a run rests for: kind is sleep, event, join, retry or undo."""

    kind: str
    id: str
    event: str | None = None
    wake_at: datetime | None = None


class Happened(Struct, frozen=True):
    """Something that happened in a run.

    Kind is step, sleep, event (a wait that got one), timeout, spawn, join, signal, child, cancel, failure,
    undo or retry.
    """

    kind: str
    id: str
    at: datetime
    attempt: int = 1
    result: Any = None
    error: RunError | None = None


class RunInfo(Struct, frozen=True, kw_only=True):
    """A run at one moment. ``deferred`` says why this instance could not drive it and put it back for later.

    In listings ``payload``, ``output`` and ``history`` are left out.
    """

    run_id: str
    workflow: str
    status: Status
    payload: Any = None
    output: Any = None
    error: RunError | None = None
    pending: tuple[Pending, ...] = ()
    history: tuple[Happened, ...] = ()
    attempt: int = 0
    deferred: str | None = None
    wake_at: datetime | None = None
    created_at: datetime
    updated_at: datetime

    @property
    def over(self) -> bool:
        """Whether nothing will ever happen to it again."""
        return self.status.over


class Tick(Struct, frozen=True):
    """What a tick did: runs driven, runs put back for later, and when something is due next."""

    driven: int
    deferred: int
    next_wake: datetime | None


class Driven(Struct, frozen=True):
    """What a drive came to. To describe it costs more than a replay of its log, so that is left to who wants it."""

    run: StoredRun
    head: Head | None = None
    history: History | None = None
    deferred: str | None = None

    def info(self) -> RunInfo:
        """The run as people see it."""
        return described(self.run, self.head, self.history, self.deferred)


def described(
    run: StoredRun, head: Head | None, history: History | None = None, deferred: str | None = None
) -> RunInfo:
    """The run with what its head says, and with its history where the log was read."""
    try:
        return _described(run, head, history, deferred)
    except UNDECODABLE as error:
        raise Corrupt(f"run {run.run_id!r}, one of the values in its log: {error}") from error


def _described(run: StoredRun, head: Head | None, history: History | None, deferred: str | None) -> RunInfo:
    born = None if history is None else history.born
    ended = None if history is None else history.ended
    return RunInfo(
        run_id=run.run_id,
        workflow=run.workflow,
        status=run.status,
        payload=None if born is None else builtins(born.payload),
        output=None if ended is None else builtins(ended.output),
        error=None if head is None else head.error,
        pending=()
        if head is None or run.status.over
        else tuple(Pending(one.kind, one.id, one.event, _when(one.wake_at)) for one in head.open.values()),
        history=()
        if history is None
        else tuple(happened for record in history.records if (happened := _happened(record, history)) is not None),
        attempt=run.attempt,
        deferred=deferred,
        wake_at=_when(run.wake_at),
        created_at=from_ms(run.created_at),
        updated_at=from_ms(run.updated_at),
    )


def _when(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else from_ms(milliseconds)


def _happened(record: AnyRecord, history: History) -> Happened | None:
    at = from_ms(record.at)
    match record:
        case StepDone():
            return Happened("step", record.id, at, record.attempt, builtins(record.result))
        case StepLost():
            return Happened("step", record.id, at, record.attempt, error=record.error)
        case Slept():
            return Happened("sleep", record.id, at)
        case Got():
            return Happened("event", record.id, at, result=builtins(history.message(record.message).payload))
        case TimedOut():
            return Happened("timeout", record.id, at)
        case Spawned():
            return Happened("spawn", record.id, at, result=record.run_id)
        case Joined():
            return Happened("join", record.id, at, result=[builtins(over.output) for over in history.outcomes(record)])
        case Posted():
            return Happened("signal", record.event, at, result=builtins(record.payload))
        case ChildOver():
            return Happened("child", record.run_id, at, result=builtins(record.output), error=record.error)
        case CancelAsked():
            return Happened("cancel", "", at, result=record.reason)
        case Undoing():
            return Happened("failure", "", at, error=record.error)
        case Undone():
            return Happened("undo", record.id, at, record.attempt, error=record.error)
        case Retried():
            return Happened("retry", "", at)
        case _:
            return None
