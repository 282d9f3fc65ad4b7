"""A drive: replay the body against its log until it rests, ends or must be left; and what ctx does meanwhile.

Nothing here does I/O: methods that need the world are generators that yield effects. What always holds is
said where it is kept: one step in ``kvflow.stepping``, rest and end in ``kvflow.ending``, saves in ``kvflow.saving``.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from kvflow import values
from kvflow.checks import check_name
from kvflow.effects import Alone, Body, Settle, Together, Work
from kvflow.ending import Ending
from kvflow.errors import UNDECODABLE, ChildFailed, Corrupt, InvalidArgument, InvalidPayload, StepFailed
from kvflow.history import hashed
from kvflow.records import (
    Born,
    Got,
    Head,
    Joined,
    Open,
    RunError,
    Slept,
    Spawned,
    StepDone,
    TimedOut,
    Undoing,
    encode_head,
    encode_record,
)
from kvflow.retry import ONCE, Retry
from kvflow.run import Status, StoredRun
from kvflow.saving import Leaving
from kvflow.workflow import Workflow

NOT_YET = object()
"""No result: the step has to be gone through."""


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


class Drive(Ending):
    """One instance's attempt to bring one run to its next resting point."""

    # The drive

    def drive(self) -> Work[StoredRun]:
        """Run the body to its next resting point and give the run as it was last saved.

        Where the lease is lost, ``leaving`` is "lost" and the run is what it was when it was last ours; where it
        was asked back, "released", and the run can go on elsewhere.
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
        was_backward = self._backward
        if self.leaving is None:
            yield from self._come_to_the_end(failure is not None)
        yield Settle()
        if self.leaving in ("lost", "stopped", "released"):
            return
        if self._broken is not None and not was_backward:
            yield from self._fail(self._broken)
        elif self.leaving == "rest":
            yield from self._rest()
        elif was_backward:
            yield from self._undo_all()
        elif failure is not None:
            yield from self._fail(failure)
        elif self.history.cancel is not None:
            self._turn_back(self.history.cancel)
            yield from self._undo_all()
        else:
            yield from self._complete(output)

    def _come_to_the_end(self, failed: bool) -> Work[None]:
        """Whoever of its branches comes now is too late; but a failure waits for what they are yet to replay."""
        if failed:
            self._backward = True  # what is not recorded does not begin any more
            yield from self._until_all_is_seen()
        if self.leaving not in ("lost", "stopped", "released"):
            self.leaving = "over"

    def give_up(self, error: RunError) -> Work[StoredRun]:
        """End the run as failed without its body, which nobody survives."""
        self._note(Undoing(at=self._now(), error=error))
        self.head.error = error
        with contextlib.suppress(Leaving):
            yield from self._end(Status.FAILED)
        if self.leaving == "stopped" and self.trouble is not None:
            raise self.trouble
        return self.run

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
        except (Corrupt, *UNDECODABLE) as error:
            raise self._undrivable(f"the event of wait {step_id!r} cannot be read: {error}") from error

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
            self._can_undo_branches(ids, branches, policy, undo)
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

    def _can_undo_branches(
        self,
        ids: dict[str, str],
        branches: dict[str, Callable[[], Any]],
        retry: Retry,
        undo: dict[str, Callable[[Any], Any]],
    ) -> None:
        """Know how to undo the branches that are done, for the run may turn back before the others are."""
        for name, step_id in ids.items():
            record = self.history.resolved.get(step_id)
            if isinstance(record, StepDone):
                self._can_undo(record, branches[name], retry, undo.get(name))

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
            if run_id not in self.history.children:  # else it is over, and perhaps forgotten already
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
        try:
            overs = self.history.outcomes(record)
            outputs = [values.decode(over.output) for over in overs]
        except (Corrupt, *UNDECODABLE) as error:
            raise self._undrivable(f"the outputs of join {step_id!r} cannot be read: {error}") from error
        for over in overs:
            if over.error is not None:
                raise ChildFailed(f"child {over.run_id!r} failed: {over.error.type}: {over.error.message}", over.error)
        return outputs

    def child(self, step_id: str, workflow: Workflow | str, payload: Any) -> Work[Any]:
        """Start a child and wait for its output."""
        check_name("step id", f"{step_id}/join", InvalidArgument)
        run_id = yield from self.spawn(step_id, workflow, payload)
        (output,) = yield from self.join(f"{step_id}/join", (run_id,))
        return output
