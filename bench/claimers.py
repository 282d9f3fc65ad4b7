"""Several processes that claim from one pile: what one gets done in a second, several must, and no run twice.

The processes live through all trials and keep their connections. In a trial each claims until it has found nothing a
few times in a row, for a lost race may look like nothing. When all have stopped each finishes its runs, unclocked.
"""

from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from time import monotonic

from msgspec import Struct

from bench.crew import crew, tell
from bench.figures import Figure, Goal, figure
from bench.grounds import Ground
from bench.runs import HELD, WORKFLOWS, bear, due, expect, finish, lease, now
from bench.sizes import Sizes
from kvflow.run import Lease
from kvflow.store import Runs, Store

GOAL = Goal(0.95, least=True)
GIVES_UP = 3
FINISH = 0
"""What a process is told instead of a limit when it shall finish what it holds."""

Claims = list[tuple[Lease, Runs]]


class Share(Struct, frozen=True):
    """What one process claimed in a trial, when it began and when it had its last run."""

    run_ids: list[str] = []
    began: float = 0.0
    ended: float = 0.0


def figures(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    """By large claims, and by small ones, as a sweep of few threads makes them."""
    opener = ground.opener("pile")
    with opener() as store, crew(sizes.claimers, _work, opener) as claimers:
        for limit in (sizes.claim, sizes.claim // 10):
            pairs: list[tuple[float, float]] = []
            for trial in range(sizes.trials + 1):
                alone = _trial(store, claimers[:1], f"{limit} {trial} alone", sizes.pile, limit)
                several = _trial(store, claimers, f"{limit} {trial} several", sizes.pile, limit)
                pairs.append((alone, several))
            name = f"claimed a second, {sizes.claimers} processes beside one, claim({limit})"
            yield figure(name, pairs[1:], GOAL)  # the first trial warmed them up


def _trial(store: Store, claimers: Sequence[Connection], name: str, pile: int, limit: int) -> float:
    """The seconds that one run of the pile took."""
    bear(store, due(name, pile), HELD)
    shares: list[Share] = tell(claimers, limit)
    tell(claimers, FINISH)
    claimed = [run_id for share in shares for run_id in share.run_ids]
    if len(claimed) != pile or len(set(claimed)) != pile:
        raise AssertionError(f"of {pile} due runs {len(set(claimed))} were claimed, in {len(claimed)} claims")
    took = [share for share in shares if share.run_ids]
    return (max(share.ended for share in took) - min(share.began for share in shares)) / pile


def _work(trials: Connection, opener: Callable[[], Store]) -> None:
    with opener() as store:
        held: Claims = []
        while (order := trials.recv()) is not None:
            trials.send(_finish(store, held) if order == FINISH else _claim(store, order, held))


def _claim(store: Store, limit: int, held: Claims) -> Share:
    began = ended = monotonic()
    found_nothing = 0
    while found_nothing < GIVES_UP:
        mine = lease()
        runs = store.claim(now(), limit, mine, WORKFLOWS)
        found_nothing = 0 if runs else found_nothing + 1
        if runs:
            ended = monotonic()
            held.append((mine, runs))
    return Share([run.run_id for _, runs in held for run in runs], began, ended)


def _finish(store: Store, held: Claims) -> Share:
    for mine, runs in held:
        expect(store.save_many([finish(run, mine) for run in runs]))
    held.clear()
    return Share()
