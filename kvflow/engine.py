"""The rules of a drive: replay the body against its log until it rests, ends or must be left.

Nothing here does I/O: methods that need the world are generators that yield effects. What always holds:

- A recorded step is never called again; before a step is called, every earlier resolution is stored and
  the lease is believed alive.
- Leaving is a flag. Once it is set, every call on ctx raises again, and whatever the body then returns or
  raises is ignored; so no ``except`` and no ``finally`` of a body can break it.
- Saves of one run are built and sent one at a time. A save in doubt is sent again, identically, until it
  is answered or the lease is gone; then nothing more is written.
- A failure, or a cancel, is stored before the first compensation; from then on the run only goes backward.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Never, TypeVar

import msgspec
from msgspec.structs import replace

from kvflow import values
from kvflow.checks import LATEST, check_name
from kvflow.effects import Alone, Ask, Body, Call, Pause, Settle, Together, Work
from kvflow.errors import (
    ChildFailed,
    Corrupt,
    DuplicateStep,
    InvalidArgument,
    InvalidPayload,
    KvflowError,
    StepFailed,
    StepReused,
    TooLarge,
)
from kvflow.failures import Unkeepable, described
from kvflow.history import KINDS, History, hashed
from kvflow.records import (
    NOTHING,
    AnyRecord,
    Born,
    CancelAsked,
    Ended,
    Got,
    Head,
    Joined,
    Open,
    RunError,
    Slept,
    Spawned,
    StepDone,
    StepLost,
    TimedOut,
    Tries,
    UndoFailure,
    Undoing,
    Undone,
    encode_head,
    encode_record,
)
from kvflow.retry import ONCE, Retry
from kvflow.run import Status, StoredRun
from kvflow.saving import Hold, Leaving, Saving, Surroundings
from kvflow.workflow import Workflow

Resolved = TypeVar("Resolved", Slept, Got, TimedOut, Joined)

NOT_YET = object()
"""No result: the step has to be gone through."""

PATIENCE, TURN = 100, 0.01
"""How often, and at what distance in seconds, a run that turns back looks whether all branches have come up."""


@dataclass(frozen=True)
class Undo:
    """How a completed step is undone; the result is decoded anew, for the body may have changed its own."""

    function: Callable[[Any], Any]
    result: Callable[[], Any]
    retry: Retry


def submitted(run_id: str, workflow: str, born: Born) -> tuple[StoredRun, list[bytes]]:
    """The first version of a run that is due at once, for whoever sweeps."""
    run = StoredRun(
        run_id=run_id,
        workflow=workflow,
        status=Status.SUSPENDED,
        version=1,
        wake_at=born.at,
        created_at=born.at,
        updated_at=born.at,
        snapshot=encode_head(Head()),
    )
    return run, [encode_record(born)]


class Drive(Saving):
    """One instance's attempt to bring one run to its next resting point."""

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

    # The drive

    def drive(self) -> Work[StoredRun]:
        """Run the body to its next resting point and give the run as it was last saved.

        Where the lease is lost, ``leaving`` is "lost" and the run is what it was when it was last ours.
        What keeps this instance from driving it (the store away, bytes that do not fit) is raised.
        """
        self._backward = self.history.undoing is not None
        with contextlib.suppress(Leaving):
            yield from self._through()
        if self.leaving == "stopped" and self.trouble is not None:
            raise self.trouble
        return self.run

    def _through(self) -> Work[None]:
        output: Any = None
        failure: Exception | None = None
        try:
            output = yield Body(self)
        except (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 (a body may fail by anything)
            failure = error
        except BaseException:
            if self.leaving is None:
                raise
        if self.leaving is None:
            self.leaving = "over"  # whoever of its branches comes now is too late
        yield Settle()
        if self.leaving in ("lost", "stopped"):
            return
        if self._broken is not None and not self._backward:
            yield from self._fail(self._broken)
        elif self.leaving == "rest":
            yield from self._rest()
        elif self._backward:
            yield from self._undo_all()
        elif failure is not None:
            yield from self._fail(failure)
        elif self.history.cancel is not None:
            self._turn_back(self.history.cancel)
            yield from self._undo_all()
        else:
            yield from self._complete(output)

    def _complete(self, output: Any) -> Work[None]:
        try:
            raw = values.encode(output)
            yield from self._end(Status.COMPLETED, Ended(at=self._now(), output=raw))
        except (TypeError, ValueError, NotImplementedError, RecursionError, TooLarge) as error:
            yield from self._fail(error)

    def give_up(self, error: RunError) -> Work[StoredRun]:
        """End the run as failed without its body, which nobody survives."""
        self._note(Undoing(at=self._now(), error=error))
        self.head.error = error
        with contextlib.suppress(Leaving):
            yield from self._end(Status.FAILED)
        if self.leaving == "stopped" and self.trouble is not None:
            raise self.trouble
        return self.run

    def _fail(self, error: Exception) -> Work[None]:
        self._note(Undoing(at=self._now(), error=described(error)))
        self.head.tries = {}
        yield from self._undo_all()

    def _turn_back(self, cancel: CancelAsked) -> None:
        error = RunError("Cancelled", cancel.reason or "cancelled")
        self._note(Undoing(at=self._now(), error=error, cancelled=True))
        self.head.tries = {}
        self._backward = True

    # Rest and end

    def _rest(self) -> Work[None]:
        """Save at rest: waiting while anything open needs a word from outside, else suspended."""
        waits = [open_ for open_ in self._open.values() if open_.kind in ("event", "join")]
        wakes = [open_.wake_at for open_ in self._open.values() if open_.wake_at is not None]
        if self._word_has_come():
            wakes.append(self._now())
        unreached = self._unreached()
        wakes += [open_.wake_at for open_ in unreached.values() if open_.wake_at is not None]
        self.head.open = unreached | self._open
        yield Alone(
            self._save(
                Status.WAITING if waits else Status.SUSPENDED,
                wake_at=min(wakes, default=None),
                event=next((open_.event for open_ in waits if open_.event), None),
            )
        )

    def _unreached(self) -> dict[str, Open]:
        """Deadlines still to come that this pass did not get to: a branch may have been cut short before them."""
        now = self._now()
        return {
            step_id: open_
            for step_id, open_ in self.head.open.items()
            if step_id not in self._visited and open_.wake_at is not None and open_.wake_at > now
        }

    def _word_has_come(self) -> bool:
        """Whether what the run is to rest for came after it was looked for, in a save of another branch."""
        if self.history.cancel is not None and not self._backward:
            return True
        for open_ in self._open.values():
            if open_.event is not None and self.history.next_event(open_.event) is not None:
                return True
            if open_.kind == "join" and all(run_id in self.history.children for run_id in self._joins[open_.id]):
                return True
        return False

    def _end(self, status: Status, *records: AnyRecord) -> Work[None]:
        """Save the last version: with a wake while it owes its parent a word, or is to be forgotten."""
        self.leaving = "over"
        now, retention = self._now(), self._around.retention
        self.head.tries = {}
        if status is not Status.FAILED:  # a retry goes on to the deadlines that there were
            self.head.open = {}
        self.head.owes = self.history.born is not None and self.history.born.parent is not None
        self.head.forget_at = None if retention is None else min(now + retention, LATEST)
        wake_at = now if self.head.owes else self.head.forget_at
        yield Alone(self._save(status, *records, wake_at=wake_at))

    # Going backward

    def _undo_all(self) -> Work[None]:
        """Undo completed steps, latest first, each recorded; then end."""
        undoing = self.history.undoing
        assert undoing is not None
        self.leaving = "over"
        done = [step_id for step_id in self.history.resolved if step_id in self._undo]
        todo = [step_id for step_id in reversed(done) if step_id not in self.history.undone]
        for step_id in todo:
            yield from self._store_new()
            if (rest := (yield from self._undo_one(step_id, self._undo[step_id]))) is not None:
                self._open = {rest.id: rest}
                yield from self._rest()
                return
        if undoing.cancelled:
            yield from self._cancel_children()
        failed = (record for record in self.history.undone.values() if record.error is not None)
        undo = tuple(UndoFailure(r.id, r.error.type, r.error.message, r.error.traceback) for r in failed if r.error)
        self.head.error = replace(undoing.error, undo=undo)
        yield from self._end(Status.CANCELLED if undoing.cancelled else Status.FAILED)

    def _undo_one(self, step_id: str, undo: Undo) -> Work[Open | None]:
        """Undo one step and record it, or say when it is to be tried again."""
        name = f"undo/{step_id}"
        outcome = yield from self._try(name, "undo", undo.function, (undo.result(),), undo.retry)
        if isinstance(outcome, Open):
            return outcome
        error = outcome.error if isinstance(outcome, StepLost) else None
        yield Alone(
            self._save(Status.RUNNING, Undone(at=self._now(), id=step_id, error=error, attempt=outcome.attempt))
        )
        return None

    def _cancel_children(self) -> Work[None]:
        yield from self._store_new()
        now = self._now()
        born = [record.run_id for record in self.history.resolved.values() if isinstance(record, Spawned)]
        for run_id in (*born, *self._perhaps_born):
            if run_id not in self.history.children:
                asked = CancelAsked(at=now, message=hashed("cancel", run_id), reason="its parent was cancelled")
                yield Ask("post", (run_id, encode_record(asked), now, True))

    # What ctx does

    def replayed(
        self, step_id: str, function: Callable[..., Any], retry: Retry | None, compensate: Callable[[Any], Any] | None
    ) -> Any:
        """The result of a step that is recorded as done, the short way; ``NOT_YET`` for any other."""
        record: Any = self._resolved.get(step_id)
        if record.__class__ is not StepDone or self.leaving is not None or step_id in self._visited:
            return NOT_YET
        try:
            result = self._decoders[function](record.result)
        except KeyError:
            self._decoders[function] = values.result_decoder(function).decode
            return NOT_YET
        except Exception:  # noqa: BLE001 (said in full by the long way)
            return NOT_YET
        self._visited.add(step_id)
        if compensate is not None:
            self._can_undo(record, function, retry or ONCE, compensate)
        return result

    def step(
        self,
        step_id: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        retry: Retry | None = None,
        compensate: Callable[[Any], Any] | None = None,
        timeout: float | None = None,
    ) -> Work[Any]:
        """Give the recorded result; otherwise call, record, and then give it."""
        self._enter(step_id, "step")
        policy = retry or ONCE
        record = self.history.resolved.get(step_id)
        if record is None:
            yield from self._boundary()
            outcome = yield from self._try(step_id, "retry", function, args, policy, timeout)
            if isinstance(outcome, Open):
                yield from self._wait_for(outcome)
            else:
                record = yield Alone(self._save_step(outcome, function, policy, compensate))
        return self._result(record, function, policy, compensate)

    def sleep(self, step_id: str, wake: Callable[[int], int]) -> Work[None]:
        """Rest until the time that ``wake`` made of the first look at the clock."""
        self._enter(step_id, "sleep")
        if step_id not in self.history.resolved:
            yield from self._boundary()
            wake_at = self._deadline(step_id, "sleep", None, wake)
            if wake_at is None or self._now() < wake_at:
                yield from self._wait_for(self.head.open[step_id])
            self._resolve(Slept(at=self._now(), id=step_id))

    def wait_for_event(
        self, step_id: str, event: str, timeout: Callable[[int], int] | None, wanted: Any, default: Any
    ) -> Work[Any]:
        """Give the payload of the first event of this name that no wait has got, or the default in time."""
        check_name("event", event, InvalidArgument)
        self._enter(step_id, "event")
        record = self.history.resolved.get(step_id)
        if record is None:
            yield from self._boundary()
            record = yield from self._next_event(step_id, event, timeout)
        if isinstance(record, TimedOut):
            return default
        assert isinstance(record, Got)
        try:
            return values.decode(self.history.message(record.message).payload, wanted)
        except (msgspec.MsgspecError, NotImplementedError) as error:
            raise InvalidPayload(f"event {event!r} of wait {step_id!r} does not fit: {error}") from error

    def _next_event(self, step_id: str, event: str, timeout: Callable[[int], int] | None) -> Work[Got | TimedOut]:
        wake_at = self._deadline(step_id, "event", event, timeout)
        posted = self.history.next_event(event)
        if posted is not None:
            return self._resolve(Got(at=self._now(), id=step_id, event=event, message=posted.message))
        if wake_at is None or self._now() < wake_at:
            yield from self._wait_for(self.head.open[step_id])
        return self._resolve(TimedOut(at=self._now(), id=step_id, event=event))

    def parallel(
        self,
        group_id: str,
        branches: dict[str, Callable[[], Any]],
        retry: Retry | None = None,
        compensate: dict[str, Callable[[Any], Any]] | None = None,
    ) -> Work[dict[str, Any]]:
        """Run the unfinished branches side by side; when all have ended, give their results or raise."""
        self._enter(group_id, "parallel")
        policy, undo = retry or ONCE, compensate or {}
        ids = {name: f"{group_id}/{name}" for name in branches}
        for step_id in ids.values():
            self._enter(step_id, "step")
        unfinished = [name for name in branches if ids[name] not in self.history.resolved]
        if unfinished:
            yield from self._boundary()
            yield from self._store_new()
            works = [self._branch(ids[name], branches[name], policy, undo.get(name)) for name in unfinished]
            outcomes = yield Together(works)
            yield from self._after_branches(outcomes)
        results: dict[str, Any] = {}
        failed: StepFailed | None = None
        for name, step_id in ids.items():
            try:
                record = self.history.resolved[step_id]
                results[name] = self._result(record, branches[name], policy, undo.get(name))
            except StepFailed as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return results

    def _branch(
        self, step_id: str, function: Callable[[], Any], policy: Retry, compensate: Callable[[Any], Any] | None
    ) -> Work[Open | None]:
        outcome = yield from self._try(step_id, "retry", function, (), policy)
        if isinstance(outcome, Open):
            return outcome
        yield Alone(self._save_step(outcome, function, policy, compensate))
        return None

    def _after_branches(self, outcomes: list[Any]) -> Work[None]:
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in sorted(errors, key=lambda error: isinstance(error, Leaving)):
            raise error
        for open_ in outcomes:
            if open_ is not None:
                self._open[open_.id] = open_
        for open_ in outcomes:
            if open_ is not None:
                yield from self._wait_for(open_)

    def spawn(self, step_id: str, workflow: Workflow | str, payload: Any) -> Work[str]:
        """Start a child, exactly one for this id, and give its id."""
        self._enter(step_id, "spawn")
        record = self.history.resolved.get(step_id)
        if record is None:
            name, wanted = self._around.known(workflow)
            raw = values.check_payload(payload, wanted, name)
            run_id = hashed("child", self.history.key(step_id))
            self._perhaps_born.append(run_id)  # a crash may have come between its birth and our record
            yield from self._boundary()
            yield from self._store_new()
            born = Born(at=self._now(), payload=raw, nonce=run_id, parent=self.run.run_id)
            yield Alone(self._bear(*submitted(run_id, name, born)))
            record = Spawned(at=self._now(), id=step_id, run_id=run_id)
            yield Alone(self._save(Status.RUNNING, record))
        assert isinstance(record, Spawned)
        return record.run_id

    def join(self, step_id: str, run_ids: tuple[str, ...]) -> Work[list[Any]]:
        """Wait until these children are over; give their outputs, or raise the first one's failure."""
        self._enter(step_id, "join")
        record = self.history.resolved.get(step_id)
        if record is None:
            own = {spawn.run_id for spawn in self.history.resolved.values() if isinstance(spawn, Spawned)}
            for run_id in run_ids:
                if run_id not in own:
                    raise InvalidArgument(f"join {step_id!r}: {run_id!r} is no child of run {self.run.run_id!r}")
            yield from self._boundary()
            self._deadline(step_id, "join", None, None)
            self._joins[step_id] = run_ids
            if any(run_id not in self.history.children for run_id in run_ids):
                yield from self._wait_for(self.head.open[step_id])
            messages = tuple(self.history.children[run_id].message for run_id in run_ids)
            record = self._resolve(Joined(at=self._now(), id=step_id, messages=messages))
        assert isinstance(record, Joined)
        overs = self.history.outcomes(record)
        for over in overs:
            if over.error is not None:
                raise ChildFailed(f"child {over.run_id!r} failed: {over.error.type}: {over.error.message}", over.error)
        return [values.decode(over.output) for over in overs]

    def child(self, step_id: str, workflow: Workflow | str, payload: Any) -> Work[Any]:
        """Start a child and wait for its output."""
        check_name("step id", f"{step_id}/join", InvalidArgument)
        run_id = yield from self.spawn(step_id, workflow, payload)
        (output,) = yield from self.join(f"{step_id}/join", (run_id,))
        return output

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
            if not self._hold.alive():
                self._leave("lost")
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
        wake_at = self._now() + policy.wait_ms(attempt)
        self.head.tries[step_id] = Tries(attempt, wake_at, described(error))
        yield from self._save(Status.RUNNING)

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
        if not self._hold.alive():
            self._leave("lost")

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
