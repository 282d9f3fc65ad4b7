"""What a worker counts, and what it tells the log."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kvflow import AsyncContext, Context, Lease, Retry, Status, Store, workflow
from on_every_store import until
from workers.colours import COLOURS, order, statuses, submitted, working

both = pytest.mark.parametrize("colour", COLOURS)


def failing(run_id: str) -> None:
    if run_id == "bad":
        raise ValueError("broken\nERROR kvflow: run 'good' was lost\r\u2028more")


@both
def test_drives_are_counted(store: Store, colour: str) -> None:
    submitted(store, "good", "bad")
    with working(store, [order(colour, [("step", failing)])]) as at_work:
        until(lambda: at_work.worker.stats().driven == 2, "not all are over")
        until(lambda: at_work.worker.stats().busy == 0, "one is in flight for ever")
        stats = at_work.worker.stats()
    assert (stats.driven, stats.failed, stats.deferred, stats.lost) == (2, 1, 0, 0)


@both
def test_a_lost_lease_is_told_to_the_body_and_counted(store: Store, colour: str) -> None:
    begun, calls, was_lost = threading.Event(), list[str](), list[bool]()

    def first(lost: Callable[[], bool]) -> None:
        calls.append("first")
        begun.set()
        until(lost, "it is not told")
        was_lost.append(lost())

    @workflow(name="order")
    def plain(ctx: Context, payload: Any) -> None:
        ctx.step("first", first, lambda: ctx.lost)
        ctx.step("second", calls.append, "second")

    @workflow(name="order")
    async def coloured(ctx: AsyncContext, payload: Any) -> None:
        await ctx.step("first", first, lambda: ctx.lost)
        await ctx.step("second", calls.append, "second")

    submitted(store, "o-1")
    flow = plain if colour == "def" else coloured
    with working(store, [flow], {"poll": 0.05}, lease_ttl=0.6) as at_work:
        assert begun.wait(30)
        store.delete("o-1")
        submitted(store, "o-1")  # the same id, and not the run that it was
        assert store.acquire("o-1", Lease("another", 60_000)) is not None
        until(lambda: at_work.worker.stats().lost == 1, "it is not counted")
        row = store.load("o-1")
        assert row is not None
        assert (row.version, len(row.log)) == (1, 1), "nothing was written"
    assert (calls, was_lost) == (["first"], [True])


@both
def test_every_line_says_of_which_run_it_is(store: Store, caplog: pytest.LogCaptureFixture, colour: str) -> None:
    caplog.set_level(logging.DEBUG, "kvflow")
    submitted(store, "good", "bad")
    with working(store, [order(colour, [("step", failing)])]) as at_work:
        until(lambda: at_work.worker.stats().driven == 2, "not all are over")
    lines = [line for line in caplog.records if line.name == "kvflow"]
    form = logging.Formatter("%(run_id)s %(workflow)s %(step)s", validate=True)
    told = [(form.format(line).split("\n")[0], line.levelname) for line in lines]
    assert told[0] == told[-1] == told[-2] == ("None None None", "INFO"), "the worker's own"
    assert sorted(told[1:-2]) == sorted(
        [
            ("good order step", "DEBUG"),
            ("good order None", "INFO"),
            ("bad order step", "INFO"),
            ("bad order None", "INFO"),
        ]
    )
    assert all(len(line.getMessage().splitlines()) == 1 for line in lines)


@both
def test_attempts_are_told(store: Store, caplog: pytest.LogCaptureFixture, colour: str) -> None:
    caplog.set_level(logging.INFO, "kvflow")
    once = [True]

    def step(run_id: str) -> None:
        if once:
            once.clear()
            raise ValueError("broken")

    retry = Retry(2, delay=0.01)

    @workflow(name="order")
    def plain(ctx: Context, payload: Any) -> None:
        ctx.step("step", step, ctx.run_id, retry=retry)

    @workflow(name="order")
    async def coloured(ctx: AsyncContext, payload: Any) -> None:
        await ctx.step("step", step, ctx.run_id, retry=retry)

    submitted(store, "o-1")
    with working(store, [plain if colour == "def" else coloured]):
        until(lambda: statuses(store)["o-1"] == Status.COMPLETED, "it is not tried again")
    (line,) = [line.getMessage() for line in caplog.records if "attempt 1 failed" in line.getMessage()]
    assert "'o-1'" in line
    assert "'step'" in line
