"""The checker of a course: what the journal shows, what was asked of the runs, and what the store says of them, each
held against the others. It takes nobody's word. What has to be true of every run:

- It is over, as it was asked to be, and its output is made of receipts that the store has recorded.
- A step is recorded once, with the answer to one of its calls, and all its calls were made under one key, which no
  other step has.
- Once a step is recorded it is not called again, by the true time: records bear the time of their instance's clock, of
  which is known how wrong it was. But a process that is held up for the length of a lease, between its look at the
  lease and the first instruction of the step, calls it all the same: that instant no library can close, so such
  calls are counted apart.
- A step is called only when the one before it is recorded.
- The events that it got are those that were sent, in that order, none lost, none twice. (One whose sender was told
  that nobody knows whether it was stored, and who sent it again, may come twice.)
- If it failed or was cancelled, each step that was done and can be undone was undone, latest first, and was shown its
  own receipt.
- Each child was born once, is over, and what the parent got is the child's output.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from chaos.flows import BRANCHES, UNDONE, Job
from chaos.journal import Call
from kvflow import Happened, RunInfo, Status

TO_THE_MS = 0.002
"""Seconds: the times of records are whole milliseconds."""

HELD_UP = 0.85
"""The part of a lease after which a process that got no further has been held up: believed alive is 0.9 of it."""

PLACES: dict[str, int] = {"reserve": 0, "charge": 1, **{f"pack/{name}": 2 for name in BRANCHES}, "ship": 3}
PARTS: dict[str, int] = {"cut": 0, "glue": 1}


class Asked(Struct):
    """What was asked of one order. An event that was sent twice, for nobody knew, is in ``doubtful``."""

    run: str
    job: Job
    approvals: list[str]
    bonus: str | None = None
    cancelled: bool = False
    submitted: bool = False
    doubtful: set[str] = field(default_factory=set[str])


class Verdict(Struct):
    """What is wrong, and how much of everything there was."""

    faults: list[str]
    counts: Counter[str]


class Checker:
    """Of one course."""

    def __init__(
        self,
        asked: Sequence[Asked],
        runs: Mapping[str, RunInfo],
        calls: Iterable[Call],
        clocks: Mapping[int, float],
        lease_ttl: float,
        lost_before: float = 0.0,
    ) -> None:
        """Where the store has lost its last writes, what was called before that time has perhaps no record any more."""
        self._lost_before = lost_before
        self._asked = {each.run: each for each in asked}
        self._runs = runs
        self._calls: dict[str, list[Call]] = {}
        for call in calls:
            self._calls.setdefault(call.begun.run, []).append(call)
        self._clocks = clocks
        self._held_up = HELD_UP * lease_ttl
        self._counts: Counter[str] = Counter()

    def verdict(self) -> Verdict:
        faults = [
            *self._of_all(),
            *(f"{run}: {fault}" for run in self._asked for fault in self._of_order(run)),
            *(f"{run}: {fault}" for run in self._runs.keys() - self._asked.keys() for fault in self._of_part(run)),
        ]
        self._counts["orders"] = len(self._asked)
        self._counts["runs"] = len(self._runs)
        self._counts["calls"] = sum(map(len, self._calls.values()))
        self._counts["recorded"] = sum(len(_steps(run)) for run in self._runs.values())
        self._counts["runs with events"] = sum(_of(run, "event") != [] for run in self._runs.values())
        return Verdict(faults, self._counts)

    # All runs

    def _of_all(self) -> Iterator[str]:
        for run, calls in self._calls.items():
            if run not in self._runs and self._known(calls):
                yield f"{run} was called for, and the store has no such run"
        for run in self._asked.keys() - self._runs.keys():
            yield f"{run} was submitted, and the store has lost it"
        keyed: dict[str, tuple[str, str]] = {}
        for run, calls in self._calls.items():
            for call in self._known(calls):
                place = run, call.begun.step
                if call.begun.key and keyed.setdefault(call.begun.key, place) != place:
                    yield f"{place} and {keyed[call.begun.key]} were called under one key"
        born = Counter(child for run in self._runs.values() for child in _children(run))
        strangers = self._runs.keys() - self._asked.keys() - born.keys()
        # A parent that is cancelled between a birth and its record has a child that it does not know of.
        unknown = sum(
            each.job.children - len(_children(self._runs[each.run]))
            for each in self._asked.values()
            if each.run in self._runs and self._runs[each.run].status is Status.CANCELLED
        )
        if self._lost_before:
            self._counts["children of what was lost"] += len(strangers)
        elif len(strangers) > unknown:
            yield f"{sorted(strangers)} were born to nobody"
        for child, times in born.items():
            if times > 1:
                yield f"{child} was born {times} times"

    def _known(self, calls: Iterable[Call]) -> list[Call]:
        """Those whose records the store has not lost."""
        return [call for call in calls if call.begun.at >= self._lost_before]

    # One run

    def _of_order(self, run_id: str) -> Iterator[str]:
        run, asked = self._runs.get(run_id), self._asked[run_id]
        if run is None:
            return
        yield from self._of_steps(run, PLACES)
        yield from self._of_events(run, asked)
        yield from self._of_children(run)
        forward = Status.FAILED if asked.job.fails else Status.COMPLETED
        if run.status is not forward and not (asked.cancelled and run.status is Status.CANCELLED):
            yield f"should be {forward}, and is {run.status}: {run.error}"
        if run.status is Status.COMPLETED:
            yield from self._of_output(run, asked)
        else:
            yield from self._of_undo(run)

    def _of_part(self, run_id: str) -> Iterator[str]:
        run = self._runs[run_id]
        yield from self._of_steps(run, PARTS)
        if run.status is Status.CANCELLED and self._may_be_cancelled(run_id):
            return
        if run.status is not Status.COMPLETED:
            yield f"should be completed, and is {run.status}: {run.error}"
        elif run.output != {name: step.result for name, step in _steps(run).items()}:
            yield f"came out as {run.output}, and its steps are {_steps(run)}"

    def _may_be_cancelled(self, child: str) -> bool:
        """Whether its parent was; of one whose birth was not recorded, whether any was."""
        parents = [run for run in self._runs.values() if child in _children(run)] or list(self._runs.values())
        return any(parent.status is Status.CANCELLED for parent in parents)

    def _of_steps(self, run: RunInfo, places: Mapping[str, int]) -> Iterator[str]:
        steps = _steps(run)
        for step, times in Counter(one.id for one in _of(run, "step")).items():
            if times > 1:
                yield f"{step} is recorded {times} times"
        calls: dict[str, list[Call]] = {}
        for call in self._calls.get(run.run_id, []):
            calls.setdefault(call.begun.step, []).append(call)
        for step in steps.keys() - calls.keys():
            yield f"{step} is recorded, and was never called"
        recorded = {step: self._recorded(one, calls.get(step, [])) for step, one in steps.items()}
        for step, its_calls in calls.items():
            if step.startswith("undo "):
                continue
            known = self._known(its_calls)
            if len({call.begun.key for call in known}) > 1:
                yield f"{step} was called under several keys"
            self._counts["tried again"] += sum(call.failed for call in its_calls[:-1])
            self._counts["run again"] += sum(not call.failed for call in its_calls[:-1])
            if step in steps:
                yield from self._of_step(steps[step], its_calls, recorded[step])
            elif run.status is Status.COMPLETED and known:
                yield f"{step} was called, and is not recorded"
            yield from self._of_order_of_steps(step, known, recorded, places)

    def _recorded(self, step: Happened, calls: list[Call]) -> float | None:
        """When it was recorded, by the true time; None where no call gave what is recorded."""
        receipt = step.result if step.error is None else step.error.message
        call = next((call for call in calls if call.begun.call == receipt), None)
        return None if call is None else step.at.timestamp() - self._clocks[call.begun.pid]

    def _of_step(self, step: Happened, calls: list[Call], recorded: float | None) -> Iterator[str]:
        if recorded is None:
            yield f"{step.id} is recorded as {step.result or step.error}, which no call of it has answered"
            return
        for call in calls:
            late = call.begun.at - recorded
            if late > TO_THE_MS:
                if call.begun.at - call.begun.asked > self._held_up:
                    self._counts["held up before a call"] += 1
                else:
                    yield f"{step.id} was called {late:.3f} s after it had been recorded, by {call.begun.pid}"

    def _of_order_of_steps(
        self, step: str, calls: list[Call], recorded: Mapping[str, float | None], places: Mapping[str, int]
    ) -> Iterator[str]:
        for before in (name for name, place in places.items() if place == places[step] - 1):
            since = recorded.get(before)
            if calls and (since is None or min(call.begun.at for call in calls) < since - TO_THE_MS):
                yield f"{step} was called, and {before} was not recorded"

    def _of_events(self, run: RunInfo, asked: Asked) -> Iterator[str]:
        got = [one.result for one in _of(run, "event") if one.id.startswith("approval")]
        once = [
            one for one, before in zip(got, [None, *got], strict=False) if one != before or one not in asked.doubtful
        ]
        if once != asked.approvals[: len(once)]:
            yield f"was sent {asked.approvals}, and got {got}"
        if run.status is Status.COMPLETED and len(got) != asked.job.approvals:
            yield f"waited for {asked.job.approvals} approvals, and got {got}"
        bonus = [one.result for one in _of(run, "event") if one.id == "bonus"]
        if bonus not in ([], [asked.bonus]):
            yield f"was sent the bonus {asked.bonus}, and got {bonus}"
        stored = Counter(one.result for one in _of(run, "signal"))
        for event in stored.keys() - {*asked.approvals, asked.bonus}:
            yield f"has the event {event}, which nobody sent"
        if run.status is Status.COMPLETED:
            for event in set(asked.approvals[: asked.job.approvals]) - stored.keys():
                yield f"has lost the event {event}"

    def _of_children(self, run: RunInfo) -> Iterator[str]:
        for joined in _of(run, "join"):
            outputs = [self._runs[child].output if child in self._runs else None for child in _children(run)]
            if joined.result != outputs and self._lost_before:
                self._counts["parents told of what was lost"] += 1
            elif joined.result != outputs:
                yield f"was told {joined.result} of its children, and they came out as {outputs}"

    def _of_output(self, run: RunInfo, asked: Asked) -> Iterator[str]:
        results = {step: one.result for step, one in _steps(run).items()}
        if results.keys() != PLACES.keys():
            yield f"is completed, and has recorded {sorted(results)}"
            return
        got = {one.id: one.result for one in _of(run, "event")}
        expected: dict[str, Any] = {name: results[name] for name in ("reserve", "charge", "ship")}
        expected["pack"] = {name: results[f"pack/{name}"] for name in BRANCHES}
        expected["approvals"] = [got.get(f"approval {n}") for n in range(asked.job.approvals)]
        expected["bonus"] = got.get("bonus")
        expected["children"] = [result for one in _of(run, "join") for result in one.result]
        if run.output != expected:
            yield f"came out as {run.output}, and should have as {expected}"
        if len(expected["children"]) != asked.job.children:
            yield f"has {len(expected['children'])} children of {asked.job.children}"

    def _of_undo(self, run: RunInfo) -> Iterator[str]:
        steps = _steps(run)
        done = sorted((name for name in UNDONE if name in steps and steps[name].error is None), key=PLACES.__getitem__)
        undone = [one.id for one in _of(run, "undo") if one.error is None]
        if undone != done[::-1]:
            yield f"is {run.status}, has done {done}, and has undone {undone}"
        undoing = [call for call in self._calls.get(run.run_id, []) if call.begun.step.startswith("undo ")]
        firsts = list(dict.fromkeys(call.begun.step.removeprefix("undo ") for call in undoing))
        if firsts != done[::-1] and undoing == self._known(undoing):
            yield f"is {run.status}, has done {done}, and the outside saw it undo {firsts}"
        for call in undoing:
            step = call.begun.step.removeprefix("undo ")
            if step in steps and call.begun.shown != steps[step].result and self._known([call]):
                yield f"{step} gave {steps[step].result}, and its undoing was shown {call.begun.shown}"
        for step in done:
            if not any(call.done for call in undoing if call.begun.step == f"undo {step}"):
                yield f"{step} is said to be undone, and no call that undoes it has ended well"


def _of(run: RunInfo, kind: str) -> list[Happened]:
    return [one for one in run.history if one.kind == kind]


def _steps(run: RunInfo) -> dict[str, Happened]:
    return {one.id: one for one in _of(run, "step")}


def _children(run: RunInfo) -> list[str]:
    return [one.result for one in _of(run, "spawn")]
