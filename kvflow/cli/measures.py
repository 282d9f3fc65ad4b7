"""A first use of a store, as an application would use it: whether it may, how long it takes, whose clock is right."""

import time
import uuid
from collections.abc import Callable
from statistics import median

from kvflow.checks import LATEST
from kvflow.errors import KvflowError
from kvflow.findings import Finding, limit, note
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Store

_TIMES = 9
_APART = 1.0
"""Seconds by which two clocks may differ before it is worth saying."""


class Astray(KvflowError):
    """The store did not do what it said."""


def measure(store: Store) -> list[Finding]:
    """One of each call; raises what the store raises where the server does not allow one."""
    store.next_wake()
    look = _seconds(lambda: store.load("nobody"))
    version = 0

    def save() -> None:
        nonlocal version
        version += 1
        store.save(_run("speed", version), [b"record"])

    write = _seconds(save)
    clock = min((_apart(store, f"clock {number}") for number in range(_TIMES)), key=lambda one: one[1])
    lease = Lease(uuid.uuid4().hex, 60_000)
    for run in store.claim(LATEST, _TIMES, lease):
        store.release(run.run_id, lease)
    for run in store.list(2 * _TIMES):
        store.delete(run.run_id)
    return [_clock(*clock), note("speed", f"a save takes {write * 1000:.1f} ms from here, a look {look * 1000:.1f} ms")]


def _run(run_id: str, version: int = 1) -> StoredRun:
    now = time.time_ns() // 1_000_000
    return StoredRun(run_id=run_id, workflow="check", status=Status.WAITING, version=version, created_at=now,
                     updated_at=now, snapshot=b"", seen=version - 1)  # fmt: skip


def _seconds(call: Callable[[], object]) -> float:
    taken: list[float] = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    return median(taken)


def _apart(store: Store, run_id: str) -> tuple[float, float]:
    """How far the store's clock is ahead of ours, and how far that may be wrong: a wake of a post tells its time."""
    store.save(_run(run_id))
    before = time.time()
    store.post(run_id, b"record", LATEST, wake=True)
    after = time.time()
    run = store.load(run_id, log=False)
    if run is None or run.wake_at is None:
        raise Astray(f"a run that was posted to has no wake: {run}")
    return run.wake_at / 1000 - (before + after) / 2, (after - before) / 2


def _clock(ahead: float, doubt: float) -> Finding:
    if abs(ahead) - doubt <= _APART:
        return note("clock", f"the server's and this machine's are within {max(abs(ahead), doubt, 0.001):.3f} s")
    side = "ahead of" if ahead > 0 else "behind"
    return limit("clock", f"the server's is {abs(ahead):.1f} s {side} this machine's: wakes come early or late by as"
                 " much; leases do not mind", "let both follow NTP")  # fmt: skip
