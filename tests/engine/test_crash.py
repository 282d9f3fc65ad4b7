"""A crash at every single store operation of a workflow that uses everything; another instance finishes it."""

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from kvflow import Conflict, Context, Retry, RunInfo, Runtime, Status, Store, StoreUnavailable, Workflow, workflow
from kvflow.testing import FakeClock, FaultyStore, Killed

TTL = timedelta(milliseconds=60)
OUTPUT = {"flaky": 2, "event": "yes", "branches": {"a": "a", "b": "b"}, "child": 42, "late": "nobody came"}


class Effects:
    """What the outside saw: each effect with the key that it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def __call__(self, name: str, key: str = "") -> str:
        self.seen.append((name, key))
        return name

    def first(self, wanted: str) -> int:
        """When this happened for the first time, counted in effects."""
        return next(at for at, (name, _) in enumerate(self.seen) if name == wanted)


def everything(effects: Effects, fails: bool) -> list[Workflow]:
    """A parent that steps, retries, sleeps, waits, fans out and has a child; and undoes, if it fails."""
    tries: Counter[str] = Counter()

    def flaky(run_id: str) -> int:
        tries[run_id] += 1
        effects(f"flaky {tries[run_id]}")
        if tries[run_id] == 1:
            raise ConnectionError
        return 2

    @workflow
    def child(ctx: Context, number: int) -> int:
        ctx.step("work", effects, "child", ctx.key("work"))
        return number * 2

    @workflow
    def parent(ctx: Context, payload: None) -> dict[str, Any]:
        def undo(name: str) -> Callable[[Any], Any]:
            return lambda _: effects(f"undo {name}", ctx.key(f"undo/{name}"))

        ctx.step("first", effects, "first", ctx.key("first"), compensate=undo("first"))
        retried = ctx.step("flaky", flaky, ctx.run_id, retry=Retry(3, delay=1, jitter=False))
        ctx.sleep("rest", 60)
        event = ctx.wait_for_event("event", "go")
        late = ctx.wait_for_event("late", "never", timeout=60, default="nobody came")
        branches = ctx.parallel(
            "all",
            {name: partial(effects, name, ctx.key(f"all/{name}")) for name in "ab"},
            compensate={name: undo(name) for name in "ab"},
        )
        found = ctx.child("kid", child, 21)
        if fails:
            raise ValueError("after all")
        return {"flaky": retried, "event": event, "branches": branches, "child": found, "late": late}

    return [parent, child]


def breaking(store: Store, kill: bool, least: int) -> Iterator[FaultyStore]:
    """The store with each of its operations broken in turn, before it happens and after; empty each time."""
    for at in itertools.count(1):
        for after in (False, True):
            faulty = FaultyStore(store, at, kill=kill, after=after)
            yield faulty
            for row in store.list(1000):
                store.delete(row.run_id)
            assert store.due(2**53, 10) == []
            if not faulty.broke:
                assert at > least, f"no more than {at} operations: it does not use everything"
                return


def to_the_end(runtime: Runtime, clock: FakeClock) -> RunInfo:
    """Trigger, signal, sweep and let time pass until the run is over; what fails is done again."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(StoreUnavailable):
            found = runtime.get_run("p")
            if found is None:
                runtime.trigger("parent", run_id="p")
            elif found.status.over:
                if not runtime.sweep():
                    return found
            elif all(one.kind != "signal" for one in found.history):
                runtime.signal("p", "go", "yes")
            elif not runtime.sweep():
                clock.advance(timedelta(seconds=61))
                time.sleep(0.002)
    raise AssertionError(f"the run did not end: {runtime.get_run('p')}")


@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails"])
def test_a_crash_at_every_operation_is_finished_elsewhere(store: Store, fails: bool) -> None:
    for dying in breaking(store, kill=True, least=30):
        clock, effects = FakeClock(), Effects()
        flows = everything(effects, fails)
        with Runtime(dying, workflows=flows, clock=clock, lease_ttl=TTL) as runtime, contextlib.suppress(Killed):
            to_the_end(runtime, clock)
        with Runtime(store, workflows=flows, clock=clock) as elsewhere:
            run = to_the_end(elsewhere, clock)
            check(run, effects, fails, store)


@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails"])
def test_a_store_away_at_any_operation_costs_no_step_a_second_call(store: Store, fails: bool) -> None:
    for faulty in breaking(store, kill=False, least=30):
        clock, effects = FakeClock(), Effects()
        flows = everything(effects, fails)
        with Runtime(faulty, workflows=flows, clock=clock, lease_ttl=3 * TTL) as runtime:
            run = to_the_end(runtime, clock)
            check(run, effects, fails, store)
        counts = Counter(name for name, _ in effects.seen)
        assert set(counts.values()) == {1}, counts


