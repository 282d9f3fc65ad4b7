"""Runs that would take their worker with them, or keep it from the others."""

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from kvflow import AsyncContext, AsyncRuntime, AsyncWorker, Lease, Runtime, Status, Store, workflow
from on_every_store import until
from workers.colours import COLOURS, order, statuses, submitted, working

both = pytest.mark.parametrize("colour", COLOURS)


def kill_holders(store: Store, run_id: str, times: int) -> None:
    for number in range(times):
        assert store.acquire(run_id, Lease(f"dies {number}", 1)) is not None
        until(lambda: run_id in store.due(0, 100), "the lease did not run out")


def raising(kind: type[BaseException]) -> Callable[[str], None]:
    def step(run_id: str) -> None:
        if run_id == "bad":
            raise kind("bye")

    return step


@both
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_step_that_would_end_the_process_fails_its_run_alone(
    store: Store, colour: str, kind: type[BaseException]
) -> None:
    submitted(store, "bad", *(f"good-{number}" for number in range(5)))
    with working(store, [order(colour, [("step", raising(kind))])]) as at_work:
        until(lambda: all(Status(status).over for status in statuses(store).values()), "not all are over")
        until(lambda: at_work.worker.stats().failed == 1, "it is not counted")
        assert at_work.is_alive()
    found = statuses(store)
    assert found.pop("bad") == Status.FAILED
    assert set(found.values()) == {Status.COMPLETED}
    with Runtime(store) as runtime:
        run = runtime.get_run("bad")
    assert run is not None
    assert run.error is not None
    assert kind.__name__ in run.error.message


@pytest.mark.parametrize("where", ["body", "step"])
def test_no_coroutine_ends_the_loop_of_its_worker(store: Store, where: str) -> None:
    """In the main thread, where an interrupt that is raised could be a signal's: but the worker is told of those."""

    async def leave() -> None:
        raise SystemExit("bye")

    @workflow
    async def order(ctx: AsyncContext, payload: Any) -> None:
        if ctx.run_id == "bad":
            await (ctx.step("leave", leave) if where == "step" else leave())

    submitted(store, "bad", "good")

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order]) as runtime:
            worker = AsyncWorker(runtime)
            running = asyncio.create_task(worker.run())
            while not all(Status(status).over for status in statuses(store).values()):
                assert not running.done()
                await asyncio.sleep(0.01)
            worker.stop()
            await running

    asyncio.run(asyncio.wait_for(main(), 60))
    assert statuses(store) == {"bad": Status.FAILED, "good": Status.COMPLETED}


# Suspects


@both
def test_a_suspect_is_driven_alone_and_its_neighbours_come_after(store: Store, colour: str) -> None:
    running: set[str] = set()
    together: list[set[str]] = []

    def step(run_id: str) -> None:
        running.add(run_id)
        together.append(set(running))
        time.sleep(0.01)
        running.discard(run_id)

    submitted(store, "suspect 1", "suspect 2", *(f"good-{number}" for number in range(10)))
    kill_holders(store, "suspect 1", 2)
    kill_holders(store, "suspect 2", 2)
    with working(store, [order(colour, [("step", step)])], {"concurrency": 4}):
        until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "not all are over")
    for suspect in ("suspect 1", "suspect 2"):
        assert [others for others in together if suspect in others] == [{suspect}]


@both
def test_suspects_that_get_no_turn_starve_nobody(store: Store, colour: str) -> None:
    """Beside a step that takes its time, each of them would have the worker wait for quiet, one after the other."""
    begun, end = threading.Event(), threading.Event()

    def step(run_id: str) -> None:
        if run_id == "long":
            begun.set()
            end.wait(60)

    ttl = timedelta(seconds=3)
    suspects = [f"suspect-{number}" for number in range(8)]
    submitted(store, "long", *suspects)
    for suspect in suspects:
        kill_holders(store, suspect, 2)
    try:
        with working(store, [order(colour, [("step", step)])], {"concurrency": 16}, lease_ttl=ttl):
            assert begun.wait(30)
            submitted(store, "good")
            told = time.monotonic()
            until(lambda: statuses(store)["good"] == Status.COMPLETED, "it never gets its turn")
            assert time.monotonic() - told < 2 * ttl.total_seconds()
            end.set()
            until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "not all are over")
    finally:
        end.set()


@both
def test_a_suspect_that_was_put_aside_is_due_at_once_when_the_worker_stops(store: Store, colour: str) -> None:
    begun, end = threading.Event(), threading.Event()

    def step(run_id: str) -> None:
        if run_id == "long":
            begun.set()
            end.wait(60)

    submitted(store, "long", "suspect")
    kill_holders(store, "suspect", 2)
    try:
        with working(store, [order(colour, [("step", step)])]) as at_work:
            assert begun.wait(30)
            until(lambda: "suspect" not in store.due(time.time_ns() // 1_000_000, 10), "it is not claimed")
            at_work.worker.stop()
            end.set()
            at_work.ended()
        assert "suspect" in store.due(time.time_ns() // 1_000_000, 10)
    finally:
        end.set()


@both
def test_a_run_that_cannot_be_driven_here_keeps_nobody_from_their_turn(store: Store, colour: str) -> None:
    def broken(run_id: str) -> None: ...

    submitted(store, "bad", payload={"not": "a number"})

    async def coloured(ctx: AsyncContext, payload: int) -> None:
        await ctx.step("step", broken, ctx.run_id)

    def plain(ctx: Any, payload: int) -> None:
        ctx.step("step", broken, ctx.run_id)

    flow = workflow(name="order")(plain) if colour == "def" else workflow(name="order")(coloured)
    with working(store, [flow], {"concurrency": 1}) as at_work:
        until(lambda: at_work.worker.stats().deferred >= 1, "it is not put back")
        submitted(store, "good", payload=1)
        until(lambda: statuses(store)["good"] == Status.COMPLETED, "the other one gets no turn")
    assert statuses(store)["bad"] == Status.SUSPENDED
