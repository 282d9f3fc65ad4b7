"""The stores that every engine test runs on, and a clock that stands still."""

import uuid
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

from kvflow import Store
from kvflow.stores import open_store
from kvflow.testing import FakeClock

SERVERS = ("postgres", "mysql", "redis")
PREFIX = f"kvflow_{uuid.uuid4().hex[:12]}"
"""Of this session alone, so that two may share a server."""


@pytest.fixture(scope="session")
def opened_stores() -> Generator[dict[str, Store]]:
    stores: dict[str, Store] = {}
    yield stores
    for url, store in stores.items():
        store.close()
        drop(url)


def drop(url: str) -> None:
    """Take the tables of this session from a SQL server; on Redis an emptied store is gone but for a few bytes."""
    if url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {PREFIX}_run, {PREFIX}_log, {PREFIX}_schema".encode())
    elif not url.startswith("redis"):
        where = urlsplit(url)
        with (
            pymysql.connect(
                host=where.hostname,
                port=where.port or 3306,
                user=where.username,
                password=where.password or "",
                database=where.path.strip("/"),
            ) as ours,
            ours.cursor() as cursor,
        ):
            cursor.execute(f"SHOW TABLES LIKE '{PREFIX}\\_%'")
            for (table,) in sorted(cursor.fetchall(), key=lambda row: "log" not in row[0]):
                cursor.execute(f"DROP TABLE `{table}`")


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
    _empty(store)


def _empty(store: Store) -> None:
    while rows := store.list(1000):
        for row in rows:
            store.delete(row.run_id)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
