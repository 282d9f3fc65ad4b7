"""The smallest store, bare and under Derived: four methods over a dict are a whole store."""

import threading
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from kvflow import Conflict, Corrupt, Derived, Lease, NotSupported, StoredRun
from kvflow.store import Ids
from kvflow.stores import MemoryStore
from kvflow.testing import (
    ClaimContract,
    FenceContract,
    LeaseContract,
    NextWakeContract,
    OneProcessContract,
    Open,
    OpenPrimitives,
    PostContract,
    PrimitivesContract,
    SaveManyContract,
    ThreadsContract,
)
from kvflow.testing.runs import birth, lease, refused


class DictStore:
    """Save is a compare-and-set on the version; nothing else is promised."""

    def __init__(self) -> None:
        self.runs: dict[str, StoredRun] = {}
        self.lock = threading.Lock()

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        with self.lock:
            old = self.runs.get(run.run_id)
            if run.version != (old.version if old else 0) + 1:
                raise Conflict(f"run {run.run_id!r} is not at version {run.version - 1}")
            log = (*(old.log if old else ()), *new)
            self.runs[run.run_id] = replace(run, attempt=0, seen=len(log), log=log)
            return len(log) - len(new) - run.seen

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        run = self.runs.get(run_id)
        return run if run is None or log else replace(run, seen=0, log=())

    def delete(self, run_id: str) -> None:
        self.runs.pop(run_id, None)

    def due(self, now: int, limit: int) -> Ids:
        with self.lock:
            woken = [(run.wake_at, run.run_id) for run in self.runs.values() if run.wake_at is not None]
        return [run_id for wake_at, run_id in sorted(woken) if wake_at <= now][:limit]


class ListedDictStore(DictStore):
    """With a listing of its own, Derived lists too."""

    def list(self, limit: int, after: tuple[int, str] | None = None, status: str | None = None) -> list[StoredRun]:
        rows = sorted(((run.created_at, run.run_id) for run in self.runs.values()), reverse=True)
        found = (self.runs[run_id] for row in rows if after is None or row < after for run_id in row[1:])
        return [replace(run, log=(), seen=0) for run in found if status in (None, run.status)][:limit]


class TestDictStoreBare(PrimitivesContract):
    @pytest.fixture
    def open(self) -> OpenPrimitives:
        store = DictStore()
        return lambda: store


class TestDerivedFromTheDictStore(OneProcessContract):
    @pytest.fixture
    def open(self) -> Open:
        store = ListedDictStore()
        return lambda: Derived(store)


class TestDerivedWithoutAListing(
    PrimitivesContract,
    LeaseContract,
    FenceContract,
    ClaimContract,
    PostContract,
    SaveManyContract,
    NextWakeContract,
    ThreadsContract,
):
    @pytest.fixture
    def open(self) -> Open:
        store = DictStore()
        return lambda: Derived(store)


class TestDerivedFromAWholeStore(OneProcessContract):
    """Also over a store that refuses what no store may take."""

    @pytest.fixture
    def open(self) -> Open:
        store = MemoryStore()
        return lambda: Derived(store)


def test_a_listing_needs_one_below() -> None:
    with refused(NotSupported, saying="DictStore"):
        Derived(DictStore()).list(10)


def test_bytes_that_derived_did_not_write_are_corrupt_and_stop_nobody() -> None:
    primitives = DictStore()
    store = Derived(primitives)
    primitives.save(birth("bad", snapshot=b"somebody else's"))
    store.save(birth("good"))
    with refused(Corrupt, saying="'bad'"):
        store.load("bad")
    with refused(Corrupt, saying="'bad'"):
        store.acquire("bad", lease())
    assert store.due(1000, 10) == ["good"]
    assert store.next_wake() == 1000
    assert [run.run_id for run in store.claim(1000, 10, lease())] == ["good"]
    assert primitives.runs["bad"].snapshot == b"somebody else's"


def test_what_people_read_below_is_the_head() -> None:
    primitives = DictStore()
    store = Derived(primitives)
    store.save(birth(wake_at=700, event="go"), [b"one"])
    below = primitives.runs["a"]
    assert (below.status, below.workflow, below.wake_at, below.event) == ("suspended", "w", 701, "go")
    assert below.log == (b"one",)
