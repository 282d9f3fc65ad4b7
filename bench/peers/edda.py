# type: ignore  # what it imports is in the peer's environment only
"""Edda: workflows of activities, on the database that the URL names, with the pool that it advises for production.

The leases of its leader are made short by its own options, for otherwise no sleeper would wake for 45 seconds after a
restart; how often the leader looks for sleepers that are due (10 seconds) is not for anybody to choose. It asks for
uvloop itself, too late for a loop that runs already, so it is installed before.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from time import perf_counter

import uvloop
from edda import EddaApp, WorkflowContext, activity, sleep_until, workflow
from sqlalchemy import text

from bench.peers import proof
from bench.peers.speaking import each_async, speak, until

AT_ONCE = 8


woken = defaultdict(list)


@activity
async def step(ctx: WorkflowContext, run: str, number: int) -> str:
    return proof.step(run, number)


@workflow
async def five(ctx: WorkflowContext, run: str) -> str:
    return proof.output([await step(ctx, run, at) for at in range(proof.STEPS)])


@workflow
async def nap(ctx: WorkflowContext, run: str, wake_at: float) -> str:
    await sleep_until(ctx, datetime.fromtimestamp(wake_at, UTC))
    woken[run].append(time.time())
    return proof.woken(run)


class Edda:
    def __init__(self, url):
        driver = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+aiomysql"}
        scheme, rest = url.split(":", 1)
        self.url = f"{driver[scheme]}:{rest}"
        self.begun = False

    async def about(self):
        self.app = EddaApp(
            service_name="bench",
            db_url=self.url,
            pool_size=20,
            max_overflow=40,
            leader_heartbeat_interval=1,
            leader_lease_duration=3,
        )
        await self.app.initialize()
        return {"peer": "Edda", "version": version("edda-framework"), "journals": "results"}

    async def runs(self, name, number, at_once):
        names = [f"{name}-{at}" for at in range(number)]
        if at_once > 1 and not self.begun:
            await five.start(run="first")  # alone: Edda's first starts of a workflow trip over each other
        self.begun = True
        begin = perf_counter()
        ids = await each_async(at_once, self._start, names)
        seconds = perf_counter() - begin
        return {"seconds": seconds, "way": f"start(), {at_once} task(s)", "ids": ids}

    async def _start(self, run):
        """Where Edda's own background task takes the new instance first, wait until that one has run it."""
        try:
            return await five.start(run=run)
        except RuntimeError as error:
            if "Failed to acquire lock" not in str(error):
                raise
            instance_id = str(error).rsplit(maxsplit=1)[-1]
            while (await self.app.storage.get_instance(instance_id))["status"] == "running":
                await asyncio.sleep(0.01)
            return instance_id

    async def prove(self, ids):
        outputs, journal = {}, {}
        for instance_id, run in ids.items():
            outputs[run] = (await self.app.storage.get_instance(instance_id))["output_data"]["result"]
            history = await self.app.storage.get_history(instance_id)
            journal[run] = [entry["event_data"]["result"] for entry in history]
        return {"outputs": outputs, "journal": journal}

    def work(self):
        return "EddaApp, one task that looks every 10 s"

    async def park(self, name, number, wake_at):
        await nap.start(
            run=f"{name}-0", wake_at=wake_at
        )  # alone: Edda's first starts of a workflow trip over each other
        await each_async(AT_ONCE, lambda at: nap.start(run=f"{name}-{at}", wake_at=wake_at), range(1, number))
        return await self.asleep(name)

    async def asleep(self, name):
        return len(await self._naps(name, "waiting_for_timer"))

    async def wakes(self, name, number, deadline):
        await until(lambda: len(woken) >= number, deadline)
        await until(lambda: False, 0.1)  # the last one's end is being recorded
        return {"woken": woken, "outputs": await self._naps(name, "completed")}

    async def _naps(self, name, status):
        """What sleepers of this status have given; read from the table, for its own pages leave some out."""
        async with self.app.storage.engine.connect() as connection:
            naps = await connection.execute(
                text(
                    "SELECT input_data, output_data FROM workflow_instances WHERE workflow_name = 'nap' AND status = :s"
                ),
                {"s": status},
            )
            given = {json.loads(asked)["run"]: got and json.loads(got)["result"] for asked, got in naps.all()}
            return {run: result for run, result in given.items() if run.startswith(f"{name}-")}

    async def close(self):
        await self.app.shutdown()


if __name__ == "__main__":
    uvloop.install()
    speak(Edda(sys.argv[1]))
