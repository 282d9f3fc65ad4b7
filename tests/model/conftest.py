"""The stores that the machine is run on, each example on an empty one."""

import itertools
import uuid
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from kvflow.store import Derived, Store
from kvflow.stores import FileStore, MemoryStore, open_store
from model.machine import Ground
from model.times import Moving, Serving
from servers.tables import drop

SERVERS = ("postgres", "mysql", "redis")
PREFIX = f"kvflow_{uuid.uuid4().hex[:12]}"

Make = Callable[[], Ground]


def memory() -> Ground:
    time = Moving()
    store = MemoryStore(time.now)
    return Ground(lambda: store, time)


def derived() -> Ground:
    time = Moving()
    inner = MemoryStore(time.now)
    return Ground(lambda: Derived(inner, time.now), time)


@pytest.fixture
def file(tmp_path: Path) -> Make:
    numbers = itertools.count()

    def make() -> Ground:
        time, path = Moving(), tmp_path / str(next(numbers))
        return Ground(lambda: FileStore(path, time.now), time)

    return make


def _two(url: str) -> Generator[list[Store]]:
    """Two handles, which stay open from course to course; opening them is what takes longest."""
    stores = [open_store(url, prefix=PREFIX) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()
    drop(url, PREFIX)


@pytest.fixture(scope="session")
def two_postgres(postgres_url: str) -> Generator[list[Store]]:
    yield from _two(postgres_url)


@pytest.fixture(scope="session")
def two_mysql(mysql_url: str) -> Generator[list[Store]]:
    yield from _two(mysql_url)


@pytest.fixture(scope="session")
def two_redis(redis_url: str) -> Generator[list[Store]]:
    yield from _two(redis_url)


def _server(request: pytest.FixtureRequest) -> Make:
    url: str = request.getfixturevalue(f"{request.param}_url")
    handles: list[Store] = request.getfixturevalue(f"two_{request.param}")
    return lambda: Ground(lambda: open_store(url, prefix=PREFIX), Serving(), handles)


@pytest.fixture(params=["memory", "derived", "file", *SERVERS])
def ground(request: pytest.FixtureRequest) -> Make:
    """Makes an empty store of each kind."""
    if request.param == "memory":
        return memory
    if request.param == "derived":
        return derived
    if request.param == "file":
        make: Make = request.getfixturevalue("file")
        return make
    return _server(request)
