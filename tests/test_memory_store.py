"""MemoryStore keeps the contract, and reads a clock that tests can set."""

from datetime import timedelta

import pytest

from kvflow.run import Lease
from kvflow.stores import MemoryStore
from kvflow.testing import FakeClock, OneProcessContract, Open
from kvflow.testing.runs import birth, lease


class TestMemoryStore(OneProcessContract):
    @pytest.fixture
    def open(self) -> Open:
        store = MemoryStore()
        return lambda: store


def test_leases_run_out_by_the_clock_given() -> None:
    clock = FakeClock()
    store = MemoryStore(clock)
    store.save(birth())
    assert store.acquire("a", Lease("mine", 1000)) is not None
    clock.advance(timedelta(seconds=0.999))
    assert store.acquire("a", lease()) is None
    clock.advance(timedelta(seconds=0.001))
    assert store.due(0, 1) == ["a"]
    assert store.next_wake() == round(clock().timestamp() * 1000)
    taken = store.acquire("a", lease())
    assert taken is not None
    assert taken.attempt == 1


def test_a_clock_may_give_milliseconds() -> None:
    now = 5000
    store = MemoryStore(lambda: now)
    store.save(birth())
    store.acquire("a", Lease("mine", 1000))
    now = 5999
    assert store.due(10_000, 1) == []
    now = 6000
    assert store.due(0, 1) == ["a"]
