"""Clients of the MySQL store that are killed while their saves and posts are under way: no run is left torn.

The server goes on with a packet of several statements whose client is gone, so each statement must hold by itself.
"""

import subprocess
import sys
import time
import uuid

from kvflow import Lease, Store
from kvflow.stores import open_store
from servers.tables import drop

KILLS, WRITERS = 6, 24
DEADLINE = 30

WRITES = """
import sys, threading, time
from kvflow.run import Lease, Status, StoredRun
from kvflow.stores import open_store

url, prefix, name, writers = *sys.argv[1:4], int(sys.argv[4])
store = open_store(url, prefix=prefix, pool_size=writers)

def write(run_id, posts):
    version = seen = 0
    while True:
        version += 1
        run = StoredRun(run_id=run_id, workflow="w", status=Status.RUNNING, version=version, created_at=1,
                        updated_at=1, snapshot=b"head", seen=seen)
        store.save(run, [b"saved"], Lease(run_id, 60_000))
        seen += 1
        if posts:
            seen += store.post(run_id, b"posted", 1)

for number in range(writers):
    threading.Thread(target=write, args=(f"{name}-{number}", number % 2), daemon=True).start()
time.sleep(60)
"""


def all_written(store: Store, name: str) -> bool:
    runs = [run for run in store.list(KILLS * WRITERS) if run.run_id.startswith(f"{name}-")]
    return len(runs) == WRITERS and all(run.version > 3 for run in runs)


def test_a_client_that_is_killed_leaves_no_torn_run(mysql_url: str) -> None:
    prefix = f"kills_{uuid.uuid4().hex[:8]}"
    try:
        with open_store(mysql_url, prefix=prefix) as store:
            for kill in range(KILLS):
                client = subprocess.Popen([sys.executable, "-c", WRITES, mysql_url, prefix, str(kill), str(WRITERS)])
                try:
                    deadline = time.monotonic() + DEADLINE
                    while not all_written(store, str(kill)):
                        assert time.monotonic() < deadline, "the writers do not write"
                        time.sleep(0.01)
                finally:
                    client.kill()
                    client.wait()
            for run in store.list(KILLS * WRITERS):
                store.acquire(run.run_id, Lease("reads", 1000))  # waits for what is still under way
                stored = store.load(run.run_id)  # raises Corrupt where records are missing
                assert stored is not None
                assert stored.seen >= stored.version
    finally:
        drop(mysql_url, prefix)
