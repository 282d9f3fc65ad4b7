"""Retries rest in the store, survive crashes, and end."""

from datetime import timedelta

import pytest

from kvflow import (
    Context,
    InvalidArgument,
    Retry,
    RunNotFailed,
    RunNotFound,
    Runtime,
    Status,
    StepFailed,
    Store,
    workflow,
)
from kvflow.testing import FakeClock

SECOND = timedelta(seconds=1)


class Flaky:
    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError(f"try {self.calls}")
        return self.calls


def test_a_step_is_tried_until_it_succeeds(store: Store, clock: FakeClock) -> None:
    work = Flaky(2)

    @workflow
    def order(ctx: Context, payload: None) -> int:
        return ctx.step("work", work, retry=Retry(3, delay=1, factor=2, jitter=False))

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
        assert (run.status, work.calls, run.wake_at) == (Status.SUSPENDED, 1, clock() + SECOND)
        assert [(one.kind, one.id) for one in run.pending] == [("retry", "work")]
        assert runtime.sweep() == []
        clock.advance(SECOND)
        (run,) = runtime.sweep()
        assert (work.calls, run.wake_at) == (2, clock() + 2 * SECOND)
        clock.advance(2 * SECOND)
        (run,) = runtime.sweep()
        assert (run.status, run.output, run.pending) == (Status.COMPLETED, 3, ())
        assert [(one.id, one.attempt) for one in run.history] == [("work", 3)]


def test_attempts_are_used_up_over_other_instances(store: Store, clock: FakeClock) -> None:
    work = Flaky(99)

    @workflow
    def order(ctx: Context, payload: None) -> str:
        try:
            ctx.step("work", work, retry=Retry(4, delay=1, jitter=False))
        except StepFailed as failed:
            return failed.error.message
        return "never"

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
    for _ in range(3):
        clock.advance(timedelta(minutes=1))
        with Runtime(store, workflows=[order], clock=clock) as another:
            (run,) = another.sweep()
    assert (run.status, run.output, work.calls) == (Status.COMPLETED, "try 4", 4)


def test_only_what_retry_is_on_is_tried_again(store: Store, clock: FakeClock) -> None:
    work = Flaky(1)

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("work", work, retry=Retry(3, delay=0, on=(KeyError, OSError)))
        ctx.step("other", Flaky(1), retry=Retry(3, delay=0, on=KeyError))

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
    assert work.calls == 2
    assert run.error is not None
    assert "'other'" in run.error.message


def test_without_retry_a_step_is_tried_once(store: Store, clock: FakeClock) -> None:
    work = Flaky(1)

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("work", work)

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        assert runtime.trigger(order).status is Status.FAILED
    assert work.calls == 1


def test_waits_grow_to_their_limit_and_jitter_stays_below() -> None:
    plain = Retry(10, delay=1, factor=3, max_delay=20, jitter=False)
    assert [plain.wait_ms(attempt) for attempt in (1, 2, 3, 4, 400)] == [1000, 3000, 9000, 20_000, 20_000]
    jittered = Retry(10, delay=10)
    assert all(5000 <= jittered.wait_ms(1) <= 10_000 for _ in range(200))
    assert len({jittered.wait_ms(1) for _ in range(50)}) > 1


@pytest.mark.parametrize(
    "options",
    [{"attempts": 0}, {"attempts": 1.5}, {"delay": -1}, {"max_delay": -1}, {"factor": 0.5}, {"delay": "soon"}],
)
def test_policies_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        Retry(**options)  # type: ignore[arg-type]


def test_a_failed_run_is_retried_from_where_it_failed(store: Store, clock: FakeClock) -> None:
    first, second = Flaky(0), Flaky(1)
    keys: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> list[int]:
        keys.append(ctx.key("second"))
        return [ctx.step("first", first), ctx.step("second", second)]

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        failed = runtime.trigger(order, run_id="o-1")
        assert (failed.status, first.calls, second.calls) == (Status.FAILED, 1, 1)
        run = runtime.retry("o-1")
        assert (run.status, run.output, run.error) == (Status.COMPLETED, [1, 2], None)
        assert (first.calls, second.calls) == (1, 2)
        assert keys[0] == keys[1], "a step that was not undone keeps its key"
        with pytest.raises(RunNotFailed):
            runtime.retry("o-1")
        with pytest.raises(RunNotFound):
            runtime.retry("nobody")


def test_a_retried_run_undoes_and_does_again(store: Store, clock: FakeClock) -> None:
    log: list[str] = []
    keys: list[str] = []
    broken = [True]

    def fail() -> None:
        if broken[0]:
            raise ValueError("broken")
        log.append("fixed")

    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.step("reserve", log.append, "reserve", compensate=lambda _: log.append("free"))
        keys.append(ctx.key("reserve"))
        ctx.sleep("rest", SECOND)
        ctx.step("charge", fail)
        return "done"

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        clock.advance(SECOND)
        (run,) = runtime.sweep()
        assert (run.status, log) == (Status.FAILED, ["reserve", "free"])
        broken[0] = False
        run = runtime.retry("o-1")
        assert (run.status, run.output) == (Status.COMPLETED, "done")
        assert log == ["reserve", "free", "reserve", "fixed"]
        assert keys[-1] != keys[0], "what was undone and is done again must not be taken for the first"
