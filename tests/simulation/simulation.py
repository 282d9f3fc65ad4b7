"""Instances, clients, weather and a scheduler: one course of the simulation, chosen choice by choice.

A step of the simulation is one of these: a store does one call; an answer reaches who asked; a timer ends; time
passes; leases are renewed; something goes wrong. After each that touched the store the checker looks.
An instance that is killed does nothing more, but what it had sent may still arrive. At the end the weather is
calm, whoever is left sweeps, time moves on, and every run must get over.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from msgspec import Struct

from kvflow.errors import Conflict, KvflowError, RunExists, RunNotFailed, RunNotFound
from kvflow.stores import MemoryStore
from simulation import programs
from simulation.checker import Checker
from simulation.choices import Choices, pick
from simulation.clocks import Clock, Turn
from simulation.journal import Journal
from simulation.processes import AsyncProcess, Process, SyncProcess, Terms
from simulation.tasks import Doing, Operation, Task, Until, When
from simulation.way import Far, Way

BEGIN = 1_000_000
DRIFT = 0.05
"""How much faster or slower than the store's an instance's monotonic clock may go; the margin of a lease covers it."""


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
        self.now = float(BEGIN)
        self.store_offset = 0.0
        self.at_the_end = False
        self.store = MemoryStore(self.store_clock)
        self.checker = Checker(self.store, self.store_clock, self.end_of_time)
        self.far = Far(self.store, self.checker, choices, weather)
        self.journal = Journal(lambda: self.now, lambda: self.turn, lambda: choices.below(3) if self.rough else 0)
        self.journal.watching = self.checker
        self.rough = True
        self.turn = ""
        self.tasks: list[Task] = []
        self.processes: list[Process] = []
        self.happened: list[str] = []
        self._attempts, self._retention = attempts, retention
        self._ids = self._born = 0

    @property
    def weather(self) -> Weather:
        return self.far.weather

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.far.weather, self.rough = Weather(), False
        self.far.late.clear()

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

    def begin_process(self, knows: int = 2, spread: int | None = None, calls: bool = False) -> Process:
        """One more instance, which knows so many of the workflows, its clocks slow (-1), right (0) or fast (1), and
        which calls or awaits."""
        number, self._born = self._born, self._born + 1
        spread = self.choices.below(3) - 1 if spread is None else spread
        clock = Clock(lambda: self.now, spread * 2000.0, 1 + spread * DRIFT)
        name = f"instance {number}"
        kind, flows = (SyncProcess, programs.calling) if calls else (AsyncProcess, programs.awaiting)
        terms = Terms(flows(self.journal)[:knows], self._retention, self._attempts)
        process = kind(self, name, clock, Way(name, self.far), terms)
        self.processes.append(process)
        return process

    def do(self, process: Process, what: Callable[[Any], Any], *expected: type[KvflowError]) -> None:
        """Have an instance do something; who called may be told of these."""
        self._has_its_turn(process)
        process.do(what, expected)
        self._see(process)

    def begin(self, process: Process, doing: Doing) -> Task:
        task = Task(process, doing)
        self.tasks.append(task)
        self._resume(task, lambda: None)
        return task

    def end(self, task: Task) -> None:
        """Nobody waits for it any more."""
        task.done = True
        self.tasks.remove(task)

    def sweep(self, process: Process) -> None:
        self.do(process, lambda runtime: runtime.sweep(limit=3))

    def tick(self, process: Process) -> None:
        self.do(process, lambda runtime: runtime.tick(2))

    def work(self, process: Process, concurrency: int) -> None:
        """Begin a worker; where one is at work, stop it."""
        if isinstance(process, AsyncProcess):
            self._has_its_turn(process)
            if process.worker is None:
                self.happened.append(f"{process.name} works")
                process.work(concurrency)
            else:
                self.happened.append(f"{process.name} stops")
                process.stop()
            self._see(process)

    def trigger(self, process: Process, run_id: str, program: programs.Program) -> None:
        self.do(
            process,
            lambda runtime: runtime.trigger("program", program, run_id=run_id),
            *(Conflict, RunExists, RunNotFound),
        )

    def submit(self, process: Process, run_id: str, program: programs.Program) -> None:
        self.do(process, lambda runtime: runtime.submit("program", program, run_id=run_id), Conflict, RunExists)

    def signal(self, process: Process, run_id: str, event: str) -> None:
        message = self.new_id()
        self.do(process, lambda runtime: runtime.signal(run_id, event, message), RunNotFound)

    def cancel(self, process: Process, run_id: str) -> None:
        self.do(process, lambda runtime: runtime.cancel(run_id, "no longer wanted"), RunNotFound)

    def retry(self, process: Process, run_id: str) -> None:
        self.do(process, lambda runtime: runtime.retry(run_id), RunNotFound, RunNotFailed, Conflict)

    def resume(self, process: Process, run_id: str) -> None:
        self.do(process, lambda runtime: runtime.resume(run_id), RunNotFound)

    def delete(self, process: Process, run_id: str) -> None:
        self.do(process, lambda runtime: runtime.delete_run(run_id))

    def renew(self, process: Process) -> None:
        if process.leases.any and process.frozen_until <= self.now:
            self.begin(process, process.leases.renewal())

    # One step

    def step(self) -> None:
        """One thing happens."""
        if self.far.late and self.choices.chance(0.2):
            self.far.something_comes_late()
            self._see(None)
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
        if task.answer is None and isinstance(task.wish, Operation):
            return True  # on its way: it arrives whether or not its sender is awake
        if process.frozen_until > self.now:
            return False
        if isinstance(task.wish, When):
            return task.wish.true()
        if isinstance(task.wish, Until) and task.wish.seconds is not None:
            return process.clock.monotonic() >= task.wish.seconds
        return True

    def go_on(self, task: Task) -> None:
        """Take a task one step further."""
        if task.answer is not None:
            answer, task.answer = task.answer, None
            self._resume(task, answer)
        elif isinstance(task.wish, Operation):
            task.answer = answered(task.wish)
        else:
            self._resume(task, lambda: None)
        self._see(task.process)

    def _resume(self, task: Task, answer: Callable[[], Any]) -> None:
        """Let a task go on until it wishes for something more."""
        self._has_its_turn(task.process)
        task.go_on(answer)
        if task.done and task in self.tasks:
            self.tasks.remove(task)

    def _has_its_turn(self, process: Process) -> None:
        self.turn, self.clock, self.gate = process.name, process.clock, process.gate

    def _see(self, process: Process | None) -> None:
        """Raise what was found broken, or what an instance did not expect."""
        unexpected = None if process is None or process.dead else process.unexpected()
        for error in (self.journal.broken, self.far.broken, unexpected):
            if error is not None:
                raise error

    # What goes wrong

    def crash(self, process: Process) -> None:
        """An instance dies; of what it has sent, some arrives yet."""
        self.happened.append(f"{process.name} dies")
        process.dead = True
        self._has_its_turn(process)
        for task in [task for task in self.tasks if task.process is process]:
            if isinstance(task.wish, Operation) and task.answer is None and self.choices.below(2):
                self.far.late.append(partial(task.wish.function, *task.wish.args))
        self._unwind(process)
        self.processes.remove(process)

    def _unwind(self, process: Process) -> None:
        while left := [task for task in self.tasks if task.process is process]:
            for task in left:
                task.kill()
            self.tasks = [task for task in self.tasks if not task.done]
            process.unwind()

    def close(self) -> None:
        """Unwind whatever is left."""
        for process in list(self.processes):
            self.crash(process)
        self.far.late.clear()


def answered(operation: Operation) -> Callable[[], Any]:
    """Have it done, and give the answer to whoever takes it."""
    try:
        answer = operation.function(*operation.args)
    except Exception as error:  # noqa: BLE001 (theirs, who asked)
        return raising(error)
    return lambda: answer


def raising(error: BaseException) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer
