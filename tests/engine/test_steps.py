"""Steps: once recorded, never again; the same value, or the same failure, in a first pass and a replay."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from kvflow import Context, NestedStep, Retry, Runtime, Status, StepFailed, Store, Workflow, workflow
from kvflow.testing import FakeClock, FaultyStore

HOUR = timedelta(hours=1)


class Order(msgspec.Struct):
    id: str
    lines: list[int] = []


@dataclass
class Receipt:
    order: str
    at: datetime


def said(log: list[str], word: str, answer: str) -> str:
    log.append(word)
    return answer


def driven(store: Store, clock: FakeClock, body: Workflow, **options: Any) -> Runtime:
    return Runtime(store, workflows=[body], clock=clock, **options)


def test_a_step_is_called_once_and_its_result_is_recorded(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    def charge(order: Order) -> str:
        calls.append(order.id)
        return f"charge of {order.id}"

    @workflow
    def order(ctx: Context, order: Order) -> str:
        first = ctx.step("charge", charge, order)
        ctx.sleep("settle", HOUR)
        second = ctx.step("again", charge, order)
        return f"{first}, {second}"

    with driven(store, clock, order) as runtime:
        run = runtime.trigger(order, {"id": "o-1"}, run_id="o-1")
        assert (run.status, calls) == (Status.SUSPENDED, ["o-1"])
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert (run.status, run.output) == (Status.COMPLETED, "charge of o-1, charge of o-1")
        assert calls == ["o-1", "o-1"]
        assert [(one.kind, one.id) for one in run.history] == [
            ("step", "charge"),
            ("sleep", "settle"),
            ("step", "again"),
        ]
        assert runtime.get_run("o-1") == run


def test_what_a_first_pass_sees_a_replay_sees(store: Store, clock: FakeClock) -> None:
    seen: list[Any] = []
    when = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)

    def typed() -> Receipt:
        return Receipt("o-1", when)

    def untyped() -> Any:
        return {"tuple": (1, 2), "set": {3}, "receipt": Receipt("o-1", when)}

    @workflow
    def order(ctx: Context, order: Order) -> None:
        seen.append((order, ctx.step("typed", typed), ctx.step("untyped", untyped), ctx.step("none", lambda: None)))
        ctx.sleep("rest", HOUR)

    with driven(store, clock, order) as runtime:
        runtime.trigger(order, {"id": "o-1", "lines": (1, 2)})
        clock.advance(HOUR)
        runtime.sweep()
    assert seen[0] == seen[1]
    assert seen[0][:2] == (Order("o-1", [1, 2]), Receipt("o-1", when))
    assert seen[0][2]["tuple"] == [1, 2]
    assert seen[0][2]["set"] == [3]


def test_a_failure_is_the_same_both_times(store: Store, clock: FakeClock) -> None:
    seen: list[tuple[str, str, str, str]] = []
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ValueError("no money")

    @workflow
    def order(ctx: Context, payload: None) -> str:
        try:
            ctx.step("charge", fail)
        except StepFailed as failed:
            seen.append((str(failed), failed.error.type, failed.error.message, failed.error.traceback))
        ctx.sleep("rest", HOUR)
        return "went on"

    with driven(store, clock, order) as runtime:
        runtime.trigger(order)
        clock.advance(HOUR)
        (run,) = runtime.sweep()
    assert (run.status, run.output, len(calls)) == (Status.COMPLETED, "went on", 1)
    assert seen[0] == seen[1]
    assert seen[0][1:3] == ("ValueError", "no money")
    assert "raise ValueError" in seen[0][3]


def test_a_failure_that_nobody_catches_fails_the_run(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("charge", lambda: 1 / 0)

    with driven(store, clock, order) as runtime:
        run = runtime.trigger(order)
        assert run.status is Status.FAILED
        assert run.error is not None
        assert (run.error.type, run.wake_at) == ("StepFailed", None)
        assert "ZeroDivisionError" in run.error.message
        assert runtime.sweep() == []


def test_a_body_that_fails_fails_its_run(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> None:
        raise LookupError("nothing there")

    with driven(store, clock, order) as runtime:
        run = runtime.trigger(order)
        assert run.status is Status.FAILED
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("LookupError", "nothing there")
        assert "raise LookupError" in run.error.traceback


UNKEEPABLE: list[Any] = [object(), 1j, float, print]


@pytest.mark.parametrize("result", UNKEEPABLE, ids=["object", "complex", "type", "builtin_function_or_method"])
def test_a_result_that_cannot_be_kept_fails_its_step_once(store: Store, clock: FakeClock, result: Any) -> None:
    calls: list[int] = []

    def work() -> Any:
        calls.append(1)
        return result

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("work", work, retry=Retry(5, delay=0))

    with driven(store, clock, order) as runtime:
        run = runtime.trigger(order)
    assert (run.status, len(calls)) == (Status.FAILED, 1)
    assert run.error is not None
    assert "'work'" in run.error.message
    assert type(result).__name__ in run.error.message


def test_a_result_that_is_not_what_was_annotated_fails_its_step(store: Store, clock: FakeClock) -> None:
    def work() -> int:
        return "three"  # type: ignore[return-value]

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("work", work)

    with driven(store, clock, order) as runtime:
        run = runtime.trigger(order)
    assert run.status is Status.FAILED
    assert run.error is not None
    assert "Expected `int`" in run.error.message


def test_a_call_on_ctx_from_inside_a_step_is_refused(store: Store, clock: FakeClock) -> None:
    refused: list[str] = []

    @workflow
    def order(ctx: Context, payload: int) -> str:
        def nested() -> str:
            for call in (
                lambda: ctx.step("inner", lambda: 1),
                lambda: ctx.sleep("nap", 1),
                lambda: ctx.wait_for_event("wait", "go"),
                lambda: ctx.parallel("p", {"a": lambda: 1}),
                lambda: ctx.child("kid", "order"),
            ):
                try:
                    call()
                except NestedStep as error:
                    refused.append(error.code)
            return f"{ctx.run_id} {ctx.payload} {len(ctx.key('outer'))}"

        return ctx.step("outer", nested)

    with driven(store, clock, order) as runtime:
        run = runtime.trigger(order, 7, run_id="o-1")
    assert (run.status, run.output) == (Status.COMPLETED, "o-1 7 40")
    assert refused == ["nested-step"] * 5


def test_one_id_is_one_thing(store: Store, clock: FakeClock) -> None:
    @workflow
    def twice(ctx: Context, payload: None) -> None:
        ctx.step("a", lambda: 1)
        with contextlib.suppress(Exception):  # even a body that hides it has ended
            ctx.sleep("a", 5)
        ctx.step("b", lambda: 2)

    with driven(store, clock, twice) as runtime:
        run = runtime.trigger(twice)
        assert run.status is Status.FAILED
        assert run.error is not None
        assert run.error.type == "DuplicateStep"
        assert "'a'" in run.error.message


def test_an_id_recorded_as_another_kind_is_refused(store: Store, clock: FakeClock) -> None:
    def before(ctx: Context, payload: None) -> None:
        ctx.step("a", lambda: 1)
        ctx.sleep("rest", HOUR)

    def after(ctx: Context, payload: None) -> None:
        ctx.wait_for_event("a", "go")

    old, new = workflow(name="order")(before), workflow(name="order")(after)
    with driven(store, clock, old) as runtime:
        runtime.trigger(old)
    clock.advance(HOUR)
    with driven(store, clock, new) as runtime:
        (run,) = runtime.sweep()
    assert run.status is Status.FAILED
    assert run.error is not None
    assert run.error.type == "StepReused"


def test_steps_may_come_and_go_between_deployments(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    def before(ctx: Context, payload: None) -> str:
        first = ctx.step("first", lambda: said(calls, "first", "one"))
        gone = ctx.step("gone", lambda: said(calls, "gone", "two"))
        ctx.sleep("rest", HOUR)
        return first + gone

    def after(ctx: Context, payload: None) -> str:
        new = ctx.step("new", lambda: said(calls, "new", "zero"))
        first = ctx.step("first", lambda: said(calls, "first", "one"))
        ctx.sleep("rest", HOUR)
        return new + first + ctx.step("last", lambda: said(calls, "last", "three"))

    old, new = workflow(name="order")(before), workflow(name="order")(after)
    with driven(store, clock, old) as runtime:
        runtime.trigger(old)
    clock.advance(HOUR)
    with driven(store, clock, new) as runtime:
        (run,) = runtime.sweep()
    assert (run.status, run.output) == (Status.COMPLETED, "zeroonethree")
    assert calls == ["first", "gone", "new", "last"]


def test_keys_are_the_same_for_every_try_and_others_for_another_run(store: Store, clock: FakeClock) -> None:
    keys: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        def charge() -> None:
            keys.append(ctx.key("charge"))
            if len(keys) % 3:
                raise ValueError

        ctx.step("charge", charge, retry=Retry(3, delay=0))

    with driven(store, clock, order) as runtime:
        for _ in range(2):
            assert runtime.trigger(order, run_id="o-1").status is Status.COMPLETED
            runtime.delete_run("o-1")
    assert len(set(keys[:3])) == 1
    assert len(set(keys[3:])) == 1
    assert keys[0] != keys[3], "a run born anew under the same id must not be taken for the old one"


def test_a_five_step_run_makes_seven_saves(store: Store, clock: FakeClock) -> None:
    @workflow
    def order(ctx: Context, payload: None) -> None:
        for number in range(5):
            ctx.step(f"step {number}", lambda: "x")

    counted = FaultyStore(store)
    with Runtime(counted, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order)
    assert counted.operations == ["save"] * 7


def test_a_trigger_that_sleeps_first_makes_one_save_and_its_end_a_claim_and_one(store: Store, clock: FakeClock) -> None:
    @workflow
    def nap(ctx: Context, payload: None) -> str:
        ctx.sleep("nap", HOUR)
        return "awake"

    counted = FaultyStore(store)
    with Runtime(counted, workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap)
        assert counted.operations == ["save"]
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert run.output == "awake"
        assert counted.operations == ["save", "claim", "save"]
