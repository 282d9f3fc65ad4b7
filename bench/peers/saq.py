# type: ignore  # what it imports is in the peer's environment only
"""SAQ: jobs that a worker of several coroutines takes from Redis; what is journaled is a job's result.

A queue's name is in all its keys, and so is what the bench calls itself: that is how they are found and removed.
"""

import asyncio
import sys
from importlib.metadata import version
from time import perf_counter

from saq import Queue, Worker

from bench.peers import proof
from bench.peers.speaking import each_async, speak, until

CONCURRENCY = 8

ended = set()


async def job(ctx, *, run):
    return proof.step(run, 0)


async def after_process(ctx):
    ended.add(ctx["job"].key)


class Saq:
    def __init__(self, url, name):
        self.queue = Queue.from_url(url, name=name)
        self.worker = Worker(self.queue, [job], concurrency=CONCURRENCY, after_process=after_process)

    async def about(self):
        await self.queue.connect()
        return {"peer": "SAQ", "version": version("saq"), "journals": "results"}

    def work(self):
        self.task = asyncio.create_task(self.worker.start())
        return f"Worker, concurrency {CONCURRENCY}"

    async def jobs(self, name, number, at_once):
        names = [f"{name}-{at}" for at in range(number)]
        begin = perf_counter()
        await each_async(at_once, lambda run: self.queue.enqueue("job", key=run, run=run), names)
        enqueued = perf_counter() - begin
        await until(lambda: all(run in ended for run in names), 120)
        seconds = perf_counter() - begin
        kept = {run: await self.queue.job(run) for run in names}
        results = {run: kept_job and kept_job.result for run, kept_job in kept.items()}
        return {
            "seconds": seconds,
            "enqueued": enqueued,
            "outputs": results,
            "journal": {run: [result] for run, result in results.items()},
        }

    async def close(self):
        await self.worker.stop()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.queue.disconnect()


if __name__ == "__main__":
    speak(Saq(*sys.argv[1:]))
