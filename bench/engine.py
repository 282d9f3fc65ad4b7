"""The engine's speed: ``python -m bench.engine [memory|file|postgres|mysql|redis ...] [--quick] [--json PATH]``.

What a run costs beside the bare calls of the store that it makes, what a replay costs beside decoding its records, and
that a step costs the same however long the log is. Every figure is a ratio within one interleaved run.
"""

import argparse
import contextlib
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bench import tables
from bench.figures import Figure, Goal, clocked, compare, figure
from bench.places import PLACES, Missing
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

RESULTS = Path(__file__).parent / "results" / "engine.json"
SERVED = ("redis", "postgres")
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


def text() -> str:
    return "x" * 200


@workflow
def order(ctx: Context, payload: str) -> str:
    for number in range(STEPS):
        ctx.step(f"step {number}", text)
    return payload


@workflow
def long(ctx: Context, steps: int) -> None:
    for name in NAMES[:steps]:
        ctx.step(name, text)
    ctx.wait_for_event("rest", "never")


@workflow
def nap(ctx: Context, payload: None) -> None:
    ctx.sleep("nap", HOUR)


def main() -> int:
    options = _options()
    sizes = QUICK if options.quick else FULL
    figures = [replay(sizes), late_steps(sizes)]
    threads = sleepers(sizes)
    kept: dict[str, Any] = {"quick": options.quick, "memory": figures, "threads of sleepers": threads}
    print("== in memory\n" + tables.figures(figures))
    print(f"{sizes.sleepers:,} sleeping runs hold {threads} threads")
    for name in options.stores or SERVED:
        try:
            with PLACES[name]() as ground, ground.opener("engine")() as store:
                print(f"\n== {name}: " + "\n   ".join(ground.about), flush=True)
                kept[name] = [a_run(store, sizes)]
                print(tables.figures(kept[name]))
        except Missing as missing:
            print(f"\n== {name}: left out, {missing}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    print(f"\nkept in {options.json}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description="What the engine costs, as ratios.")
    parser.add_argument(
        "stores", nargs="*", metavar="STORE", help=f"of {', '.join(PLACES)}; if none, {' and '.join(SERVED)}"
    )
    parser.add_argument("--quick", action="store_true", help="sizes so small that the figures mean nothing")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept (%(default)s)")
    options = parser.parse_args()
    for name in options.stores:
        if name not in PLACES:
            parser.error(f"no store {name!r}: it must be one of {', '.join(PLACES)}")
    return options


def a_run(store: Store, sizes: Sizes) -> Figure:
    """Born, five steps each recorded, finished: beside the same saves of other runs without an engine."""
    recorder = Recorder(store)
    with Runtime(recorder, workflows=[order]) as runtime:
        runtime.trigger(order, "payload")
    saves = recorder.saves
    if len(saves) != STEPS + 2:
        raise AssertionError(f"a run of {STEPS} steps made {len(saves)} saves")
    with Runtime(store, workflows=[order]) as runtime:
        return compare(
            f"a run of {STEPS} steps beside its {len(saves)} bare saves",
            lambda: _times(sizes.batch, lambda: runtime.trigger(order, "payload")),
            lambda: _times(sizes.batch, lambda: _save_again(store, saves)),
            sizes.rounds,
            Goal(1.25),
        )


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
        begun.extend(clocked(ctx.step, f"step {number}", text)[0] for number in range(steps))

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


if __name__ == "__main__":
    raise SystemExit(main())
