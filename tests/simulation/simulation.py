"""Instances, clients, weather and a scheduler: one course of the simulation, chosen choice by choice.

A step of the simulation is one of these: a store does one call; an answer reaches who asked; a task goes on to its
next wish; time passes; leases are renewed; something goes wrong. After each that touched the store the checker looks.
An instance that is killed does nothing more, but what it had sent may still arrive. At the end the weather is
calm, whoever is left sweeps, time moves on, and every run must get over.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from msgspec import Struct

from kvflow.effects import Work
from kvflow.errors import Conflict, KvflowError, RunExists, RunNotFailed, RunNotFound, StoreUnavailable
from kvflow.stores import MemoryStore
from kvflow.testing import Killed
from simulation import programs
from simulation.checker import Checker
from simulation.choices import Choices, pick
from simulation.clocks import Clock, Turn
from simulation.journal import Journal
from simulation.processes import Process, Task
from simulation.tasks import Fork, Operation, SimulatedHands, Until, When

BEGIN = 1_000_000
DRIFT = 0.05
"""How much faster or slower than the store's an instance's monotonic clock may go; the margin of a lease covers it."""

CHANGING = ("save", "release", "delete")
"""What changes something without saying so in its answer."""


class Weather(Struct):
    """How likely what goes wrong is, at each step."""

    away: float = 0.0
    lost: float = 0.0
    late: float = 0.0
    crash: float = 0.0
    freeze: float = 0.0
    jump: float = 0.0
    back: float = 0.0
    renew: float = 0.1
    time: float = 0.1
    storm: bool = False
    """Whether the store's own clock jumps: then a lease may end earlier than its holder can know."""


