"""A run whose holders died is driven alone in its process, and keeps nobody from their turn for ever."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from kvflow import Context, Lease, Runtime, Status, Store, workflow
from kvflow.testing import FakeClock

running: set[str] = set()
together: list[set[str]] = []
go_on = threading.Event()


@workflow
def order(ctx: Context, wait: bool) -> str:
    def work() -> str:
        running.add(ctx.run_id)
        together.append(set(running))
        if wait:
            go_on.wait(20)
        running.discard(ctx.run_id)
        return ctx.run_id

    return ctx.step("work", work)


def kill_holders(store: Store, run_id: str, times: int) -> None:
    for number in range(times):
        assert store.acquire(run_id, Lease(f"dies {number}", 1)) is not None
        while run_id not in store.due(0, 10):
            time.sleep(0.001)


def until(running_ones: set[str]) -> None:
    deadline = time.monotonic() + 20
    while running != running_ones:
        assert time.monotonic() < deadline, running
        time.sleep(0.001)


def test_a_suspect_is_driven_alone(store: Store, clock: FakeClock) -> None:
    running.clear()
    together.clear()
    go_on.clear()
    with Runtime(store, workflows=[order], clock=clock) as runtime, ThreadPoolExecutor(3) as pool:
        for number in range(2):
            runtime.submit(order, True, run_id=f"innocent {number}")
        first = [pool.submit(runtime.sweep, limit=1) for _ in range(2)]
        until({"innocent 0", "innocent 1"})
        runtime.submit(order, False, run_id="suspect")
        kill_holders(store, "suspect", 2)
        alone = pool.submit(runtime.sweep)
        time.sleep(0.05)
        assert running == {"innocent 0", "innocent 1"}
        go_on.set()
        (run,) = alone.result(20)
        assert (run.run_id, run.status) == ("suspect", Status.COMPLETED)
        assert all(future.result(20)[0].status is Status.COMPLETED for future in first)
    assert {"suspect"} in together
    assert all(others == {"suspect"} for others in together if "suspect" in others)


def test_a_suspect_that_gets_no_turn_waits_for_later_and_lets_others_in(store: Store, clock: FakeClock) -> None:
    running.clear()
    go_on.clear()
    with (
        Runtime(store, workflows=[order], clock=clock) as runtime,
        Runtime(store, workflows=[order], clock=clock, lease_ttl=timedelta(milliseconds=300)) as hasty,
        ThreadPoolExecutor(1) as pool,
    ):
        runtime.submit(order, True, run_id="long")
        slow = pool.submit(runtime.sweep)
        until({"long"})
        runtime.submit(order, False, run_id="suspect")
        kill_holders(store, "suspect", 2)
        (run,) = hasty.sweep()
        assert run.deferred is not None
        assert runtime.trigger(order, False, run_id="another").status is Status.COMPLETED
        go_on.set()
        assert slow.result(20)[0].status is Status.COMPLETED
        clock.advance(timedelta(hours=1))
        (run,) = runtime.sweep()
        assert (run.run_id, run.status) == ("suspect", Status.COMPLETED)


def test_a_run_that_is_over_is_no_suspect_and_is_not_woken_for_ever(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.submit(order, False, run_id="over")
        runtime.sweep()
        kill_holders(store, "over", 2)
        (run,) = runtime.sweep()
        assert (run.status, run.attempt) == (Status.COMPLETED, 2)
        assert runtime.sweep() == []
        assert store.next_wake() is None
