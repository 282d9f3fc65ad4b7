"""A crash at every single store operation of an async workflow whose branches run side by side."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from engine.test_crash import TTL, Effects, breaking
from kvflow import AsyncContext, AsyncRuntime, Retry, RunInfo, Status, Store, StoreUnavailable, Workflow, workflow
from kvflow.testing import FakeClock, FaultyStore, Killed

OUTPUT = {"flaky": 2, "event": "yes", "branches": ["a", "b"], "both": {"c": "c", "d": "d"}, "child": 42}
LONG = timedelta(seconds=30)

ONCE = ("first", "a early", "b early", "a", "b", "c", "d", "child")
UNDOS = ("undo first", "undo a", "undo b", "undo c")


def everything(effects: Effects, fails: bool) -> list[Workflow]:
    """As in sync; but branches of a gather step, sleep and step again, beside a parallel and a child."""
    tries: Counter[str] = Counter()

    async def work(name: str, key: str) -> str:
        await asyncio.sleep(0)
        return effects(name, key)

    async def flaky(run_id: str) -> int:
        tries[run_id] += 1
        if tries[run_id] == 1:
            raise ConnectionError
        return 2

    @workflow
    async def child(ctx: AsyncContext, number: int) -> int:
        await ctx.step("work", effects, "child", ctx.key("work"))
        return number * 2

    @workflow
    async def parent(ctx: AsyncContext, payload: None) -> dict[str, Any]:
        def undo(name: str) -> Callable[[Any], Awaitable[str]]:
            return lambda _: work(f"undo {name}", ctx.key(f"undo/{name}"))

        async def branch(name: str) -> str:
            await ctx.step(f"{name} early", work, f"{name} early", ctx.key(f"{name} early"))
            await ctx.sleep(f"{name} rest", 30)
            return await ctx.step(name, effects, name, ctx.key(name), compensate=undo(name))

        await ctx.step("first", work, "first", ctx.key("first"), compensate=undo("first"))
        retried = await ctx.step("flaky", flaky, ctx.run_id, retry=Retry(3, delay=1, jitter=False))
        event, *branches = await asyncio.gather(ctx.wait_for_event("event", "go"), branch("a"), branch("b"))
        async with asyncio.TaskGroup() as group:
            both = group.create_task(
                ctx.parallel(
                    "all",
                    {name: partial(work, name, ctx.key(f"all/{name}")) for name in "cd"},
                    compensate={"c": undo("c")},
                )
            )
            found = group.create_task(ctx.child("kid", child, 21))
        if fails:
            raise ValueError("after all")
        return {
            "flaky": retried,
            "event": event,
            "branches": branches,
            "both": both.result(),
            "child": found.result(),
        }

    return [parent, child]


async def to_the_end(runtime: AsyncRuntime, clock: FakeClock) -> RunInfo:
    """Trigger, signal, sweep and let time pass until the run is over; what fails is done again."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(StoreUnavailable):
            found = await runtime.get_run("p")
            if found is None:
                await runtime.trigger("parent", run_id="p")
            elif found.status.over:
                if not await runtime.sweep():
                    return found
            elif all(one.kind != "signal" for one in found.history):
                await runtime.signal("p", "go", "yes")
            elif not await runtime.sweep():
                clock.advance(timedelta(seconds=61))
                await asyncio.sleep(0.002)
    raise AssertionError(f"the run did not end: {await runtime.get_run('p')}")


def driven(store: Store, flows: list[Workflow], clock: FakeClock) -> RunInfo:
    """By an instance of its own, which is gone afterwards."""

    async def main() -> RunInfo:
        ttl = TTL if isinstance(store, FaultyStore) else LONG  # of who dies soon, and of who must not by a slow machine
        async with AsyncRuntime(store, workflows=flows, clock=clock, lease_ttl=ttl) as runtime:
            return await to_the_end(runtime, clock)

    return asyncio.run(asyncio.wait_for(main(), 60))


def check(run: RunInfo, effects: Effects, fails: bool) -> None:
    """The right end; each step once, or once more under the same key for those that were in flight at the crash."""
    if fails:
        assert run.error is not None
        assert (run.status, run.error.type, run.error.undo) == (Status.FAILED, "ValueError", ())
    else:
        assert (run.status, run.output) == (Status.COMPLETED, OUTPUT)
    counts = Counter(name for name, _ in effects.seen)
    assert set(counts) == {*ONCE, *(UNDOS if fails else ())}
    assert sum(count - 1 for count in counts.values()) <= 2, f"more than the steps in flight ran twice: {counts}"
    assert len(set(effects.seen)) == len(counts), "one ran under several keys"


@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails"])
def test_a_crash_at_every_operation_is_finished_elsewhere(store: Store, fails: bool) -> None:
    for dying in breaking(store, kill=True, least=30):
        clock, effects = FakeClock(), Effects()
        flows = everything(effects, fails)
        with contextlib.suppress(Killed, BaseExceptionGroup):
            driven(dying, flows, clock)
        run = driven(store, flows, clock)
        check(run, effects, fails)
        assert len(store.list(10)) == 2, "a child was born twice"
