"""The cheapest write of some bytes that each driver can make, as durable as a save: what a save is held against.

Every floor rewrites one small value, by the connection or the pool that a user of the driver would have: no index to
keep, no condition to check, nothing to append to. The bytes are new each time, for a server may skip a write that
changes nothing.
"""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import psycopg
import pymysql
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool
from pymysql.cursors import Cursor
from redis import Redis

Floor = Callable[[bytes], object]


@contextmanager
def file(path: Path) -> Generator[Floor]:
    """One append and one fdatasync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sync = getattr(os, "fdatasync", os.fsync)  # macOS has none

    def write(data: bytes) -> None:
        os.write(descriptor, data)
        sync(descriptor)

    try:
        yield write
    finally:
        os.close(descriptor)


@contextmanager
def postgres(url: str) -> Generator[Floor]:
    """A prepared UPDATE of one row by its primary key, binary parameters, autocommit, on a pooled connection."""
    with ConnectionPool(url, min_size=1, max_size=1, kwargs={"autocommit": True}, open=True) as pool:
        with pool.connection() as connection:
            connection.execute("CREATE TABLE bare (id text PRIMARY KEY, data bytea NOT NULL)")
            connection.execute("INSERT INTO bare VALUES ('a', '')")

        def write(data: bytes) -> None:
            with pool.connection() as connection:
                connection.execute("UPDATE bare SET data = %b WHERE id = %b", (data, "a"), prepare=True)

        yield write
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
    """An UPDATE of one row by its primary key, autocommit, on one connection."""
    with mysql_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bare (id VARBINARY(800) PRIMARY KEY, data LONGBLOB NOT NULL) ENGINE=InnoDB")
        cursor.execute("INSERT INTO bare VALUES ('a', '')")
        yield lambda data: cursor.execute("UPDATE bare SET data = %s WHERE id = %s", (data, b"a"))
        cursor.execute("DROP TABLE bare")


def redis_client(url: str) -> Any:
    """A client whose type strict checkers know: in redis-py's own, some of it is unknown."""
    return cast(Any, Redis).from_url(url)


@contextmanager
def redis(url: str, key: str) -> Generator[Floor]:
    """One HSET of one field, on the client's own pool."""
    with redis_client(url) as client:
        yield lambda data: client.hset(key, "data", data)
        client.delete(key)


def postgres_connection(url: str) -> psycopg.Connection[TupleRow]:
    return psycopg.connect(url, autocommit=True)
