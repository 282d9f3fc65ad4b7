"""A tick: what a host without a process of its own does within its time."""

import asyncio
import time
from datetime import timedelta

import pytest

from kvflow import AsyncContext, AsyncRuntime, Context, Runtime, Status, Store, Tick, Workflow, workflow
from kvflow.gate import gate
from kvflow.testing import FakeClock
from workers.colours import COLOURS, order, statuses, submitted

HOUR = timedelta(hours=1)
LONG = timedelta(minutes=5)

both = pytest.mark.parametrize("colour", COLOURS)


def ticked(store: Store, flow: Workflow, budget: timedelta, clock: FakeClock | None = None) -> Tick:
    if not flow.is_async:
        with Runtime(store, workflows=[flow], clock=clock) as runtime:
            return runtime.tick(budget)

    async def main() -> Tick:
        async with AsyncRuntime(store, workflows=[flow], clock=clock) as runtime:
            return await runtime.tick(budget)

    return asyncio.run(main())


def sleeper(colour: str) -> Workflow:
    @workflow(name="order")
    def plain(ctx: Context, payload: None) -> None:
        ctx.sleep("nap", HOUR)

    @workflow(name="order")
    async def coloured(ctx: AsyncContext, payload: None) -> None:
        await ctx.sleep("nap", HOUR)

    return plain if colour == "def" else coloured


@both
def test_nothing_is_due(store: Store, colour: str) -> None:
    assert ticked(store, sleeper(colour), LONG) == Tick(0, 0, None)


@both
def test_all_that_is_due_is_driven_and_the_next_wake_is_told(store: Store, clock: FakeClock, colour: str) -> None:
    submitted(store, *(f"o-{number}" for number in range(120)))
    begun = time.time()
    clock.advance(HOUR * 24 * 365 * 50)
    tick = ticked(store, sleeper(colour), LONG, clock)
    assert time.time() - begun < LONG.total_seconds(), "it does not sit out its budget"
    assert tick == Tick(120, 0, clock() + HOUR)
    assert ticked(store, sleeper(colour), LONG, clock) == Tick(0, 0, clock() + HOUR)
    clock.advance(HOUR)
    assert ticked(store, sleeper(colour), LONG, clock) == Tick(120, 0, None)
    assert set(statuses(store).values()) == {Status.COMPLETED}


@both
def test_no_time_at_all(store: Store, colour: str) -> None:
    submitted(store, "o-1")
    tick = ticked(store, sleeper(colour), timedelta())
    assert (tick.driven, tick.deferred) == (0, 0)
    assert tick.next_wake is not None
    assert store.due(time.time_ns() // 1_000_000, 10) == ["o-1"]


@both
def test_a_step_is_not_cut_short_and_the_next_is_left(store: Store, colour: str) -> None:
    budget, calls = timedelta(seconds=0.3), list[str]()

    def slow(run_id: str) -> None:
        calls.append(run_id)
        time.sleep(0.5)

    submitted(store, "o-1", "o-2", "o-3")
    flow = order(colour, [("slow", slow), ("next", lambda _: calls.append("next"))])
    tick = ticked(store, flow, budget)
    begun = 1 if colour == "def" else 3  # one after another, or side by side
    assert (tick.driven, tick.deferred, len(calls)) == (begun, 0, begun)
    assert len(store.due(time.time_ns() // 1_000_000, 10)) == 3, "all are for whoever comes next"
    assert ticked(store, flow, LONG).driven == 3
    assert sorted(calls) == ["next", "next", "next", "o-1", "o-2", "o-3"]


@both
def test_what_cannot_be_driven_is_counted_as_put_back(store: Store, colour: str) -> None:
    @workflow(name="order")
    def plain(ctx: Context, payload: int) -> None: ...

    @workflow(name="order")
    async def coloured(ctx: AsyncContext, payload: int) -> None: ...

    submitted(store, "bad", payload="no number")
    submitted(store, "good", payload=1)
    tick = ticked(store, plain if colour == "def" else coloured, LONG)
    assert (tick.driven, tick.deferred) == (1, 1)
    assert tick.next_wake is not None


@both
def test_a_tick_waits_for_no_suspect_beyond_its_budget(store: Store, colour: str) -> None:
    elsewhere = object()
    assert gate.enter(elsewhere, alone=True)
    submitted(store, "o-1")
    try:
        begun = time.monotonic()
        assert ticked(store, order(colour, []), timedelta(seconds=0.1)).deferred == 0
        assert time.monotonic() - begun < 10
        assert store.due(time.time_ns() // 1_000_000, 10) == ["o-1"]
    finally:
        gate.leave(elsewhere)
