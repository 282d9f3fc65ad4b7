"""Where both sides work: one server, with a place of its own for each side, which is gone at the end."""

import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench import floors
from bench.grounds import FileGround, Ground, MySQLGround, PostgresGround, RedisGround

PATIENCE = 10.0
"""Seconds that the sessions of a program that has ended may take to end."""


@contextmanager
def place(ground: Ground, side: str) -> Generator[list[str]]:
    """What the side's program is called with: a URL, and where it has to share a name."""
    name = f"bench_{side}_{uuid.uuid4().hex[:8]}"
    if isinstance(ground, RedisGround):
        yield [ground.url, ground.prefix(side)]
    elif isinstance(ground, FileGround):
        path = Path(urlsplit(ground.url).path) / name
        path.mkdir()
        yield [f"file:{path}" if side == "kvflow" else f"sqlite:///{path}/{side}.sqlite"]
    else:
        _tell(ground, f"CREATE DATABASE {name}")
        try:
            yield [urlsplit(ground.url)._replace(path=f"/{name}").geturl()]
        finally:
            _tell(ground, f"DROP DATABASE {name}{' WITH (FORCE)' if isinstance(ground, PostgresGround) else ''}")


def _tell(ground: Ground, statement: str) -> None:
    if isinstance(ground, PostgresGround):
        with floors.postgres_connection(ground.url) as connection:
            connection.execute(statement.encode())
    elif isinstance(ground, MySQLGround):
        with floors.mysql_connection(ground.url) as session, session.cursor() as cursor:
            cursor.execute(statement)


def commits(ground: Ground, arguments: list[str]) -> int | None:
    """How many transactions the place's database has committed, reading ones too; None where nobody counts by database.

    Sessions tell what they did at the latest when they end, so this is asked when none is left.
    """
    if not isinstance(ground, PostgresGround):
        return None
    name = (urlsplit(arguments[0]).path.strip("/"),)
    deadline = time.monotonic() + PATIENCE
    with floors.postgres_connection(ground.url) as connection:
        while time.monotonic() < deadline:
            left = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", name).fetchone()
            if left == (0,):
                break
            time.sleep(0.01)
        row = connection.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = %s", name).fetchone()
        assert row is not None
        return int(row[0])
