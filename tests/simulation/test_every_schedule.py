"""Small scenes in every order: all courses with at most a few changes of turn, a death or a lapse at every place."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from chaos.figures import Figures
from simulation.choices import Listed, Seeded
from simulation.clocks import simulated
from simulation.course import Course
from simulation.processes import TTL, Process
from simulation.programs import Program
from simulation.simulation import Simulation, Weather
from simulation.tasks import Task

RUN = "run"


def step(name: str, fails: int = 0) -> dict[str, Any]:
    return {"do": "step", "id": f"step {name}", "fails": fails, "careful": False}


def wait(name: str, seconds: int | None = None) -> dict[str, Any]:
    return {"do": "wait", "id": f"wait {name}", "event": "red", "seconds": seconds}


def sleep(name: str, seconds: int = 0) -> dict[str, Any]:
    return {"do": "sleep", "id": f"sleep {name}", "seconds": seconds}


Event = Callable[[Simulation, Process, Process], object]


def lapse(s: Simulation, one: Process, other: Process) -> None:
    """A lease runs out, and the other instance looks for work."""
    s.now += 1.2 * TTL
    s.sweep(other)


def death(s: Simulation, one: Process, other: Process) -> None:
    """The one dies; the other looks for work when its leases have run out."""
    s.crash(one)
    lapse(s, one, other)


def signal(s: Simulation, one: Process, other: Process) -> None:
    s.signal(other, RUN, "red")


def cancel(s: Simulation, one: Process, other: Process) -> None:
    s.cancel(other, RUN)


def sweep(s: Simulation, one: Process, other: Process) -> None:
    s.sweep(other)


def again(s: Simulation, one: Process, other: Process) -> None:
    """The same trigger on the other instance."""
    s.trigger(other, RUN, PROGRAMS[s])


PROGRAMS: dict[Simulation, Program] = {}

BOTH = {"do": "gather", "id": "both 0", "branches": [[sleep("0.0.0"), step("0.0.1")], [step("0.1.0!"), step("0.1.1")]]}

SCENES: dict[str, tuple[int, Program, list[Event]]] = {
    "a holder that comes back": (3, [step("a!"), step("b", fails=1)], [lapse]),
    "a holder that dies": (2, [step("a!"), wait("w", 5), step("b")], [death]),
    "a holder that dies going backward": (2, [step("a!"), step("b!"), {"do": "fail", "id": "end"}], [death]),
    "a death and a comeback": (1, [step("a!"), step("b")], [lapse, death]),
    "a signal at any time": (3, [step("a"), wait("w"), step("b")], [signal]),
    "two signals and a sweep": (1, [wait("v"), wait("w")], [signal, signal, sweep]),
    "a cancel at any time": (1, [step("a!"), wait("w"), step("b!")], [cancel, sweep]),
    "a cancel of one that sleeps": (1, [step("a!"), sleep("s", 1)], [cancel, lapse]),
    "a cancel beside branches": (3, [BOTH], [cancel]),
    "two triggers": (4, [step("a"), wait("w", 5)], [again]),
    "a child on another instance": (1, [{"do": "child", "id": "child c", "program": [step("a")]}], [sweep, sweep]),
    "a parent that dies": (4, [{"do": "child", "id": "child c", "program": [step("a")]}], [death]),
    "branches and a death": (2, [{"do": "parallel", "id": "all p", "branches": {"a": 0, "b!": 1}}], [death]),
}
"""How often a task that could go on is made to wait for another; what is run; what happens at any time, in order."""


def run(choices: Listed, turns: int, program: Program, events: list[Event], calls: bool) -> None:
    """One course: the one instance is asked to begin the run, and the events come when they come."""
    s = Simulation(choices, Weather())
    s.rough = False
    with simulated(s, s.new_id):
        one, other = s.begin_process(spread=0, calls=calls), s.begin_process(spread=0, calls=calls)
        PROGRAMS[s] = program
        course = Course(s)
        course.programs[RUN] = program
        course.asked_to_cancel.add(RUN)
        try:
            s.trigger(one, RUN, program)
            _interleave(s, turns, [partial(event, s, one, other) for event in events])
            s.choices = Seeded(0)
            course.finish()
        finally:
            s.close()
            del PROGRAMS[s]


def _interleave(s: Simulation, turns: int, events: list[Callable[[], object]]) -> None:
    """Whoever has its turn goes on, but for a few times, when another does or the next event comes."""
    current: Process | None = None
    while True:
        able = s.able()
        mine = [task for task in able if task.process is current][:1]
        others = [task for task in able if task not in mine]
        options: list[Any] = [*mine, *(others if turns or not mine else [])]
        if events and (turns or not options):
            options.append(events[0])
        if not options:
            return
        chosen = options[s.choices.below(len(options))]
        if isinstance(chosen, Task):
            turns -= bool(mine) and chosen not in mine
            current = chosen.process
            s.go_on(chosen)
        else:
            turns -= bool(mine)
            events.pop(0)()


def every(scene: str, calls: bool, more: int = 0) -> int:
    """Run all courses of a scene, and say how many there were."""
    turns, program, events = SCENES[scene]
    chosen: list[int] | None = []
    courses = 0
    while chosen is not None:
        choices = Listed(chosen)
        try:
            run(choices, turns + more, program, events, calls)
        except Exception as error:
            error.add_note(f"course {chosen} of scene {scene!r}, {'calling' if calls else 'awaiting'}, replays it")
            raise
        chosen, courses = choices.after(), courses + 1
    return courses


colours = pytest.mark.parametrize("calls", [False, True], ids=["awaiting", "calling"])
scenes = pytest.mark.parametrize("scene", SCENES)


@colours
@scenes
def test_every_schedule_of_a_scene_holds(scene: str, calls: bool) -> None:
    assert every(scene, calls) > 10


@pytest.mark.chaos(share=0)
@colours
@scenes
def test_every_schedule_of_a_scene_holds_with_a_turn_more(scene: str, calls: bool) -> None:
    figures = Figures("schedules", f"{scene}, {'calling' if calls else 'awaiting'}")
    with figures.noted():
        figures.count("schedules", every(scene, calls, 1))
    assert figures.counts["schedules"] > 10