def check(run: RunInfo, effects: Effects, fails: bool, store: Store) -> None:
    """The right end, every recorded step run once, and at most the one in flight once more, under the same key."""
    if fails:
        assert run.status is Status.FAILED
        assert run.error is not None
        assert (run.error.type, run.error.undo) == ("ValueError", ())
    else:
        assert (run.status, run.output) == (Status.COMPLETED, OUTPUT)
    counts = Counter(name for name, _ in effects.seen)
    wanted = {"first", "a", "b", "child", *(("undo first", "undo a", "undo b") if fails else ())}
    assert wanted <= set(counts)
    again = [name for name in wanted if counts[name] > 1]
    assert len(again) <= 2, f"more than the steps in flight at the crash ran twice: {counts}"
    assert all(counts[name] <= 2 for name in wanted)
    for name in wanted:
        assert len({key for seen, key in effects.seen if seen == name}) == 1, f"{name} ran under several keys"
    assert len(store.list(10)) == 2, "a child was born twice"
    assert [one.id for one in run.history if one.kind == "step"].count("first") == 1


# A cancel, and a retry


def to_its_end(runtime: Runtime) -> RunInfo:
    """Sweep until all runs are over, for as long as leases of the dead may last."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not runtime.sweep() and all(run.over for run in runtime.list_runs()):
            found = runtime.get_run("p")
            assert found is not None
            return found
        time.sleep(0.002)
    raise AssertionError(f"not all ended: {runtime.list_runs()}")


def cancelled_once(effects: Effects) -> list[Workflow]:
    """A parent with two steps to undo and a child, all at rest."""

    @workflow
    def kid(ctx: Context, payload: None) -> None:
        ctx.step("stay", effects, "stay", ctx.key("stay"), compensate=lambda _: effects("leave", ctx.key("undo/stay")))
        ctx.wait_for_event("wait", "never")

    @workflow
    def parent(ctx: Context, payload: None) -> None:
        ctx.step("book", effects, "book", ctx.key("book"), compensate=lambda _: effects("free", ctx.key("undo/book")))
        ctx.spawn("kid", kid)
        ctx.step("pay", effects, "pay", ctx.key("pay"), compensate=lambda _: effects("refund", ctx.key("undo/pay")))
        ctx.wait_for_event("wait", "never")

    return [parent, kid]


def test_a_crash_at_every_operation_of_a_cancel_is_finished_elsewhere(store: Store, clock: FakeClock) -> None:
    for dying in breaking(store, kill=True, least=10):
        effects = Effects()
        flows = cancelled_once(effects)
        with Runtime(store, workflows=flows, clock=clock) as runtime:
            runtime.trigger("parent", run_id="p")
            runtime.sweep()
        with Runtime(dying, workflows=flows, clock=clock, lease_ttl=TTL) as runtime, contextlib.suppress(Killed):
            runtime.cancel("p", "changed my mind")
            to_its_end(runtime)
        with Runtime(store, workflows=flows, clock=clock) as elsewhere:
            elsewhere.cancel("p", "changed my mind")
            run = to_its_end(elsewhere)
            assert run.error is not None
            assert (run.status, run.error.message, run.error.undo) == (Status.CANCELLED, "changed my mind", ())
            assert [one.status for one in elsewhere.list_runs()] == [Status.CANCELLED] * 2
        check_calls(effects, once=("book", "pay", "stay"), in_flight=("refund", "free", "leave"))
        assert effects.first("refund") < effects.first("free"), "the latest is undone first"


def retried(effects: Effects, broken: list[bool]) -> list[Workflow]:
    """A parent of which one step is undone, one is not, one fails, and a child that fails with it."""

    def fragile(name: str, key: str) -> str:
        if broken:
            raise ConnectionError(name)
        return effects(name, key)

    @workflow
    def kid(ctx: Context, payload: None) -> str:
        return ctx.step("work", fragile, "work", ctx.key("work"))

    @workflow
    def parent(ctx: Context, payload: None) -> list[str]:
        kept = ctx.step("keep", effects, "keep", ctx.key("keep"))
        booked = ctx.step(
            "book", effects, "book", ctx.key("book"), compensate=lambda _: effects("free", ctx.key("undo/book"))
        )
        return [kept, booked, str(ctx.child("kid", kid)), ctx.step("pay", fragile, "pay", ctx.key("pay"))]

    return [parent, kid]


def test_a_crash_at_every_operation_of_a_retry_is_finished_elsewhere(store: Store, clock: FakeClock) -> None:
    for dying in breaking(store, kill=True, least=10):
        effects, broken = Effects(), [True]
        flows = retried(effects, broken)
        with Runtime(store, workflows=flows, clock=clock) as runtime:
            runtime.trigger("parent", run_id="p")
            assert to_its_end(runtime).status is Status.FAILED
            check_calls(effects, once=("keep", "book", "free"))
        broken.clear()
        before, effects.seen[:] = list(effects.seen), []
        with Runtime(dying, workflows=flows, clock=clock, lease_ttl=TTL) as runtime, contextlib.suppress(Killed):
            runtime.retry("p")
            to_its_end(runtime)
        with Runtime(store, workflows=flows, clock=clock) as elsewhere:
            run = retried_elsewhere(elsewhere)
            assert (run.status, run.output) == (Status.COMPLETED, ["keep", "book", "work", "pay"])
            assert len(elsewhere.list_runs()) == 3, "another child, and one only"
        check_calls(effects, in_flight=("book", "work", "pay"))
        assert set(effects.seen).isdisjoint(before), "what was undone is done under another key"


def retried_elsewhere(runtime: Runtime) -> RunInfo:
    """Whoever retried may have died before the retry was stored: then the run, once it is free, still is failed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        run = to_its_end(runtime)
        if run.status is not Status.FAILED:
            return run
        with contextlib.suppress(Conflict):
            runtime.retry("p")
    raise AssertionError("the run could not be retried")


