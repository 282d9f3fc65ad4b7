"""Rest: sleeps and waits hold nothing, and no body can break the way out of it."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kvflow import Context, InvalidArgument, InvalidPayload, Runtime, Status, Store, cron, workflow
from kvflow.testing import FakeClock

HOUR = timedelta(hours=1)
YEAR = timedelta(days=365)


def test_a_year_passes_in_a_line(store: Store, clock: FakeClock) -> None:
    @workflow
    def remember(ctx: Context, payload: None) -> str:
        ctx.sleep("a year", YEAR)
        ctx.sleep_until("a date", datetime(2031, 6, 1, tzinfo=UTC))
        ctx.sleep("seconds", 0.5)
        return "remembered"

    with Runtime(store, workflows=[remember], clock=clock) as runtime:
        run = runtime.trigger(remember)
        assert (run.status, run.wake_at) == (Status.SUSPENDED, clock() + YEAR)
        assert [(one.kind, one.id, one.wake_at) for one in run.pending] == [("sleep", "a year", clock() + YEAR)]
        assert runtime.sweep() == []
        clock.advance(YEAR)
        (run,) = runtime.sweep()
        assert run.wake_at == datetime(2031, 6, 1, tzinfo=UTC)
        clock.advance(YEAR)
        (run,) = runtime.sweep()
        assert run.status is Status.SUSPENDED
        clock.advance(timedelta(seconds=0.5))
        (run,) = runtime.sweep()
        assert (run.status, run.output, run.pending) == (Status.COMPLETED, "remembered", ())


def test_a_deadline_does_not_move(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> Any:
        return ctx.wait_for_event("answer", "answered", timeout=HOUR, default="nobody answered")

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order, run_id="o-1")
        assert run.status is Status.WAITING
        clock.advance(HOUR / 2)
        runtime.signal("o-1", "something else")
        clock.advance(HOUR / 2)
        (run,) = runtime.sweep()
        assert (run.status, run.output) == (Status.COMPLETED, "nobody answered")


def test_a_sleep_of_nothing_does_not_rest(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.sleep("nothing", 0)
        ctx.sleep_until("past", datetime(2020, 1, 1, tzinfo=UTC))
        return "through"

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        assert runtime.trigger(order).output == "through"


def test_cron_in_its_time_zone(store: Store, clock: FakeClock) -> None:
    @workflow
    def daily(ctx: Context, payload: None) -> None:
        ctx.sleep("nine", cron("0 9 * * *", tz="Europe/Berlin"))

    with Runtime(store, workflows=[daily], clock=FakeClock(datetime(2030, 7, 1, 12, tzinfo=UTC))) as runtime:
        run = runtime.trigger(daily)
        assert run.wake_at == datetime(2030, 7, 2, 7, tzinfo=UTC)


REFUSED: list[Callable[[Any], None]] = [
    lambda ctx: ctx.sleep("a", -1),
    lambda ctx: ctx.sleep("a", timedelta(seconds=-1)),
    lambda ctx: ctx.sleep("a", "soon"),
    lambda ctx: ctx.sleep_until("a", datetime(2030, 1, 1)),
    lambda ctx: ctx.sleep("a", cron("0 0 30 2 *")),
    lambda ctx: ctx.sleep("a", cron("every day")),
    lambda ctx: ctx.sleep("a", cron("0 9 * * *", tz="Mars/Olympus")),
    lambda ctx: ctx.wait_for_event("a", "go", timeout=-5),
    lambda ctx: ctx.sleep("", 5),
    lambda ctx: ctx.parallel("a", {}),
]


@pytest.mark.parametrize("sleep", REFUSED)
def test_times_that_cannot_be_end_the_run_before_anything_is_saved(clock: FakeClock, sleep: Any) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> str:
        with pytest.raises(InvalidArgument):
            sleep(ctx)
        return "refused"

    with Runtime(workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
        assert (run.output, run.history) == ("refused", ())


# Events


def test_an_event_before_during_and_after_its_wait(store: Store, clock: FakeClock) -> None:
    during: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> list[Any]:
        ctx.sleep("rest", HOUR)
        first = ctx.wait_for_event("first", "go")
        ctx.step("work", lambda: during.append(runtime.signal("o-1", "go", "during").run_id))
        second = ctx.wait_for_event("second", "go")
        third = ctx.wait_for_event("third", "go")
        return [first, second, third]

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        run = runtime.signal("o-1", "go", "before")
        assert run.status is Status.SUSPENDED
        assert runtime.sweep() == []
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert (run.status, during) == (Status.WAITING, ["o-1"])
        run = runtime.signal("o-1", "go", "after")
        assert (run.status, run.output) == (Status.COMPLETED, ["before", "during", "after"])


def test_events_reach_waits_in_the_order_in_which_they_came(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> list[Any]:
        ctx.sleep("rest", HOUR)
        return [(ctx.wait_for_event(f"a{n}", "a"), ctx.wait_for_event(f"b{n}", "b")) for n in range(3)]

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        for number in range(3):
            runtime.signal("o-1", "b", f"b{number}")
            runtime.signal("o-1", "a", f"a{number}")
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert run.output == [["a0", "b0"], ["a1", "b1"], ["a2", "b2"]]


def test_an_event_wins_over_its_timeout(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> Any:
        return ctx.wait_for_event("answer", "answered", timeout=HOUR, default="late")

    with Runtime(store, workflows=[order], clock=clock) as runtime, Runtime(store, clock=clock) as elsewhere:
        runtime.trigger(order, run_id="o-1")
        elsewhere.signal("o-1", "answered", "in time")
        clock.advance(2 * HOUR)
        (run,) = runtime.sweep()
        assert run.output == "in time"


def test_an_event_has_a_type(store: Store, clock: FakeClock) -> None:
    class Answer(msgspec.Struct):
        by: str

    @workflow
    def order(ctx: Context, payload: None) -> str:
        with pytest.raises(InvalidPayload, match="by"):
            ctx.wait_for_event("bad", "answered", type=Answer)
        good: Answer = ctx.wait_for_event("good", "answered", type=Answer)
        return good.by

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        runtime.signal("o-1", "answered", {"by": 7})
        assert runtime.signal("o-1", "answered", {"by": "ann"}).output == "ann"


def test_a_wait_that_timed_out_stays_so(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> list[Any]:
        first = ctx.wait_for_event("first", "go", timeout=1, default="late")
        ctx.sleep("rest", HOUR)
        return [first, ctx.wait_for_event("second", "go")]

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        clock.advance(timedelta(seconds=1))
        runtime.sweep()
        runtime.signal("o-1", "go", "came")
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert run.output == ["late", "came"]


def test_an_event_to_a_run_that_is_over_changes_nothing(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> str:
        return "done"

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order, run_id="o-1")
        assert runtime.signal("o-1", "go") == run
        assert runtime.cancel("o-1") == run


# Ways out of a body


def test_no_body_can_break_its_rest(store: Store, clock: FakeClock) -> None:
    cleaned: list[str] = []

    @workflow
    def careful(ctx: Context, payload: None) -> str:
        try:
            ctx.sleep("first", HOUR)
        except Exception:  # noqa: BLE001
            return "caught"
        try:
            ctx.sleep("second", HOUR)
        except:  # noqa: E722
            return "swallowed"
        try:
            ctx.sleep("third", HOUR)
        finally:
            ctx.step("clean", lambda: cleaned.append("clean"))
        ctx.sleep("fourth", HOUR)
        return _returned_in_finally(ctx)

    def _returned_in_finally(ctx: Context) -> str:
        try:
            ctx.sleep("fifth", HOUR)
        finally:
            return "returned"  # noqa: B012

    with Runtime(store, workflows=[careful], clock=clock) as runtime:
        run = runtime.trigger(careful)
        for number in range(5):
            assert run.status is Status.SUSPENDED
            assert cleaned == ([] if number < 3 else ["clean"])
            clock.advance(HOUR)
            (run,) = runtime.sweep()
        assert (run.status, run.output) == (Status.COMPLETED, "returned")


def test_an_interrupt_gives_the_run_back(store: Store, clock: FakeClock) -> None:
    calls: list[int] = []

    def interrupted() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return "went on"

    @workflow
    def order(ctx: Context, payload: None) -> str:
        return ctx.step("work", interrupted)

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        with pytest.raises(KeyboardInterrupt):
            runtime.trigger(order, run_id="o-1")
        found = runtime.get_run("o-1")
        assert found is not None
        assert (found.status, found.attempt) == (Status.RUNNING, 0)
        (run,) = runtime.sweep()
        assert run.output == "went on"


def test_ten_thousand_sleepers_hold_no_thread(clock: FakeClock) -> None:
    @workflow
    def nap(ctx: Context, payload: int) -> int:
        ctx.sleep("nap", HOUR)
        return payload

    before = threading.active_count()
    with Runtime(workflows=[nap], clock=clock) as runtime:
        for number in range(10_000):
            runtime.trigger(nap, number)
        assert threading.active_count() <= before + 1
        clock.advance(HOUR)
        woken = [run for _ in range(100) for run in runtime.sweep(limit=100)]
        assert sorted(run.output for run in woken) == list(range(10_000))
