"""The engine's speed: ``python -m bench.engine [memory|file|postgres|mysql|redis ...] [--quick] [--results DIR]``.

What a run costs beside the bare calls of the store that it makes and beside bare writes, what a replay costs beside
decoding its records, and that a step costs the same however long the log is.
"""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bench.command import Bench, Finding, main
from bench.figures import Figure, Goal, Measure, clocked, compare, figure, in_turn
from bench.floors import Floor
from bench.grounds import Ground
from bench.places import PLACES
from bench.runs import text
from kvflow import Context, Lease, Runtime, Store, StoredRun, workflow
from kvflow.engine import Drive
from kvflow.hands import Hands
from kvflow.history import History
from kvflow.leases import Leases
from kvflow.records import StepDone, decode_head, decode_log
from kvflow.saving import Leaving, Surroundings
from kvflow.store import Save
from kvflow.stores import MemoryStore
from kvflow.testing import FakeClock, FaultyStore

GOAL = 1.25
"""How many times its bare saves a run may take."""

STEPS = 5
HOUR = timedelta(hours=1)


class Sizes(Struct, frozen=True):
    """How much is measured: steps replayed, steps of a log that is early or late, and sleepers."""

    rounds: int
    batch: int
    replay: int
    early: int
    late: int
    sleepers: int


FULL = Sizes(rounds=41, batch=5, replay=1000, early=100, late=10_000, sleepers=10_000)
QUICK = Sizes(rounds=5, batch=2, replay=50, early=20, late=100, sleepers=100)


