"""The stores that tests of engine and worker run on, a clock that stands still, and processes that share a store."""

import multiprocessing
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from kvflow import Store
from kvflow.stores import open_store
from kvflow.testing import FakeClock
from servers.tables import drop

SERVERS = ("postgres", "mysql", "redis")
PREFIX = f"kvflow_{uuid.uuid4().hex[:12]}"
"""Of this session alone, so that two may share a server."""

DEADLINE = 60

Open = Callable[[], Store]


@pytest.fixture(scope="session")
def opened_stores() -> Generator[dict[str, Store]]:
    stores: dict[str, Store] = {}
    yield stores
    for url, store in stores.items():
        store.close()
        if url in os.environ.values():  # a server of the session's own is gone by now, with its tables
            drop(url, PREFIX)


@pytest.fixture(params=["memory", "file", *SERVERS])
def store(request: pytest.FixtureRequest, opened_stores: dict[str, Store], tmp_path: Path) -> Generator[Store]:
    """An empty store; the servers' tables are made once, and emptied after each test."""
    if request.param not in SERVERS:
        with open_store("memory:" if request.param == "memory" else f"file:{tmp_path}/runs") as store:
            yield store
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    if url not in opened_stores:
        opened_stores[url] = open_store(url, prefix=PREFIX)
    store = opened_stores[url]
    yield store
    empty(store)


def empty(store: Store) -> None:
    while rows := store.list(1000):
        for row in rows:
            store.delete(row.run_id)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["file", "postgres", "mysql", "redis"])
def opener(request: pytest.FixtureRequest, opened_stores: dict[str, Store], tmp_path: Path) -> Generator[Open]:
    """What opens one and the same store in any process; empty before and after."""
    if request.param == "file":
        yield partial(open_store, f"file:{tmp_path}/runs")
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    opener = partial(open_store, url, prefix=PREFIX)
    opened_stores.setdefault(url, opener())  # so that its tables are taken away in the end
    yield opener
    with opener() as store:
        empty(store)


class Journal:
    """Lines that processes append to one file: what the outside saw, in order, whoever died."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *words: object) -> None:
        journal = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(journal, (" ".join(map(str, words)) + "\n").encode())
        finally:
            os.close(journal)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def begun(target: Callable[..., None], *args: object) -> BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=target, args=args, daemon=True)
    process.start()
    return process


def ended(processes: Iterable[BaseProcess]) -> list[int | None]:
    """The exit codes; whoever has not ended by the deadline is killed."""
    deadline = time.monotonic() + DEADLINE
    codes: list[int | None] = []
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
        codes.append(process.exitcode)
        process.kill()
        process.join()
        process.close()
    return codes
