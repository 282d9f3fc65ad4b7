"""Branches of an async body: what one does while another rests, fails, saves or is cancelled."""

import asyncio
import gc
import time
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from kvflow import AsyncContext, AsyncRuntime, Lease, Retry, RunInfo, Status, StepFailed, Store, StoredRun, workflow
from kvflow.testing import FakeClock, FaultyStore

HOUR = timedelta(hours=1)

Outcome = TypeVar("Outcome")


def run(main: Coroutine[Any, Any, Outcome]) -> Outcome:
    return asyncio.run(asyncio.wait_for(main, 60))


def ids(run: RunInfo, kind: str) -> list[str]:
    return [one.id for one in run.history if one.kind == kind]


async def fail() -> None:
    raise ValueError("broken")


class Slow(FaultyStore):
    """Its saves take their time, and it notes when each begins and ends."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.noted: list[str] = []

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        self.noted.append("save")
        time.sleep(0.02)
        outcome = super().save(run, new, lease)
        self.noted.append("saved")
        return outcome


# A branch beside one that rests


@pytest.mark.parametrize("caught", [True, False])
def test_a_step_that_fails_beside_a_wait_fails_its_body(store: Store, clock: FakeClock, caught: bool) -> None:
    @workflow
    async def order(ctx: AsyncContext, payload: None) -> str:
        try:
            await asyncio.gather(ctx.step("bad", fail), ctx.wait_for_event("wait", "never"))
        except StepFailed:
            if not caught:
                raise
        return "handled"

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            info = await runtime.trigger(order)
            assert info.status is (Status.COMPLETED if caught else Status.FAILED)

    run(main())


def test_a_branch_goes_on_after_a_spawn_that_was_in_flight(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    @workflow
    async def kid(ctx: AsyncContext, payload: None) -> None: ...

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        async def branch() -> None:
            await ctx.spawn("kid", kid)
            await ctx.step("notify", calls.append, "notify")

        async with asyncio.TaskGroup() as group:
            group.create_task(branch())
            group.create_task(ctx.wait_for_event("wait", "never"))

    async def main() -> None:
        async with AsyncRuntime(Slow(store), workflows=[order, kid], clock=clock) as runtime:
            info = await runtime.trigger(order)
            assert (info.status, calls) == (Status.WAITING, ["notify"])

    run(main())


def test_a_sleep_that_a_later_pass_does_not_reach_still_wakes_the_run(store: Store, clock: FakeClock) -> None:
    passes: list[int] = []

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        passes.append(1)

        async def sleeps() -> None:
            await ctx.step("first", lambda: 1)
            if len(passes) == 2:
                await asyncio.Event().wait()  # the second pass rests before this branch is any further
            await ctx.sleep("sleep", HOUR)

        async def waits() -> None:
            await ctx.wait_for_event("one", "go")
            await ctx.wait_for_event("two", "go")

        async with asyncio.TaskGroup() as group:
            group.create_task(sleeps())
            group.create_task(waits())

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            wake_at = (await runtime.trigger(order, run_id="o-1")).wake_at
            assert wake_at == clock() + HOUR
            clock.advance(HOUR / 2)
            info = await runtime.signal("o-1", "go")
            assert (len(passes), info.status, info.wake_at) == (2, Status.WAITING, wake_at)
            info = await runtime.signal("o-1", "go")
            assert [(one.id, one.wake_at) for one in info.pending] == [("sleep", wake_at)], "it does not move"

    run(main())


def test_a_wait_that_the_body_gave_up_wakes_nobody(store: Store, clock: FakeClock) -> None:
    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        short = asyncio.create_task(ctx.sleep("short", 1))
        await asyncio.sleep(0)
        short.cancel()
        await asyncio.wait([short])
        await ctx.sleep("long", HOUR)

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            info = await runtime.trigger(order)
            assert [(one.id, one.wake_at) for one in info.pending] == [("long", clock() + HOUR)]
            assert info.wake_at == clock() + HOUR

    run(main())


def test_a_branch_that_nobody_awaits_rests_in_silence(store: Store, clock: FakeClock) -> None:
    kept: list[asyncio.Task[Any]] = []
    complaints: list[Any] = []

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        kept.append(asyncio.create_task(ctx.wait_for_event("one", "never")))
        await ctx.wait_for_event("two", "never")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            info = await runtime.trigger(order)
            assert sorted(one.id for one in info.pending) == ["one", "two"]
        kept.clear()
        gc.collect()
        await asyncio.sleep(0)

    run(main())
    assert complaints == []


# A failure and a cancel beside steps in flight


def test_a_cancel_lets_a_step_in_flight_end_and_undoes_it(store: Store, clock: FakeClock) -> None:
    charged: list[str] = []
    refunded: list[str] = []
    runtimes: list[AsyncRuntime] = []

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        asked = asyncio.Event()

        async def charge() -> str:
            charged.append("charge")
            await asked.wait()
            await asyncio.sleep(0.02)
            return "charge"

        async def cancelled() -> None:
            await runtimes[0].cancel("o-1")
            asked.set()

        async def other() -> None:
            await ctx.step("cancel", cancelled)
            await ctx.step("next", charged.append, "next")

        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("charge", charge, compensate=refunded.append))
            group.create_task(other())

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            runtimes.append(runtime)
            info = await runtime.trigger(order, run_id="o-1")
            assert info.status is Status.CANCELLED
        assert (charged, refunded) == (["charge"], ["charge"])

    run(main())


def test_a_cancel_undoes_what_every_branch_did(store: Store, clock: FakeClock) -> None:
    undone: list[str] = []

    def give(name: str) -> str:
        return name

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        done = asyncio.Event()

        async def first() -> None:
            await ctx.step("a", give, "a", compensate=undone.append)
            await asyncio.sleep(0.005)  # something other than ctx, before what is recorded
            await ctx.step("b", give, "b", compensate=undone.append)
            done.set()
            await ctx.sleep("rest", HOUR)

        async def second() -> None:
            await ctx.step("slow", done.wait)
            await ctx.wait_for_event("wait", "never")

        async with asyncio.TaskGroup() as group:
            group.create_task(first())
            group.create_task(second())

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            assert (await runtime.trigger(order, run_id="o-1")).status is Status.WAITING
            assert (await runtime.cancel("o-1")).status is Status.CANCELLED
        assert undone == ["b", "a"]

    run(main())


def test_a_replay_that_fails_at_once_still_undoes_what_slower_branches_did(store: Store, clock: FakeClock) -> None:
    booked, undone = asyncio.Event(), list[str]()

    async def book() -> None:
        booked.set()

    async def refuse() -> None:
        await booked.wait()
        raise ValueError("no money")

    async def unbook(_: Any) -> None:
        undone.append("tried")
        if len(undone) == 1:
            raise ConnectionError

    @workflow
    async def trip(ctx: AsyncContext, payload: None) -> None:
        async def deep(levels: int) -> None:
            if levels:
                await asyncio.gather(deep(levels - 1))
            else:
                await ctx.step("book", book, compensate=unbook, retry=Retry(2, delay=HOUR))

        await asyncio.gather(ctx.step("pay", refuse), deep(5))

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[trip], clock=clock) as runtime:
            resting = await runtime.trigger(trip)
            assert (resting.status, ids(resting, "undo")) == (Status.SUSPENDED, [])
            clock.advance(HOUR)
            (found,) = await runtime.sweep()
            assert (found.status, ids(found, "undo")) == (Status.FAILED, ["book"])

    run(main())
    assert undone == ["tried", "tried"]


def test_a_step_in_a_thread_is_recorded_and_undone_though_its_sibling_failed(store: Store, clock: FakeClock) -> None:
    charged: list[str] = []
    refunded: list[str] = []

    def charge() -> str:
        time.sleep(0.05)
        charged.append("charge")
        return "charge"

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("charge", charge, compensate=refunded.append))
            group.create_task(ctx.step("bad", fail))

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            info = await runtime.trigger(order)
            assert (info.status, sorted(ids(info, "step"))) == (Status.FAILED, ["bad", "charge"])
        assert (charged, refunded) == (["charge"], ["charge"])

    run(main())


def test_a_cancelled_error_that_nobody_asked_for_is_a_failure(store: Store, clock: FakeClock) -> None:
    @workflow
    async def leaky(ctx: AsyncContext, payload: None) -> None:
        async def leak() -> None:
            task = asyncio.create_task(asyncio.sleep(10))
            task.cancel()
            await task

        await ctx.step("leak", leak)

    @workflow
    async def good(ctx: AsyncContext, payload: None) -> None: ...

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[leaky, good], clock=clock) as runtime:
            await runtime.submit(leaky, run_id="bad")
            await runtime.submit(good, run_id="good")
            swept = {info.run_id: info.status for info in await runtime.sweep()}
            assert swept == {"bad": Status.FAILED, "good": Status.COMPLETED}

    run(main())


# A branch beside one that saves


def test_resolutions_are_stored_though_another_branch_saves_meanwhile(store: Store, clock: FakeClock) -> None:
    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        async def waits() -> None:
            await ctx.wait_for_event("wait", "go")
            await ctx.step("a", lambda: 1)

        async def sleeps() -> None:
            await asyncio.gather(ctx.sleep("one", HOUR), ctx.sleep("two", HOUR))
            await ctx.step("b", lambda: 1)

        await asyncio.gather(waits(), sleeps())
        await ctx.wait_for_event("end", "end")

    async def main() -> None:
        async with AsyncRuntime(Slow(store), workflows=[order], clock=clock) as runtime:
            await runtime.trigger(order, run_id="o-1")
            clock.advance(HOUR)
            info = await runtime.signal("o-1", "go")
            assert sorted(ids(info, "sleep")) == ["one", "two"]
            assert (await runtime.signal("o-1", "end")).status is Status.COMPLETED

    run(main())


def test_a_wait_that_timed_out_beside_a_save_stays_so(store: Store, clock: FakeClock) -> None:
    saw: list[str] = []

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> str:
        async def steps() -> None:
            for number in range(4):
                await ctx.step(f"step {number}", lambda: 1)

        async def waits() -> str:
            await ctx.step("before", lambda: 1)
            got: str = await ctx.wait_for_event("wait", "go", timeout=0, default="late")
            await ctx.step("after", saw.append, got)
            return got

        _, got = await asyncio.gather(steps(), waits())
        await ctx.wait_for_event("end", "end")
        return got

    async def main() -> None:
        async with AsyncRuntime(Slow(store), workflows=[order], clock=clock) as runtime:
            await runtime.trigger(order, run_id="o-1")
            await runtime.signal("o-1", "go", "in time, had it waited")
            info = await runtime.signal("o-1", "end")
            assert (info.output, saw) == ("late", ["late"])

    run(main())


def test_a_step_begins_only_when_what_its_branch_saw_is_stored(store: Store, clock: FakeClock) -> None:
    slow = Slow(store)

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        got = await ctx.wait_for_event("wait", "go", timeout=1, default="late")

        async def deep(turns: int) -> None:
            """Begins its step some turns of the loop after the other, while that one's save is under way."""
            if turns:
                await asyncio.gather(deep(turns - 1))
            else:
                await ctx.step("b", slow.noted.append, f"saw {got}")

        await asyncio.gather(ctx.step("a", lambda: 1), deep(5))

    async def main() -> None:
        async with AsyncRuntime(slow, workflows=[order], clock=clock) as runtime:
            await runtime.trigger(order)
            slow.noted.clear()
            clock.advance(timedelta(seconds=2))
            (info,) = await runtime.sweep()
            assert info.status is Status.COMPLETED
        assert "saved" in slow.noted[: slow.noted.index("saw late")]

    run(main())


def test_children_that_are_born_side_by_side_are_all_born(store: Store, clock: FakeClock) -> None:
    """Their births have no lease, and go out together with other saves."""

    @workflow
    async def child(ctx: AsyncContext, number: int) -> int:
        return number

    @workflow
    async def parent(ctx: AsyncContext, number: int) -> int:
        await ctx.step("before", lambda: None)
        output: int = await ctx.child("child", child, number)
        return output

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[parent, child], clock=clock) as runtime:
            await asyncio.gather(*(runtime.trigger(parent, number, run_id=f"p-{number}") for number in range(8)))
            while await runtime.sweep():
                pass
            runs = [await runtime.get_run(f"p-{number}") for number in range(8)]
        assert [run and run.output for run in runs] == list(range(8)), runs

    run(main())
