"""Trouble of all kinds ends as a failure that says why, is refused before it is stored, or harms nobody."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from kvflow import (
    Context,
    InvalidArgument,
    Lease,
    Runtime,
    Status,
    Store,
    StoreUnavailable,
    TooLarge,
    workflow,
)
from kvflow.run import StoredRun
from kvflow.testing import FakeClock, FaultyStore, Killed

HOUR = timedelta(hours=1)


@workflow
def good(ctx: Context, payload: None) -> str:
    return "good"


def swept(runtime: Runtime) -> None:
    while runtime.sweep():
        pass


# Errors and results that are hard to keep


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


ERRORS: dict[str, Callable[[], Exception]] = {
    "with a surrogate": lambda: ValueError(os.fsdecode(b"\xff.txt")),
    "without words": Wordless,
}


@pytest.mark.parametrize("where", ["body", "step"])
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_that_is_hard_to_write_fails_its_run_alone(
    store: Store, clock: FakeClock, kind: str, where: str
) -> None:
    def fail() -> None:
        raise ERRORS[kind]()

    @workflow
    def bad(ctx: Context, payload: None) -> None:
        if where == "step":
            ctx.step("fail", fail)
        fail()

    with Runtime(store, workflows=[bad, good], clock=clock) as runtime:
        runtime.submit(bad, run_id="bad")
        runtime.submit(good, run_id="good")
        runs = {run.run_id: run for run in runtime.sweep()}
    assert (runs["bad"].status, runs["good"].status) == (Status.FAILED, Status.COMPLETED)
    assert runs["bad"].error is not None
    assert runs["bad"].error.message


class Small(FaultyStore):
    """A store that keeps no record over 3,000 bytes."""

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        self._check(*new)
        return super().save(run, new, lease)

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        self._check(record)
        return super().post(run_id, record, now, wake)

    def _check(self, *records: bytes) -> None:
        if any(len(record) > 3000 for record in records):
            raise TooLarge("a record is over 3000 bytes")


def test_an_output_that_fits_its_run_but_not_its_parent_fails_the_join(store: Store, clock: FakeClock) -> None:
    @workflow
    def kid(ctx: Context, payload: None) -> str:
        return "x" * 2980

    @workflow
    def order(ctx: Context, payload: None) -> str:
        return str(ctx.child("kid", kid))

    with Runtime(Small(store), workflows=[order, kid], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        swept(runtime)
        run = runtime.get_run("o-1")
        assert run is not None
        assert run.error is not None
        assert (run.status, run.error.type, "TooLarge" in run.error.message) == (Status.FAILED, "ChildFailed", True)


# What is refused


REASONS: list[Any] = [5, b"bytes", "x" * 3000, "\ud800"]


@pytest.mark.parametrize("reason", REASONS, ids=["number", "bytes", "long", "surrogate"])
def test_a_reason_that_cannot_be_kept_is_refused(store: Store, clock: FakeClock, reason: Any) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.wait_for_event("wait", "go")

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order, run_id="o-1")
        with pytest.raises(InvalidArgument, match="reason"):
            runtime.cancel("o-1", reason)
        assert runtime.get_run("o-1") == run


def test_an_event_that_has_no_name_fails_the_run(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("step", lambda: 1)
        ctx.wait_for_event("wait", "line\nbreak")

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.submit(order)
        (run,) = runtime.sweep()
    assert run.error is not None
    assert (run.status, run.error.type) == (Status.FAILED, "InvalidArgument")


def test_a_child_of_no_workflow_fails_the_run_and_is_not_born(store: Store, clock: FakeClock) -> None:
    def plain(ctx: Context, payload: None) -> None: ...

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.child("kid", plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        assert runtime.trigger(order).status is Status.FAILED
        assert len(runtime.list_runs()) == 1


def test_a_compensation_that_nobody_could_await_is_refused_before_its_step(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    async def undo(result: Any) -> None: ...

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("step", calls.append, "step", compensate=undo)

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
    assert run.error is not None
    assert (run.status, run.error.type, calls) == (Status.FAILED, "WrongColour", [])


# Times


def test_retention_may_be_for_ever(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[good], clock=clock, retention=timedelta.max) as runtime:
        assert runtime.trigger(good, run_id="g").status is Status.COMPLETED
        clock.advance(timedelta(days=365 * 100))
        assert runtime.sweep() == []
        assert runtime.get_run("g") is not None


def test_a_sweep_drives_by_the_time_that_it_is_given_each_run_once(store: Store, clock: FakeClock) -> None:
    @workflow
    def nap(ctx: Context, payload: None) -> None:
        ctx.sleep("nap", HOUR)

    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        born = {runtime.trigger(nap).run_id for _ in range(9)}
        runs = runtime.sweep(clock() + HOUR)
        assert {run.run_id for run in runs} == born
        assert [run.status for run in runs] == [Status.COMPLETED] * 9


def test_a_sweep_meets_a_run_once_though_it_is_due_again(store: Store, clock: FakeClock) -> None:
    """What is put back for a second is due again to a sweep that acts as at an hour from now."""

    def takes_numbers(ctx: Context, payload: int) -> None: ...

    other = workflow(name="good")(takes_numbers)
    with Runtime(store, workflows=[good], clock=clock) as runtime:
        for _ in range(8):
            runtime.submit(good)
    with Runtime(store, workflows=[other], clock=clock) as runtime:
        runs = runtime.sweep(clock() + HOUR)
        assert len(runs) == len({run.run_id for run in runs}) == 8
        assert all(run.deferred for run in runs)


# What callers are told


def test_a_submitted_run_is_told_as_it_is_stored(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[good], clock=clock) as runtime:
        assert runtime.submit(good, run_id="g") == runtime.get_run("g")


def test_a_signal_that_is_stored_is_not_reported_as_failed(store: Store, clock: FakeClock) -> None:
    """Who is told that it failed sends it again, and it would come twice."""

    @workflow
    def order(ctx: Context, payload: None) -> list[Any]:
        return [ctx.wait_for_event("one", "go"), ctx.wait_for_event("two", "go", timeout=1)]

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
    faulty = FaultyStore(store, 3)
    with Runtime(faulty, workflows=[order], clock=clock) as runtime:
        run = runtime.signal("o-1", "go", "once")
        assert faulty.operations == ["load", "post", "acquire"]
        assert run.deferred is not None
        swept(runtime)
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert run.output == ["once", None]


# Undo and children


def test_an_undo_has_another_key_after_a_retry(store: Store, clock: FakeClock) -> None:
    keys: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("book", lambda: 1, compensate=lambda _: keys.append(ctx.key("undo/book")))
        raise ValueError

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        runtime.retry("o-1")
    assert len(set(keys)) == 2


@pytest.mark.parametrize("at", [3, 4])
def test_a_cancel_reaches_a_child_that_was_born_as_its_parent_died(store: Store, clock: FakeClock, at: int) -> None:
    ttl = timedelta(milliseconds=50)

    @workflow
    def kid(ctx: Context, payload: None) -> None:
        ctx.step("work", lambda: 1)

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.child("kid", kid)

    dying = FaultyStore(store, at, kill=True)
    with Runtime(dying, workflows=[order, kid], clock=clock, lease_ttl=ttl) as runtime, contextlib.suppress(Killed):
        runtime.trigger(order, run_id="o-1")
    assert dying.operations[-1] == "save"
    with Runtime(store, workflows=[order, kid], clock=clock, lease_ttl=ttl) as runtime:
        deadline = time.monotonic() + 30
        while "o-1" not in store.due(0, 10):
            assert time.monotonic() < deadline, "the lease did not run out"
        runtime.cancel("o-1")
        swept(runtime)
        assert {run.status for run in runtime.list_runs()} == {Status.CANCELLED}


def test_a_store_that_is_away_is_told_to_who_asked(store: Store, clock: FakeClock) -> None:
    with Runtime(FaultyStore(store, 1), workflows=[good], clock=clock) as runtime, pytest.raises(StoreUnavailable):
        runtime.get_run("g")
