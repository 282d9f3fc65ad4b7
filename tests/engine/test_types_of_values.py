"""Annotations say what payloads and results are, wherever and however they are written.

All annotations here are strings until they are looked up, as in any module with this import.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kvflow import (
    AsyncContext,
    AsyncRuntime,
    Context,
    InvalidPayload,
    Retry,
    RunExists,
    Runtime,
    Status,
    Store,
    Workflow,
    workflow,
)
from kvflow.testing import FakeClock

if TYPE_CHECKING:
    from kvflow import Context as Unknown

HOUR = timedelta(hours=1)


class Order(msgspec.Struct):
    id: int


def taking(wanted: Any, name: str = "order") -> Workflow:
    """A workflow whose payload is annotated so, and which says what it was given."""

    def body(ctx: Context, payload: Any) -> str:
        return type(payload).__name__

    body.__annotations__["payload"] = wanted
    return workflow(name=name)(body)


# Payloads


@workflow
def forward(ctx: Context, payload: Later) -> str:
    return type(payload).__name__


@dataclass
class Later:
    id: int


@workflow
def half_known(ctx: Unknown, payload: Order) -> str:
    return type(payload).__name__


@pytest.mark.parametrize(("body", "name"), [(forward, "Later"), (half_known, "Order")], ids=["forward", "half known"])
def test_a_payload_has_its_type_wherever_that_is_defined(
    store: Store, clock: FakeClock, body: Workflow, name: str
) -> None:
    with Runtime(store, workflows=[body], clock=clock) as runtime:
        assert runtime.trigger(body, {"id": 1}).output == name
        with pytest.raises(InvalidPayload, match="id"):
            runtime.trigger(body, {"id": "no number"})


def test_a_field_with_a_default_that_a_deployment_adds_makes_no_other_payload(store: Store, clock: FakeClock) -> None:
    old = taking(msgspec.defstruct("Order", [("id", int)]))
    new = taking(msgspec.defstruct("Order", [("id", int), ("lines", int, 0)]))
    with Runtime(store, workflows=[old], clock=clock) as runtime:
        run = runtime.trigger(old, {"id": 1}, run_id="o-1")
    with Runtime(store, workflows=[new], clock=clock) as runtime:
        assert runtime.trigger(new, {"id": 1}, run_id="o-1") == run
        with pytest.raises(RunExists):
            runtime.trigger(new, {"id": 1, "lines": 2}, run_id="o-1")


def test_a_payload_may_be_a_pydantic_model(store: Store, clock: FakeClock) -> None:
    pydantic: Any = pytest.importorskip("pydantic")
    Model: Any = pydantic.create_model("Model", __config__={"strict": True}, when=(datetime, ...), lines=(int, 0))
    now = datetime(2030, 1, 1, tzinfo=UTC)
    model: Any = Model(when=now)
    kept = {"when": "2030-01-01T00:00:00Z", "lines": 0}
    for number, (wanted, given, payload, name) in enumerate(
        [
            (Model, model, kept, "Model"),
            (Model, {"when": now}, kept, "Model"),
            (Model | None, model, kept, "Model"),
            (list[Model], [model], [kept], "list"),
            (dict[str, Model], {"a": model}, {"a": kept}, "dict"),
        ]
    ):
        body = taking(wanted, f"order {number}")
        with Runtime(store, workflows=[body], clock=clock) as runtime:
            run = runtime.trigger(body, given)
            assert (run.payload, run.output) == (payload, name)
    body = taking(Model)
    with (
        Runtime(store, workflows=[body], clock=clock) as runtime,
        pytest.raises(InvalidPayload, match="lines"),
    ):
        runtime.trigger(body, {"when": now, "lines": "many"})


def test_a_payload_may_be_an_attrs_class(store: Store, clock: FakeClock) -> None:
    attrs: Any = pytest.importorskip("attrs")
    Customer: Any = attrs.make_class("Customer", {"name": attrs.field(type=str)})
    body = taking(Customer)
    with Runtime(store, workflows=[body], clock=clock) as runtime:
        for given in (Customer("Ann"), {"name": "Ann"}):
            run = runtime.trigger(body, given)
            assert (run.output, run.payload) == ("Customer", {"name": "Ann"})
        with pytest.raises(InvalidPayload, match="name"):
            runtime.trigger(body, {"name": 7})


# Results


def ordered(number: int) -> Order:
    return Order(number)


@functools.wraps(ordered)
def wrapped(*args: Any) -> Any:
    return ordered(*args)


class Shop:
    def order(self) -> Order:
        return Order(1)

    def __call__(self) -> Order:
        return Order(1)

    @staticmethod
    def static() -> Order:
        return Order(1)

    @classmethod
    def of_class(cls) -> Order:
        return Order(1)


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "partial": functools.partial(ordered, 1),
    "partial of a partial": functools.partial(functools.partial(ordered), 1),
    "wrapper": functools.partial(wrapped, 1),
    "method": Shop().order,
    "static method": Shop.static,
    "class method": Shop.of_class,
    "object that can be called": Shop(),
    "class": functools.partial(Order, 1),
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_result_has_the_type_that_its_function_returns(store: Store, clock: FakeClock, kind: str) -> None:
    seen: list[Any] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        seen.append(ctx.step("order", FUNCTIONS[kind]))
        ctx.sleep("rest", HOUR)

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order)
        clock.advance(HOUR)
        runtime.sweep()
    assert seen == [Order(1), Order(1)]


def test_a_result_that_is_awaited_has_the_type_of_what_it_comes_to(store: Store, clock: FakeClock) -> None:
    calls: list[int] = []
    seen: list[Any] = []

    async def later() -> Order:
        calls.append(1)
        return Order(1)

    def begun() -> Awaitable[Order]:
        return later()

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        seen.append(await ctx.step("awaited", begun, retry=Retry(3, delay=0)))
        seen.append(await ctx.step("async", later))

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[order], clock=clock) as runtime:
            assert (await runtime.trigger(order)).status is Status.COMPLETED

    asyncio.run(asyncio.wait_for(main(), 60))
    assert seen == [Order(1), Order(1)]
    assert len(calls) == 2


def test_a_dict_keeps_its_order_and_its_keys(store: Store, clock: FakeClock) -> None:
    seen: list[Any] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        seen.append(list(ctx.step("order", lambda: {"b": 1, "a": 2}).items()))
        seen.append(ctx.step("keys", lambda: {1: "a", "b": 2}))

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        assert runtime.trigger(order).status is Status.COMPLETED
    assert seen == [[("b", 1), ("a", 2)], {1: "a", "b": 2}]


def test_a_result_whose_type_refuses_it_is_not_asked_for_again(store: Store, clock: FakeClock) -> None:
    calls: list[int] = []

    class Odd(msgspec.Struct):
        id: int

        def __post_init__(self) -> None:
            raise KeyError("odd")

    def odd() -> Any:
        calls.append(1)
        return {"id": 1}

    odd.__annotations__["return"] = Odd

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("odd", odd, retry=Retry(3, delay=0))

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
        assert run.error is not None
        assert (run.status, "'odd'" in run.error.message, calls) == (Status.FAILED, True, [1])


def test_an_undo_is_given_the_result_as_it_was_recorded(store: Store, clock: FakeClock) -> None:
    given: list[Any] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        booking = ctx.step("book", lambda: {"id": 7}, compensate=given.append)
        del booking["id"]
        raise ValueError

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order)
    assert given == [{"id": 7}]


def test_what_a_steps_function_holds_is_let_go_with_the_run(clock: FakeClock) -> None:
    contexts: list[weakref.ref[Context]] = []

    @workflow
    def order(ctx: Context, payload: None) -> None:
        contexts.append(weakref.ref(ctx))
        ctx.step("step", lambda: len(ctx.run_id))

    with Runtime(workflows=[order], clock=clock) as runtime:
        for _ in range(10):
            runtime.trigger(order)
        gc.collect()
        assert [context() for context in contexts] == [None] * 10
