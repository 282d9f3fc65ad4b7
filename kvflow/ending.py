"""How a drive ends: at rest until something is due, or over, after whatever is to be undone.

A failure, or a cancel, is stored before the first compensation; from then on the run only goes backward. Whatever
a run rests for has a wake, or waits for a word that will wake it.
"""

from typing import Any

from msgspec.structs import replace

from kvflow import values
from kvflow.checks import LATEST
from kvflow.effects import Alone, Ask, Work
from kvflow.errors import TooLarge
from kvflow.failures import described
from kvflow.history import hashed
from kvflow.log import DEBUG, INFO, WARNING, tell
from kvflow.records import (
    AnyRecord,
    CancelAsked,
    Ended,
    Open,
    Spawned,
    StepLost,
    UndoFailure,
    Undoing,
    Undone,
    encode_record,
)
from kvflow.run import Status
from kvflow.stepping import Steps, Undo


class Ending(Steps):
    """A drive on its way to rest, or to its end."""

    def _complete(self, output: Any) -> Work[None]:
        try:
            raw = values.encode(output)
            yield from self._end(Status.COMPLETED, Ended(at=self._now(), output=raw))
        except (TypeError, ValueError, NotImplementedError, RecursionError, TooLarge) as error:
            yield from self._fail(error)

    def _fail(self, error: Exception) -> Work[None]:
        self._note(Undoing(at=self._now(), error=described(error)))
        self.head.tries = {}
        yield from self._undo_all()

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
        tell(DEBUG, self.run, "rests for %s", ", ".join(f"{open_.kind} {open_.id!r}" for open_ in self._open.values()))

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
        if self.head.error is None:
            tell(INFO, self.run, "is %s", status)
        else:
            tell(INFO, self.run, "is %s: %s: %s", status, self.head.error.type, self.head.error.message)

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
        if error is None:
            tell(DEBUG, self.run, "undone", step=step_id)
        else:
            tell(WARNING, self.run, "could not be undone: %s: %s", error.type, error.message, step=step_id)
        return None

    def _cancel_children(self) -> Work[None]:
        yield from self._store_new()
        now = self._now()
        born = [record.run_id for record in self.history.resolved.values() if isinstance(record, Spawned)]
        for run_id in (*born, *self._perhaps_born):
            if run_id not in self.history.children:
                asked = CancelAsked(at=now, message=hashed("cancel", run_id), reason="its parent was cancelled")
                yield Ask("post", (run_id, encode_record(asked), now, True))
