"""kvflow's own program: on the store that the URL names, with the options that it has when nothing is said."""

import asyncio
import sys
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from time import perf_counter
from typing import Any

from bench.peers import proof
from bench.peers.speaking import each, each_async, speak, until
from kvflow import AsyncContext, AsyncRuntime, Context, Runtime, Status, Worker, workflow
from kvflow.stores import open_store

THREADS = 8
"""Of who parks and submits, and the places of the worker."""

PAGE = 1000
"""Runs that are listed at a time."""

woken: dict[str, list[float]] = defaultdict(list)


@workflow
def five(ctx: Context, run: str) -> str:
    return proof.output([ctx.step(f"step {at}", proof.step, run, at) for at in range(proof.STEPS)])


@workflow(name="five at once")
async def five_at_once(ctx: AsyncContext, run: str) -> str:
    return proof.output([await ctx.step(f"step {at}", step, run, at) for at in range(proof.STEPS)])


async def step(run: str, number: int) -> str:
    return proof.step(run, number)


@workflow
def nap(ctx: Context, wake_at: datetime) -> str:
    ctx.sleep_until("nap", wake_at)
    woken[ctx.run_id].append(time.time())
    return proof.woken(ctx.run_id)


@workflow
def job(ctx: Context, run: str) -> str:
    return ctx.step("job", proof.step, run, 0)


class Kvflow:
    def __init__(self, url: str, prefix: str = "kvflow") -> None:
        self.store = open_store(url) if url.startswith("file:") else open_store(url, prefix=prefix)
        self.runtime = Runtime(self.store, [five, nap, job])
        self.many = AsyncRuntime(self.store, [five_at_once])
        self.worker = Worker(self.runtime, concurrency=THREADS)

    def about(self) -> dict[str, Any]:
        return {"peer": "kvflow", "version": version("kvflow"), "journals": "results"}

    async def runs(self, name: str, number: int, at_once: int) -> dict[str, Any]:
        names = [f"{name}-{at}" for at in range(number)]
        begin = perf_counter()
        if at_once > 1:  # many at once are tasks of one loop, whose saves share commits
            infos = await each_async(at_once, lambda run: self.many.trigger(five_at_once, run), names)
        else:
            infos = [self.runtime.trigger(five, run) for run in names]
        seconds = perf_counter() - begin
        way = "AsyncRuntime.trigger, tasks" if at_once > 1 else "Runtime.trigger"
        return {"seconds": seconds, "way": way, "ids": [info.run_id for info in infos]}

    def prove(self, ids: dict[str, str]) -> dict[str, Any]:
        """What the runs gave, and what is recorded of their steps, as the store has it."""
        infos = [info for run_id in ids if (info := self.runtime.get_run(run_id)) is not None]
        return {
            "outputs": {ids[info.run_id]: info.output for info in infos},
            "journal": {ids[info.run_id]: [one.result for one in info.history if one.kind == "step"] for info in infos},
        }

    def work(self) -> str:
        """Drive what is due, from now on."""
        threading.Thread(target=self.worker.run, daemon=True).start()
        return f"Worker, concurrency {THREADS}"

    async def park(self, name: str, number: int, wake_at: float) -> int:
        when = datetime.fromtimestamp(wake_at, UTC)
        names = [f"{name}-{at}" for at in range(number)]
        await asyncio.to_thread(each, THREADS, lambda run: self.runtime.trigger(nap, when, run_id=run), names)
        return self.asleep(name)

    def asleep(self, name: str) -> int:
        """How many of these sleep, as the store lists them."""
        asleep, page = 0, self.runtime.list_runs(PAGE, status=Status.SUSPENDED)
        while page:
            asleep += sum(info.run_id.startswith(f"{name}-") for info in page)
            page = self.runtime.list_runs(PAGE, after=page[-1], status=Status.SUSPENDED)
        return asleep

    async def wakes(self, name: str, number: int, deadline: float) -> dict[str, Any]:
        """Wait until so many have woken; when they did, and what they gave."""
        await until(lambda: len(woken) >= number, deadline)
        await until(lambda: self.worker.stats().busy == 0, 10)
        infos = [self.runtime.get_run(f"{name}-{at}") for at in range(number)]
        return {"woken": woken, "outputs": {info.run_id: info.output for info in infos if info is not None}}

    async def jobs(self, name: str, number: int, at_once: int) -> dict[str, Any]:
        """Submitted by so many threads, while a worker does them."""
        names = [f"{name}-{at}" for at in range(number)]
        before = self.worker.stats().driven
        begin = perf_counter()
        infos = await asyncio.to_thread(each, at_once, lambda run: self.runtime.submit(job, run), names)
        enqueued = perf_counter() - begin
        await until(lambda: self.worker.stats().driven >= before + number, 120)
        seconds = perf_counter() - begin
        ids = {info.run_id: run for info, run in zip(infos, names, strict=True)}
        return {"seconds": seconds, "enqueued": enqueued, **self.prove(ids)}

    async def close(self) -> None:
        self.worker.stop()
        self.runtime.close()
        await self.many.close()
        self.store.close()


if __name__ == "__main__":
    speak(Kvflow(*sys.argv[1:]))
