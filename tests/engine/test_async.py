"""AsyncRuntime: the same rules, to await; many steps of one run in flight, many runs at once."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from kvflow import AsyncContext, AsyncRuntime, NestedStep, Retry, Status, StepFailed, Store, workflow
from kvflow.commits import AsyncCommits
from kvflow.stores import MemoryStore
from kvflow.testing import FakeClock, FaultyStore
from kvflow.testing.runs import birth

HOUR = timedelta(hours=1)


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 60))


def test_all_that_a_sync_body_can_do(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    async def work(name: str) -> str:
        await asyncio.sleep(0)
        calls.append(name)
        return name

    def plain(name: str) -> str:
        calls.append(name)
        return name

    @workflow
    async def double(ctx: AsyncContext, number: int) -> int:
        return number * 2

    @workflow
    async def order(ctx: AsyncContext, payload: int) -> list[Any]:
        first = await ctx.step("first", work, "first")
        second = await ctx.step("second", plain, "second")
        await ctx.sleep("rest", HOUR)
        event = await ctx.wait_for_event("wait", "go")
        both = await ctx.parallel("all", {"a": lambda: plain("a"), "b": lambda: plain("b")})
        child = await ctx.child("kid", double, payload)
        return [first, second, event, both, child]

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order, double], clock=clock) as runtime:
            info = await runtime.trigger(order, 4, run_id="o-1")
            assert info.status is Status.SUSPENDED
            await runtime.signal("o-1", "go", "yes")
            clock.advance(HOUR)
            while await runtime.sweep():
                pass
            found = await runtime.get_run("o-1")
            assert found is not None
            assert found.output == ["first", "second", "yes", {"a": "a", "b": "b"}, 8]
            assert calls[:2] == ["first", "second"]
            assert sorted(calls[2:]) == ["a", "b"]

    run(main())


@pytest.mark.parametrize("way", ["gather", "group"])
def test_concurrent_steps_are_recorded_each_by_itself(store: Store, clock: FakeClock, way: str) -> None:
    calls: Counter[str] = Counter()

    async def work(name: str) -> str:
        calls[name] += 1
        await asyncio.sleep(0.001)
        return name

    async def branch(ctx: AsyncContext, name: str) -> str:
        await ctx.step(f"{name} before", work, f"{name} before")
        if name == "b":
            await ctx.sleep("rest", HOUR)
        return await ctx.step(f"{name} after", work, f"{name} after")

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> list[str]:
        if way == "gather":
            return list(await asyncio.gather(*(branch(ctx, name) for name in "abc")))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(branch(ctx, name)) for name in "abc"]
        return [task.result() for task in tasks]

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            info = await runtime.trigger(order, run_id="o-1")
            assert info.status is Status.SUSPENDED
            assert calls["a before"] == calls["b before"] == calls["c before"] == 1
            clock.advance(HOUR)
            (info,) = await runtime.sweep()
            assert (info.status, info.output) == (Status.COMPLETED, ["a after", "b after", "c after"])
            assert set(calls.values()) == {1}, calls

    run(main())


def test_a_rest_cancels_no_step_in_flight(store: Store, clock: FakeClock) -> None:
    calls: Counter[str] = Counter()

    async def slow(name: str) -> str:
        calls[name] += 1
        await asyncio.sleep(0.05)
        return name

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> str:
        end = "done"
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step("slow", slow, "slow"))
                group.create_task(ctx.wait_for_event("wait", "go"))
        except* Exception:  # noqa: BLE001
            end = "broken"
        return end

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            info = await runtime.trigger(order, run_id="o-1")
            assert (info.status, [one.id for one in info.history]) == (Status.WAITING, ["slow"])
            info = await runtime.signal("o-1", "go")
            assert (info.status, info.output, calls["slow"]) == (Status.COMPLETED, "done", 1)

    run(main())


def test_an_event_that_comes_while_branches_end_is_not_slept_through(store: Store, clock: FakeClock) -> None:
    async def send(runtime: AsyncRuntime) -> None:
        await asyncio.sleep(0.01)
        await runtime.signal("o-1", "go", "came")

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> Any:
        found, _ = await asyncio.gather(ctx.wait_for_event("wait", "go"), ctx.step("send", send, runtimes[0]))
        return found

    runtimes: list[AsyncRuntime] = []

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            runtimes.append(runtime)
            await runtime.trigger(order, run_id="o-1")
            while await runtime.sweep():
                pass
            found = await runtime.get_run("o-1")
            assert found is not None
            assert (found.status, found.output) == (Status.COMPLETED, "came")

    run(main())


def test_a_timeout_is_a_failure_like_any_other(store: Store, clock: FakeClock) -> None:
    tries: list[int] = []

    async def slow() -> None:
        tries.append(1)
        await asyncio.sleep(30)

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> str:
        try:
            await ctx.step("slow", slow, timeout=0.01, retry=Retry(2, delay=0))
        except StepFailed as failed:
            return failed.error.type
        return "never"

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            assert (await runtime.trigger(order)).output == "TimeoutError"
        assert len(tries) == 2

    run(main())


def test_a_cancelled_task_gives_the_run_back(store: Store, clock: FakeClock) -> None:
    tries: list[int] = []

    async def slow() -> str:
        tries.append(1)
        if len(tries) == 1:
            await asyncio.sleep(30)
        return "done"

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> str:
        return await ctx.step("slow", slow)

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            task = asyncio.create_task(runtime.trigger(order, run_id="o-1"))
            while not tries:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            found = await runtime.get_run("o-1")
            assert found is not None
            assert (found.status, found.attempt) == (Status.RUNNING, 0)
            (info,) = await runtime.sweep()
            assert info.output == "done"

    run(main())


def test_a_failure_undoes(store: Store, clock: FakeClock) -> None:
    undone: list[str] = []

    async def undo(result: str) -> None:
        undone.append(result)

    async def give(result: str) -> str:
        return result

    @workflow
    async def trip(ctx: AsyncContext, payload: None) -> None:
        await asyncio.gather(
            ctx.step("flight", give, "f", compensate=undo), ctx.step("hotel", give, "h", compensate=undone.append)
        )
        await ctx.sleep("rest", HOUR)
        raise ValueError

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[trip], clock=clock) as runtime:
            await runtime.trigger(trip, run_id="t-1")
            clock.advance(HOUR)
            (info,) = await runtime.sweep()
            assert info.status is Status.FAILED
            assert sorted(undone) == ["f", "h"]
            await runtime.trigger(trip, run_id="t-2")
            assert (await runtime.cancel("t-2")).status is Status.CANCELLED
            assert sorted(undone) == ["f", "f", "h", "h"]

    run(main())


def test_a_call_from_inside_a_step_is_refused(store: Store, clock: FakeClock) -> None:
    @workflow
    async def order(ctx: AsyncContext, payload: None) -> str:
        async def nested() -> str:
            with pytest.raises(NestedStep):
                await ctx.step("inner", lambda: 1)
            return await asyncio.to_thread(lambda: ctx.run_id)

        return await ctx.step("outer", nested)

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            assert (await runtime.trigger(order, run_id="o-1")).output == "o-1"

    run(main())


def test_many_runs_at_once(store: Store, clock: FakeClock) -> None:
    async def work(number: int) -> int:
        await asyncio.sleep(0.001)
        return number

    @workflow
    async def order(ctx: AsyncContext, number: int) -> int:
        return sum([await ctx.step(f"step {step}", work, number) for step in range(3)])

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            runs = await asyncio.gather(*(runtime.trigger(order, number) for number in range(50)))
            assert [one.output for one in runs] == [3 * number for number in range(50)]

    run(main())


def test_saves_are_few(store: Store, clock: FakeClock) -> None:
    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        for number in range(5):
            await ctx.step(f"step {number}", lambda: "x")

    counted = FaultyStore(store)

    async def main() -> None:
        async with AsyncRuntime(counted, workflows=[order], clock=clock) as runtime:
            await runtime.trigger(order)
        assert counted.operations == ["save"] * 7

    run(main())


def test_a_save_that_comes_after_the_close_is_told_so() -> None:
    async def main() -> None:
        threads = ThreadPoolExecutor(1)
        answer = AsyncCommits(MemoryStore(), threads).save(birth())
        threads.shutdown()
        done, _ = await asyncio.wait([answer], timeout=20)
        assert done
        assert isinstance(answer.exception(), RuntimeError)

    run(main())
