"""One random course by a seed: some programs, some weather, some hundred steps, and then a calm end."""

from kvflow.run import Status
from simulation import programs
from simulation.choices import Choices, Seeded, pick
from simulation.clocks import simulated
from simulation.processes import POLL, TTL, Process
from simulation.reading import Broken
from simulation.simulation import Simulation, Weather

STEPS = 250
PATIENCE = 4000
"""In how many steps a calm end must come, for the runs that a course has."""


def run_course(seed: int) -> Simulation:
    """The whole course of this seed; raises ``Broken`` where something does not hold."""
    choices = Seeded(seed)
    simulation = Simulation(choices, weather(choices), retention=pick(choices, [None, None, 5 * TTL]))
    with simulated(simulation, simulation.new_id):
        try:
            Course(simulation).run()
        except Exception as error:
            error.add_note(f"seed {seed} replays it")
            raise
        finally:
            simulation.close()
    return simulation


def weather(choices: Choices) -> Weather:
    """Some courses have much of one trouble, some a little of all, some none."""

    def some(most: float) -> float:
        return pick(choices, [0.0, 0.0, most / 4, most])

    return Weather(
        away=some(0.1),
        lost=some(0.1),
        late=some(0.05),
        crash=some(0.06),
        freeze=some(0.05),
        jump=some(0.05),
        back=some(0.03),
        renew=pick(choices, [0.0, 0.05, 0.2]),
        time=pick(choices, [0.02, 0.1, 0.2]),
        storm=choices.chance(0.1),
    )


