"""The end of a course: what is left comes to its end by itself, and then the store is empty of all but runs.

Nothing may be stuck: there is a deadline, and whatever is not over then is a fault.
"""

import time
from collections.abc import Mapping

from chaos.grounds import Ground
from kvflow import Corrupt, RunInfo, Runtime, Store
from kvflow.stores import open_store

PATIENCE = 90.0
"""Seconds in which every run must be over once the faults are."""

PAGE = 500


def settled(ground: Ground, patience: float) -> tuple[dict[str, RunInfo], list[str]]:
    """All runs, once they are over or when patience is; and what is wrong with them."""
    until = time.monotonic() + patience
    with _opened(ground) as store:
        office = Runtime(store)
        while time.monotonic() < until:
            runs = _listed(office)
            if all(run.over for run in runs) and store.next_wake() is None:
                break
            time.sleep(0.2)
        found, torn = {run.run_id: run for run in _listed(office)}, list[str]()
        for run_id in found:
            try:
                found[run_id] = office.get_run(run_id) or found[run_id]
            except Corrupt as error:
                torn.append(str(error))
    return found, [*torn, *_stuck(found)]


def at_rest(ground: Ground, runs: Mapping[str, RunInfo]) -> list[str]:
    """What is there beside runs that are over, and what is left of them when they are deleted."""
    faults = list(ground.at_rest(runs))
    with _opened(ground) as store:
        if (wake := store.next_wake()) is not None:
            faults.append(f"all runs are over, and something is due at {wake}")
        for run_id in runs:
            store.delete(run_id)
        if rows := store.list(PAGE):
            faults.append(f"{len(rows)} runs are listed that were deleted")
    return [*faults, *ground.left()]


def _opened(ground: Ground) -> Store:
    return open_store(ground.url, prefix=ground.prefix, timeout=PATIENCE)


def _listed(office: Runtime) -> list[RunInfo]:
    runs = page = office.list_runs(PAGE)
    while len(page) == PAGE:
        page = office.list_runs(PAGE, after=page[-1])
        runs += page
    return runs


def _stuck(runs: Mapping[str, RunInfo]) -> list[str]:
    return [
        f"{run.run_id} is stuck: {run.status}, pending {run.pending}, wake {run.wake_at}, attempt {run.attempt}"
        for run in runs.values()
        if not run.over
    ]
