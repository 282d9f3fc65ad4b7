"""What one instance does with runs: the runtimes' methods as work, written once for both colours.

Whatever goes wrong with a run here is that run's alone. One that cannot be driven by this instance waits as
long again as it has waited, and is never failed for it; one whose holders died again and again ends as
failed. What is over still has its wake while it owes its parent a word or is to be forgotten.
"""

import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from kvflow import values
from kvflow.checks import check_name
from kvflow.context import inside
from kvflow.effects import Ask, Pause, Work
from kvflow.engine import Drive, submitted
from kvflow.errors import (
    Conflict,
    DuplicateWorkflow,
    KvflowError,
    RunExists,
    RunNotFailed,
    RunNotFound,
    StoreUnavailable,
    TooLarge,
    UnknownWorkflow,
    WrongColour,
)
from kvflow.gate import gate
from kvflow.history import History
from kvflow.info import RunInfo, described
from kvflow.leases import Held, Leases
from kvflow.records import (
    NOTHING,
    Born,
    CancelAsked,
    ChildOver,
    Head,
    Posted,
    Record,
    Retried,
    RunError,
    decode_head,
    decode_log,
    encode_head,
    encode_record,
)
from kvflow.run import Lease, Status, StoredRun
from kvflow.saving import Surroundings
from kvflow.workflow import Workflow

log = logging.getLogger("kvflow")

SHORTEST, LONGEST = 1_000, 3_600_000
"""How long a run that cannot be driven here waits, in milliseconds: at least, and at most."""

SUSPECT = 2
"""How many holders of a run have died when it is driven alone in its process."""

TURN = 0.01
"""How long whoever is not let in pauses before it asks again, in seconds."""

Claimed = tuple[StoredRun, Held]

AT_ONCE = 8
"""How many runs a sweep claims at a time: enough to save round trips, few enough to leave others some."""


def new_id() -> str:
    return os.urandom(16).hex()


