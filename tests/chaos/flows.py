"""The load: orders with steps that fail and are tried again, sleeps, events, branches, children and undo, each in both
colours. Every call of a step gives a receipt that no other call gets, so an output shows which calls it came from.
"""

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from chaos.journal import Journal, Line
from kvflow import AsyncContext, Context, Retry, workflow

JOURNAL = "KVFLOW_CHAOS_JOURNAL"
"""The environment variable that says where the journal is."""

AGAIN = Retry(attempts=40, delay=0.05, factor=1, on=(ConnectionError,))
FLAKY = 0.2
BRANCHES = ("a", "b", "c")
UNDONE = ("reserve", "charge", "pack/a")
"""The steps that have a compensation, in the order in which they are done."""


class Job(Struct, frozen=True):
    """What one order is to do. ``think`` is how long its body works between two steps, in seconds."""

    rest: float
    think: float
    approvals: int
    bonus_within: float
    children: int
    fails: bool


def calls(run: str, step: str, key: str, fails: bool = False, flaky: bool = True) -> Callable[..., str]:
    """A step's function; ``asked`` for now."""
    asked = time.time()

    def call(shown: str = "") -> str:
        begun = journal().begin(run, step, key, asked, shown)
        time.sleep(random.uniform(0.005, 0.12))
        return _answer(begun, fails, flaky)

    return call


def calls_async(
    run: str, step: str, key: str, fails: bool = False, flaky: bool = True
) -> Callable[..., Awaitable[str]]:
    asked = time.time()

    async def call(shown: str = "") -> str:
        begun = journal().begin(run, step, key, asked, shown)
        await asyncio.sleep(random.uniform(0.005, 0.12))
        return _answer(begun, fails, flaky)

    return call


def undo(run: str, step: str) -> Callable[[str], str]:
    """The compensation of a step, which is shown the step's receipt; asked for when it is called."""
    return lambda shown: calls(run, f"undo {step}", "", flaky=False)(shown)


def _answer(begun: Line, fails: bool, flaky: bool) -> str:
    if flaky and random.random() < FLAKY:
        journal().end(begun, "failed")
        raise ConnectionError(begun.call)
    if fails:
        journal().end(begun, "failed")
        raise ValueError(begun.call)
    journal().end(begun, "ended")
    return begun.call


def journal() -> Journal:
    return Journal(Path(os.environ[JOURNAL]))


@workflow
def order(ctx: Context, job: Job) -> dict[str, Any]:
    run = ctx.run_id

    def step(name: str, undoes: bool = False, fails: bool = False) -> str:
        time.sleep(job.think)
        return ctx.step(
            name,
            calls(run, name, ctx.key(name), fails),
            retry=AGAIN,
            compensate=undo(run, name) if undoes else None,
        )

    out: dict[str, Any] = {"reserve": step("reserve", undoes=True)}
    ctx.sleep("rest", job.rest)
    out["charge"] = step("charge", undoes=True)
    out["approvals"] = [ctx.wait_for_event(f"approval {n}", "approved") for n in range(job.approvals)]
    out["bonus"] = ctx.wait_for_event("bonus", "bonus", timeout=job.bonus_within)
    out["pack"] = ctx.parallel(
        "pack",
        {name: calls(run, f"pack/{name}", ctx.key(f"pack/{name}")) for name in BRANCHES},
        retry=AGAIN,
        compensate={"a": undo(run, "pack/a")},
    )
    born = [ctx.spawn(f"child {n}", ("part", "part_async")[n % 2], job.rest) for n in range(job.children)]
    out["children"] = ctx.join("children", *born) if born else []
    out["ship"] = step("ship", fails=job.fails)
    return out


@workflow
def part(ctx: Context, rest: float) -> dict[str, Any]:
    run = ctx.run_id
    out: dict[str, Any] = {"cut": ctx.step("cut", calls(run, "cut", ctx.key("cut")), retry=AGAIN)}
    ctx.sleep("rest", rest)
    out["glue"] = ctx.step("glue", calls(run, "glue", ctx.key("glue")), retry=AGAIN)
    return out


@workflow
async def order_async(ctx: AsyncContext, job: Job) -> dict[str, Any]:
    run = ctx.run_id

    async def step(name: str, undoes: bool = False, fails: bool = False) -> str:
        await asyncio.sleep(job.think)
        return await ctx.step(
            name,
            calls_async(run, name, ctx.key(name), fails),
            retry=AGAIN,
            compensate=undo(run, name) if undoes else None,
        )

    out: dict[str, Any] = {"reserve": await step("reserve", undoes=True)}
    await ctx.sleep("rest", job.rest)
    out["charge"] = await step("charge", undoes=True)
    out["approvals"] = [await ctx.wait_for_event(f"approval {n}", "approved") for n in range(job.approvals)]
    out["bonus"] = await ctx.wait_for_event("bonus", "bonus", timeout=job.bonus_within)
    out["pack"] = await ctx.parallel(
        "pack",
        {name: calls_async(run, f"pack/{name}", ctx.key(f"pack/{name}")) for name in BRANCHES},
        retry=AGAIN,
        compensate={"a": undo(run, "pack/a")},
    )
    born = [await ctx.spawn(f"child {n}", ("part", "part_async")[n % 2], job.rest) for n in range(job.children)]
    out["children"] = await ctx.join("children", *born) if born else []
    out["ship"] = await step("ship", fails=job.fails)
    return out


@workflow
async def part_async(ctx: AsyncContext, rest: float) -> dict[str, Any]:
    run = ctx.run_id
    out: dict[str, Any] = {"cut": await ctx.step("cut", calls_async(run, "cut", ctx.key("cut")), retry=AGAIN)}
    await ctx.sleep("rest", rest)
    out["glue"] = await ctx.step("glue", calls_async(run, "glue", ctx.key("glue")), retry=AGAIN)
    return out


SYNC = (order, part)
ASYNC = (order_async, part_async)