class Course:
    """A simulation with programs to run and somebody who calls."""

    def __init__(self, simulation: Simulation) -> None:
        self.s = simulation
        self.choices = simulation.choices
        self.programs: dict[str, programs.Program] = {}
        self.some_call = simulation.choices.chance(0.5)
        self.stops = False
        self.asked_to_cancel: set[str] = set()
        self.deleted: set[str] = set()

    def run(self) -> None:
        for _ in range(2 + self.choices.below(2)):
            self._one_more()
        if self.choices.chance(0.2):
            self._one_more(knows=1)  # children are strange to it
        for number in range(1 + self.choices.below(5)):
            self.programs[f"run {number}"] = programs.made(self.choices, gathers=not self.some_call)
        if self.s.weather.storm:
            self.s.checker.storm()
        for _ in range(STEPS):
            self._something()
        self.finish()

    def _one_more(self, knows: int = 2) -> None:
        process = self.s.begin_process(knows, calls=self.some_call and self.choices.chance(0.5))
        if self.choices.chance(0.5):
            self.s.work(process, 1 + self.choices.below(3))

    # While it is rough

    def _something(self) -> None:
        choices, weather = self.choices, self.s.weather
        process = pick(choices, self.s.processes)
        if choices.chance(weather.time):
            self.s.now += pick(choices, [1, 10, TTL / 3, TTL / 3, 1.2 * TTL, 3 * TTL])
        elif choices.chance(weather.renew):
            self.s.renew(process)
        elif choices.chance(weather.crash) and len(self.s.processes) > 1:
            self.s.crash(process)
            self._one_more()
        elif choices.chance(weather.freeze):
            process.frozen_until = self.s.now + pick(choices, [TTL / 2, 2 * TTL])
        elif choices.chance(weather.jump):
            self._jump(process)
        elif choices.chance(weather.back):
            process.leases.ask_back()
        elif choices.chance(0.15) or self.s.quiet():
            self._call(process)
        else:
            self.s.step()

    def _jump(self, process: Process) -> None:
        """A clock is set; the store's own only in a storm, for it is what leases are measured by."""
        if self.s.weather.storm and self.choices.chance(0.5):
            self.s.store_offset += pick(self.choices, [-TTL, TTL / 2, 2 * TTL])
        else:
            process.clock.offset = pick(self.choices, [-5.0 * TTL, 0.0, 100.0, 5.0 * TTL])

    def _call(self, process: Process) -> None:
        """Somebody asks something of an instance."""
        if process.frozen_until > self.s.now:
            return
        run_id = pick(self.choices, list(self.programs))
        reading = self.s.checker.last.get(run_id)
        if reading is not None and reading.run.status is Status.FAILED and self.choices.chance(0.3):
            self.s.journal.heals.add(run_id)
            self.s.retry(process, run_id)
            return
        match self.choices.below(20):
            case 0 | 1 | 2:
                self.s.trigger(process, run_id, self.programs[run_id])
            case 3:
                self.s.submit(process, run_id, self.programs[run_id])
            case 4 | 5 | 6 | 7:
                self.s.signal(process, run_id, pick(self.choices, programs.EVENTS))
            case 8 if self.choices.chance(0.6):
                self.asked_to_cancel.add(run_id)
                self.s.cancel(process, run_id)
            case 9:
                self.s.journal.heals.add(run_id)
                self.s.retry(process, run_id)
            case 10 if self.choices.chance(0.2):
                self.deleted.add(run_id)
                self.s.delete(process, run_id)
            case 11:
                self.s.resume(process, run_id)
            case 12 if self.choices.chance(0.5):
                self.s.work(process, 1 + self.choices.below(3))
            case 13:
                self.s.tick(process)
            case _ if self.s.store.due(process.clock.wall(), 1) or self.choices.chance(0.1):
                self.s.sweep(process)
            case _:
                self.s.now += pick(self.choices, [1, 100, TTL / 3])

    # The calm end

    def finish(self) -> None:
        """One instance is left, nothing goes wrong, and time moves on: every run gets over."""
        s = self.s
        s.calm()
        s.happened.append("calm")
        while len(s.processes) > 1:
            s.crash(s.processes[-1])
        process = s.processes[0]
        if len(process.instance().workflows) < 2:
            s.crash(process)
            process = s.begin_process()
        s.far.late.clear()
        process.frozen_until = process.clock.offset = s.store_offset = 0.0
        if process.at_work() != self.choices.chance(0.5):
            s.work(process, 2)  # from here on a worker does it all, or sweeps do
        self._settle(process)
        for run_id, program in self.programs.items():
            s.trigger(process, run_id, program)
            self._settle(process)
        for _ in range(PATIENCE):
            if self._all_over():
                break
            self._wake(process)
        else:
            raise Broken("1", f"not over after all: {self._left()}")
        if process.at_work():
            self.stops = True
            s.work(process, 0)
            self._settle(process)
        if process.at_work() or process.left():
            raise Broken("1", f"a call never returns, or a worker does not stop: {process.left()}")
        self._forgotten(process)
        self._check_ends()

    def _settle(self, process: Process) -> None:
        """Do all that can be done now; who waits for its turn waits in little time, and a worker for its next look."""
        for step in range(PATIENCE):
            if not self.s.tasks or (self.s.quiet() and process.at_work() and not self.stops):
                return
            if self.s.quiet() or step % 20 == 19:
                self.s.now += 10
                if self.s.now % 1000 < 10:
                    self.s.renew(process)
            self.s.step()
        raise Broken("1", f"an instance never comes to rest: {[task.wish for task in self.s.tasks]}")

    def _left(self) -> list[str]:
        rows = self.s.store.list(1000)
        self.s.checker.look()
        return [row.run_id for row in rows if not row.status.over or self.s.checker.last[row.run_id].head.get("owes")]

    def _all_over(self) -> bool:
        return not self._left()

    def _wake(self, process: Process) -> None:
        """Send the events that are waited for without end, then sweep, then let time pass to what is next."""
        for run_id, reading in list(self.s.checker.last.items()):
            for open_ in reading.head.get("open", {}).values() if not reading.over else ():
                if open_["kind"] == "event" and open_.get("wake_at") is None and reading.undelivered() is None:
                    self.s.signal(process, run_id, open_["event"])
                    self._settle(process)
        if not process.at_work():
            self.s.sweep(process)
            self._settle(process)
        wake, now = self.s.store.next_wake(), self.s.now
        self._time_passes(process, max(now + 50, min(float(wake) if wake is not None else 0.0, now + 10 * TTL)))

    def _time_passes(self, process: Process, until: float) -> None:
        """What is held is renewed in time; and what nobody drives must not be held."""
        while self.s.now < until:
            self.s.now = min(until, self.s.now + (POLL * 1000 / 10 if process.at_work() else TTL / 3))
            self.s.renew(process)
            self._settle(process)

    def _forgotten(self, process: Process) -> None:
        """What is to be deleted after some time is."""
        if process.instance().retention is None:
            return
        for _ in range(PATIENCE):
            if not self.s.store.list(1):
                return
            self._wake(process)
        raise Broken("1", f"never forgotten: {self.s.store.list(10)}")

    def _check_ends(self) -> None:
        ends = self.s.checker.ends
        for run_id, program in self.programs.items():
            if run_id not in ends:
                raise Broken("1", f"run {run_id!r} was never seen over")
            ended = ends[run_id]
            status, wanted = ended.run.status, self._wanted(run_id, program)
            if ended.backward is not None and ended.backward[2]["type"] == "HolderDied":
                raise Broken("5", f"run {run_id!r} was given up")
            if status is Status.CANCELLED and run_id in self.asked_to_cancel:
                continue
            if status not in wanted:
                raise Broken(
                    "8", f"run {run_id!r} is {status}, and should be one of {wanted}: {ended.head.get('error')}"
                )

    def _wanted(self, run_id: str, program: programs.Program) -> set[Status]:
        """How a program may end that nobody cancels."""
        parts = list(programs.parts(program))
        if any(part["do"] == "fail" for part in parts):
            return {Status.FAILED}
        broken = any(part.get("fails") == 99 and not part["careful"] for part in parts)
        if broken and run_id in self.s.journal.heals:
            return {Status.FAILED, Status.COMPLETED}
        return {Status.FAILED if broken else Status.COMPLETED}
