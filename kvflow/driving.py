"""What one instance does with a run that it holds: drive it, put it back, or end it.

Whatever goes wrong with a run here is that run's alone. One that cannot be driven by this instance waits as
long again as it has waited, and is never failed for it; one whose holders died again and again ends as
failed. What is over still has its wake while it owes its parent a word or is to be forgotten.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from kvflow.checks import check_name
from kvflow.context import inside
from kvflow.effects import Ask, Pause, Work
from kvflow.engine import Drive
from kvflow.errors import (
    Corrupt,
    DuplicateWorkflow,
    KvflowError,
    RunNotFound,
    StoreUnavailable,
    TooLarge,
    UnknownWorkflow,
    WrongColour,
)
from kvflow.gate import gate
from kvflow.history import History
from kvflow.info import Driven
from kvflow.leases import Held, Leases
from kvflow.log import DEBUG, INFO, WARNING, say, tell
from kvflow.records import (
    NOTHING,
    ChildOver,
    Head,
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

SHORTEST, LONGEST = 1_000, 3_600_000
"""How long a run that cannot be driven here waits, in milliseconds: at least, and at most."""

SUSPECT = 2
"""How many holders of a run have died when it is driven alone in its process."""

TURN = 0.01
"""How long whoever is not let in pauses before it asks again, in seconds."""

Claimed = tuple[StoredRun, Held]


def is_suspect(run: StoredRun) -> bool:
    """Whether it may be what kills who drives it; one that is over runs no code, and harms nobody."""
    return run.attempt >= SUSPECT and not run.status.over


def new_id() -> str:
    return os.urandom(16).hex()


@dataclass
class Driving:
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

    def registered(self, workflow: Workflow | str) -> Workflow:
        name = workflow.name if isinstance(workflow, Workflow) else workflow
        found = self.workflows.get(name)
        if found is None or (isinstance(workflow, Workflow) and found is not workflow):
            raise UnknownWorkflow(
                f"workflow {name!r} is not registered with this runtime; it knows {sorted(self.workflows) or 'none'}"
            )
        return found

    # Leases

    def claim(self, now: int, limit: int) -> Work[list[Claimed]]:
        token, sent = new_id(), time.monotonic()
        lease = Lease(token, self.leases.ttl)
        runs: list[StoredRun] = yield Ask("claim", (now, limit, lease, sorted(self.workflows)))
        claimed = [(run, self.leases.hold(run.run_id, token)) for run in runs]
        for _, held in claimed:
            held.taken(sent)
        return claimed

    def acquire(self, run_id: str) -> Work[tuple[Held, StoredRun | None]]:
        held, sent = self.leases.hold(run_id, new_id()), time.monotonic()
        run: StoredRun | None = yield Ask("acquire", (run_id, held.lease))
        if run is not None:
            held.taken(sent)
        return held, run

    def let_go(self, held: Held, wake_at: int | None = None) -> Work[None]:
        """Release; where the store does not answer, the lease runs out by itself."""
        held.drop()
        yield from self._release(held.run_id, held.lease, wake_at)

    def _release(self, run_id: str, lease: Lease, wake_at: int | None) -> Work[None]:
        try:
            yield Ask("release", (run_id, lease, wake_at))
        except KvflowError as error:
            level = DEBUG if isinstance(error, StoreUnavailable) else WARNING
            say(level, "the lease of run %r runs out by itself: %s", run_id, error, run_id=run_id)

    # Driving

    def drive_claimed(self, run: StoredRun, held: Held, now: int = 0, patient: bool = False) -> Work[Driven]:
        """Drive a run that is held, or put it back where this instance cannot; its trouble is its own."""
        due = run.updated_at
        try:
            head, history = read_run(run)
            due = max(
                [due, *(open_.wake_at or 0 for open_ in head.open.values() if (open_.wake_at or 0) <= self.now())]
            )
            if run.status.over:
                return (yield from self._after_over(run, head, history, held))
            drive = Drive(self.registered(run.workflow), run, head, history, held, self._around_at(now))
            if run.attempt:
                tell(INFO, run, "is taken over; %d who held it died", run.attempt)
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

    def _gated(self, drive: Drive, held: Held, patience: float) -> Work[Driven]:
        """Drive beside others, or a suspect alone; who gets no turn within the seconds of patience is put back."""
        if inside.get() is not None:  # a step of another drive began this one: it belongs to that one's turn
            return (yield from self._through(drive, held))
        if not (yield from self._let_in(drive, held, time.monotonic() + patience)):
            if not held.asked_back():
                return (yield from self._put_back(drive.run, held, SHORTEST, "it got no turn beside a suspect"))
            yield from self.let_go(held)
            return Driven(drive.run, drive.head, drive.history)
        try:
            return (yield from self._through(drive, held))
        finally:
            gate.leave(drive)

    def _let_in(self, drive: Drive, held: Held, until: float) -> Work[bool]:
        """Wait for a turn until then, or until asked back; whoever ends the wait leaves nothing shut."""
        alone = is_suspect(drive.run)
        try:
            while not gate.enter(drive, alone):
                if held.asked_back() or time.monotonic() >= until:
                    gate.refuse(drive)
                    return False
                yield Pause(TURN)
        except BaseException:
            gate.refuse(drive)
            yield from self.let_go(held)
            raise
        return True

    def _through(self, drive: Drive, held: Held) -> Work[Driven]:
        """Drive to the next resting point, and tell a parent that waits."""
        try:
            run = yield from drive.drive()
        except KvflowError:
            held.drop()
            raise
        except BaseException:  # an interrupt, or the end of the task: nobody's failure
            yield from self.let_go(held)
            raise
        held.drop()
        if drive.leaving == "lost":
            held.lost()
            tell(WARNING, run, "was lost: its lease is gone, and nothing more is written here")
            return (yield from self._found(run.run_id))
        if drive.leaving == "released":
            tell(INFO, run, "is given back at a step boundary")
            yield from self.let_go(held)
            return Driven(run, drive.head, drive.history)
        return (yield from self._come_to(run, drive))

    def _come_to(self, run: StoredRun, drive: Drive) -> Work[Driven]:
        """What a drive came to, once a parent that waits for it is told."""
        if run.status.over and drive.head.owes:
            run = yield from self._tell_parent(run, drive.head, drive.history, None)
        return Driven(run, drive.head, drive.history)

    def _through_for_caller(self, drive: Drive, held: Held) -> Work[Driven]:
        """The same for a caller who is told of what goes wrong: the run is left to whoever sweeps next."""
        try:
            return (yield from self._through(drive, held))
        except KvflowError:
            if drive.run.version:
                yield from self.let_go(held)
            raise

    def _defer(self, run: StoredRun, due: int, held: Held, error: Exception) -> Work[Driven]:
        """Put a run back for as long again as it has waited since it was due, and say why."""
        now = self.now()
        why = f"{getattr(error, 'code', type(error).__name__)}: {error}"
        # That the store is away is told once, by who waits for it; here it would be told for each run.
        level = DEBUG if isinstance(error, StoreUnavailable) else WARNING
        tell(level, run, "cannot be driven here and is put back: %s", why)
        return (yield from self._put_back(run, held, max(SHORTEST, min(now - due, LONGEST)), why))

    def _put_back(self, run: StoredRun, held: Held, wait: int, why: str) -> Work[Driven]:
        wake_at = self.now() + wait
        yield from self.let_go(held, wake_at)
        return Driven(replace(run, wake_at=wake_at), deferred=why)

    def _give_up(self, drive: Drive, held: Held) -> Work[Driven]:
        """End a run that its process has not survived, again and again; nothing is undone, for that needs its body."""
        died = drive.run.attempt
        error = RunError("HolderDied", f"{died} instances died while they drove this run; see max_attempts")
        tell(WARNING, drive.run, "is given up: %s", error.message)
        run = yield from drive.give_up(error)
        held.drop()
        return (yield from self._come_to(run, drive))

    # After the end

    def _after_over(self, run: StoredRun, head: Head, history: History, held: Held) -> Work[Driven]:
        """What a run that is over still has a wake for: to tell its parent, then to be forgotten."""
        if not head.owes and head.forget_at is None and run.wake_at is not None:
            raise Corrupt(f"run {run.run_id!r} is over and owes nobody a word, and yet has a wake")
        held.drop()
        if head.owes:
            run = yield from self._tell_parent(run, head, history, held.lease)
        elif head.forget_at is not None and head.forget_at <= self.now() and held.alive():
            yield Ask("delete", (run.run_id,))
        else:
            yield from self.let_go(held, head.forget_at)
        return Driven(run, head, history)

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
            tell(INFO, run, "tells its parent %r later: %s", born.parent, error)
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

    def _found(self, run_id: str) -> Work[Driven]:
        stored: StoredRun | None = yield Ask("load", (run_id,))
        if stored is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return Driven(stored, *read_run(stored))


def read_run(run: StoredRun) -> tuple[Head, History]:
    return decode_head(run.run_id, run.snapshot), History(run.run_id, decode_log(run.run_id, run.log))
