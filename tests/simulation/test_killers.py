"""A run that kills whoever drives it ends as failed after so many deaths, and takes nobody with it."""

from kvflow.run import Status
from simulation.choices import Seeded
from simulation.clocks import simulated
from simulation.processes import TTL, Process
from simulation.simulation import Simulation, Weather

DEATHS = 3


def drive(s: Simulation, process: Process) -> None:
    """Sweep until nothing is left to do, or until the process is killed by the step ``deadly``."""
    s.sweep(process)
    while not s.quiet():
        s.step()
        if any(
            call.ended is None and call.name == "step deadly"
            for call in s.journal.calls
            if call.instance == process.name
        ):
            s.crash(process)
            return


def test_a_run_that_kills_again_and_again_is_given_up() -> None:
    s = Simulation(Seeded(1), Weather(), attempts=DEATHS)
    s.journal.slowness = lambda: 1
    with simulated(s, s.new_id):
        process = s.begin_process()
        s.submit(process, "killer", [{"do": "step", "id": "step deadly", "fails": 0, "careful": False}])
        s.submit(process, "neighbour", [{"do": "step", "id": "step good", "fails": 0, "careful": False}])
        for _ in range(10 * DEATHS):
            if process.dead:
                process = s.begin_process()
            drive(s, process)
            s.now += 1.2 * TTL
        s.close()
    killer, neighbour = s.checker.last["killer"], s.checker.last["neighbour"]
    assert killer.run.status is Status.FAILED
    assert killer.head["error"]["type"] == "HolderDied"
    assert sum(call.name == "step deadly" for call in s.journal.calls) == DEATHS
    assert neighbour.run.status is Status.COMPLETED
