"""Undo: latest first, each once, whatever fails in between."""

from datetime import timedelta
from typing import Any

from kvflow import Context, Retry, Runtime, Status, Store, workflow
from kvflow.testing import FakeClock

HOUR = timedelta(hours=1)


def test_completed_steps_are_undone_latest_first(store: Store, clock: FakeClock) -> None:
    undone: list[Any] = []

    @workflow
    def trip(ctx: Context, payload: None) -> None:
        for name in ("flight", "hotel", "car"):
            ctx.step(name, "booked {}".format, name, compensate=undone.append)
        ctx.step("plain", lambda: 1)
        ctx.step("pay", lambda: 1 / 0, compensate=lambda _: undone.append("never: it did not complete"))

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        run = runtime.trigger(trip)
    assert undone == ["booked car", "booked hotel", "booked flight"]
    assert run.status is Status.FAILED
    assert run.error is not None
    assert (run.error.type, run.error.undo) == ("StepFailed", ())
    assert [one.id for one in run.history if one.kind == "undo"] == ["car", "hotel", "flight"]


def test_an_undo_that_fails_is_reported_and_the_others_still_run(store: Store, clock: FakeClock) -> None:
    undone: list[str] = []

    def broken(_: Any) -> None:
        undone.append("hotel?")
        raise LookupError("no such booking")

    @workflow
    def trip(ctx: Context, payload: None) -> None:
        ctx.step("flight", lambda: "f", compensate=lambda _: undone.append("flight"))
        ctx.step("hotel", lambda: "h", compensate=broken, retry=Retry(2, delay=0))
        ctx.step("car", lambda: "c", compensate=lambda _: undone.append("car"))
        raise ValueError("no money")

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        run = runtime.trigger(trip)
    assert undone == ["car", "hotel?", "hotel?", "flight"]
    assert run.error is not None
    assert (run.error.type, run.error.message) == ("ValueError", "no money")
    assert [(one.id, one.type, one.message) for one in run.error.undo] == [("hotel", "LookupError", "no such booking")]


def test_an_undo_rests_between_its_tries(store: Store, clock: FakeClock) -> None:
    tries: list[str] = []

    def flaky(_: Any) -> None:
        tries.append("try")
        if len(tries) < 3:
            raise ConnectionError

    @workflow
    def trip(ctx: Context, payload: None) -> None:
        ctx.step("flight", lambda: "f", compensate=lambda _: tries.append("flight"))
        ctx.step("hotel", lambda: "h", compensate=flaky, retry=Retry(3, delay=10, jitter=False))
        raise ValueError("no money")

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        run = runtime.trigger(trip)
        assert (run.status, tries) == (Status.SUSPENDED, ["try"])
        assert [(one.kind, one.wake_at) for one in run.pending] == [("undo", clock() + timedelta(seconds=10))]
        clock.advance(timedelta(seconds=10))
        runtime.sweep()
        clock.advance(timedelta(seconds=20))
        (run,) = runtime.sweep()
    assert (run.status, tries) == (Status.FAILED, ["try", "try", "try", "flight"])


def test_branches_of_a_parallel_are_undone_too(store: Store, clock: FakeClock) -> None:
    undone: list[Any] = []

    @workflow
    def trip(ctx: Context, payload: None) -> None:
        ctx.parallel(
            "book",
            {"flight": lambda: "f", "hotel": lambda: "h", "car": lambda: 1 / 0},
            compensate={"flight": undone.append, "hotel": undone.append, "car": undone.append},
        )

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        run = runtime.trigger(trip)
    assert run.status is Status.FAILED
    assert sorted(undone) == ["f", "h"]


def test_a_branch_that_is_done_is_undone_though_another_rests(store: Store, clock: FakeClock) -> None:
    undone: list[Any] = []

    def flaky() -> None:
        raise ConnectionError

    @workflow
    def trip(ctx: Context, payload: None) -> None:
        ctx.parallel(
            "book",
            {"flight": lambda: "booked flight", "hotel": flaky},
            retry=Retry(3, delay=HOUR),
            compensate={"flight": undone.append},
        )

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        resting = runtime.trigger(trip, run_id="r")
        assert resting.status is Status.SUSPENDED
        run = runtime.cancel("r")
    assert (run.status, undone) == (Status.CANCELLED, ["booked flight"])


def test_a_body_that_catches_the_failure_undoes_nothing(store: Store, clock: FakeClock) -> None:
    undone: list[Any] = []

    @workflow
    def trip(ctx: Context, payload: None) -> str:
        ctx.step("flight", lambda: "f", compensate=undone.append)
        try:
            ctx.step("pay", lambda: 1 / 0)
        except Exception:  # noqa: BLE001
            return "paid by hand"
        return "paid"

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        assert runtime.trigger(trip).output == "paid by hand"
    assert undone == []


# Cancel


def test_a_resting_run_is_cancelled_at_once(store: Store, clock: FakeClock) -> None:
    undone: list[Any] = []
    went_on: list[str] = []

    @workflow
    def trip(ctx: Context, payload: None) -> None:
        ctx.step("flight", lambda: "f", compensate=undone.append)
        try:
            ctx.wait_for_event("answer", "answered")
        finally:
            ctx.step("clean", lambda: went_on.append("clean"))
        went_on.append("body")

    with Runtime(store, workflows=[trip], clock=clock) as runtime:
        runtime.trigger(trip, run_id="t-1")
        run = runtime.cancel("t-1", "changed my mind")
        assert (run.status, undone, went_on) == (Status.CANCELLED, ["f"], [])
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("Cancelled", "changed my mind")
        assert runtime.cancel("t-1") == run
        assert runtime.signal("t-1", "answered") == run
        assert runtime.sweep() == []


def test_a_sleeping_run_is_cancelled_from_elsewhere(store: Store, clock: FakeClock) -> None:
    @workflow
    def nap(ctx: Context, payload: None) -> None:
        ctx.sleep("nap", HOUR)

    with Runtime(store, workflows=[nap], clock=clock) as runtime, Runtime(store, clock=clock) as elsewhere:
        runtime.trigger(nap, run_id="n-1")
        run = elsewhere.cancel("n-1")
        assert run.status is Status.SUSPENDED
        (run,) = runtime.sweep()
        assert run.status is Status.CANCELLED


def test_a_run_being_driven_is_cancelled_at_its_next_step(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    def second() -> None:
        calls.append("second")
        runtime.cancel("o-1", "stop")

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("first", lambda: calls.append("first"), compensate=lambda _: calls.append("undo first"))
        ctx.step("second", second)
        ctx.step("third", lambda: calls.append("third"))

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order, run_id="o-1")
    assert run.status is Status.CANCELLED
    assert calls == ["first", "second", "undo first"]


def test_a_cancel_in_the_last_step_counts(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("only", lambda: runtime.cancel("o-1", "stop").run_id)

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        assert runtime.trigger(order, run_id="o-1").status is Status.CANCELLED


def test_a_submitted_run_can_be_cancelled_before_it_begins(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("first", calls.append, "first")

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.submit(order, run_id="o-1")
        assert runtime.cancel("o-1").status is Status.CANCELLED
    assert calls == []
