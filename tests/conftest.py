"""The servers that tests run on.

``postgres_url``, ``mysql_url``, ``redis_url``, ``redis_cluster_url`` and ``redis_sentinel_url`` are addresses of real
servers, shared by all tests of the session (with ``KVFLOW_TEST_..._URL`` set, perhaps by others too): each test keeps
to a prefix of its own. ``own_postgres``, ``own_mysql`` and ``own_redis`` are servers that a test may stop, start,
pause and resume; they write durably, and the next test finds them running.

A server is started when the first test asks for it. What this machine does not have is skipped with a line that says
how to get it, and fails where CI is set.
"""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from chaos import chaos_seeds, share_of, side_by_side
from servers.guardian import Guardian
from servers.mysql import mysql
from servers.postgres import postgres
from servers.process import Missing, Server
from servers.valkey import Group, cluster, form, sentinels, settle, valkey

S = TypeVar("S", Server, Group)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for what it begins with &
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``make chaos`` has nothing but parts of itself, which run side by side."""
    if all(item.get_closest_marker("chaos") for item in items):
        items[:] = side_by_side(items, share_of)


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> Iterator[int]:
    """New ones, for the share of the time that the mark ``chaos`` of this test says."""
    return chaos_seeds(share_of(request.node))


@pytest.fixture(scope="session")
def guardian() -> Generator[Guardian]:
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Generator[str]:
    with _shared(request, "POSTGRES", lambda guardian: postgres(guardian, "postgres", durable=False)) as url:
        yield url


@pytest.fixture(scope="session")
def mysql_url(request: pytest.FixtureRequest) -> Generator[str]:
    with _shared(request, "MYSQL", lambda guardian: mysql(guardian, "mysql", durable=False)) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> Generator[str]:
    with _shared(request, "REDIS", lambda guardian: valkey(guardian, "redis", durable=False)) as url:
        yield url


@pytest.fixture(scope="session")
def redis_cluster_url(request: pytest.FixtureRequest) -> Generator[str]:
    with _shared(request, "REDIS_CLUSTER", lambda guardian: cluster(guardian, "cluster"), form) as url:
        yield url


@pytest.fixture(scope="session")
def redis_sentinel_url(guardian: Guardian) -> Generator[str]:
    """``redis+sentinel://host:port,host:port,host:port/service``"""
    with _running(guardian, lambda guardian: sentinels(guardian, "sentinels"), settle) as group:
        yield group.url


@pytest.fixture(scope="session")
def _own_postgres(guardian: Guardian) -> Generator[Server]:
    with _running(guardian, lambda guardian: postgres(guardian, "own-postgres", durable=True)) as server:
        yield server


@pytest.fixture(scope="session")
def _own_mysql(guardian: Guardian) -> Generator[Server]:
    with _running(guardian, lambda guardian: mysql(guardian, "own-mysql", durable=True)) as server:
        yield server


@pytest.fixture(scope="session")
def _own_redis(guardian: Guardian) -> Generator[Server]:
    with _running(guardian, lambda guardian: valkey(guardian, "own-redis", durable=True)) as server:
        yield server


@pytest.fixture
def own_postgres(_own_postgres: Server) -> Generator[Server]:
    with _left_running(_own_postgres) as server:
        yield server


@pytest.fixture
def own_mysql(_own_mysql: Server) -> Generator[Server]:
    with _left_running(_own_mysql) as server:
        yield server


@pytest.fixture
def own_redis(_own_redis: Server) -> Generator[Server]:
    with _left_running(_own_redis) as server:
        yield server


@contextmanager
def _shared(
    request: pytest.FixtureRequest, name: str, make: Callable[[Guardian], S], prepare: Callable[[S], None] | None = None
) -> Generator[str]:
    """The server that the environment names, or else one of our own."""
    named = os.environ.get(f"KVFLOW_TEST_{name}_URL")
    if named:
        yield named
        return
    guardian: Guardian = request.getfixturevalue("guardian")
    with _running(guardian, make, prepare) as server:
        yield server.url


@contextmanager
def _running(
    guardian: Guardian, make: Callable[[Guardian], S], prepare: Callable[[S], None] | None = None
) -> Generator[S]:
    try:
        server = make(guardian)
    except Missing as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    try:
        server.start()
        if prepare is not None:
            prepare(server)
        yield server
    finally:
        server.close()


@contextmanager
def _left_running(server: Server) -> Generator[Server]:
    """Whatever the test did to it, the next finds it answering."""
    try:
        yield server
    finally:
        server.resume()
        server.start()
