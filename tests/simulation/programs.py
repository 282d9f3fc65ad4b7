"""One workflow that reads from its payload what it is to do, so that a seed can make any workflow.

Each step tells the journal when it begins and ends, with its key; it gives way in between, so that it can be slow.
Each value that the body is given is told too. A step's result is never twice the same, so that what was recorded
can be told from what was done again.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, cast

from kvflow import AsyncContext, Context, Retry, StepFailed, Workflow
from kvflow.errors import ChildFailed
from simulation.choices import Choices, pick
from simulation.journal import Ctx, Journal
from simulation.loop import Loop
from simulation.strands import Awaited, at_once, in_a_strand, wished
from simulation.tasks import Until

Program = list[dict[str, Any]]

AGAIN = Retry(attempts=3, delay=1, factor=1, jitter=False)
EVENTS = ("red", "blue")
LATE = "late"


class OutOfOrder(Exception):
    """The body of a program fails."""


def awaiting(journal: Journal) -> list[Workflow]:
    """The same program under two names, so that an instance may know one and not the other."""

    async def program(ctx: AsyncContext, payload: Program) -> dict[str, Any]:
        await _all(ctx, journal, payload)
        return journal.all_seen(ctx)

    return [Workflow(program, "program"), Workflow(program, "child")]


def calling(journal: Journal) -> list[Workflow]:
    """The same for a runtime that calls; there the branches of a gather come one after the other."""

    def program(ctx: Context, payload: Program) -> dict[str, Any]:
        awaited = Awaited(ctx)
        at_once(_all(awaited, journal, payload))
        return journal.all_seen(awaited)

    return [Workflow(program, "program"), Workflow(program, "child")]


async def moment() -> None:
    """Give way: anything may happen meanwhile."""
    if in_a_strand():
        wished(Until())
        return
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    await loop.moment()


async def gather(*doing: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """As ``asyncio.gather``; in a strand one after the other."""
    if in_a_strand():
        for one in doing:
            at_once(one())
    else:
        await asyncio.gather(*(one() for one in doing))


async def _all(ctx: Ctx, journal: Journal, parts: Program) -> None:
    for part in parts:
        await _part(ctx, journal, part)


async def _part(ctx: Ctx, journal: Journal, part: dict[str, Any]) -> None:
    name = part["id"]
    match part["do"]:
        case "step":
            await _step(ctx, journal, part)
        case "sleep":
            await ctx.sleep(name, part["seconds"])
            journal.seen(ctx, name, "slept")
        case "wait":
            journal.seen(ctx, name, await ctx.wait_for_event(name, part["event"], part["seconds"], default=LATE))
        case "child":
            await _child(ctx, journal, part)
        case "parallel":
            await _parallel(ctx, journal, part)
        case "gather":
            await gather(*(partial(_all, ctx, journal, branch) for branch in part["branches"]))
        case _:
            raise OutOfOrder(name)


async def _step(ctx: Ctx, journal: Journal, part: dict[str, Any]) -> None:
    name = part["id"]
    undo = partial(_undone, ctx, journal, name) if name.endswith("!") else None
    try:
        value = await ctx.step(
            name, effect, ctx, journal, name, part["fails"], retry=AGAIN if part["fails"] else None, compensate=undo
        )
    except StepFailed as error:
        journal.seen(ctx, name, "failed")
        if not part["careful"]:
            raise OutOfOrder(name) from error
    else:
        journal.seen(ctx, name, value)


async def _parallel(ctx: Ctx, journal: Journal, part: dict[str, Any]) -> None:
    name, asked = str(part["id"]), cast("dict[str, int]", part["branches"])
    branches: dict[str, Callable[[], Any]] = {
        branch: partial(effect, ctx, journal, f"{name}/{branch}", fails) for branch, fails in asked.items()
    }
    undo: dict[str, Callable[[Any], Any]] = {
        branch: partial(_undone, ctx, journal, f"{name}/{branch}") for branch in branches if branch.endswith("!")
    }
    results = await ctx.parallel(name, branches, retry=AGAIN, compensate=undo)
    for branch, value in results.items():
        journal.seen(ctx, f"{name}/{branch}", value)


async def _child(ctx: Ctx, journal: Journal, part: dict[str, Any]) -> None:
    name = part["id"]
    try:
        value = await ctx.child(name, "child", part["program"])
    except ChildFailed:
        value = "failed"
    journal.seen(ctx, f"{name}/join", value)


async def effect(ctx: Ctx, journal: Journal, name: str, fails: int) -> str:
    """What a step does to the outside: fails so many times, or until the run is healed, then gives a new value."""
    call = journal.begun(ctx, name)
    for _ in range(journal.slowness()):
        await moment()
    if call.tries <= fails and not (fails > AGAIN.attempts and journal.healed(ctx.run_id)):
        journal.ended(call, None)
        raise ConnectionError(name)
    return journal.ended(call, f"{name} {call.number}")


async def _undone(ctx: Ctx, journal: Journal, name: str, result: Any) -> None:
    journal.undoing(ctx, name, result)
    await effect(ctx, journal, f"undo/{name}", 0)


def parts(program: Program) -> Iterator[dict[str, Any]]:
    """All parts of a program, those of branches too, but not those of its children."""
    for part in program:
        yield part
        if part["do"] == "gather":
            for branch in part["branches"]:
                yield from parts(branch)


# Programs made by a seed


def made(choices: Choices, depth: int = 1, gathers: bool = True) -> Program:
    """A program of a few parts; of which one may be branches, but none of those again."""
    parts = [_made(choices, f"{number}", depth, gathers) for number in range(1 + choices.below(5))]
    if choices.chance(0.15):
        parts.append({"do": "fail", "id": "end"})
    return parts


def _made(choices: Choices, name: str, depth: int, gathers: bool) -> dict[str, Any]:
    kinds = ["step", "step", "step", "sleep", "wait", "wait", "parallel"]
    kinds += [*(["gather"] if gathers else []), *(["child"] if depth else [])]
    kind = pick(choices, kinds)
    mark = "!" if choices.chance(0.4) else ""
    match kind:
        case "step":
            fails = pick(choices, [0, 0, 0, 1, 2]) if not choices.chance(0.15) else 99
            return {"do": kind, "id": f"step {name}{mark}", "fails": fails, "careful": choices.chance(0.3)}
        case "sleep":
            return {"do": kind, "id": f"sleep {name}", "seconds": pick(choices, [0, 1, 30])}
        case "wait":
            seconds = pick(choices, [None, 5, 60])
            return {"do": kind, "id": f"wait {name}", "event": pick(choices, EVENTS), "seconds": seconds}
        case "parallel":
            return {"do": kind, "id": f"all {name}", "branches": {"a": pick(choices, [0, 2]), f"b{mark}": 0}}
        case "gather":
            branches = [
                [_made(choices, f"{name}.{branch}.{number}", depth, False) for number in range(1 + choices.below(3))]
                for branch in range(2)
            ]
            return {"do": kind, "id": f"both {name}", "branches": branches}
        case _:
            return {"do": kind, "id": f"child {name}", "program": made(choices, depth - 1, gathers)}
