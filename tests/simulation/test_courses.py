"""Random courses: what always holds does, whoever dies, is slow, comes back, is not answered or has a wrong clock."""

from collections import Counter
from collections.abc import Iterator

import pytest

from chaos import replayable
from chaos.figures import Figures
from simulation.course import run_course
from simulation.simulation import Simulation

BLOCK = 200


@pytest.mark.parametrize("block", range(6))
def test_a_course_holds(block: int) -> None:
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        run_course(seed)


# Of thousands of deaths some leave generators behind that complain when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.chaos(share=1 / 2)
def test_courses_hold_for_long(seeds: Iterator[int]) -> None:
    figures = Figures("simulation", "simulation")
    for seed in seeds:
        with figures.noted(), replayable(seed):
            figures.add(went_through(run_course(seed)))


def went_through(simulation: Simulation) -> Counter[str]:
    """How much of everything a course had; whoever is ended at its calm end does not count as dead."""
    calls, happened = simulation.journal.calls, simulation.happened
    return Counter(
        {
            "courses": 1,
            "operations": simulation.far.done.total(),
            "runs": len(simulation.checker.ends),
            "calls": len(calls),
            "calls cut short": sum(call.ended is None for call in calls),
            "deaths": sum(event.endswith(" dies") for event in happened[: happened.index("calm")]),
        }
    )


def told(simulation: Simulation) -> list[object]:
    """All that a course came to."""
    return [simulation.happened, simulation.journal.calls, simulation.now, simulation.store.list(100)]


def test_a_seed_replays_exactly() -> None:
    for seed in range(20):
        assert told(run_course(seed)) == told(run_course(seed))


def test_courses_differ_and_do_all_there_is() -> None:
    """What is never tried is not shown to hold."""
    tried = set[str]()
    for seed in range(120):
        simulation = run_course(seed)
        tried |= {event.split()[-1] for event in simulation.happened} | set(simulation.far.done)
        for call in simulation.journal.calls:
            tried |= {"a step"} | ({"a step again"} if call.tries > 1 else set())
            tried |= {"a death in a step"} if call.ended is None else set[str]()
        for ended in simulation.checker.ends.values():
            tried |= {str(ended.run.status), *(record[0] for record in ended.resolved.values())}
            tried |= {"undone"} if ended.undone else set[str]()
            tried |= {"retried"} if ended.epoch else set[str]()
    assert tried >= {
        *("works", "stops", "save_many", "release", "renew"),
        *("dies", "a step", "a step again", "a death in a step", "undone", "retried"),
        *("completed", "failed", "cancelled"),
        *("step", "fail", "slept", "got", "late", "spawn", "join"),
    }
