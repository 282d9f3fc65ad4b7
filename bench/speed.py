"""How fast runs go: ``python -m bench.speed [file|postgres|mysql|redis ...] [--quick] [--results DIR]``.

Sleepers that wake, a worker of many threads beside one of few, and a hundred runs at once: by runs a second beside
bare writes, and by commits. Runs at once are measured again where a commit takes 5 ms, as on common cloud disks.
"""

from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from threading import Thread
from time import monotonic, sleep

from msgspec import Struct

from bench import together
from bench.asleep import at_rest, bear_copies, submitted
from bench.command import Bench, Finding, main
from bench.figures import Batch, Figure, Goal, clocked, compare, each
from bench.floors import Floor
from bench.grounds import Ground, PostgresGround
from bench.runs import SMALL, text
from kvflow import Context, Runtime, Worker, workflow
from kvflow.store import Store

WAKES = {"redis": Goal(1.6), "postgres": Goal(0.97)}
"""5,000 and 3,000 runs a second where bare writes reach 8,000 and 2,900: 8,000 / 5,000, and 2,900 / 3,000."""

THREADS = 8
THREADS_GOAL = Goal(7, least=True)
STEPS = 4
WAITING = 0.005
SLOW = 0.005


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is measured: sleepers that wake in each round, runs of a worker with one thread, runs at once."""

    rounds: int
    sleepers: int
    worked: int
    at_once: int
    few_rounds: int


FULL = Sizes(rounds=9, sleepers=1000, worked=64, at_once=100, few_rounds=5)
QUICK = Sizes(rounds=5, sleepers=20, worked=8, at_once=10, few_rounds=5)


@workflow
def nap(ctx: Context, payload: None) -> None:
    ctx.sleep("nap", timedelta(hours=1))


@workflow
def waits(ctx: Context, payload: None) -> None:
    for number in range(STEPS):
        ctx.step(f"step {number}", sleep, WAITING)


def find(ground: Ground, quick: bool) -> Iterator[Finding]:
    sizes = QUICK if quick else FULL
    with ground.opener("speed")() as store, ground.floor() as floor:
        yield wakes(ground, store, floor, sizes)
        if ground.served:
            yield threads(store, sizes)
        yield from together.figures(store, floor, sizes.at_once, sizes.few_rounds, "")
    if isinstance(ground, PostgresGround):
        yield from together.commits(ground, sizes.at_once)
    if ground.can_be_slow:
        yield from slow_commits(ground, sizes)


def wakes(ground: Ground, store: Store, floor: Floor, sizes: Sizes) -> Figure:
    """Sleepers that are all due are claimed, replayed and ended by one process, in sweeps."""
    original = at_rest(nap)
    names = count()

    def wake() -> float:
        bear_copies(store, original, f"sleeper{next(names)}", sizes.sleepers)
        seconds, swept = clocked(runtime.sweep, limit=sizes.sleepers)
        if sum(info.status.over for info in swept) != sizes.sleepers:
            raise AssertionError(f"of {sizes.sleepers} due sleepers {len(swept)} woke")
        return seconds / sizes.sleepers

    def bare() -> float:
        return each(floor.write, [(text(2 * SMALL),) for _ in range(sizes.sleepers)])

    with Runtime(store, workflows=[nap]) as runtime:
        name = f"a wake, of {sizes.sleepers:,} sleepers that are due, beside a bare write"
        return compare(name, wake, bare, sizes.rounds, WAKES.get(ground.name))


def threads(store: Store, sizes: Sizes) -> Figure:
    """The same runs, of steps that wait, through a worker of one thread and one of several."""
    original = submitted(waits)
    names = count()

    def work(concurrency: int) -> Batch:
        def worked() -> float:
            bear_copies(store, original, f"worked{next(names)}", sizes.worked)
            return _seconds_of_worker(store, concurrency, sizes.worked)

        return worked

    name = f"a worker with 1 thread beside one with {THREADS}, {STEPS} steps of {WAITING * 1000:.0f} ms of waiting"
    return compare(name, work(1), work(THREADS), sizes.few_rounds, THREADS_GOAL)


def _seconds_of_worker(store: Store, concurrency: int, runs: int) -> float:
    """From its start until all runs were driven, for each run."""
    with Runtime(store, workflows=[waits]) as runtime:
        worker = Worker(runtime, concurrency)
        thread = Thread(target=worker.run)
        begin = monotonic()
        thread.start()
        while worker.stats().driven < runs and thread.is_alive():
            sleep(0.001)
        seconds = monotonic() - begin
        worker.stop()
        thread.join()
    return seconds / runs


def slow_commits(ground: Ground, sizes: Sizes) -> Iterator[Finding]:
    """Many runs at once again, where even a lone commit takes 5 ms."""
    with ground.slow(SLOW), ground.opener("slow")() as store, ground.floor() as floor:
        lone = min(each(floor.write, [(text(SMALL),)]) for _ in range(10))
        if lone < SLOW:
            raise AssertionError(f"a commit was to take {SLOW} s and took {lone:.4f}: this server cannot be made slow")
        yield from together.figures(store, floor, sizes.at_once, sizes.few_rounds, f", commits of {SLOW * 1000:.0f} ms")


SPEED = Bench("speed", "how fast runs go", ("file", "postgres", "mysql", "redis"), find)

if __name__ == "__main__":
    raise SystemExit(main([SPEED], "bench.speed", "How fast runs go, as ratios."))
