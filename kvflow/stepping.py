"""One step of a drive, and when a body must be left.

- A recorded step is never called again; before a step is called, every earlier resolution is stored and
  the lease is believed alive.
- Leaving is a flag. Once it is set, every call on ctx raises again, and whatever the body then returns or
  raises is ignored; so no ``except`` and no ``finally`` of a body can break it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Never, TypeVar

import msgspec

from kvflow import values
from kvflow.checks import check_name
from kvflow.effects import Alone, Call, Pause, Settle, Work
from kvflow.errors import (
    Corrupt,
    DuplicateStep,
    InvalidArgument,
    KvflowError,
    StepFailed,
    StepReused,
    TooLarge,
)
from kvflow.failures import Unkeepable, described
from kvflow.history import KINDS, History
from kvflow.log import DEBUG, INFO, tell
from kvflow.records import (
    NOTHING,
    AnyRecord,
    CancelAsked,
    Got,
    Head,
    Joined,
    Open,
    RunError,
    Slept,
    StepDone,
    StepLost,
    TimedOut,
    Tries,
    Undoing,
)
from kvflow.retry import Retry
from kvflow.run import Status, StoredRun
from kvflow.saving import Hold, Leaving, Saving, Surroundings
from kvflow.workflow import Workflow

Resolved = TypeVar("Resolved", Slept, Got, TimedOut, Joined)

PATIENCE, TURN = 100, 0.01
"""How often, and at what distance in seconds, a run that turns back looks whether all branches have come up."""


@dataclass(frozen=True)
class Undo:
    """How a completed step is undone; the result is decoded anew, for the body may have changed its own."""

    function: Callable[[Any], Any]
    result: Callable[[], Any]
    retry: Retry


class Steps(Saving):
    """A drive as its body sees it from one call on ctx to the next."""

    def __init__(
        self,
        workflow: Workflow,
        run: StoredRun,
        head: Head,
        history: History,
        hold: Hold,
        around: Surroundings,
        new: list[AnyRecord] | None = None,
    ) -> None:
        super().__init__(run, head, history, hold, around, list(new or ()))
        self.workflow = workflow
        self.payload = self._payload()
        self.called = False
        self._visited: set[str] = set()
        self._resolved: dict[str, Any] = history.resolved
        self._decoders: dict[Callable[..., Any], Callable[[Any], Any]] = {}
        self._open: dict[str, Open] = {}
        self._perhaps_born: list[str] = []
        self._joins: dict[str, tuple[str, ...]] = {}
        self._undo: dict[str, Undo] = {}
        self._broken: KvflowError | None = None
        self._backward = False

    # One step

    def _try(
        self,
        step_id: str,
        kind: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        policy: Retry,
        timeout: float | None = None,
    ) -> Work[StepDone | StepLost | Open]:
        """Call until it is done or lost, or until it is to rest before it is tried again."""
        while True:
            tries = self.head.tries.get(step_id)
            if tries is not None and self._now() < tries.wake_at:
                return Open(kind, step_id, wake_at=tries.wake_at)
            attempt = 1 if tries is None else tries.attempt + 1
            if self._new or self.run.version == 0:
                yield from self._store_new()
            if self._backward and kind != "undo":  # another branch turned back meanwhile
                yield from self._boundary()
            self.leave_if_lost()
            if self._hold.asked_back():
                yield from self._give_back()
            self.called = True
            try:
                result = yield Call(self, function, args, timeout)
                raw = self._encoded(step_id, function, result)
            except Exception as error:  # noqa: BLE001 (a step may fail by anything)
                if isinstance(error, Unkeepable) or not policy.again(attempt, error):
                    return StepLost(at=self._now(), id=step_id, error=described(error), attempt=attempt)
                yield Alone(self._save_tries(step_id, attempt, policy, error))
            else:
                return StepDone(at=self._now(), id=step_id, result=raw, attempt=attempt)

    def _encoded(self, step_id: str, function: Callable[..., Any], result: Any) -> msgspec.Raw:
        """The result's bytes, once it is sure that they come back as what the function says it returns."""
        try:
            raw = values.encode(result)
            values.result_decoder(function).decode(raw)
        except Exception as error:  # a type of the user's may fail to be encoded or made by anything
            raise Unkeepable(
                f"the result of step {step_id!r}, of type {type(result).__qualname__}, cannot be recorded: {error}"
            ) from error
        return raw

    def _save_tries(self, step_id: str, attempt: int, policy: Retry, error: BaseException) -> Work[None]:
        wait = policy.wait_ms(attempt)
        self.head.tries[step_id] = Tries(attempt, self._now() + wait, described(error))
        yield from self._save(Status.RUNNING)
        tell(INFO, self.run, "attempt %d failed, the next in %d ms: %s", attempt, wait, repr(error), step=step_id)

    def _save_step(
        self,
        record: StepDone | StepLost,
        function: Callable[..., Any],
        retry: Retry,
        compensate: Callable[[Any], Any] | None,
    ) -> Work[StepDone | StepLost]:
        """Store how a step ended; from then on it can be undone, even if nobody is left to be given its result."""
        self.head.tries.pop(record.id, None)
        self.head.open.pop(record.id, None)
        try:
            yield from self._save(Status.RUNNING, record)
        except TooLarge as error:
            record = StepLost(at=record.at, id=record.id, error=described(error), attempt=record.attempt)
            yield from self._save(Status.RUNNING, record)
        if isinstance(record, StepDone):
            self._can_undo(record, function, retry, compensate)
            tell(DEBUG, self.run, "done at attempt %d", record.attempt, step=record.id)
        else:
            why = record.error
            tell(INFO, self.run, "failed at attempt %d: %s: %s", record.attempt, why.type, why.message, step=record.id)
        return record

    def _can_undo(
        self, record: StepDone, function: Callable[..., Any], retry: Retry, compensate: Callable[[Any], Any] | None
    ) -> None:
        if compensate is not None:
            decode = values.result_decoder(function).decode
            self._undo[record.id] = Undo(compensate, partial(decode, record.result), retry)

    def _result(
        self, record: Any, function: Callable[..., Any], retry: Retry, compensate: Callable[[Any], Any] | None
    ) -> Any:
        if isinstance(record, StepLost):
            error = record.error
            raise StepFailed(f"step {record.id!r} failed: {error.type}: {error.message}", error)
        assert isinstance(record, StepDone)
        try:
            result = values.result_decoder(function).decode(record.result)
        except Exception as error:
            raise self._undrivable(f"the recorded result of step {record.id!r} does not fit: {error}") from error
        self._can_undo(record, function, retry, compensate)
        return result

    # Ids, deadlines and leaving

    def _enter(self, step_id: str, kind: str) -> None:
        """Begin a call on ctx: one id is one thing, and who is leaving leaves."""
        if self.leaving is not None:
            raise Leaving
        check_name("step id", step_id, InvalidArgument)
        if step_id in self._visited:
            self._broken = DuplicateStep(f"run {self.run.run_id!r}: id {step_id!r} is used twice in one pass")
            raise self._broken
        self._visited.add(step_id)
        recorded = self._kind_of(step_id)
        if recorded is not None and recorded != kind:
            self._broken = StepReused(
                f"run {self.run.run_id!r}: id {step_id!r} is recorded as {recorded}, and now used as {kind}: "
                "give the new one another id"
            )
            raise self._broken

    def _kind_of(self, step_id: str) -> str | None:
        record = self.history.resolved.get(step_id)
        if record is not None:
            return KINDS[type(record)]
        open_ = self.head.open.get(step_id)
        if open_ is None:
            return None
        return "step" if open_.kind == "retry" else open_.kind

    def _boundary(self) -> Work[None]:
        """Between two steps: turn back if a cancel has come; what is not recorded does not run backward."""
        if self.history.cancel is not None and not self._backward:
            self._turn_back(self.history.cancel)
        if self._backward:
            yield from self._until_all_is_seen()
            if self.leaving is None:
                self.leaving = "backward"
            raise Leaving
        self.leave_if_lost()
        if self._hold.asked_back():
            yield from self._give_back()

    def _give_back(self) -> Work[Never]:
        """Leave the run to whoever comes next, once the steps in flight are recorded."""
        if self.leaving not in ("lost", "stopped"):
            self.leaving = "released"
        yield Settle()
        raise Leaving

    def _turn_back(self, cancel: CancelAsked) -> None:
        error = RunError("Cancelled", cancel.reason or "cancelled")
        self._note(Undoing(at=self._now(), error=error, cancelled=True))
        self.head.tries = {}
        self._backward = True

    def _until_all_is_seen(self) -> Work[None]:
        """Let the other branches come to what they have recorded: only what was seen can be undone."""
        yield Settle()
        for _ in range(PATIENCE if self.workflow.is_async else 0):
            done = (step_id for step_id, record in self.history.resolved.items() if isinstance(record, StepDone))
            if all(step_id in self._visited for step_id in done):
                return
            yield Pause(TURN)
            yield Settle()

    def _undrivable(self, reason: str) -> BaseException:
        self.trouble = Corrupt(f"run {self.run.run_id!r}: {reason}")
        self.leaving = "stopped"
        return Leaving()

    def _wait_for(self, open_: Open) -> Work[Never]:
        """Rest; in async only once nothing of the run is in flight, or a TaskGroup would cancel it."""
        self._open[open_.id] = open_
        try:
            yield Settle()
        except BaseException:  # the body itself cancelled this wait
            self._open.pop(open_.id, None)
            raise
        if self.leaving is None:
            self.leaving = "rest"
        raise Leaving

    def _deadline(self, step_id: str, kind: str, event: str | None, wake: Callable[[int], int] | None) -> int | None:
        """When an open thing ends: as it was first said, for what is stored by id does not move."""
        open_ = self.head.open.get(step_id)
        if open_ is None or (open_.kind, open_.event) != (kind, event):
            open_ = Open(kind, step_id, event, None if wake is None else wake(self._now()))
            self.head.open[step_id] = open_
        return open_.wake_at

    def _resolve(self, record: Resolved) -> Resolved:
        self._note(record)
        self.head.open.pop(record.id, None)
        return record

    def _payload(self) -> Any:
        born = self.history.born
        raw = NOTHING if born is None else born.payload
        try:
            return values.decode(raw, self.workflow.payload_type)
        except Exception as error:  # a type of the user's may fail to be made by anything
            raise Corrupt(
                f"run {self.run.run_id!r}: its payload does not fit workflow {self.workflow.name!r}: {error}"
            ) from error