def check_calls(effects: Effects, once: Sequence[str] = (), in_flight: Sequence[str] = ()) -> None:
    """These happened once, and those once or, if they were in flight at a crash, once more, under the same key."""
    counts = Counter(name for name, _ in effects.seen)
    assert set(counts) == {*once, *in_flight}
    assert all(counts[name] == 1 for name in once), counts
    assert sum(counts[name] - 1 for name in in_flight) <= 1, counts
    assert len(set(effects.seen)) == len(counts), "one ran under several keys"


# Leases, instances, threads


def test_a_lease_lost_in_mid_step_stops_the_drive(store: Store, clock: FakeClock) -> None:
    ttl = timedelta(milliseconds=80)
    calls: list[str] = []

    def slow() -> None:
        calls.append("slow")
        stall.wait(20)

    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.step("slow", slow)
        ctx.step("next", lambda: calls.append("next"))
        return "done"

    stall = threading.Event()

    class Silent(FaultyStore):
        """A process that is stopped: its renewals do not come through."""

        def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
            return set(tokens)

    silent = Silent(store)
    with (
        Runtime(silent, workflows=[order], clock=clock, lease_ttl=ttl) as stopped,
        Runtime(store, workflows=[order], clock=clock) as successor,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(stopped.trigger, order, run_id="o-1")
        while not calls:
            time.sleep(0.002)
        while not store.due(0, 1):
            time.sleep(0.002)
        stall_of_first, stall_for_all = stall, threading.Event()
        stall_for_all.set()
        stall = stall_for_all
        (run,) = successor.sweep()
        assert (run.status, run.output, run.attempt) == (Status.COMPLETED, "done", 0)
        stall_of_first.set()
        assert first.result(20).output == "done"
    assert calls == ["slow", "slow", "next"]


def test_many_runtimes_and_threads_drive_each_run_once(store: Store, clock: FakeClock) -> None:
    runs = 60
    drives: Counter[int] = Counter()

    @workflow
    def order(ctx: Context, number: int) -> int:
        drives[number] += 1
        return ctx.step("work", lambda: number)

    with Runtime(store, workflows=[order], clock=clock) as one, Runtime(store, workflows=[order], clock=clock) as two:
        for number in range(runs):
            one.submit(order, number)
        with ThreadPoolExecutor(10) as pool:
            swept = [pool.submit((one, two)[number % 2].sweep) for number in range(10)]
            outputs = [run.output for future in swept for run in future.result(60)]
        outputs += [run.output for run in one.sweep()]
    assert sorted(outputs) == list(range(runs))
    assert set(drives.values()) == {1}


def test_a_body_busy_in_pure_python_keeps_its_lease(store: Store, clock: FakeClock) -> None:
    ttl = timedelta(milliseconds=300)

    @workflow
    def busy(ctx: Context, payload: None) -> str:
        def work() -> int:
            until, turns = time.monotonic() + 3 * ttl.total_seconds(), 0
            while time.monotonic() < until:
                turns += 1
            return turns

        ctx.step("work", work)
        return "done"

    with Runtime(store, workflows=[busy], clock=clock, lease_ttl=ttl) as runtime, ThreadPoolExecutor(1) as pool:
        driven = pool.submit(runtime.trigger, busy, run_id="b")
        while not driven.done():
            assert store.due(0, 1) == []
            time.sleep(0.02)
        assert driven.result().output == "done"
