# type: ignore  # what it imports is in the peer's environment only
"""Absurd: tasks that workers claim from a queue, on a schema that ``absurdctl`` makes.

The sync client, a connection for each worker: a client has one connection, on which its tasks take turns. So many runs
at once have that many workers, up to WORKERS; more only waited for one another.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from importlib.metadata import version
from time import perf_counter

import psycopg
from absurd_sdk import Absurd

from bench.peers import proof
from bench.peers.speaking import each, speak, until

QUEUE = "bench"
WORKERS = 16
BATCH = 10
NAPPERS = 8

woken = defaultdict(list)


class Absurds:
    def __init__(self, url):
        self.url = url
        self.clients = []

    def about(self):
        """Make the schema and the queue, which may be there."""
        for command in (["init"], ["create-queue", QUEUE]):
            self._absurdctl(*command)
        self.spawner = self._client()
        return {"peer": "Absurd", "version": version("absurd-sdk"), "journals": "results"}

    def _absurdctl(self, *command):
        with psycopg.connect(self.url) as connection:
            if connection.execute("SELECT to_regclass(%s)", (f"absurd.t_{QUEUE}",)).fetchone()[0]:
                return
        absurdctl = os.path.join(os.path.dirname(sys.executable), "absurdctl")
        subprocess.run([sys.executable, absurdctl, *command, "-d", self.url], check=True, stdout=sys.stderr)

    def _client(self):
        """A client with a connection of its own, that knows the tasks."""
        client = Absurd(self.url, queue_name=QUEUE)
        client.done = 0

        @client.register_task(name="five")
        def five(params, ctx):
            run = params["run"]
            results = [ctx.step(f"step {at}", lambda at=at: proof.step(run, at)) for at in range(proof.STEPS)]
            client.done += 1
            return proof.output(results)

        @client.register_task(name="nap")
        def nap(params, ctx):
            ctx.sleep_until("nap", params["wake_at"])
            woken[params["run"]].append(time.time())
            return proof.woken(params["run"])

        return client

    async def runs(self, name, number, at_once):
        names = [f"{name}-{at}" for at in range(number)]
        workers = min(at_once, WORKERS)
        while len(self.clients) < workers:
            self.clients.append(self._client())
        begin = perf_counter()
        ids = await asyncio.to_thread(self._run, names, workers)
        seconds = perf_counter() - begin
        way = f"spawn, work_batch, {workers} worker(s), each with a connection"
        return {"seconds": seconds, "way": way, "ids": [ids[run] for run in names]}

    def _run(self, names, workers):
        """The runs' tasks; workers spawn them all, then claim a few at a time until none is left."""
        clients = self.clients[:workers]
        begun = iter(names)
        spawned = {}
        batch = min(BATCH, max(1, len(names) // workers))

        def spawn(client):
            for run in begun:
                spawned[run] = str(client.spawn("five", {"run": run})["task_id"])

        def work(client):
            """Until a claim gives nothing: all were spawned before, so somebody has them."""
            before = -1
            while before < client.done:
                before = client.done
                client.work_batch(batch_size=batch)

        each(workers, spawn, clients)
        each(workers, work, clients)
        return spawned

    def prove(self, ids):
        """What the tasks gave, and their checkpoints, as the tables have them."""
        with psycopg.connect(self.url) as connection:
            tasks = connection.execute(
                f"SELECT task_id::text, completed_payload FROM absurd.t_{QUEUE} WHERE task_id = ANY(%s::uuid[])",
                (list(ids),),
            ).fetchall()
            checkpoints = connection.execute(
                f"SELECT task_id::text, state FROM absurd.c_{QUEUE} WHERE task_id = ANY(%s::uuid[])", (list(ids),)
            ).fetchall()
        journal = defaultdict(list)
        for task, state in checkpoints:
            journal[ids[task]].append(state)
        return {"outputs": {ids[task]: payload for task, payload in tasks}, "journal": journal}

    def work(self):
        for client in [self._client() for _ in range(NAPPERS)]:
            threading.Thread(target=client.start_worker, kwargs={"batch_size": BATCH}, daemon=True).start()
        return f"{NAPPERS} start_worker(batch_size={BATCH}), each with a connection"

    async def park(self, name, number, wake_at):
        """Spawned by one client, parked by the workers."""
        for at in range(number):
            self.spawner.spawn("nap", {"run": f"{name}-{at}", "wake_at": wake_at})
        await until(lambda: self.asleep(name) >= number, 120)
        return self.asleep(name)

    def asleep(self, name):
        return len(self._naps(name, "sleeping"))

    async def wakes(self, name, number, deadline):
        await until(lambda: len(woken) >= number, deadline)
        await until(lambda: len(self._naps(name, "completed")) >= number, 10)
        return {"woken": woken, "outputs": self._naps(name, "completed")}

    def _naps(self, name, state):
        """What sleepers that are in this state have given."""
        with psycopg.connect(self.url) as connection:
            naps = connection.execute(
                f"SELECT params->>'run', completed_payload FROM absurd.t_{QUEUE} "
                "WHERE task_name = 'nap' AND state = %s AND params->>'run' LIKE %s",
                (state, f"{name}-%"),
            )
            return dict(naps.fetchall())

    def close(self):
        for client in [self.spawner, *self.clients]:
            client.close()


if __name__ == "__main__":
    speak(Absurds(sys.argv[1]))
