"""``kvflow schema``: what it prints makes tables that a user who may make none works with."""

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest
from pymysql.constants import CLIENT

from kvflow.cli import main
from kvflow.stores import MySQLStore, PostgresStore, open_store
from kvflow.stores.upkeep import upkeep_of
from kvflow.testing.runs import birth, lease

NOBODY = "postgresql://nobody:secret@127.0.0.1:1/none", "mysql://nobody:secret@127.0.0.1:1/none"


@pytest.fixture
def prefix() -> str:
    return f"t_{uuid.uuid4().hex[:12]}"


def schema(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints, where nothing is wrong."""
    assert main(["schema", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def use(url: str, prefix: str) -> None:
    """Do with the tables what a store does."""
    with open_store(url, prefix=prefix) as store:
        store.save(birth(), [b"record"])
        (held,) = store.claim(1000, 10, lease())
        assert held.log == (b"record",)
        assert store.post("a", b"event", 5)
        store.delete("a")


@pytest.fixture
def dropped(request: pytest.FixtureRequest, prefix: str) -> Iterator[None]:
    yield
    for server in ("postgres", "mysql"):
        if f"{server}_url" in request.fixturenames:
            upkeep_of(request.getfixturevalue(f"{server}_url"), prefix=prefix).drop()


@pytest.mark.usefixtures("dropped")
def test_tables_of_postgres_for_a_role_that_may_make_none(
    capsys: pytest.CaptureFixture[str], postgres_url: str, prefix: str
) -> None:
    ddl = schema(capsys, NOBODY[0], "--prefix", prefix)
    role = f"{prefix}_role"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(ddl.encode())
        admin.execute(ddl.encode())
        admin.execute(f"CREATE ROLE {role}".encode())
        try:
            admin.execute("REVOKE CREATE ON SCHEMA public FROM public")
            tables = f"{prefix}_run, {prefix}_log, {prefix}_schema"
            admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}".encode())
            use(f"{postgres_url}?options=-c%20role%3D{role}", prefix)
            admin.execute(ddl.encode())
        finally:
            admin.execute(f"DROP OWNED BY {role}".encode())
            admin.execute(f"DROP ROLE {role}".encode())


@pytest.mark.usefixtures("dropped")
def test_tables_of_mysql_for_a_user_that_may_make_none(
    capsys: pytest.CaptureFixture[str], mysql_url: str, prefix: str
) -> None:
    ddl = schema(capsys, NOBODY[1], "--prefix", prefix)
    where, user = urlsplit(mysql_url), f"{prefix}_user"
    admin = pymysql.connect(
        host=where.hostname,
        port=where.port or 3306,
        user=where.username,
        password=where.password or "",
        database=where.path[1:],
        autocommit=True,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )
    with closing(admin), admin.cursor() as cursor:
        for _ in range(2):
            cursor.execute(ddl)
            while cursor.nextset():
                pass
        cursor.execute(f"CREATE USER {user} IDENTIFIED BY 'secret'")
        try:
            for table in ("runs", "log", "schema"):
                cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {prefix}_{table} TO {user}")
            use(f"mysql://{user}:secret@{where.hostname}:{where.port or 3306}{where.path}", prefix)
        finally:
            cursor.execute(f"DROP USER {user}")


def test_it_is_what_the_store_itself_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    with PostgresStore.from_url(NOBODY[0], prefix="shop") as postgres, MySQLStore.from_url(NOBODY[1]) as mysql:
        assert schema(capsys, NOBODY[0], "--prefix", "shop") == postgres.schema()
        assert schema(capsys, NOBODY[1]) == mysql.schema()


def test_prefix_and_store_may_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVFLOW_STORE", NOBODY[0])
    monkeypatch.setenv("KVFLOW_PREFIX", "shop")
    assert "EXISTS shop_run (" in schema(capsys)


@pytest.mark.parametrize("url", ["memory:", "file:runs", "redis://nobody:1", "redis+cluster://nobody:1"])
def test_where_nothing_is_needed_it_says_so(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["schema", url]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"kvflow: {url.partition(':')[0]}: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("driver", "url", "extra"),
    [("psycopg", NOBODY[0], "postgres"), ("pymysql", NOBODY[1], "mysql"), ("redis", "redis://nobody", "redis")],
)
def test_without_the_driver_the_extra_is_named(driver: str, url: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules['{driver}'] = None; from kvflow.cli import main; sys.exit(main(['schema', '{url}']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pip install 'kvflow[{extra}]'" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["postgresql://h/db", "--prefix", "Not; A Prefix"], ["nosuch://h"], ["mysql://h"]]
)
def test_what_is_wrong_is_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(["schema", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
