"""What sleepers cost those that are awake: claims beside ever more of them, and a worker that has nothing to do."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from threading import Thread
from time import monotonic, process_time, sleep

import psutil
from msgspec import Struct
from msgspec.structs import replace

from bench.command import Finding
from bench.crew import crew, tell
from bench.figures import LEAST_ROUNDS, Batch, Figure, Goal, Measure, each, figure, in_turn
from bench.grounds import Ground
from bench.runs import HELD, WORKFLOWS, bear, clocked_claim, due, lease, now, sleepers
from kvflow import Context, Runtime, Worker, workflow
from kvflow.store import Store

CLAIM_GOAL = Goal(1.3)
EMPTY_GOAL = Goal(2.0)
MEMORY_GOAL = Goal(1.1)
CALLS = 10
ASKED = ((WORKFLOWS, f"of {len(WORKFLOWS)} workflows"), (None, "of any workflow"))


class Idle(Struct, frozen=True):
    """What a worker with nothing to do took while it was looked at: bytes of memory, and of each second so much."""

    memory: int
    processor: float


def findings(ground: Ground, numbers: Sequence[int], limit: int, rounds: int, seconds: float) -> Iterator[Finding]:
    with ExitStack() as opened:
        stores = [opened.enter_context(ground.opener(f"beside{number}")()) for number in numbers]
        with ground.loading():
            for store, number in zip(stores, numbers, strict=True):
                begin = monotonic()
                bear(store, sleepers(number))
                print(f"   {number:,} sleepers loaded by save_many(1000) in {monotonic() - begin:.0f} s", flush=True)
        ground.settle()
        for workflows, of in ASKED:
            sides = [_empty(store, limit, workflows) for store in stores]
            yield from _series(f"claim that finds nothing, {of}", numbers, sides, rounds, EMPTY_GOAL)
        if ground.bare_goal is not None:
            yield from _idle(ground, numbers, seconds)
        for store in stores:
            bear(store, due("due", limit), HELD)
        for workflows, of in ASKED:
            sides = [_claim(store, limit, workflows) for store in stores]
            yield from _series(f"claim({limit}), {of}", numbers, sides, rounds, CLAIM_GOAL)


def _empty(store: Store, limit: int, workflows: tuple[str, ...] | None) -> Batch:
    return lambda: each(store.claim, [(now(), limit, lease(), workflows) for _ in range(CALLS)])


def _claim(store: Store, limit: int, workflows: tuple[str, ...] | None) -> Batch:
    return lambda: clocked_claim(store, limit, workflows)


def _series(name: str, numbers: Sequence[int], sides: Sequence[Batch], rounds: int, goal: Goal) -> Iterator[Figure]:
    few, *others = in_turn(sides, rounds)
    for number, took in zip(numbers[1:], others, strict=True):
        about = f"{name}, beside {number:,} sleepers against {numbers[0]:,}"
        yield replace(figure(about, [*zip(took, few, strict=True)], goal), series=name, at=number, beside=numbers[0])


def _idle(ground: Ground, numbers: Sequence[int], seconds: float) -> Iterator[Finding]:
    """A worker beside the fewest, and one beside the most."""
    few, many = numbers[0], numbers[-1]
    with (
        crew(1, _work, ground.opener(f"beside{few}")) as beside_few,
        crew(1, _work, ground.opener(f"beside{many}")) as beside_many,
    ):
        both = [*beside_many, *beside_few]
        tell(both, seconds)  # connections and caches are there before the first round
        rounds: list[list[Idle]] = [tell(both, seconds) for _ in range(LEAST_ROUNDS)]
    pairs = [(float(with_many.memory), float(with_few.memory)) for with_many, with_few in rounds]
    name = f"memory of an idle worker, beside {many:,} sleepers against {few:,}"
    yield replace(figure(name, pairs, MEMORY_GOAL), unit="bytes", series="idle worker", at=many)
    spent = sum(with_many.processor for with_many, _ in rounds) / len(rounds)
    yield Measure(name=f"processor time of an idle worker beside {many:,} sleepers", value=1000 * spent, unit="ms/s")


def _work(orders: Connection, opener: Callable[[], Store]) -> None:
    """A worker of the sleepers' workflows, which looks at the store each second."""
    with opener() as store, Runtime(store, workflows=[workflow(name=name)(_nothing) for name in WORKFLOWS]) as runtime:
        worker = Worker(runtime)
        thread = Thread(target=worker.run)
        thread.start()
        try:
            while (seconds := orders.recv()) is not None:
                orders.send(_look(worker, seconds))
        finally:
            worker.stop()
            thread.join()


def _look(worker: Worker, seconds: float) -> Idle:
    begin, spent = monotonic(), process_time()
    sleep(seconds)
    took = (process_time() - spent) / (monotonic() - begin)
    if worker.stats().driven:
        raise AssertionError("a worker that should have had nothing to do has driven a run")
    return Idle(psutil.Process().memory_info().rss, took)


def _nothing(ctx: Context, payload: None) -> None:
    """No run of it is ever due."""
