"""Many runs at once on an AsyncRuntime: what one of them costs beside one alone, beside bare writes, beside threads.

Saves that are in flight share calls, so a run among many should cost far less than alone, the more so the longer
a commit takes. What that gains is seen against the same saves, each by itself, from as many threads as the store has
connections.
"""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from bench.figures import Figure, Goal, Measure, clocked, each, figure, in_turn
from bench.floors import Floor
from bench.grounds import PostgresGround
from bench.runs import SMALL, text
from kvflow import AsyncContext, AsyncRuntime, Lease, Status, StoredRun, workflow
from kvflow.store import Save, Store
from kvflow.testing import FaultyStore

STEPS = 5
SAVES = STEPS + 2
"""Its birth, each step, its end."""

CONNECTIONS = 10
ALONE_GOAL = Goal(SAVES)
TOGETHER_GOAL = Goal(0.5)
"""Commits of a run: well under one."""


@workflow
async def order(ctx: AsyncContext, payload: str) -> str:
    for number in range(STEPS):
        await ctx.step(f"step {number}", charge)
    return payload


async def charge() -> str:
    return "x" * SMALL


class Recorder(FaultyStore):
    """Remembers the saves of a run."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.saves: list[Save] = []

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        self.saves.append((run, new, lease))
        return super().save(run, new, lease)


def figures(store: Store, floor: Floor, at_once: int, rounds: int, where: str) -> Iterator[Figure]:
    """Seconds of one run, by four ways that take turns."""
    recorder = Recorder(store)
    asyncio.run(_runs(recorder, 1, 1))
    with ThreadPoolExecutor(CONNECTIONS) as threads, asyncio.Runner() as loop:
        runtime = loop.run(_opened(store))
        try:
            together, alone, threaded, bare = in_turn(
                [
                    lambda: clocked(loop.run, _at_once(runtime, at_once))[0] / at_once,
                    lambda: clocked(loop.run, _at_once(runtime, 1))[0],
                    lambda: clocked(_by_themselves, store, recorder.saves, at_once, threads)[0] / at_once,
                    lambda: SAVES * each(floor.write, [(text(2 * SMALL),) for _ in range(SAVES)]),
                ],
                rounds,
            )
        finally:
            loop.run(runtime.close())
    about = f"a run of {STEPS} steps, {at_once} at once{where}"
    yield _figure(f"{SAVES} bare writes beside {about}", bare, together, "at once beside bare writes")
    yield _figure(f"a run alone beside {about}", alone, together, "at once beside alone")
    name = f"its saves by themselves from {CONNECTIONS} threads beside {about}"
    yield _figure(name, threaded, together, "at once beside threads")


def _figure(name: str, one: list[float], other: list[float], series: str) -> Figure:
    return replace(figure(name, [*zip(one, other, strict=True)], None), series=series)


async def _opened(store: Store) -> AsyncRuntime:
    return AsyncRuntime(store, workflows=[order])


async def _at_once(runtime: AsyncRuntime, number: int) -> None:
    infos = await asyncio.gather(*(runtime.trigger(order, "payload") for _ in range(number)))
    if any(info.status is not Status.COMPLETED for info in infos):
        raise AssertionError("not all of the runs completed")


def _by_themselves(store: Store, saves: Sequence[Save], runs: int, threads: ThreadPoolExecutor) -> None:
    """The saves of so many runs, those of each run in order."""

    def save_again(_: int) -> None:
        run_id, token = uuid.uuid4().hex, uuid.uuid4().hex
        for run, new, lease in saves:
            store.save(replace(run, run_id=run_id), new, lease and Lease(token, lease.ttl))

    list(threads.map(save_again, range(runs)))


def commits(ground: PostgresGround, at_once: int) -> Iterator[Measure]:
    """How many transactions a run commits; those of opening the store are in both counts, and fall out."""
    for number, goal in ((1, ALONE_GOAL), (at_once, TOGETHER_GOAL)):
        groups = max(1, 10 // number)
        begun = _committed(ground, number, 1)
        more = _committed(ground, number, 1 + groups)
        yield Measure(
            name=f"commits of a run of {STEPS} steps, " + ("alone" if number == 1 else f"{number} at once"),
            value=(more - begun) / (groups * number),
            unit="",
            goal=goal,
        )


def _committed(ground: PostgresGround, at_once: int, groups: int) -> int:
    before = ground.commits()
    with ground.opener("commits")() as store:
        asyncio.run(_runs(store, at_once, groups))
    return ground.commits() - before


async def _runs(store: Store, at_once: int, groups: int) -> None:
    async with AsyncRuntime(store, workflows=[order]) as runtime:
        for _ in range(groups):
            await _at_once(runtime, at_once)
