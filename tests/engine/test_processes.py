"""Many processes on one store: they share its data and nothing else, and they are killed."""

import os
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

from kvflow import Context, Runtime, Status, Workflow, workflow
from on_every_store import DEADLINE, Journal, Open, begun, ended, until

PROCESSES, RUNS = 4, 200
TTL = timedelta(milliseconds=400)

# Each run once


def two_steps(journal: Journal) -> Workflow:
    """A workflow whose first step holds its process until all are at work."""
    at_work: list[bool] = []

    def all_at_work() -> bool:
        return len({pid for _, _, pid in journal.lines()}) == PROCESSES

    def first(run_id: str) -> None:
        journal.add(run_id, "first", os.getpid())
        if not at_work:
            until(all_at_work, "not all processes have a run")
            at_work.append(True)

    @workflow
    def order(ctx: Context, number: int) -> int:
        ctx.step("first", first, ctx.run_id)
        ctx.step("second", journal.add, ctx.run_id, "second", os.getpid())
        return number

    return order


def sweep_it_all(opener: Open, path: Path) -> None:
    order = two_steps(Journal(path))
    with opener() as store, Runtime(store, workflows=[order]) as runtime:
        while runtime.sweep():
            pass


def test_four_processes_sweep_each_run_once(opener: Open, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store, Runtime(store, workflows=[two_steps(journal)]) as runtime:
        for number in range(RUNS):
            runtime.submit("order", number, run_id=f"run-{number}")
        assert ended([begun(sweep_it_all, opener, journal.path) for _ in range(PROCESSES)]) == [0] * PROCESSES
        runs = runtime.list_runs(limit=RUNS + 1)
        assert [run.status for run in runs] == [Status.COMPLETED] * RUNS
        assert all(run.attempt == 0 for run in runs)
    steps = Counter((run_id, step) for run_id, step, _ in journal.lines())
    assert set(steps.values()) == {1}
    assert len(steps) == 2 * RUNS
    assert len({run_id + pid for run_id, _, pid in journal.lines()}) == RUNS, "one process drives one run"


# Killed


def stuck(journal: Journal) -> Workflow:
    """A workflow whose second step never ends in the process that calls it first."""

    def second(run_id: str, key: str) -> str:
        journal.add("second", run_id, key)
        if len(journal.lines()) == 2:
            time.sleep(DEADLINE)
        return "done"

    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.step("first", journal.add, "first", ctx.run_id, ctx.key("first"))
        return ctx.step("second", second, ctx.run_id, ctx.key("second"))

    return order


def drive_and_stick(opener: Open, path: Path) -> None:
    with opener() as store, Runtime(store, workflows=[stuck(Journal(path))], lease_ttl=TTL) as runtime:
        runtime.sweep()


def test_a_run_whose_process_is_killed_in_mid_step_is_finished_by_another(opener: Open, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store, Runtime(store, workflows=[stuck(journal)]) as runtime:
        runtime.submit("order", run_id="o-1")
        doomed = begun(drive_and_stick, opener, journal.path)
        until(lambda: len(journal.lines()) == 2, "the second step was not called")
        doomed.kill()
        ended([doomed])
        until(lambda: bool(runtime.sweep()), "nobody took the run over")
        run = runtime.get_run("o-1")
        assert run is not None
        assert (run.status, run.output) == (Status.COMPLETED, "done")
    (first, second, again) = journal.lines()
    assert (first[0], second) == ("first", again), "the step in flight runs once more, under the same key"


def killer(journal: Journal) -> Workflow:
    """A workflow of which one run kills whoever drives it."""

    @workflow
    def order(ctx: Context, kills: bool) -> str:
        journal.add(ctx.run_id)
        if kills:
            os._exit(9)
        return ctx.step("work", lambda: "done")

    return order


def sweep_and_die(opener: Open, path: Path) -> None:
    flows = [killer(Journal(path))]
    with opener() as store, Runtime(store, workflows=flows, lease_ttl=TTL / 4, max_attempts=3) as runtime:

        def all_over() -> bool:
            runtime.sweep()
            return all(run.over for run in runtime.list_runs())

        until(all_over, "not all runs are over")


def test_a_run_that_kills_its_processes_takes_no_neighbour_with_it(opener: Open, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store, Runtime(store, workflows=[killer(journal)]) as runtime:
        for number in range(8):
            runtime.submit("order", number == 0, run_id=f"run-{number}")
        codes: list[int | None] = []
        while codes[-1:] != [0]:
            assert len(codes) < 6, codes
            codes += ended([begun(sweep_and_die, opener, journal.path)])
        assert codes == [9, 9, 9, 0]
        runs = {run.run_id: run for run in runtime.list_runs()}
    failed = runs.pop("run-0")
    assert failed.error is not None
    assert (failed.status, failed.error.type) == (Status.FAILED, "HolderDied")
    assert {run.status for run in runs.values()} == {Status.COMPLETED}
    assert journal.lines().count(["run-0"]) == 3
