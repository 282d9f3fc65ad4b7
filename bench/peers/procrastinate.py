# type: ignore  # what it imports is in the peer's environment only
"""Procrastinate: tasks that a worker of several coroutines takes from Postgres, told of each by LISTEN.

It keeps no results; what is journaled is that a job has succeeded. What the task gave is remembered here.
"""

import asyncio
import sys
from importlib.metadata import version
from time import perf_counter

from procrastinate import App, PsycopgConnector

from bench.peers import proof
from bench.peers.speaking import each_async, speak, until

CONCURRENCY = 8

given = {}


class Procrastinate:
    def __init__(self, url):
        self.app = App(connector=PsycopgConnector(conninfo=url, max_size=20))

        @self.app.task(name="job")
        async def job(run):
            given[run] = proof.step(run, 0)

        self.job = job

    async def about(self):
        await self.app.open_async()
        if not await self.app.check_connection_async():
            await self.app.schema_manager.apply_schema_async()
        return {"peer": "Procrastinate", "version": version("procrastinate"), "journals": "statuses"}

    def work(self):
        self.worker = asyncio.create_task(
            self.app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
        )
        return f"run_worker_async, concurrency {CONCURRENCY}"

    async def jobs(self, name, number, at_once):
        names = [f"{name}-{at}" for at in range(number)]
        begin = perf_counter()
        await each_async(at_once, lambda run: self.job.defer_async(run=run), names)
        enqueued = perf_counter() - begin
        await until(lambda: all(run in given for run in names), 120)
        while len(done := await self._done(name)) < number and perf_counter() < begin + 120:
            await asyncio.sleep(0.01)
        seconds = perf_counter() - begin
        return {
            "seconds": seconds,
            "enqueued": enqueued,
            "outputs": {run: given.get(run) for run in names},
            "journal": done,
        }

    async def _done(self, name):
        rows = await self.app.connector.execute_query_all_async(
            "SELECT args->>'run' AS run, status::text FROM procrastinate_jobs "
            "WHERE args->>'run' LIKE %(like)s AND status = 'succeeded'",
            like=f"{name}-%",
        )
        return {row["run"]: [row["status"]] for row in rows}

    async def close(self):
        self.worker.cancel()
        await asyncio.gather(self.worker, return_exceptions=True)
        await self.app.close_async()


if __name__ == "__main__":
    speak(Procrastinate(sys.argv[1]))
