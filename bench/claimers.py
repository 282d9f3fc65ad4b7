"""Several processes that claim from one pile: what one gets done in a second, four must get done too, and no run twice.

The processes live through all trials and keep their connections. In a trial each claims until it has found nothing a
few times in a row, for a lost race may look like nothing. When all have stopped each finishes its runs, unclocked.
"""

import multiprocessing
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic

from msgspec import Struct

from bench.figures import Figure, Goal, figure
from bench.grounds import Ground
from bench.runs import HELD, WORKFLOWS, bear, due, expect, finish, lease, now
from bench.sizes import Sizes
from kvflow.run import Lease
from kvflow.store import Runs, Store

GOAL = Goal(0.95, least=True)
CLAIMERS = 4
PATIENCE = 60.0
GIVES_UP = 3
FINISH = 0
"""What a process is told instead of a limit when it shall finish what it holds."""

Claims = list[tuple[Lease, Runs]]


class Share(Struct, frozen=True):
    """What one process claimed in a trial, when it began and when it had its last run; or how it failed."""

    run_ids: list[str] = []
    began: float = 0.0
    ended: float = 0.0
    failed: str = ""


def figures(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    """By large claims, and by small ones, as a sweep of few threads makes them."""
    opener = ground.opener("pile")
    with opener() as store, _claimers(opener) as claimers:
        for limit in (sizes.claim, sizes.claim // 10):
            pairs: list[tuple[float, float]] = []
            for trial in range(sizes.trials + 1):
                alone = _trial(store, claimers[:1], f"{limit} {trial} alone", sizes.pile, limit)
                several = _trial(store, claimers, f"{limit} {trial} several", sizes.pile, limit)
                pairs.append((alone, several))
            name = f"claimed a second, {CLAIMERS} processes beside one, claim({limit})"
            yield figure(name, pairs[1:], GOAL)  # the first trial warmed them up


def _trial(store: Store, claimers: Sequence[Connection], name: str, pile: int, limit: int) -> float:
    """The seconds that one run of the pile took."""
    bear(store, due(name, pile), HELD)
    shares = _tell(claimers, limit)
    _tell(claimers, FINISH)
    claimed = [run_id for share in shares for run_id in share.run_ids]
    if len(claimed) != pile or len(set(claimed)) != pile:
        raise AssertionError(f"of {pile} due runs {len(set(claimed))} were claimed, in {len(claimed)} claims")
    took = [share for share in shares if share.run_ids]
    return (max(share.ended for share in took) - min(share.began for share in shares)) / pile


def _tell(claimers: Sequence[Connection], order: int) -> list[Share]:
    for claimer in claimers:
        claimer.send(order)
    return [_answer(claimer) for claimer in claimers]


def _answer(claimer: Connection) -> Share:
    if not claimer.poll(PATIENCE):
        raise TimeoutError(f"a claiming process has not answered for {PATIENCE:.0f} seconds")
    share: Share = claimer.recv()
    if share.failed:
        raise RuntimeError(f"a claiming process failed:\n{share.failed}")
    return share


@contextmanager
def _claimers(opener: Callable[[], Store]) -> Generator[list[Connection]]:
    """Ends of pipes: each takes the limit of a trial's claims, or FINISH, and gives a share."""
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes: list[SpawnProcess] = []
    try:
        for _ in range(CLAIMERS):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(opener, there), daemon=True)
            process.start()
            there.close()
            ends.append(here)
            processes.append(process)
        yield ends
        for end in ends:
            end.send(None)
        for process in processes:
            process.join(PATIENCE)
    finally:
        for end in ends:
            end.close()
        for process in processes:
            process.kill()
            process.join()


def _work(opener: Callable[[], Store], trials: Connection) -> None:
    try:
        with opener() as store:
            held: Claims = []
            while (order := trials.recv()) is not None:
                trials.send(_finish(store, held) if order == FINISH else _claim(store, order, held))
    except (EOFError, ConnectionError):
        pass  # the bench is gone, or another process has failed
    except Exception:  # noqa: BLE001 - whatever it was, the bench reports it
        trials.send(Share(failed=traceback.format_exc()))


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
