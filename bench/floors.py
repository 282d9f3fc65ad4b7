"""The cheapest write of some bytes that each driver can make, as durable as a save, and the cheapest read of them.

Every floor rewrites one small value, by the connection or the pool that a user of the driver would have: no index to
keep, no condition to check, nothing to append to. The bytes are new each time, for a server may skip a write that
changes nothing. It reads back what was written last.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import psycopg
import pymysql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool
from pymysql.cursors import Cursor
from redis import Redis


class Floor(NamedTuple):
    """What a driver can do at the least."""

    write: Callable[[bytes], object]
    read: Callable[[], bytes]


@contextmanager
def file(path: Path) -> Generator[Floor]:
    """One append and one fdatasync; open, read of the file's end, close."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    size = 0
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has none

    def write(data: bytes) -> None:
        nonlocal size
        os.write(descriptor, data)
        sync(descriptor)
        size = len(data)

    def read() -> bytes:
        with path.open("rb", buffering=0) as file:
            file.seek(-size, os.SEEK_END)
            return file.read(size)

    try:
        yield Floor(write, read)
    finally:
        os.close(descriptor)


@contextmanager
def postgres(url: str) -> Generator[Floor]:
    """A prepared UPDATE or SELECT of one row by its primary key, binary, autocommit, on a pooled connection."""
    with ConnectionPool(url, min_size=1, max_size=1, kwargs={"autocommit": True}, open=True) as pool:
        with pool.connection() as connection:
            connection.execute("CREATE TABLE bare (id text PRIMARY KEY, data bytea NOT NULL)")
            connection.execute("INSERT INTO bare VALUES ('a', '')")

        def write(data: bytes) -> None:
            with pool.connection() as connection:
                connection.execute("UPDATE bare SET data = %b WHERE id = %b", (data, "a"), prepare=True)

        def read() -> bytes:
            with pool.connection() as connection:
                cursor = connection.cursor(binary=True)
                row = cursor.execute("SELECT data FROM bare WHERE id = %b", ("a",), prepare=True).fetchone()
                assert row is not None
                return bytes(row[0])

        yield Floor(write, read)
        with pool.connection() as connection:
            connection.execute("DROP TABLE bare")


def mysql_connection(url: str) -> "pymysql.Connection[Cursor]":
    where = urlsplit(url)
    return pymysql.connect(
        host=where.hostname or "127.0.0.1",
        port=where.port or 3306,
        user=unquote(where.username or ""),
        password=unquote(where.password or ""),
        database=where.path.strip("/") or None,
        autocommit=True,
    )


@contextmanager
def mysql(url: str) -> Generator[Floor]:
    """An UPDATE or a SELECT of one row by its primary key, autocommit, on one connection."""
    with mysql_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (id VARBINARY(800) PRIMARY KEY, data LONGBLOB NOT NULL) ENGINE=InnoDB")
        cursor.execute("INSERT INTO bare VALUES ('a', '')")

        def write(data: bytes) -> None:
            cursor.execute("UPDATE bare SET data = %s WHERE id = %s", (data, b"a"))

        def read() -> bytes:
            cursor.execute("SELECT data FROM bare WHERE id = %s", (b"a",))
            ((data,), *_) = cursor.fetchall()
            return bytes(data)

        yield Floor(write, read)
        cursor.execute("DROP TABLE bare")


def redis_client(url: str) -> Any:
    """A client whose type strict checkers know: in redis-py's own, some of it is unknown."""
    return cast(Any, Redis).from_url(url)


@contextmanager
def redis(url: str, key: str) -> Generator[Floor]:
    """One HSET or HGET of one field, on the client's own pool."""
    with redis_client(url) as client:

        def write(data: bytes) -> None:
            client.hset(key, "data", data)

        yield Floor(write, lambda: client.hget(key, "data"))
        client.delete(key)


PostgresConnection = psycopg.Connection[TupleRow]


def postgres_connection(url: str) -> PostgresConnection:
    return psycopg.connect(url, autocommit=True)
