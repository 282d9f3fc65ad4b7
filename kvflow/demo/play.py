"""The demo itself: orders are submitted and approved, workers drive them, one worker is killed, all are waited for.

This process drives nothing: it sees what the journal and the store show to anybody.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

from kvflow import Runtime, Status
from kvflow.demo.account import Account, account
from kvflow.demo.crew import LEFT_WELL, PATIENCE, Member
from kvflow.demo.journal import Journal, Line
from kvflow.demo.orders import Order, order
from kvflow.demo.scene import Note, Place, Scene, short
from kvflow.demo.scratch import Scratch
from kvflow.demo.shop import LONG_STEP, UNDOES

WORKERS = 3
PAUSE = 0.03
STATUSES_EVERY = 0.25
GIVE_UP = 60.0
"""Seconds after which whatever is not over is told as such."""

AGE = 0.3
"""Seconds: a call this young is in its middle when its process is killed."""

Watch = Callable[[Scene], None]


class Play:
    """One demo, from its beginning to its account."""

    def __init__(self, scratch: Scratch, orders: Sequence[Order], watch: Watch) -> None:
        self._scratch = scratch
        self._orders = orders
        self._watch = watch
        self._journal = Journal(scratch.journal)
        self._office = Runtime(scratch.store)  # knows no workflow, so it drives none
        self._crew: list[Member] = []
        self._approvals = list(_approvals(orders))
        self._orphans: dict[str, str | None] = {}
        self._statuses: dict[str, Status] = {}
        self._last: dict[str, Line] = {}
        self._notes: list[Note] = []
        self._faults: list[str] = []
        self._began = time.monotonic()
        self._next_look = 0.0

    def run(self) -> Account:
        with _crew(self._scratch) as self._crew:
            self._note(
                "begun", f"{WORKERS} workers: " + ", ".join(f"{one.name} is pid {one.pid}" for one in self._crew)
            )
            self._submit()
            while not self._settled():
                self._look()
                time.sleep(PAUSE)
            self._look()
        self._see_who_left()
        return self._account()

    def _submit(self) -> None:
        with Runtime(self._scratch.store, workflows=[order]) as runtime:
            for each in self._orders:
                runtime.submit(order, each, run_id=each.id)
        self._note("submitted", f"{len(self._orders)} orders, under the prefix {self._scratch.prefix}")

    def _settled(self) -> bool:
        if all(member.killed or member.left() for member in self._crew):
            return True
        return self._over() == len(self._orders) or self._seconds() > GIVE_UP

    def _look(self) -> None:
        for line in self._journal.read():
            self._tell(line)
        if self._seconds() >= self._next_look:
            self._statuses = {run.run_id: run.status for run in self._office.list_runs(limit=len(self._orders))}
            self._next_look = self._seconds() + STATUSES_EVERY
        self._approve()
        if not any(member.killed for member in self._crew):
            self._kill_somebody()
        self._watch(self._scene())

    def _approve(self) -> None:
        """Some before the run waits, some while a step is being called, some while it waits: none may be lost."""
        for order_id, approval, when in list(self._approvals):
            if when(self, order_id):
                self._approvals.remove((order_id, approval, when))
                self._office.signal(order_id, "approved", approval)
                self._journal.sent(order_id, approval)

    def submitted(self, order_id: str) -> bool:
        return order_id in self._statuses

    def charging(self, order_id: str) -> bool:
        last = self._last.get(order_id)
        return self.waiting(order_id) or (last is not None and (last.step, last.what) == ("charge", "begun"))

    def waiting(self, order_id: str) -> bool:
        return self._statuses.get(order_id) is Status.WAITING

    def _kill_somebody(self) -> None:
        """Half-way, in the middle of a step: the journal has its beginning, and will never have its end."""
        begun = sum(call.begun.step == LONG_STEP for call in self._journal.calls.values())
        if begun < len(self._orders) // 2:
            return
        calls = [call for member in self._crew for call in self._journal.under_way(member.pid)]
        young = [call for call in calls if call.step == LONG_STEP and time.time() - call.at < AGE]
        if young:
            victim = next(member for member in self._crew if member.pid == young[-1].pid)
            victim.kill()
            self._mourn(victim)

    def _mourn(self, member: Member) -> None:
        """See whose runs have nobody now: those that it had begun a call of, or was between two of."""
        for line in self._journal.read():
            self._tell(line)
        cut = self._journal.under_way(member.pid)
        if not cut:
            self._faults.append(f"{member.name} was killed between two steps, not in one")
        calls = ", ".join(f"{short(call.order)} {call.step}" for call in cut)
        self._note("killed", f"{member.name} (SIGKILL) in {calls}")
        running = {run.run_id for run in self._office.list_runs(len(self._orders), status=Status.RUNNING)}
        held = {name for name, line in self._last.items() if line.pid == member.pid and name in running}
        self._orphans = dict.fromkeys(sorted(held | {call.order for call in cut}))

    def _tell(self, line: Line) -> None:
        before = self._last.get(line.order)
        match line.what:
            case "sent":
                self._note("approved", f"{line.order}, by {line.call.rpartition(' ')[2]}")
                return
            case "begun" if line.order in self._orphans and self._orphans[line.order] is None:
                self._taken_over(line, before)
            case "failed" if line.step == "charge":
                self._note("retry", f"{line.order} {line.step}: {line.said}")
            case "failed":
                self._note("failed", f"{line.order} {line.step}: {line.said}")
            case "ended" if line.step in UNDOES:
                self._note("undone", f"{line.order} {UNDOES[line.step]}: {line.step}")
            case _:
                pass
        self._last[line.order] = line

    def _taken_over(self, line: Line, before: Line | None) -> None:
        name = self._name(line.pid)
        self._orphans[line.order] = name
        again = before is not None and (before.step, before.key) == (line.step, line.key)
        what = f"{line.step} again, key {line.key[:8]}… as before" if again else f"goes on with {line.step}"
        self._note("taken over", f"{line.order}, by {name}: {what}")

    def _scene(self) -> Scene:
        return Scene(
            seconds=self._seconds(),
            store=type(self._scratch.store).__name__,
            orders=len(self._orders),
            statuses=dict(Counter(self._statuses.values())),
            workers=tuple(map(self._place, self._crew)),
            notes=tuple(self._notes),
        )

    def _place(self, member: Member) -> Place:
        calls = () if member.killed else self._journal.under_way(member.pid)
        return Place(
            name=member.name,
            pid=member.pid,
            killed=member.killed,
            calls=tuple((call.order, call.step) for call in calls),
            taken=tuple(self._orphans.items()) if member.killed else (),
        )

    def _account(self) -> Account:
        self._journal.read()
        return account(
            self._orders,
            self._journal,
            {one.id: self._office.get_run(one.id) for one in self._orders},
            workers={member.pid: member.name for member in self._crew},
            killed={member.pid for member in self._crew if member.killed},
            faults=self._faults,
        )

    def _see_who_left(self) -> None:
        """What kept this from being the demo that it should be is told with the account."""
        if not any(member.killed for member in self._crew):
            self._faults.append("no worker was killed: none was seen in the middle of a step")
        for member in self._crew:
            if (why := member.left()) is not None and why != LEFT_WELL:
                self._faults.append(f"{member.name} (pid {member.pid}) ended by itself: {why}")

    def _over(self) -> int:
        return sum(status.over for status in self._statuses.values())

    def _name(self, pid: int) -> str:
        return next((member.name for member in self._crew if member.pid == pid), f"pid {pid}")

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _note(self, kind: str, text: str) -> None:
        self._notes.append(Note(self._seconds(), kind, text))


@contextmanager
def _crew(scratch: Scratch) -> Generator[list[Member]]:
    """Workers at work; afterwards none is left, whatever happened."""
    crew: list[Member] = []
    patience = 0.0
    try:
        for number in range(WORKERS):
            crew.append(Member(f"worker {number + 1}", scratch))  # noqa: PERF401 (one that fails leaves those before it here)
        yield crew
        for member in crew:
            member.ask_to_stop()
        patience = PATIENCE
    finally:
        for member in crew:
            member.end(patience)


When = Callable[[Play, str], bool]


def _approvals(orders: Sequence[Order]) -> Iterator[tuple[str, str, When]]:
    """Who approves which order, and when."""
    people = cycle(("ann", "bob", "cyd", "dan"))
    moments: Iterator[When] = cycle((Play.submitted, Play.charging, Play.waiting))
    for each in orders:
        for number in range(each.approvals):
            yield each.id, f"{each.id} {number + 1} {next(people)}", next(moments)
