"""The book of one order: what the journal shows of it, held against what the store says. It takes neither's word.

What has to be true:

- Its calls are those of its way, in that order: reserve, charge, pack, ship, and after a failure the undoing of each
  step that was done, latest first. No call of it is made while another process makes one.
- A step is called again only after a call that failed, or one that the death of its process cut off before it was
  recorded; never after it was recorded, and always under one key.
- What the store has recorded of a step is the answer to its last call.
- The approvals that it showed are those that were sent, each once, in the order in which they were sent.
- Its run is over, as it should be, with the output that the carrier gave.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct

from kvflow.demo.journal import Call, Journal
from kvflow.demo.orders import Order
from kvflow.demo.shop import NOWHERE, UNDOES
from kvflow.info import Happened, RunInfo
from kvflow.run import Status

WAY = ("reserve", "charge", "pack", "ship")
BACK = ("refund", "release")

RECORDED_TO = 0.001
"""Seconds: the times of records are whole milliseconds."""


class Twice(Struct, frozen=True):
    """A step that was called again because its process had been killed: by whom, and under which keys."""

    order: str
    step: str
    workers: tuple[str, ...]
    keys: tuple[str, ...]


class Book:
    """What there is of one order."""

    def __init__(
        self,
        order: Order,
        journal: Journal,
        run: RunInfo | None,
        workers: Mapping[int, str],
        killed: Collection[int],
    ) -> None:
        self._order = order
        self._run = run
        self._workers = workers
        self._calls = [call for call in journal.calls.values() if call.begun.order == order.id]
        self._steps: dict[str, list[Call]] = {}
        for call in self._calls:
            self._steps.setdefault(call.begun.step, []).append(call)
        last_of = {call.begun.pid: call for call in self._calls}
        self._last = [call for pid, call in last_of.items() if pid in killed]
        self._sent = [line.call for line in journal.approvals if line.order == order.id]
        self._shown = next((call.begun.shown for call in self._steps.get("pack", [])), ())

    @property
    def shipped(self) -> bool:
        return self._done("ship")

    @property
    def finished(self) -> bool:
        """Whether the outside has seen the last of it."""
        return self.shipped or (bool(self._steps.get("ship")) and all(map(self._done, BACK)))

    @property
    def events_lost(self) -> int:
        return (Counter(self._sent) - Counter(self._shown)).total()

    @property
    def tried_again(self) -> int:
        """Calls that failed and were made again."""
        return sum(call.failed for calls in self._steps.values() for call in calls[:-1])

    @property
    def run_twice(self) -> Iterator[Twice]:
        for step, calls in self._steps.items():
            cut = next((place for place, call in enumerate(calls[:-1]) if self._cut_off(call)), None)
            if cut is not None:
                by = tuple(self._worker(call) for call in calls[cut:])
                yield Twice(self._order.id, step, by, tuple(call.begun.key for call in calls[cut:]))

    def faults(self) -> Iterator[str]:
        for fault in (*self._of_the_way(), *self._of_calls(), *self._of_events(), *self._of_the_run()):
            yield f"{self._order.id} {fault}"

    def _of_the_way(self) -> Iterator[str]:
        fails = self._order.to == NOWHERE
        way = [*WAY, *BACK] if fails else [*WAY]
        for step in way:
            if step in UNDOES and not self._done(step):
                yield f"has failed, and its {UNDOES[step]} was not undone"
            elif step not in self._steps:
                yield f"is without its {step}"
        went = list(self._steps)
        if set(went) == set(way) and went != way:
            yield f"went {', '.join(went)}; it should have gone {', '.join(way)}"
        for step in sorted(set(went) - set(way)):
            yield f"had a {step}, which was none of its steps"
        for one, next_one in zip(self._calls, self._calls[1:], strict=False):
            if one.begun.pid != next_one.begun.pid and self._open_at(one, next_one.begun.at):
                yield f"was driven by two at once: by {self._worker(one)} and by {self._worker(next_one)}"

    def _of_calls(self) -> Iterator[str]:
        for step, calls in self._steps.items():
            if len({call.begun.key for call in calls}) > 1:
                yield f"{step} was called under different keys"
            for call in calls[:-1]:
                if not self._may_be_repeated(call):
                    yield (
                        f"{step} was called by {self._worker(call)} and again by {self._worker(calls[-1])}, though the"
                        " first call had neither failed nor been cut off"
                    )
            record = self._record(step)
            if record is None:
                yield f"{step} was called, and the store has no record of it"
            else:
                yield from self._of_a_record(step, record, calls)

    def _of_a_record(self, step: str, record: Happened, calls: list[Call]) -> Iterator[str]:
        last = calls[-1]
        late = last.begun.at - record.at.timestamp()
        if late > RECORDED_TO:
            yield f"{step} was called again {late:.1f} s after it had been recorded"
        if step in UNDOES:
            done = self._record(UNDOES[step])
            if done is None or {call.begun.shown for call in calls} != {(done.result,)}:
                yield f"{step} was not shown what {UNDOES[step]} had answered"
        else:
            answer = record.result if record.error is None else record.error.message
            if last.end is None or answer != last.end.said:
                yield f"{step} is recorded as {answer!r}, and its last call answered {_said(last)!r}"
        unsure = sum(self._last_words(call) for call in calls[:-1])
        if all(map(self._may_be_repeated, calls[:-1])) and not 0 <= len(calls) - record.attempt <= unsure:
            yield f"{step} is recorded at attempt {record.attempt}, and was called {len(calls)} times"

    def _of_events(self) -> Iterator[str]:
        for call in self._steps.get("pack", []):
            if list(call.begun.shown) != self._sent:
                yield f"was sent {_list(self._sent)}, and showed {_list(call.begun.shown)}"

    def _of_the_run(self) -> Iterator[str]:
        run = self._run
        if run is None:
            yield "is unknown to the store"
            return
        expected = Status.FAILED if self._order.to == NOWHERE else Status.COMPLETED
        if run.status is not expected:
            why = "" if run.error is None else f" ({run.error.type}: {run.error.message})"
            yield f"should be {expected}, and is {run.status}{why}"
        recorded = {happened.id for happened in run.history if happened.kind == "step"}
        for step in sorted(recorded - set(self._steps)):
            yield f"{step} is recorded, and was never called"
        ends = [_said(call) for call in self._steps.get("ship", [])[-1:]]
        if run.status is Status.COMPLETED and [run.output] != ends:
            yield f"came out as {run.output!r}, and the carrier said {_list(ends)}"

    def _record(self, step: str) -> Happened | None:
        kind, name = ("undo", UNDOES[step]) if step in UNDOES else ("step", step)
        history = () if self._run is None else self._run.history
        return next((happened for happened in history if (happened.kind, happened.id) == (kind, name)), None)

    def _done(self, step: str) -> bool:
        return any(call.done for call in self._steps.get(step, []))

    def _last_words(self, call: Call) -> bool:
        """Whether it was the last that its process, which was killed, did for this order: it may lack its record."""
        return any(call is last for last in self._last)

    def _cut_off(self, call: Call) -> bool:
        return self._last_words(call) and not call.failed

    def _may_be_repeated(self, call: Call) -> bool:
        return self._last_words(call) or call.failed

    def _open_at(self, call: Call, at: float) -> bool:
        if call.end is None:
            return not self._cut_off(call)
        return call.end.at > at

    def _worker(self, call: Call) -> str:
        return self._workers.get(call.begun.pid, f"pid {call.begun.pid}")


def _said(call: Call) -> str:
    return "nothing" if call.end is None else call.end.said


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
