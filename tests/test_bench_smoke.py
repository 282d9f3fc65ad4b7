"""The bench runs to its end on every store and leaves nothing behind. What it measures here means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pymysql
from redis import Redis

ROOT = Path(__file__).resolve().parent.parent

OF_ALL = {
    "save of 200 bytes",
    "save of 10,240 bytes",
    "claim that finds nothing",
    "claim(10), of 5",
    "claim(10), of any",
    "due and 10",
}
OF_DURABLE = {"save beside", "post beside"}
OF_SERVERS = {"10 saves beside", "claimed a second"}
SPENT = ["save", "post", "claim of nothing", "claim(10)", "save_many(10)"]


def test_memory(tmp_path: Path) -> None:
    _shows(_measured("memory", tmp_path), OF_ALL)


def test_file(tmp_path: Path) -> None:
    found = _measured("file", tmp_path, TMPDIR=str(tmp_path))
    _shows(found, OF_ALL | OF_DURABLE)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_postgres(postgres_url: str, tmp_path: Path) -> None:
    _shows(_measured("postgres", tmp_path, KVFLOW_TEST_POSTGRES_URL=postgres_url), OF_ALL | OF_DURABLE | OF_SERVERS)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench%'").fetchall() == []


def test_mysql(mysql_url: str, tmp_path: Path) -> None:
    _shows(_measured("mysql", tmp_path, KVFLOW_TEST_MYSQL_URL=mysql_url), OF_ALL | OF_DURABLE | OF_SERVERS)
    where = urlsplit(mysql_url)
    user, password = where.username, where.password or ""
    connection = pymysql.connect(host=where.hostname, port=where.port or 3306, user=user, password=password)
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES LIKE 'bench%'")
        assert cursor.fetchall() == ()


def test_redis(redis_url: str, tmp_path: Path) -> None:
    _shows(_measured("redis", tmp_path, KVFLOW_TEST_REDIS_URL=redis_url), OF_ALL | OF_DURABLE | OF_SERVERS)
    client: Any = cast(Any, Redis).from_url(redis_url)
    with client:
        assert list(client.scan_iter("*bench_*", count=1000)) == []


def _measured(store: str, tmp_path: Path, **environment: str) -> dict[str, Any]:
    """What the bench keeps of a quick run, in a process of its own as people start it."""
    kept = tmp_path / "found.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.stores", store, "--quick", "--json", kept],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout
    found: dict[str, Any] = json.loads(kept.read_bytes())["results"][0]
    for figure in found["figures"]:
        assert figure["name"] in run.stdout
    return found


def _shows(found: dict[str, Any], figures: set[str]) -> None:
    """Each of these figures, as a ratio of some rounds, and no other; and what each call spends."""
    names = [figure["name"] for figure in found["figures"]]
    for name in names:
        assert any(name.startswith(start) for start in figures), f"{name} is not expected"
    for start in figures:
        assert any(name.startswith(start) for name in names), f"no figure of {start}"
    for figure in found["figures"]:
        assert figure["rounds"] >= 5
        assert figure["ratio"] > 0
    bare = ["bare write"] if figures >= OF_DURABLE else []
    assert [expense["name"] for expense in found["expenses"]] == bare + SPENT
    assert all(expense["wall"] > 0 for expense in found["expenses"])


def test_the_engine(redis_url: str, tmp_path: Path) -> None:
    kept = tmp_path / "found.json"
    command = [sys.executable, "-m", "bench.engine", "redis", "--quick", "--json", str(kept)]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "KVFLOW_TEST_REDIS_URL": redis_url}, check=True, timeout=120)
    found = json.loads(kept.read_bytes())
    assert found["threads of sleepers"] <= 1
    assert [row["name"].split()[0] for row in found["memory"]] == ["replaying", "step"]
    assert found["redis"][0]["name"] == "a run of 5 steps beside its 7 bare saves"