class Recorder(FaultyStore):
    """Remembers the saves that the engine makes, so that they can be made again without it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.saves: list[Save] = []

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        self.saves.append((run, new, lease))
        return super().save(run, new, lease)


NAMES = [f"step {number}" for number in range(FULL.replay)]
"""Made once, for what a body spends on its own is no cost of a replay."""


def done() -> str:
    return "x" * 200


@workflow
def order(ctx: Context, payload: str) -> str:
    for number in range(STEPS):
        ctx.step(f"step {number}", done)
    return payload


@workflow
def long(ctx: Context, steps: int) -> None:
    for name in NAMES[:steps]:
        ctx.step(name, done)
    ctx.wait_for_event("rest", "never")


@workflow
def nap(ctx: Context, payload: None) -> None:
    ctx.sleep("nap", HOUR)


def find(ground: Ground, quick: bool) -> Iterator[Finding]:
    sizes = QUICK if quick else FULL
    if ground.bare_goal is None:  # where nothing but the engine costs anything
        yield replay(sizes)
        yield late_steps(sizes)
        threads = sleepers(sizes)
        yield Measure(name=f"threads of {sizes.sleepers:,} sleeping runs", value=threads, unit="", goal=Goal(1))
    else:
        with ground.opener("engine")() as store, ground.floor() as floor:
            yield from a_run(store, floor, sizes, ground.bare_goal)


def a_run(store: Store, floor: Floor, sizes: Sizes, bare_goal: float) -> Iterator[Figure]:
    """Born, five steps each recorded, finished: beside the same saves without an engine, and beside bare writes."""
    recorder = Recorder(store)
    with Runtime(recorder, workflows=[order]) as runtime:
        runtime.trigger(order, "payload")
    saves = recorder.saves
    if len(saves) != STEPS + 2:
        raise AssertionError(f"a run of {STEPS} steps made {len(saves)} saves")
    with Runtime(store, workflows=[order]) as runtime:
        runs, again, bare = in_turn(
            [
                lambda: _times(sizes.batch, lambda: runtime.trigger(order, "payload")),
                lambda: _times(sizes.batch, lambda: _save_again(store, saves)),
                lambda: _times(sizes.batch, lambda: _write(floor, saves)),
            ],
            sizes.rounds,
        )
    about = f"a run of {STEPS} steps beside"
    yield figure(f"{about} its {len(saves)} bare saves", [*zip(runs, again, strict=True)], Goal(GOAL))
    name = f"{about} {len(saves)} bare writes of the same bytes"
    yield figure(name, [*zip(runs, bare, strict=True)], Goal(round(GOAL * bare_goal, 2)))


def _write(floor: Floor, saves: Sequence[Save]) -> None:
    for run, new, _ in saves:
        floor.write(text(sum(map(len, (run.snapshot, *new)))))


def _save_again(store: Store, saves: Sequence[Save]) -> None:
    run_id, token = uuid.uuid4().hex, uuid.uuid4().hex
    for run, new, lease in saves:
        store.save(replace(run, run_id=run_id), new, lease and Lease(token, lease.ttl))


def replay(sizes: Sizes) -> Figure:
    """Reading a log and going through its steps to the next rest, beside decoding its records and their results."""
    store = MemoryStore()
    with Runtime(store, workflows=[long]) as runtime:
        run_id = runtime.trigger(long, sizes.replay).run_id
    stored = store.load(run_id)
    assert stored is not None
    around = Surroundings(now=lambda: 0, known=lambda name: (str(name), Any), retention=None)
    text_of = msgspec.msgpack.Decoder(str).decode

    def through() -> None:
        history = History(run_id, decode_log(run_id, stored.log))
        hold = Leases(store, 60_000).hold(run_id, uuid.uuid4().hex)
        drive = Drive(long, stored, decode_head(run_id, stored.snapshot), history, hold, around)
        with contextlib.suppress(Leaving):
            long.body(Context(drive, Hands(store).run), sizes.replay)

    def decoding() -> None:
        for record in decode_log(run_id, stored.log):
            if isinstance(record, StepDone):
                text_of(record.result)

    return compare(
        f"replaying {sizes.replay:,} recorded steps beside decoding them",
        lambda: clocked(through)[0],
        lambda: clocked(decoding)[0],
        sizes.rounds,
        Goal(3.0),
    )


def late_steps(sizes: Sizes) -> Figure:
    """One step after many, beside one after few: two runs that go on step by step, taking turns."""
    rounds: list[tuple[float, float]] = []
    with Runtime(MemoryStore(), workflows=[long]) as runtime:
        for _ in range(max(5, sizes.rounds // 8)):
            late, early = _seconds_of_steps(runtime, sizes.late), _seconds_of_steps(runtime, sizes.early)
            rounds.append((_median_of_last(late, sizes.early // 2), _median_of_last(early, sizes.early // 2)))
    return figure(f"step {sizes.late:,} beside step {sizes.early:,}", rounds, Goal(1.15))


def _seconds_of_steps(runtime: Runtime, steps: int) -> list[float]:
    """When each step of a run began, as the time since the one before."""
    begun: list[float] = []

    @workflow(name=f"timed {uuid.uuid4().hex}")
    def timed(ctx: Context, payload: None) -> None:
        begun.extend(clocked(ctx.step, f"step {number}", done)[0] for number in range(steps))

    runtime.register(timed)
    runtime.delete_run(runtime.trigger(timed).run_id)
    return begun


def _median_of_last(seconds: list[float], last: int) -> float:
    return sorted(seconds[-last:])[last // 2]


def sleepers(sizes: Sizes) -> int:
    """How many threads so many sleeping runs hold."""
    before = threading.active_count()
    with Runtime(workflows=[nap], clock=FakeClock()) as runtime:
        for _ in range(sizes.sleepers):
            runtime.trigger(nap)
        return threading.active_count() - before


def _times(number: int, call: Callable[[], object]) -> float:
    def make() -> None:
        for _ in range(number):
            call()

    return clocked(make)[0] / number


ENGINE = Bench("engine", "runs, steps and replays", tuple(PLACES), find)

if __name__ == "__main__":
    raise SystemExit(main([ENGINE], "bench.engine", "What the engine costs, as ratios."))
