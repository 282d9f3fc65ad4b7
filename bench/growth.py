"""How cost grows: ``python -m bench.growth [memory|file|postgres|mysql|redis ...] [--quick] [--results DIR]``.

A step at ever longer logs, a claim beside ever more sleepers, the bytes that a long run writes, the memory of a worker
that has nothing to do, and processes that sweep one backlog.
"""

from collections.abc import Iterator
from itertools import count

from msgspec import Struct
from msgspec.structs import replace

from bench import backlog, beside, written
from bench.command import Bench, Finding, main
from bench.figures import Batch, Figure, Goal, each, figure, in_turn
from bench.grounds import Ground
from bench.places import PLACES
from bench.runs import Drive
from kvflow.store import Store

GOAL = Goal(1.15)
SHORT = 100
"""Up to this length a log is made anew for each round, lest it become a long one."""


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is measured: lengths of logs, numbers of sleepers, and of processes."""

    rounds: int
    batch: int
    lengths: tuple[int, ...]
    sleepers: tuple[int, ...]
    served_only: int
    """From how many sleepers on only servers are measured."""

    claim: int
    steps: int
    idle: float
    processes: tuple[int, ...]
    backlog: int
    trials: int


FULL = Sizes(
    rounds=31,
    batch=10,
    lengths=(10, 100, 1_000, 10_000),
    sleepers=(1_000, 100_000, 1_000_000),
    served_only=1_000_000,
    claim=100,
    steps=200,
    idle=1.0,
    processes=(1, 2, 4),
    backlog=600,
    trials=5,
)
QUICK = Sizes(
    rounds=5,
    batch=2,
    lengths=(2, 10, 100),
    sleepers=(10, 100, 1_000),
    served_only=1_000,
    claim=5,
    steps=10,
    idle=0.1,
    processes=(1, 2),
    backlog=10,
    trials=2,
)


def find(ground: Ground, quick: bool) -> Iterator[Finding]:
    sizes = QUICK if quick else FULL
    yield from steps(ground, sizes)
    if ground.bare_goal is not None:
        yield from written.findings(ground, sizes.steps)
        yield from backlog.findings(ground, sizes.processes, sizes.backlog, sizes.trials)
    numbers = [number for number in sizes.sleepers if ground.served or number < sizes.served_only]
    yield from beside.findings(ground, numbers, sizes.claim, sizes.rounds, sizes.idle)


def steps(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    """The save of one more step, at logs of each length in turn."""
    with ground.opener("steps")() as store:
        first, *others = in_turn([_steps(store, length, sizes.batch) for length in sizes.lengths], sizes.rounds)
        least = sizes.lengths[0]
        for length, took in zip(sizes.lengths[1:], others, strict=True):
            found = figure(f"a step at a log of {length:,} beside {least}", [*zip(took, first, strict=True)], GOAL)
            yield replace(found, series="step", at=length, beside=least)


def _steps(store: Store, length: int, batch: int) -> Batch:
    numbers = count()

    def drive() -> Drive:
        return Drive(store, f"steps {length} {next(numbers)}", length)

    long = drive() if length > SHORT else None
    return lambda: each(store.save, (long or drive()).steps(batch))


GROWTH = Bench("growth", "how cost grows", tuple(PLACES), find)

if __name__ == "__main__":
    raise SystemExit(main([GROWTH], "bench.growth", "How cost grows, as ratios."))
