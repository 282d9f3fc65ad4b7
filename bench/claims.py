"""What it costs to find and lease what is due: many at once beside one by one."""

from collections.abc import Iterator

from bench.figures import Figure, Goal, compare
from bench.grounds import Ground
from bench.runs import HELD, bear, clocked_claim, clocked_taking, due, now
from bench.sizes import Sizes
from kvflow.run import Lease
from kvflow.store import Runs, Store

GOAL = Goal(8, least=True)


def figures(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    with ground.opener("claims")() as store:
        bear(store, due("due", sizes.claim), HELD)
        name = f"due and {sizes.claim} acquire beside claim({sizes.claim})"
        goal = GOAL if ground.bare_goal is not None else None  # in memory there is no trip to save
        yield compare(
            name,
            lambda: _one_by_one(store, sizes.claim),
            lambda: clocked_claim(store, sizes.claim, None),
            sizes.few_rounds,
            goal,
        )


def _one_by_one(store: Store, limit: int) -> float:
    def take(mine: Lease) -> Runs:
        runs = (store.acquire(run_id, mine) for run_id in store.due(now(), limit))
        return [run for run in runs if run is not None]

    return clocked_taking(store, limit, take)