@dataclass
class Instance:
    """One instance: its workflows, its clock, its leases."""

    leases: Leases
    now: Callable[[], int]
    is_async: bool
    max_attempts: int
    retention: int | None
    workflows: dict[str, Workflow] = field(default_factory=dict[str, Workflow])

    def __post_init__(self) -> None:
        self._around = Surroundings(now=self.now, known=self.known, retention=self.retention)

    # Workflows

    def register(self, workflow: Workflow) -> None:
        """Know one more workflow."""
        if not isinstance(workflow, Workflow):
            raise UnknownWorkflow(f"{workflow!r} is no workflow: decorate the function with @workflow")
        if workflow.is_async and not self.is_async:
            raise WrongColour(f"workflow {workflow.name!r} is async def: give it to AsyncRuntime, or write it with def")
        if self.is_async and not workflow.is_async:
            raise WrongColour(
                f"workflow {workflow.name!r} is a plain def: give it to Runtime, or write it with async def"
            )
        if self.workflows.setdefault(workflow.name, workflow) is not workflow:
            raise DuplicateWorkflow(f"two workflows are named {workflow.name!r}: give one of them another name")

    def known(self, workflow: Workflow | str) -> tuple[str, Any]:
        """A workflow's name and the type of its payload; Any where only its name is known here."""
        if isinstance(workflow, Workflow):
            return workflow.name, workflow.payload_type
        check_name("workflow", workflow, UnknownWorkflow)
        found = self.workflows.get(workflow)
        return workflow, Any if found is None else found.payload_type

    def _registered(self, workflow: Workflow | str) -> Workflow:
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        found = self.workflows.get(name)
        if found is None or (isinstance(workflow, Workflow) and found is not workflow):
            raise UnknownWorkflow(
                f"workflow {name!r} is not registered with this runtime; it knows {sorted(self.workflows) or 'none'}"
            )
        return found

    # Beginning runs

    def trigger(self, workflow: Workflow | str, payload: Any, run_id: str | None) -> Work[RunInfo]:
        """Begin a run and drive it until it rests; the same trigger again gives the run that there is."""
        found = self._registered(workflow)
        born = self._born(found, payload)
        if run_id is not None and (there := (yield from self._same(run_id, found, born))) is not None:
            return there
        run_id = run_id or new_id()
        template, _ = submitted(run_id, found.name, born)
        held = self.leases.hold(run_id, new_id())
        drive = Drive(
            found, replace(template, version=0, wake_at=None), Head(), History(run_id), held, self._around, [born]
        )
        try:
            return (yield from self._through_for_caller(drive, held))
        except Conflict:
            return (yield from self._existing(run_id, found, born))

    def submit(self, workflow: Workflow | str, payload: Any, run_id: str | None) -> Work[RunInfo]:
        """Begin a run that is due at once, for whoever sweeps."""
        found = self._registered(workflow)
        born = self._born(found, payload)
        run, new = submitted(run_id or new_id(), found.name, born)
        try:
            # A run at rest takes no lease, but by the token the store can tell a save that is sent again.
            yield Ask("save", (run, new, Lease(new_id(), self.leases.ttl)))
        except Conflict:
            return (yield from self._existing(run.run_id, found, born))
        return described(run, Head(), History(run.run_id, [born]))

    def _born(self, workflow: Workflow, payload: Any) -> Born:
        raw = values.check_payload(payload, workflow.payload_type, workflow.name)
        return Born(at=self.now(), payload=raw, nonce=new_id())

    def _existing(self, run_id: str, workflow: Workflow, born: Born) -> Work[RunInfo]:
        there = yield from self._same(run_id, workflow, born)
        if there is None:
            raise Conflict(f"run {run_id!r} was deleted while it was triggered; trigger it again")
        return there

    def _same(self, run_id: str, workflow: Workflow, born: Born) -> Work[RunInfo | None]:
        """The run of this id, if it is of the same workflow and payload; None where there is none."""
        stored = yield Ask("load", (run_id,))
        if stored is None:
            return None
        head, history = _read(stored)
        there = history.born
        if stored.workflow != workflow.name or there is None or not workflow.same(there.payload, born.payload):
            raise RunExists(
                f"run {run_id!r} exists, of workflow {stored.workflow!r} and perhaps another payload: "
                "the same id again needs the same workflow and payload"
            )
        return described(stored, head, history)

    # Driving runs that there are

    def resume(self, run_id: str) -> Work[RunInfo]:
        """Drive a run if it is due and free."""
        return (yield from self._drive_if((yield from self._head(run_id)), self._is_due))

    def signal(self, run_id: str, event: str, payload: Any) -> Work[RunInfo]:
        """Post an event, and drive the run at once when it waits and is free."""
        raw = values.check_payload(payload, Any, event)
        return (yield from self._post(run_id, Posted(at=self.now(), message=new_id(), event=event, payload=raw), False))

    def cancel(self, run_id: str, reason: str | None) -> Work[RunInfo]:
        """Ask a run to end, and see to it at once when it is free."""
        return (yield from self._post(run_id, CancelAsked(at=self.now(), message=new_id(), reason=reason), True))

    def _post(self, run_id: str, record: Record, wake: bool) -> Work[RunInfo]:
        """Store a message; whatever goes wrong after that, it is stored, and must not be sent again."""
        head = yield from self._head(run_id)
        stored: bool = yield Ask("post", (run_id, encode_record(record), self.now(), wake))
        if not stored:
            return (yield from self._found(run_id))
        try:
            return (yield from self._drive_if(head, lambda run: run.status is Status.WAITING or self._is_due(run)))
        except StoreUnavailable as error:
            return described(head, None, None, deferred=f"{error.code}: {error}")

    def retry(self, run_id: str) -> Work[RunInfo]:
        """Drive a failed run again from where it failed."""
        found = yield from self._found(run_id)
        if found.status is not Status.FAILED:
            raise RunNotFailed(f"run {run_id!r} is {found.status}: only a failed run can be retried")
        workflow = self._registered(found.workflow)
        held, run = yield from self._acquire(run_id)
        if run is None:
            raise Conflict(f"run {run_id!r} is held by somebody else just now: retry it again later")
        try:
            if run.status is not Status.FAILED:
                raise RunNotFailed(f"run {run_id!r} is {run.status}: somebody else was faster")
            head, history = _read(run)
            head.error, head.owes, head.forget_at = None, False, None
            drive = Drive(workflow, run, head, history, held, self._around, [Retried(at=self.now())])
        except KvflowError:
            yield from self._let_go(held)
            raise
        return (yield from self._through_for_caller(drive, held))

    def sweep(self, now: int, limit: int) -> Work[list[RunInfo]]:
        """Claim what is due, a few at a time, and drive it by the later of ``now`` and the clock."""
        swept: list[RunInfo] = []
        met: set[str] = set()
        while len(swept) < limit and self.workflows:
            some = min(AT_ONCE, limit - len(swept))
            claimed = yield from self._claim(now, some)
            again = [one for one in claimed if one[0].run_id in met]
            for _, held in again:
                yield from self._let_go(held)
            met.update(run.run_id for run, _ in claimed)
            swept += yield from self._drive_each([one for one in claimed if one not in again], now)
            if again or len(claimed) < some:
                break
        return swept

    def _claim(self, now: int, limit: int) -> Work[list[Claimed]]:
        token, sent = new_id(), time.monotonic()
        lease = Lease(token, self.leases.ttl)
        runs: list[StoredRun] = yield Ask("claim", (now, limit, lease, sorted(self.workflows)))
        claimed = [(run, self.leases.hold(run.run_id, token)) for run in runs]
        for _, held in claimed:
            held.taken(sent)
        return claimed

    def _drive_each(self, claimed: list[Claimed], now: int) -> Work[list[RunInfo]]:
        """Drive one after the other; suspects last, each when nothing else is held, lest they take it with them."""
        driven: list[RunInfo] = []
        suspects = [one for one in claimed if one[0].attempt >= SUSPECT]
        claimed = [one for one in claimed if one[0].attempt < SUSPECT]
        try:
            for _, held in suspects:
                yield from self._let_go(held, self.now())
            while claimed:
                run, held = claimed.pop(0)
                driven.append((yield from self._drive_claimed(run, held, now, patient=True)))
        finally:
            for _, held in claimed:
                yield from self._let_go(held)
        for run, _ in suspects:
            held, found = yield from self._acquire(run.run_id)
            if found is not None:
                driven.append((yield from self._drive_claimed(found, held, now, patient=True)))
        return driven

    def _drive_if(self, head: StoredRun, wanted: Callable[[StoredRun], bool]) -> Work[RunInfo]:
        """Drive a run of a workflow that is known here, if nobody holds it and it is wanted."""
        if head.status.over or head.workflow not in self.workflows:
            return (yield from self._found(head.run_id))
        held, run = yield from self._acquire(head.run_id)
        if run is None:
            return (yield from self._found(head.run_id))
        if not wanted(run):
            yield from self._let_go(held)
            return (yield from self._found(head.run_id))
        return (yield from self._drive_claimed(run, held))

    def _drive_claimed(self, run: StoredRun, held: Held, now: int = 0, patient: bool = False) -> Work[RunInfo]:
        """Drive a run that is held, or put it back where this instance cannot; its trouble is its own."""
        due = run.updated_at
        try:
            head, history = _read(run)
            due = max(
                [due, *(open_.wake_at or 0 for open_ in head.open.values() if (open_.wake_at or 0) <= self.now())]
            )
            if run.status.over:
                return (yield from self._after_over(run, head, history, held))
            drive = Drive(self._registered(run.workflow), run, head, history, held, self._around_at(now))
            if run.attempt >= self.max_attempts:
                return (yield from self._give_up(drive, held))
            return (yield from self._gated(drive, held, self.leases.ttl / 1000 if patient else 0))
        except Exception as error:  # noqa: BLE001 (whatever it is, the others are to have their turn)
            return (yield from self._defer(run, due, held, error))

    def _around_at(self, now: int) -> Surroundings:
        """What a drive knows, in a sweep that was told to act as at ``now``."""
        if now <= self.now():
            return self._around
        return Surroundings(now=lambda: max(now, self.now()), known=self.known, retention=self.retention)

    def _gated(self, drive: Drive, held: Held, patience: float) -> Work[RunInfo]:
        """Drive beside others, or a suspect alone; who gets no turn within the seconds of patience is put back."""
        if inside.get() is not None:  # a step of another drive began this one: it belongs to that one's turn
            return (yield from self._through(drive, held))
        alone, until = drive.run.attempt >= SUSPECT, time.monotonic() + patience
        while not gate.enter(drive, alone):
            if time.monotonic() >= until:
                gate.refuse(drive)
                return (yield from self._put_back(drive.run, held, SHORTEST, "it got no turn beside a suspect"))
            yield Pause(TURN)
        try:
            return (yield from self._through(drive, held))
        finally:
            gate.leave(drive)

    def _through(self, drive: Drive, held: Held) -> Work[RunInfo]:
        """Drive to the next resting point, and tell a parent that waits."""
        try:
            run = yield from drive.drive()
        except KvflowError:
            held.drop()
            raise
        except BaseException:  # an interrupt, or the end of the task: nobody's failure
            yield from self._let_go(held)
            raise
        held.drop()
        if drive.leaving == "lost":
            return (yield from self._found(run.run_id))
        if run.status.over and drive.head.owes:
            run = yield from self._tell_parent(run, drive.head, drive.history, None)
        return described(run, drive.head, drive.history)

    def _through_for_caller(self, drive: Drive, held: Held) -> Work[RunInfo]:
        """The same for a caller who is told of what goes wrong: the run is left to whoever sweeps next."""
        try:
            return (yield from self._through(drive, held))
        except KvflowError:
            if drive.run.version:
                yield from self._let_go(held)
            raise

    def _defer(self, run: StoredRun, due: int, held: Held, error: Exception) -> Work[RunInfo]:
        """Put a run back for as long again as it has waited since it was due, and say why."""
        now = self.now()
        why = f"{getattr(error, 'code', type(error).__name__)}: {error}"
        log.warning("run %r of workflow %r cannot be driven here: %s", run.run_id, run.workflow, why)
        return (yield from self._put_back(run, held, max(SHORTEST, min(now - due, LONGEST)), why))

    def _put_back(self, run: StoredRun, held: Held, wait: int, why: str) -> Work[RunInfo]:
        wake_at = self.now() + wait
        yield from self._let_go(held, wake_at)
        return described(replace(run, wake_at=wake_at), None, None, deferred=why)

    def _give_up(self, drive: Drive, held: Held) -> Work[RunInfo]:
        """End a run that its process has not survived, again and again; nothing is undone, for that needs its body."""
        died = drive.run.attempt
        error = RunError("HolderDied", f"{died} instances died while they drove this run; see max_attempts")
        run = yield from drive.give_up(error)
        held.drop()
        if run.status.over and drive.head.owes:
            run = yield from self._tell_parent(run, drive.head, drive.history, None)
        return described(run, drive.head, drive.history)

    # After the end

    def _after_over(self, run: StoredRun, head: Head, history: History, held: Held) -> Work[RunInfo]:
        """What a run that is over still has a wake for: to tell its parent, then to be forgotten."""
        held.drop()
        if head.owes:
            run = yield from self._tell_parent(run, head, history, held.lease)
        elif head.forget_at is not None and head.forget_at <= self.now():
            yield Ask("delete", (run.run_id,))
        else:
            yield from self._let_go(held, head.forget_at)
        return described(run, head, history)

    def _tell_parent(self, run: StoredRun, head: Head, history: History, lease: Lease | None) -> Work[StoredRun]:
        """Post the outcome to the parent, then owe nothing; a crash between the two tells it twice."""
        born, ended = history.born, history.ended
        assert born is not None
        assert born.parent is not None
        now = self.now()
        word = ChildOver(
            at=now,
            message=f"{run.run_id}/{born.nonce}/{sum(isinstance(record, Retried) for record in history.records)}",
            run_id=run.run_id,
            output=NOTHING if ended is None else ended.output,
            error=None if run.status is Status.COMPLETED else head.error or RunError("Unknown", "it failed"),
        )
        try:
            yield from self._tell(born.parent, word)
            head.owes = False
            told = replace(
                run, version=run.version + 1, wake_at=head.forget_at, snapshot=encode_head(head), seen=run.seen
            )
            yield Ask("save", (told, (), lease))
        except KvflowError as error:
            log.info("run %r tells its parent %r later: %s", run.run_id, born.parent, error)
            if lease is not None:
                yield from self._release(run.run_id, lease, now + SHORTEST)
            return run
        return told

    def _tell(self, parent: str, word: ChildOver) -> Work[None]:
        """Post the word; where it is too large for the store, that it is."""
        try:
            yield Ask("post", (parent, encode_record(word), word.at))
        except TooLarge as error:
            short = ChildOver(
                at=word.at, message=word.message, run_id=word.run_id, error=RunError("TooLarge", str(error))
            )
            yield Ask("post", (parent, encode_record(short), word.at))

    # Looking

    def get(self, run_id: str) -> Work[RunInfo | None]:
        """A run with its history; None where there is none."""
        stored = yield Ask("load", (run_id,))
        return None if stored is None else described(stored, *_read(stored))

    def list(self, limit: int, after: tuple[int, str] | None, status: Status | str | None) -> Work[list[RunInfo]]:
        """Runs, newest first, without payloads, outputs and histories; one that cannot be read says so."""
        rows: Iterable[StoredRun] = yield Ask("list", (limit, after, status))
        return [_listed(row) for row in rows]

    def delete(self, run_id: str) -> Work[None]:
        yield Ask("delete", (run_id,))

    def wait(self, run_id: str, deadline: float | None) -> Work[RunInfo]:
        """Look, ever less often, until the run is over or the deadline, by ``time.monotonic``, has come."""
        pause = 0.01
        while True:
            head = yield from self._head(run_id)
            left = float("inf") if deadline is None else deadline - time.monotonic()
            if head.status.over or left <= 0:
                return (yield from self._found(run_id))
            yield Pause(min(pause, left))
            pause = min(pause * 1.5, 0.5)

    def _found(self, run_id: str) -> Work[RunInfo]:
        found = yield from self.get(run_id)
        if found is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return found

    def _head(self, run_id: str) -> Work[StoredRun]:
        head: StoredRun | None = yield Ask("load", (run_id, False))
        if head is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return head

    def _is_due(self, run: StoredRun) -> bool:
        """Whether a run that we could acquire was due: by its wake, or because its holder died."""
        due = run.wake_at is not None and run.wake_at <= self.now()
        return due or run.attempt > 0 or run.status is Status.RUNNING

    # Leases

    def _acquire(self, run_id: str) -> Work[tuple[Held, StoredRun | None]]:
        held, sent = self.leases.hold(run_id, new_id()), time.monotonic()
        run: StoredRun | None = yield Ask("acquire", (run_id, held.lease))
        if run is not None:
            held.taken(sent)
        return held, run

    def _let_go(self, held: Held, wake_at: int | None = None) -> Work[None]:
        """Release; where the store does not answer, the lease runs out by itself."""
        held.drop()
        yield from self._release(held.run_id, held.lease, wake_at)

    def _release(self, run_id: str, lease: Lease, wake_at: int | None) -> Work[None]:
        try:
            yield Ask("release", (run_id, lease, wake_at))
        except KvflowError as error:
            log.warning("the lease of run %r runs out by itself: %s", run_id, error)


def _read(run: StoredRun) -> tuple[Head, History]:
    return decode_head(run.run_id, run.snapshot), History(run.run_id, decode_log(run.run_id, run.log))


def _listed(row: StoredRun) -> RunInfo:
    try:
        return described(row, decode_head(row.run_id, row.snapshot))
    except KvflowError as error:
        return described(row, None, deferred=f"{error.code}: {error}")
