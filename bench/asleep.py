"""Runs of real workflows in large numbers: one is driven to its rest in memory, and the others are its copies.

So a thousand sleepers are there in a few large saves, and are what a runtime would have stored.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from msgspec.structs import replace

from bench.runs import expect
from kvflow import Runtime, StoredRun, Workflow
from kvflow.store import Save, Store
from kvflow.stores import MemoryStore
from kvflow.testing import FakeClock

Original = tuple[StoredRun, Sequence[bytes]]

AGO = timedelta(hours=2)
"""When copies were born: what has slept for less since then is due."""


def at_rest(workflow: Workflow, payload: Any = None) -> Original:
    """A run as it is stored at its first rest."""
    store = MemoryStore()
    with Runtime(store, workflows=[workflow], clock=FakeClock(datetime.now(UTC) - AGO)) as runtime:
        return _stored(store, runtime.trigger(workflow, payload).run_id)


def submitted(workflow: Workflow, payload: Any = None) -> Original:
    """A run that is due and was never driven."""
    store = MemoryStore()
    with Runtime(store, workflows=[workflow], clock=FakeClock(datetime.now(UTC) - AGO)) as runtime:
        return _stored(store, runtime.submit(workflow, payload).run_id)


def _stored(store: Store, run_id: str) -> Original:
    run = store.load(run_id)
    assert run is not None
    return run, run.log


def copies(original: Original, name: str, number: int) -> Iterator[Save]:
    """The births of so many runs like this one."""
    run, log = original
    for at in range(number):
        yield replace(run, run_id=f"{name}-{at:07}", version=1, seen=0, log=()), log, None


def bear_copies(store: Store, original: Original, name: str, number: int, together: int = 500) -> None:
    """Save them, many at a time."""
    remaining = copies(original, name, number)
    while some := list(islice(remaining, together)):
        expect(store.save_many(some))
