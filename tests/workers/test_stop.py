"""A worker that is told to stop: by code, by signals, in the middle of whatever its runs do."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from kvflow import AsyncContext, AsyncRuntime, AsyncWorker, Context, Lease, Runtime, Status, Store, Worker, workflow
from kvflow.gate import gate
from kvflow.run import StoredRun
from kvflow.testing import FaultyStore
from on_every_store import until
from workers.colours import COLOURS, Working, made, order, statuses, submitted, working

both = pytest.mark.parametrize("colour", COLOURS)


@both
def test_a_step_in_flight_ends_and_the_rest_is_for_another(store: Store, colour: str) -> None:
    calls: list[str] = []
    begun, end = threading.Event(), threading.Event()

    def first(run_id: str) -> None:
        calls.append("first")
        begun.set()
        end.wait(30)

    flow = order(colour, [("first", first), ("second", lambda _: calls.append("second"))])
    submitted(store, "o-1")
    with working(store, [flow]) as at_work:
        assert begun.wait(30)
        at_work.worker.stop()
        time.sleep(0.05)
        assert at_work.is_alive(), "a step is in flight"
        end.set()
        at_work.ended()
    assert calls == ["first"]
    assert store.due(time.time_ns() // 1_000_000, 10) == ["o-1"]
    with working(store, [flow]):
        until(lambda: statuses(store)["o-1"] == Status.COMPLETED, "nobody went on with it")
    assert calls == ["first", "second"]


@both
def test_a_step_that_outlasts_the_grace_is_let_go(store: Store, colour: str) -> None:
    begun, end = threading.Event(), threading.Event()

    def first(run_id: str) -> None:
        begun.set()
        end.wait(15)

    submitted(store, "o-1")
    try:
        with working(store, [order(colour, [("first", first)])], {"grace": 0.2}) as at_work:
            assert begun.wait(30)
            told = time.monotonic()
            at_work.worker.stop()
            at_work.ended()
            assert time.monotonic() - told < 10, "it waits for the step"
            assert not end.is_set()
            assert store.acquire("o-1", Lease("another", 1000)) is not None, "it is still held"
    finally:
        end.set()


@both
def test_a_worker_may_be_stopped_before_it_runs(store: Store, colour: str) -> None:
    submitted(store, "o-1")
    worker = made(store, [order(colour, [])])
    worker.stop()
    Working(worker).ended()


@both
def test_two_workers_of_one_runtime_stop_each_by_itself(store: Store, colour: str) -> None:
    calls: Counter[str] = Counter()
    flow = order(colour, [("step", lambda run_id: calls.update([run_id]))])
    if colour == "def":
        runtime = Runtime(store, workflows=[flow])
        first, second = Working(Worker(runtime)), Working(Worker(runtime))
    else:
        runtimes = AsyncRuntime(store, workflows=[flow])
        first, second = Working(AsyncWorker(runtimes)), Working(AsyncWorker(runtimes))
    submitted(store, *(f"a-{number}" for number in range(20)))
    until(lambda: len(calls) == 20, "not all are driven")
    first.worker.stop()
    first.ended()
    submitted(store, *(f"b-{number}" for number in range(20)))
    until(lambda: len(calls) == 40, "the other one stopped too")
    second.worker.stop()
    second.ended()
    assert set(calls.values()) == {1}


@both
def test_a_run_that_waits_for_its_turn_is_given_back_at_once(store: Store, colour: str) -> None:
    """A suspect elsewhere in the process keeps it from beginning; that must not keep the worker."""
    elsewhere = object()
    assert gate.enter(elsewhere, alone=True)
    submitted(store, "o-1")
    try:
        with working(store, [order(colour, [])], {"grace": 60}) as at_work:
            until(lambda: at_work.worker.stats().busy == 1, "it is not claimed")
            at_work.worker.stop()
            at_work.join(5)
            assert not at_work.is_alive(), "it waits for the gate"
        assert store.due(time.time_ns() // 1_000_000, 10) == ["o-1"]
    finally:
        gate.leave(elsewhere)


def test_what_waits_for_its_turn_and_is_cancelled_leaves_no_trace(store: Store) -> None:
    """Neither a lease that is renewed for ever, nor a gate that lets nobody in."""
    beside = object()
    assert gate.enter(beside, alone=False)
    submitted(store, "o-1")
    for number in range(2):
        assert store.acquire("o-1", Lease(f"dies {number}", 1)) is not None
        until(lambda: store.due(0, 1) == ["o-1"], "the lease did not run out")
    flow = order("async", [])

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[flow]) as runtime:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(runtime.sweep(), 0.3)
            assert store.acquire("o-1", Lease("another", 1000)) is not None, "it is still held"

    try:
        asyncio.run(main())
        newcomer = object()
        assert gate.enter(newcomer, alone=False), "nobody is let in any more"
        gate.leave(newcomer)
    finally:
        gate.leave(beside)


@both
def test_what_is_claimed_as_the_grace_ends_is_not_kept(store: Store, colour: str) -> None:
    asked = threading.Event()

    class Slow(FaultyStore):
        """Its claims take their time to come back."""

        def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> list[StoredRun]:
            runs = super().claim(now, limit, lease, workflows)
            asked.set()
            time.sleep(0.4)
            return runs

    submitted(store, "o-1")
    with working(Slow(store), [order(colour, [])], {"grace": 0}) as at_work:
        assert asked.wait(30)
        at_work.worker.stop()
        at_work.ended()
        assert store.due(time.time_ns() // 1_000_000, 10) == ["o-1"], "it is held, and nobody drives it"


# Given back in mid-flight


def drives(store: Store, flow: Any, release: threading.Event, begun: threading.Event) -> None:
    """One worker is stopped while steps are in flight, another goes on to the end."""
    with working(store, [flow]) as at_work:
        assert begun.wait(30)
        at_work.worker.stop()
        time.sleep(0.02)
        release.set()
        at_work.ended()
    row = store.load("o-1", log=False)
    assert row is not None
    assert not row.status.over, "it was to be given back in its middle"
    assert store.due(time.time_ns() // 1_000_000 + 60_000, 10) == ["o-1"]
    with working(store, [flow]):
        until(lambda: Status(statuses(store)["o-1"]).over, "nobody went on with it")


@both
def test_parallel_branches_are_given_back_and_gone_on_with(store: Store, colour: str) -> None:
    calls: Counter[str] = Counter()
    begun, release = threading.Event(), threading.Event()

    def branch(name: str) -> str:
        calls.update([name])
        if calls.total() == 3:
            begun.set()
        release.wait(30)
        return name

    def after() -> None:
        calls.update(["after"])

    if colour == "def":

        @workflow(name="order")
        def plain(ctx: Context, payload: None) -> dict[str, Any]:
            given = ctx.parallel("all", {name: partial(branch, name) for name in "abc"})
            ctx.step("after", after)
            return given

        flow = plain
    else:

        @workflow(name="order")
        async def coloured(ctx: AsyncContext, payload: None) -> dict[str, Any]:
            given = await ctx.parallel("all", {name: partial(branch, name) for name in "abc"})
            await ctx.step("after", after)
            return given

        flow = coloured
    submitted(store, "o-1")
    drives(store, flow, release, begun)
    assert calls == {"a": 1, "b": 1, "c": 1, "after": 1}
    assert statuses(store)["o-1"] == Status.COMPLETED


def test_a_task_group_is_given_back_with_no_step_cancelled(store: Store) -> None:
    calls: Counter[str] = Counter()
    cancelled: list[str] = []
    begun, release = threading.Event(), threading.Event()

    async def slow() -> None:
        calls.update(["slow"])
        begun.set()
        try:
            while not release.is_set():
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)  # longer than the quick branch takes to its next boundary
        except asyncio.CancelledError:
            cancelled.append("slow")
            raise

    async def quick(name: str) -> None:
        calls.update([name])
        while not release.is_set():
            await asyncio.sleep(0.005)

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        async def two() -> None:
            await ctx.step("one", quick, "one")
            await ctx.step("two", quick, "two")

        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("slow", slow))
            group.create_task(two())
            group.create_task(ctx.sleep("nap", timedelta(milliseconds=300)))
        await ctx.step("after", quick, "after")

    submitted(store, "o-1")
    drives(store, order, release, begun)
    assert cancelled == []
    assert calls == {"slow": 1, "one": 1, "two": 1, "after": 1}
    assert statuses(store)["o-1"] == Status.COMPLETED


@both
def test_an_undo_is_given_back_in_its_middle_and_gone_on_with(store: Store, colour: str) -> None:
    calls: list[str] = []
    begun, release = threading.Event(), threading.Event()

    def undo(name: str) -> None:
        calls.append(name)
        if name == "b":
            begun.set()
            release.wait(30)

    if colour == "def":

        @workflow(name="order")
        def plain(ctx: Context, payload: None) -> None:
            for name in "abc":
                ctx.step(name, str, name, compensate=undo)
            raise ValueError("back")

        flow = plain
    else:

        @workflow(name="order")
        async def coloured(ctx: AsyncContext, payload: None) -> None:
            for name in "abc":
                await ctx.step(name, str, name, compensate=undo)
            raise ValueError("back")

        flow = coloured
    submitted(store, "o-1")
    drives(store, flow, release, begun)
    assert calls == ["c", "b", "a"]
    assert statuses(store)["o-1"] == Status.FAILED


@both
def test_children_are_given_back_and_their_parent_hears_of_them(store: Store, colour: str) -> None:
    calls: Counter[str] = Counter()
    begun, release = threading.Event(), threading.Event()

    def work(run_id: str) -> None:
        calls.update([run_id])
        if len(calls) == 3:
            begun.set()
        release.wait(30)

    kid = order(colour, [("work", work), ("more", lambda run_id: calls.update(["more"]))], name="kid")
    if colour == "def":

        @workflow(name="order")
        def plain(ctx: Context, payload: None) -> None:
            ctx.join("all", *[ctx.spawn(f"kid {number}", kid) for number in range(3)])

        flow = plain
    else:

        @workflow(name="order")
        async def coloured(ctx: AsyncContext, payload: None) -> None:
            await ctx.join("all", *[await ctx.spawn(f"kid {number}", kid) for number in range(3)])

        flow = coloured
    submitted(store, "o-1")
    with working(store, [flow, kid]) as at_work:
        assert begun.wait(30)
        at_work.worker.stop()
        time.sleep(0.02)
        release.set()
        at_work.ended()
    assert "more" not in calls
    with working(store, [flow, kid]):
        until(lambda: set(statuses(store).values()) == {"completed"}, "not all are over")
    assert sorted(calls.values()) == [1, 1, 1, 3]
