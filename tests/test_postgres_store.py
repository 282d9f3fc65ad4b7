"""PostgresStore on a real server: the contract, and what only PostgreSQL can do to it."""

import uuid
from collections.abc import Iterator
from functools import partial

import psycopg
import pytest

from kvflow.stores import PostgresStore
from kvflow.testing import Open, StoreContract


@pytest.fixture
def prefix(postgres_url: str) -> Iterator[str]:
    """A prefix of the test's own, whose tables are dropped after it."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    yield name
    drop(postgres_url, name)


def drop(url: str, prefix: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"DROP TABLE IF EXISTS {prefix}_run, {prefix}_log, {prefix}_schema".encode())


@pytest.fixture
def open(postgres_url: str, prefix: str) -> Open:
    return partial(PostgresStore.from_url, postgres_url, prefix=prefix)


class TestPostgresStore(StoreContract):
    pass
