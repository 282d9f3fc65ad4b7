"""What every store promises, shown on one run: `make demo`.

Needs no server: it shows MemoryStore and FileStore, and besides them each server that KVFLOW_TEST_POSTGRES_URL,
KVFLOW_TEST_MYSQL_URL, KVFLOW_TEST_REDIS_URL or KVFLOW_TEST_REDIS_CLUSTER_URL names.
"""

import multiprocessing
import os
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from multiprocessing.connection import Connection
from threading import Barrier

from msgspec.structs import replace

from kvflow import Conflict, Lease, Status, StoredRun
from kvflow.store import Store
from kvflow.stores import open_store

TTL = 400
"""Milliseconds; a real one is half a minute."""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kvflow-demo-") as directory:
        for url in ("memory:", f"file:{directory}/runs", *servers()):
            with open_store(url, prefix="kvflow_demo") as store:
                print(f"{type(store).__name__}, by {url.partition(':')[0]}:")
                show(store, url)
    if not servers():
        print("KVFLOW_TEST_REDIS_URL=redis://localhost make demo shows the same on a server")


def servers() -> list[str]:
    names = [f"KVFLOW_TEST_{name}_URL" for name in ("POSTGRES", "MYSQL", "REDIS", "REDIS_CLUSTER")]
    return [os.environ[name] for name in names if os.environ.get(name)]


def show(store: Store, url: str) -> None:
    run_id = f"order-{uuid.uuid4().hex[:8]}"
    workflow = f"demo-{run_id}"  # only ours is claimed, whoever else uses this store
    try:
        be_born(store, run_id, workflow)
        be_claimed_once(store, workflow)
        token = outlive_its_holder(store, url, workflow)
        run, lease = be_taken_over(store, workflow)
        refuse_the_dead(store, run, token)
        wait_for_an_event(store, run, lease)
        finish(store, workflow)
    finally:
        store.delete(run_id)


def be_born(store: Store, run_id: str, workflow: str) -> None:
    at = now()
    run = StoredRun(
        run_id=run_id,
        workflow=workflow,
        status=Status.SUSPENDED,
        version=1,
        wake_at=at,
        created_at=at,
        updated_at=at,
        snapshot=b"an order",
    )
    store.save(run)
    tell("born", f"{run_id} is saved as version 1, due at once")


def be_claimed_once(store: Store, workflow: str) -> None:
    start = Barrier(8)

    def claim(lease: Lease) -> list[tuple[str, Lease]]:
        start.wait()
        return [(run.run_id, lease) for run in store.claim(now(), 10, lease, [workflow])]

    with ThreadPoolExecutor(8) as instances:
        claims = instances.map(claim, [new_lease(60_000) for _ in range(8)])
        [(run_id, lease)] = chain.from_iterable(claims)
    store.release(run_id, lease)
    tell("claimed", "8 claim at the same moment, 1 gets it, and gives it back")


def outlive_its_holder(store: Store, url: str, workflow: str) -> str:
    """Returns the token of a holder that is gone without a word."""
    if url == "memory:":  # which no other process can reach
        lease = new_lease()
        assert store.claim(now(), 1, lease, [workflow])
        tell("killed", "its holder falls silent (another process could not reach this store)")
        return lease.token
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    holder = spawn.Process(target=hold, args=(url, workflow, theirs), daemon=True)
    holder.start()
    token: str = ours.recv()
    holder.kill()
    holder.join()
    tell("killed", f"process {holder.pid} claims it, and is killed while it holds the lease")
    return token


def hold(url: str, workflow: str, parent: Connection) -> None:
    lease = new_lease()
    store = open_store(url, prefix="kvflow_demo")
    assert store.claim(now(), 1, lease, [workflow])
    parent.send(lease.token)
    time.sleep(60)


def be_taken_over(store: Store, workflow: str) -> tuple[StoredRun, Lease]:
    lease, since = new_lease(60_000), now()
    while not (claimed := store.claim(now(), 1, lease, [workflow])):
        time.sleep(0.01)
    [run] = claimed
    assert run.attempt == 1
    tell("recovered", f"the lease ran out, and {now() - since} ms later another has it; attempt {run.attempt} says so")
    return run, lease


def refuse_the_dead(store: Store, run: StoredRun, token: str) -> None:
    late = replace(run, status=Status.SUSPENDED, version=run.version + 1, snapshot=b"from the grave")
    try:
        store.save(late, [b"charged twice"], Lease(token, TTL))
    except Conflict as refused:
        tell("fenced", f"what the dead one sent arrives late: {refused.code}, nothing is written")
    else:
        raise AssertionError("a holder that lost its lease could save")


def wait_for_an_event(store: Store, run: StoredRun, lease: Lease) -> None:
    at_rest = replace(run, status=Status.WAITING, version=run.version + 1, wake_at=None, event="approval")
    store.save(at_rest, [b"charged"], lease)
    assert run.run_id not in store.due(now(), 1000)
    assert store.post(run.run_id, b"approved", now())
    tell("waiting", "it rests until something is posted to it; that wakes it, with the record in its log")


def finish(store: Store, workflow: str) -> None:
    lease = new_lease()
    [run] = store.claim(now(), 10, lease, [workflow])
    assert run.log == (b"charged", b"approved")
    store.save(replace(run, status=Status.COMPLETED, version=run.version + 1, wake_at=None), [b"shipped"], lease)
    assert not store.claim(now(), 10, new_lease(), [workflow])
    done = store.load(run.run_id)
    assert done is not None
    tell("over", f"{done.status}, version {done.version}: {', '.join(record.decode() for record in done.log)}")


def new_lease(ttl: int = TTL) -> Lease:
    return Lease(uuid.uuid4().hex, ttl)


def now() -> int:
    return time.time_ns() // 1_000_000


def tell(what: str, how: str) -> None:
    print(f"  {what:<10} {how}", flush=True)


if __name__ == "__main__":
    main()
