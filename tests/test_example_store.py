"""The example of "write your own store" keeps the contract, bare and under Derived."""

import sqlite3
from functools import partial
from pathlib import Path

import pytest
from sqlite_store import SQLiteStore

from kvflow import Corrupt, Derived, StoreUnavailable, TooLarge
from kvflow.testing import Open, OpenPrimitives, PrimitivesContract, StoreContract
from kvflow.testing.runs import birth, get, refused


def open_derived(path: Path) -> Derived:
    return Derived(SQLiteStore(path, timeout=60))


class TestSQLiteStoreBare(PrimitivesContract):
    @pytest.fixture
    def open(self, tmp_path: Path) -> OpenPrimitives:
        return partial(SQLiteStore, tmp_path / "runs.db")


class TestDerivedFromSQLiteStore(StoreContract):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Open:
        return partial(open_derived, tmp_path / "runs.db")


def test_a_value_over_sqlites_limit_is_too_large(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "runs.db")
    with refused(TooLarge, saying="1 GB"):
        store.save(birth(snapshot=bytes(10**9 + 1)), [b"one"])
    with refused(TooLarge):
        store.save(birth(), [b"one", bytes(10**9 + 1)])
    assert store.load("a") is None


def test_a_file_that_others_keep_locked_is_unavailable_and_then_is_not(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = SQLiteStore(path, timeout=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with refused(StoreUnavailable, saying="runs.db"):
        store.save(birth())
    other.close()
    store.save(birth())


def test_a_file_that_is_no_database_is_corrupt_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(b"not a database " * 100)
    with refused(Corrupt, saying="runs.db"):
        SQLiteStore(path)
    assert path.read_bytes() == b"not a database " * 100


def test_a_row_that_is_no_run_is_corrupt_and_stops_no_other(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    store.save(birth("bad"))
    store.save(birth("good"))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE run SET status = 'nonsense' WHERE run_id = 'bad'")
    db.close()
    with refused(Corrupt, saying="'bad'"):
        store.load("bad")
    assert store.due(1000, 10) == ["bad", "good"]
    assert get(store, "good") == birth("good")
