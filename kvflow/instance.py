"""The runtimes' methods as work, written once for both colours: begin runs, wake them, sweep them, look at them."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from kvflow import values
from kvflow.driving import Claimed, Driving, is_suspect, new_id, read_run
from kvflow.effects import Ask, Each, Pause, Work
from kvflow.engine import Drive, submitted
from kvflow.errors import (
    Conflict,
    KvflowError,
    RunExists,
    RunNotFailed,
    RunNotFound,
    StoreUnavailable,
)
from kvflow.history import History
from kvflow.info import Driven, RunInfo, Tick, described
from kvflow.leases import NEVER
from kvflow.records import (
    Born,
    CancelAsked,
    Head,
    Posted,
    Record,
    Retried,
    decode_head,
    encode_record,
)
from kvflow.run import Lease, Status, StoredRun
from kvflow.times import from_ms
from kvflow.workflow import Workflow

AT_ONCE, MOST_AT_ONCE = 8, 128
"""How many runs a sweep claims at a time: few at first, to leave others some; twice as many after each quick batch."""

QUICK = 0.1
"""In how many seconds a batch is driven that was quick: what is claimed next may wait so long for its turn."""

PATIENCE = 1.0
"""How long, in seconds, what was claimed beyond the first few waits for its turn; then others may have it."""

IN_ONE_SWEEP = 100
"""How many runs a tick drives before it may meet one of them again."""


@dataclass
class Instance(Driving):
    """One instance, as its runtime calls it."""

    # Beginning runs

    def trigger(self, workflow: Workflow | str, payload: Any, run_id: str | None) -> Work[RunInfo]:
        """Begin a run and drive it until it rests; the same trigger again gives the run that there is."""
        found = self.registered(workflow)
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
            return (yield from self._through_for_caller(drive, held)).info()
        except Conflict:
            return (yield from self._existing(run_id, found, born))

    def submit(self, workflow: Workflow | str, payload: Any, run_id: str | None) -> Work[RunInfo]:
        """Begin a run that is due at once, for whoever sweeps."""
        found = self.registered(workflow)
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
        head, history = read_run(stored)
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
            return (yield from self._found(run_id)).info()
        try:
            return (yield from self._drive_if(head, lambda run: run.status is Status.WAITING or self._is_due(run)))
        except StoreUnavailable as error:
            return described(head, None, None, deferred=f"{error.code}: {error}")

    def retry(self, run_id: str) -> Work[RunInfo]:
        """Drive a failed run again from where it failed."""
        found = (yield from self._found(run_id)).run
        if found.status is not Status.FAILED:
            raise RunNotFailed(f"run {run_id!r} is {found.status}: only a failed run can be retried")
        workflow = self.registered(found.workflow)
        held, run = yield from self.acquire(run_id)
        if run is None:
            raise Conflict(f"run {run_id!r} is held by somebody else just now: retry it again later")
        try:
            if run.status is not Status.FAILED:
                raise RunNotFailed(f"run {run_id!r} is {run.status}: somebody else was faster")
            head, history = read_run(run)
            head.error, head.owes, head.forget_at = None, False, None
            drive = Drive(workflow, run, head, history, held, self._around, [Retried(at=self.now())])
        except KvflowError:
            yield from self.let_go(held)
            raise
        return (yield from self._through_for_caller(drive, held)).info()

    def sweep(self, now: int, limit: int) -> Work[list[RunInfo]]:
        """Claim what is due and drive it; who cannot be described says why, and is the trouble of nobody else."""
        return [_told(one) for one in (yield from self._sweep(now, limit))]

    def _sweep(self, now: int, limit: int, until: float = NEVER) -> Work[list[Driven]]:
        """Claim what is due, a few at a time, and drive it by the later of ``now`` and the clock.

        From ``until`` on, by ``time.monotonic``, what is held is given back at its next step boundary.
        """
        swept: list[Driven] = []
        met: set[str] = set()
        at_once = AT_ONCE
        while len(swept) < limit and self.workflows and time.monotonic() < until:
            some, began = min(at_once, limit - len(swept)), time.monotonic()
            claimed = yield from self.claim(now, some)
            again = [one for one in claimed if one[0].run_id in met]
            for _, held in again:
                yield from self.let_go(held)
            driven = yield from self._drive_each([one for one in claimed if one not in again], now, until)
            met.update(one.run.run_id for one in driven)
            swept += driven
            if again or len(driven) == len(claimed) < some:
                break
            at_once = min(at_once * 2, MOST_AT_ONCE) if time.monotonic() - began < QUICK else AT_ONCE
        return swept

    def _drive_each(self, claimed: list[Claimed], now: int, until: float) -> Work[list[Driven]]:
        """Drive one after the other; suspects last, each when nothing else is held, lest they take it with them."""
        driven: list[Driven] = []
        suspects = [one for one in claimed if is_suspect(one[0])]
        claimed = [one for one in claimed if not is_suspect(one[0])]
        try:
            for _, held in suspects:
                yield from self.let_go(held, self.now())
            driven += yield Each(self._drives(claimed, now, until))
        finally:
            for _, held in claimed:
                yield from self.let_go(held)
        for run, _ in suspects:
            if time.monotonic() < until and (one := (yield from self._suspect(run.run_id, now, until))) is not None:
                driven.append(one)
        return driven

    def _drives(self, claimed: list[Claimed], now: int, until: float) -> Iterator[Work[Driven]]:
        """One after another of what is claimed, until the time is up, or the patience of others."""
        begun = time.monotonic()
        for number, one in enumerate(list(claimed)):
            if time.monotonic() >= (until if number < AT_ONCE else min(until, begun + PATIENCE)):
                return
            yield self._begun(claimed, one, now, until)

    def _begun(self, claimed: list[Claimed], one: Claimed, now: int, until: float) -> Work[Driven]:
        """Drive one; what has begun lets go by itself of what it holds, whatever comes."""
        claimed.remove(one)
        run, held = one
        held.ask_back(until)
        return (yield from self.drive_claimed(run, held, now, patient=True))

    def _suspect(self, run_id: str, now: int = 0, until: float = NEVER) -> Work[Driven | None]:
        """Drive a suspect that was let go, now that nothing else is held; None where somebody else has it."""
        held, found = yield from self.acquire(run_id)
        if found is None:
            return None
        held.ask_back(until)
        return (yield from self.drive_claimed(found, held, now, patient=True))

    def tick(self, seconds: float) -> Work[Tick]:
        """Sweep until nothing is due or the time is up, and say when there is something to do again."""
        until, driven, deferred = time.monotonic() + seconds, 0, 0
        while swept := (yield from self._sweep(self.now(), IN_ONE_SWEEP, until)):
            put_back = sum(one.deferred is not None for one in swept)
            driven, deferred = driven + len(swept) - put_back, deferred + put_back
        return Tick(driven, deferred, (yield from self.next_wake()))

    def next_wake(self) -> Work[datetime | None]:
        """When something of the registered workflows is due next."""
        wake: int | None = yield Ask("next_wake", (sorted(self.workflows),))
        return None if wake is None else from_ms(wake)

    def _drive_if(self, head: StoredRun, wanted: Callable[[StoredRun], bool]) -> Work[RunInfo]:
        """Drive a run of a workflow that is known here, if nobody holds it and it is wanted."""
        if head.status.over or head.workflow not in self.workflows:
            return (yield from self._found(head.run_id)).info()
        held, run = yield from self.acquire(head.run_id)
        if run is None:
            return (yield from self._found(head.run_id)).info()
        if not wanted(run):
            yield from self.let_go(held)
            return (yield from self._found(head.run_id)).info()
        return _told((yield from self.drive_claimed(run, held)))

    # Looking

    def get(self, run_id: str) -> Work[RunInfo | None]:
        """A run with its history; None where there is none."""
        stored = yield Ask("load", (run_id,))
        return None if stored is None else described(stored, *read_run(stored))

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
                return (yield from self._found(run_id)).info()
            yield Pause(min(pause, left))
            pause = min(pause * 1.5, 0.5)

    def _head(self, run_id: str) -> Work[StoredRun]:
        head: StoredRun | None = yield Ask("load", (run_id, False))
        if head is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        return head

    def _is_due(self, run: StoredRun) -> bool:
        """Whether a run that we could acquire was due: by its wake, or because its holder died."""
        due = run.wake_at is not None and run.wake_at <= self.now()
        return due or run.attempt > 0 or run.status is Status.RUNNING


def _told(driven: Driven) -> RunInfo:
    try:
        return driven.info()
    except KvflowError as error:
        return described(driven.run, None, deferred=f"{error.code}: {error}")


def _listed(row: StoredRun) -> RunInfo:
    try:
        return described(row, decode_head(row.run_id, row.snapshot))
    except KvflowError as error:
        return described(row, None, deferred=f"{error.code}: {error}")
