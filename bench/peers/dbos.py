# type: ignore  # what it imports is in the peer's environment only
"""DBOS: workflows and steps as in its guide, on the system database that the URL names.

Runs are ``def`` workflows, called from as many threads as there are at once: that was faster than ``async def`` ones in
tasks, at 8 and at 100. Sleepers are ``async def`` ones, for a ``def`` workflow that sleeps keeps a thread.
"""

import asyncio
import sqlite3
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from time import perf_counter

import psycopg
from dbos import DBOS, SetWorkflowID
from dbos._dbos import _get_dbos_instance

from bench.peers import proof
from bench.peers.speaking import each, each_async, speak, until

PRAGMAS = ("journal_mode", "synchronous")
AT_ONCE = 8
"""Sleepers that are begun at once."""

ids = {}
woken = defaultdict(list)


@DBOS.step()
def step(run, number):
    return proof.step(run, number)


@DBOS.workflow()
def five(run):
    ids[run] = DBOS.workflow_id
    return proof.output([step(run, at) for at in range(proof.STEPS)])


@DBOS.workflow()
async def nap(run, wake_at):
    await DBOS.sleep_async(wake_at - time.time())
    woken[run].append(time.time())
    return proof.woken(run)


class Dbos:
    def __init__(self, url):
        self.url = url

    async def about(self):
        DBOS(
            config={
                "name": "bench",
                "system_database_url": self.url,
                "log_level": "WARNING",
                "run_admin_server": False,
                "enable_otlp": False,
            }
        )
        DBOS.launch()
        return {"peer": "DBOS", "version": version("dbos"), "journals": "results", "settings": self._settings()}

    def _settings(self):
        """How durable SQLite is as DBOS opens it; Postgres is as the server has it."""
        if not self.url.startswith("sqlite"):
            return ""
        with _get_dbos_instance()._sys_db.engine.connect() as connection:
            values = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in PRAGMAS}
        pragmas = ", ".join(f"{name}={value}" for name, value in values.items())
        return f"SQLite {sqlite3.sqlite_version}, {pragmas}"

    async def runs(self, name, number, at_once):
        names = [f"{name}-{at}" for at in range(number)]
        begin = perf_counter()
        await asyncio.to_thread(each, at_once, five, names)
        seconds = perf_counter() - begin
        return {"seconds": seconds, "way": f"def workflows, {at_once} thread(s)", "ids": [ids[run] for run in names]}

    async def prove(self, ids):
        return await asyncio.to_thread(self._prove, ids)

    def _prove(self, ids):
        found = DBOS.list_workflows(workflow_ids=list(ids), status="SUCCESS")
        return {
            "outputs": {ids[one.workflow_id]: one.output for one in found},
            "journal": {run: [one["output"] for one in DBOS.list_workflow_steps(id_)] for id_, run in ids.items()},
        }

    def work(self):
        return "recovered at launch, a coroutine for each sleeper"

    async def park(self, name, number, wake_at):
        async def begin(at):
            with SetWorkflowID(f"{name}-{at}"):
                await DBOS.start_workflow_async(nap, f"{name}-{at}", wake_at)

        await each_async(AT_ONCE, begin, range(number))
        await until(lambda: self.asleep(name) >= number, 60)
        return self.asleep(name)

    def asleep(self, name):
        """How many workflows that are not over have their sleep recorded."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(
                "SELECT count(*) FROM dbos.operation_outputs JOIN dbos.workflow_status USING (workflow_uuid) "
                "WHERE function_name = 'DBOS.sleep' AND status IN ('PENDING', 'ENQUEUED') AND workflow_uuid LIKE %s",
                (f"{name}-%",),
            ).fetchone()[0]

    async def wakes(self, name, number, deadline):
        await until(lambda: len(woken) >= number, deadline)
        await until(lambda: self.asleep(name) == 0, 10)
        names = [f"{name}-{at}" for at in range(number)]
        done = await DBOS.list_workflows_async(workflow_ids=names, status="SUCCESS")
        return {"woken": woken, "outputs": {one.workflow_id: one.output for one in done}}

    def close(self):
        DBOS.destroy()


if __name__ == "__main__":
    speak(Dbos(sys.argv[1]))
