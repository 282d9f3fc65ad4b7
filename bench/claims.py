"""What it costs to find and lease what is due: beside many sleepers, with nothing due, and one by one."""

from collections.abc import Callable, Iterator
from time import monotonic

from bench.figures import Batch, Figure, Goal, clocked, compare, each
from bench.grounds import Ground
from bench.runs import HELD, WORKFLOWS, bear, due, expect, lease, now, rest, sleepers
from bench.sizes import Sizes
from kvflow.run import Lease
from kvflow.store import Runs, Store

CLAIM_GOAL = Goal(1.3)
EMPTY_GOAL = Goal(2.0)
ONE_BY_ONE_GOAL = Goal(8, least=True)

ASKED = ((WORKFLOWS, f"of {len(WORKFLOWS)} workflows"), (None, "of any workflow"))


def figures(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    many = sizes.many if ground.served else sizes.many // 10
    with ground.opener("few")() as small, ground.opener("many")() as large:
        with ground.loading():
            bear(small, sleepers(sizes.few))
            begin = monotonic()
            bear(large, sleepers(many))
            print(f"   {many:,} sleepers loaded by save_many(1000) in {monotonic() - begin:.0f} s", flush=True)
        ground.settle()
        beside = f"beside {many:,} sleepers against {sizes.few:,}"
        for workflows, of in ASKED:
            name = f"claim that finds nothing, {of}, {beside}"
            yield compare(
                name, _empty(large, sizes, workflows), _empty(small, sizes, workflows), sizes.rounds, EMPTY_GOAL
            )
        for store in (small, large):
            bear(store, due("due", sizes.claim), HELD)
        for workflows, of in ASKED:
            name = f"claim({sizes.claim}), {of}, {beside}"
            yield compare(
                name, _claim(large, sizes, workflows), _claim(small, sizes, workflows), sizes.few_rounds, CLAIM_GOAL
            )
        name = f"due and {sizes.claim} acquire beside claim({sizes.claim})"
        goal = ONE_BY_ONE_GOAL if ground.bare_goal is not None else None  # in memory there is no trip to save
        yield compare(name, _one_by_one(small, sizes), _claim(small, sizes, None), sizes.few_rounds, goal)


def _empty(store: Store, sizes: Sizes, workflows: tuple[str, ...] | None) -> Batch:
    return lambda: each(store.claim, [(now(), sizes.claim, lease(), workflows) for _ in range(sizes.batch)])


def _claim(store: Store, sizes: Sizes, workflows: tuple[str, ...] | None) -> Batch:
    return lambda: _taking(store, sizes, lambda mine: store.claim(now(), sizes.claim, mine, workflows))


def _one_by_one(store: Store, sizes: Sizes) -> Batch:
    def take(mine: Lease) -> Runs:
        runs = (store.acquire(run_id, mine) for run_id in store.due(now(), sizes.claim))
        return [run for run in runs if run is not None]

    return lambda: _taking(store, sizes, take)


def _taking(store: Store, sizes: Sizes, take: Callable[[Lease], Runs]) -> float:
    """The seconds to take all that is due; afterwards it is due again."""
    mine = lease()
    seconds, runs = clocked(take, mine)
    if len(runs) != sizes.claim or any(len(run.log) != HELD for run in runs):
        raise AssertionError(f"{sizes.claim} runs with {HELD} records each were due, and {len(runs)} were taken")
    expect(store.save_many([rest(run, mine) for run in runs]))
    return seconds
