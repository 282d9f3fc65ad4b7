"""What it costs to write: a save and a post beside the bare write, at the end of a long log, and a hundred at once."""

from collections.abc import Iterator
from itertools import count

from bench.figures import Batch, Figure, Goal, clocked, compare, each
from bench.floors import Floor
from bench.grounds import Ground
from bench.runs import SMALL, Crowd, Drive, bear, expect, now, text, waiting
from bench.sizes import Sizes
from kvflow.store import Store

POST_GOAL = Goal(1.6)
LONG_GOAL = Goal(1.15)
TOGETHER_GOAL = Goal(10, least=True)


def figures(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    with ground.opener("saves")() as store:
        for mode in ground.modes:
            if ground.bare_goal is not None:
                ground.mode(mode)
                with ground.floor() as floor:
                    yield _save_beside_bare(store, floor, sizes, mode, Goal(ground.bare_goal))
                    yield _post_beside_bare(store, floor, sizes, mode)
        ground.mode(ground.modes[0])
        for size in (SMALL, 10_240):
            yield _long_beside_short(store, size, sizes)
        if ground.served:
            yield _one_by_one_beside_together(store, sizes)


def _save_beside_bare(store: Store, floor: Floor, sizes: Sizes, mode: str, goal: Goal) -> Figure:
    """Head and record against the same bytes."""
    drive = Drive(store, f"driven {mode}")

    def bare() -> float:
        return each(floor.write, [(text(2 * SMALL),) for _ in range(sizes.batch)])

    return compare(_under("save beside the bare write", mode), _saves(store, drive, sizes), bare, sizes.rounds, goal)


def _post_beside_bare(store: Store, floor: Floor, sizes: Sizes, mode: str) -> Figure:
    """Each to a run that waits and that nobody has woken yet."""
    numbers = count()

    def post() -> float:
        runs = list(waiting(f"waiting {mode} {next(numbers)}", sizes.batch))
        bear(store, runs)
        return each(store.post, [(run.run_id, text(SMALL), now()) for run in runs])

    def bare() -> float:
        return each(floor.write, [(text(SMALL),) for _ in range(sizes.batch)])

    return compare(_under("post beside the bare write", mode), post, bare, sizes.rounds, POST_GOAL)


def _long_beside_short(store: Store, size: int, sizes: Sizes) -> Figure:
    """The long log grows by little; the short one is a new run's in each round, lest it become a long one."""
    numbers = count()
    long = _saves(store, Drive(store, f"long {size}", sizes.long, size), sizes)

    def short() -> float:
        return _saves(store, Drive(store, f"short {size} {next(numbers)}", sizes.short, size), sizes)()

    name = f"save of {size:,} bytes at a log of {sizes.long:,} beside {sizes.short}"
    return compare(name, long, short, sizes.rounds, LONG_GOAL)


def _one_by_one_beside_together(store: Store, sizes: Sizes) -> Figure:
    """Runs at rest, each of which comes a record further."""
    alone, together = Crowd(store, "alone", sizes.claim), Crowd(store, "together", sizes.claim)

    def one_by_one() -> float:
        saves = alone.saves()
        return each(store.save, saves) * len(saves)

    def all_at_once() -> float:
        saves = together.saves()
        seconds, outcomes = clocked(store.save_many, saves)
        expect(outcomes)
        return seconds

    name = f"{sizes.claim} saves beside save_many({sizes.claim})"
    return compare(name, one_by_one, all_at_once, sizes.few_rounds, TOGETHER_GOAL)


def _saves(store: Store, drive: Drive, sizes: Sizes) -> Batch:
    return lambda: each(store.save, drive.steps(sizes.batch))


def _under(name: str, mode: str) -> str:
    return f"{name}, {mode}" if mode else name
