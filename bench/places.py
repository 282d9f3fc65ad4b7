"""Where stores are measured: a server, a database or a directory of our own on it, gone at the end, whatever happened.

A server is found as the tests find it: the one that ``KVFLOW_TEST_..._URL`` names, or else one that is started for the
purpose, with settings under which it loses nothing.
"""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench import floors
from bench.grounds import FileGround, Ground, MySQLGround, PostgresGround, RedisGround

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from servers.guardian import Guardian
from servers.mysql import mysql
from servers.postgres import postgres
from servers.process import Missing, Server
from servers.valkey import valkey

__all__ = ["PLACES", "Missing"]


@contextmanager
def _memory() -> Generator[Ground]:
    yield Ground()


@contextmanager
def _file() -> Generator[Ground]:
    path = Path(tempfile.mkdtemp(prefix="kvflow-bench-")).resolve()
    try:
        yield FileGround(path)
    finally:
        shutil.rmtree(path)


@contextmanager
def _postgres() -> Generator[Ground]:
    with _server("POSTGRES", lambda guardian: postgres(guardian, "postgres", durable=True)) as (url, _):
        name = _new_name()
        with floors.postgres_connection(url) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield PostgresGround(urlsplit(url)._replace(path=f"/{name}").geturl())
        finally:
            with floors.postgres_connection(url) as connection:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def _mysql() -> Generator[Ground]:
    with _server("MYSQL", lambda guardian: mysql(guardian, "mysql", durable=True)) as (url, _):
        name = _new_name()
        with floors.mysql_connection(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
        try:
            yield MySQLGround(urlsplit(url)._replace(path=f"/{name}").geturl())
        finally:
            with floors.mysql_connection(url) as connection, connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE {name}")


@contextmanager
def _redis() -> Generator[Ground]:
    with _server("REDIS", lambda guardian: valkey(guardian, "redis", durable=True)) as (url, ours):
        ground = RedisGround(url, _new_name(), ours)
        try:
            yield ground
        finally:
            if not ours:  # ours ends, and its directory goes
                ground.clear()


@contextmanager
def _server(name: str, make: Callable[[Guardian], Server]) -> Generator[tuple[str, bool]]:
    """The URL of the server, and whether it is ours."""
    named = os.environ.get(f"KVFLOW_TEST_{name}_URL")
    if named:
        yield named, False
        return
    guardian = Guardian()
    try:
        server = make(guardian)
        try:
            server.start()
            yield server.url, True
        finally:
            server.close()
    finally:
        guardian.close()


def _new_name() -> str:
    return f"bench_{uuid.uuid4().hex[:8]}"


PLACES: dict[str, Callable[[], AbstractContextManager[Ground]]] = {
    "memory": _memory,
    "file": _file,
    "postgres": _postgres,
    "mysql": _mysql,
    "redis": _redis,
}