class Simulation(Turn):
    """The world: one store, some processes, and whoever calls them."""

    def __init__(
        self, choices: Choices, weather: Weather, attempts: int = 1_000_000, retention: int | None = None
    ) -> None:
        self.choices = choices
        self.weather = weather
        self.now = float(BEGIN)
        self.store_offset = 0.0
        self.at_the_end = False
        self.store = MemoryStore(self.store_clock)
        self.checker = Checker(self.store, self.store_clock, self.end_of_time)
        self.journal = Journal(lambda: self.now, lambda: self.turn, lambda: choices.below(3) if self.rough else 0)
        self.journal.watching = self.checker
        self.rough = True
        self.turn = ""
        self.tasks: list[Task] = []
        self.late: list[tuple[str, Operation]] = []
        self.processes: list[Process] = []
        self.happened: list[str] = []
        self._attempts, self._retention = attempts, retention
        self._ids = self._born = 0
        self._flows = programs.workflows(self.journal)

    # Time

    def store_clock(self) -> int:
        return 2**60 if self.at_the_end else int(self.now + self.store_offset)

    def end_of_time(self, look: Callable[[], Any]) -> Any:
        """Look at the store as if all leases had run out."""
        self.at_the_end = True
        try:
            return look()
        finally:
            self.at_the_end = False

    def new_id(self) -> str:
        self._ids += 1
        return f"id-{self._ids}"

    # Processes and what they do

    def begin_process(self, knows: int = 2, spread: int | None = None) -> Process:
        """One more instance, which knows so many of the workflows, its clocks slow (-1), right (0) or fast (1)."""
        number, self._born = self._born, self._born + 1
        spread = self.choices.below(3) - 1 if spread is None else spread
        clock = Clock(lambda: self.now, spread * 2000.0, 1 + spread * DRIFT)
        process = Process(f"instance {number}", clock, self._flows[:knows], self._retention, self._attempts)
        self.processes.append(process)
        return process

    def do(self, process: Process, work: Work[Any], *expected: type[KvflowError]) -> Task:
        """Have an instance do something; who called may be told of these."""
        hands = SimulatedHands(lambda: process.dead, process.clock.monotonic, lambda: self._all_have_begun(process))

        async def called() -> Any:
            try:
                return await hands.run(work)
            except KvflowError as error:
                if not isinstance(error, (StoreUnavailable, *expected)):
                    raise
                return error

        return self.begin(process, called())

    def _all_have_begun(self, process: Process) -> bool:
        """Whether no task of this process is yet to take its first step; real loops begin tasks in their next turn."""
        return not any(task.process is process and task.wish is None and not task.done for task in self.tasks)

    def begin(self, process: Process, doing: Coroutine[Any, Any, Any]) -> Task:
        task = Task(process, doing)
        self.tasks.append(task)
        self._resume(task, lambda: None)
        return task

    def sweep(self, process: Process) -> Task:
        return self.do(process, process.instance.sweep(process.clock.wall(), 3))

    def trigger(self, process: Process, run_id: str, program: programs.Program) -> Task:
        return self.do(process, process.instance.trigger("program", program, run_id), Conflict, RunExists, RunNotFound)

    def submit(self, process: Process, run_id: str, program: programs.Program) -> Task:
        return self.do(process, process.instance.submit("program", program, run_id), Conflict, RunExists)

    def signal(self, process: Process, run_id: str, event: str) -> Task:
        return self.do(process, process.instance.signal(run_id, event, self.new_id()), RunNotFound)

    def cancel(self, process: Process, run_id: str) -> Task:
        return self.do(process, process.instance.cancel(run_id, "no longer wanted"), RunNotFound)

    def retry(self, process: Process, run_id: str) -> Task:
        return self.do(process, process.instance.retry(run_id), RunNotFound, RunNotFailed, Conflict)

    def delete(self, process: Process, run_id: str) -> Task:
        return self.do(process, process.instance.delete(run_id))

    def renew(self, process: Process) -> None:
        if process.leases.any:
            self.begin(process, process.leases.renewal())

    # One step

    def step(self) -> None:
        """One thing happens."""
        if self.late and self.choices.chance(0.2):
            name, operation = self.late.pop(self.choices.below(len(self.late)))
            self._operate(name, operation)
            return
        able = self.able()
        if able:
            self.go_on(pick(self.choices, able))

    def able(self) -> list[Task]:
        """The tasks that could go on now."""
        return [task for task in self.tasks if self._able(task)]

    def quiet(self) -> bool:
        return not any(self._able(task) for task in self.tasks)

    def _able(self, task: Task) -> bool:
        process = task.process
        if task.done:
            return False
        if task.answer is None and isinstance(task.wish, Operation):
            return True  # on its way: it arrives whether or not its sender is awake
        if process.frozen_until > self.now:
            return False
        if isinstance(task.wish, When):
            return task.wish.true()
        if isinstance(task.wish, Until):
            return process.clock.monotonic() >= task.wish.seconds
        return True

    def go_on(self, task: Task) -> None:
        """Take a task one step further."""
        wished = task.wish
        if task.answer is not None:
            answer, task.answer = task.answer, None
            self._resume(task, answer)
        elif isinstance(wished, Operation):
            task.answer = self._answered(task.process.name, wished)
        else:
            self._resume(task, lambda: None)

    def _answered(self, name: str, operation: Operation) -> Callable[[], Any]:
        """The answer to a call, or that there is none; and then the call may have happened, or may happen yet."""
        away = StoreUnavailable(f"{operation.method} is not answered")
        if self.choices.chance(self.weather.away):
            return raising(away)
        if self.choices.chance(self.weather.late):
            self.late.append((name, operation))
            return raising(away)
        answer = self._operate(name, operation)
        return raising(away) if self.choices.chance(self.weather.lost) else answer

    def _operate(self, name: str, operation: Operation) -> Callable[[], Any]:
        if operation.method == "save":
            self.checker.accounts.before_a_save(self.store.load(operation.args[0].run_id, log=False))
        try:
            answer = getattr(self.store, operation.method)(*operation.args)
        except KvflowError as error:
            return raising(error)
        self.checker.accounts.note(name, operation.method, operation.args, answer)
        if operation.method in CHANGING or (answer and operation.method not in ("load", "list")):
            self.checker.look()
        return lambda: answer

    def _resume(self, task: Task, answer: Callable[[], Any]) -> None:
        """Let a task go on until it wishes for something more."""
        process = task.process
        self.turn, self.clock, self.gate = process.name, process.clock, process.gate
        try:
            try:
                outcome = answer()
            except KvflowError as error:
                task.wish = task.doing.throw(error)
            else:
                task.wish = task.doing.send(outcome)
            while isinstance(task.wish, Fork):
                self.tasks += [Task(process, doing) for doing in task.wish.doing]
                task.wish = task.doing.send(None)
        except StopIteration:
            task.done, task.wish = True, None
        except Killed:
            if not process.dead:
                raise
            task.done, task.wish = True, None
        if task.done and task in self.tasks:
            self.tasks.remove(task)
        if self.journal.broken is not None:
            raise self.journal.broken

    # What goes wrong

    def crash(self, process: Process) -> None:
        """An instance dies; of what it has sent, some arrives yet."""
        self.happened.append(f"{process.name} dies")
        process.dead = True
        self.turn, self.clock, self.gate = process.name, process.clock, process.gate
        for task in [task for task in self.tasks if task.process is process]:
            if isinstance(task.wish, Operation) and task.answer is None and self.choices.below(2):
                self.late.append((process.name, task.wish))
            task.kill()
            self.tasks.remove(task)
        self.processes.remove(process)

    def close(self) -> None:
        """Unwind whatever is left."""
        for process in list(self.processes):
            self.late.clear()
            self.crash(process)


def raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer
