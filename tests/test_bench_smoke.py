"""The benches run to their end on every store and leave nothing behind. What they measure here means nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest
from redis import Redis

ROOT = Path(__file__).resolve().parent.parent

CALLS = {"save of 200 bytes", "save of 10,240 bytes", "due and 10"}
BARE = {"save beside", "post beside", "load of 800 bytes beside", "claim(1), for each run", "claim(10), for each run"}
SEVERAL = {"10 saves beside", "claimed a second"}
GROWTH = {"a step at a log", "claim that finds nothing", "claim(5), of 5", "claim(5), of any"}
MANY = {"runs swept a second", "memory of an idle worker"}
WRITTEN = {"bytes in the"}
SPEED = {"a wake, of", "7 bare writes beside", "a run alone beside", "its saves by themselves"}
SPENT = ["save", "post", "claim of nothing", "claim(10)", "save_many(10)"]

Results = dict[str, dict[str, Any]]


def test_memory(tmp_path: Path) -> None:
    found = _measured("memory", tmp_path)
    _shows(found["stores"], CALLS)
    _shows(found["engine"], {"replaying", "step "})
    _shows(found["growth"], GROWTH)
    assert _counted(found["engine"], "threads of") <= 1


def test_file(tmp_path: Path) -> None:
    found = _measured("file", tmp_path, TMPDIR=str(tmp_path))
    _shows(found["stores"], CALLS | BARE)
    _shows(found["growth"], GROWTH | MANY | (WRITTEN if sys.platform == "linux" else set()))
    _shows(found["speed"], SPEED)
    assert any("commits of 5 ms" in name for name in _names(found["speed"]))
    _durable(found)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json"] * 5


def test_postgres(postgres_url: str, tmp_path: Path) -> None:
    found = _measured("postgres", tmp_path, KVFLOW_TEST_POSTGRES_URL=postgres_url)
    _served(found, WRITTEN)
    assert _counted(found["speed"], "commits of a run of 5 steps, alone") == pytest.approx(7, abs=1)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench%'").fetchall() == []


def test_mysql(mysql_url: str, tmp_path: Path) -> None:
    _served(_measured("mysql", tmp_path, KVFLOW_TEST_MYSQL_URL=mysql_url), WRITTEN)
    where = urlsplit(mysql_url)
    user, password = where.username, where.password or ""
    connection = pymysql.connect(host=where.hostname, port=where.port or 3306, user=user, password=password)
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW DATABASES LIKE 'bench%'")
        assert cursor.fetchall() == ()


def test_redis(redis_url: str, tmp_path: Path) -> None:
    found = _measured("redis", tmp_path, KVFLOW_TEST_REDIS_URL=redis_url)
    _served(found, WRITTEN & {name[:12] for name in _names(found["growth"])})  # where the server keeps an AOF
    client: Any = cast(Any, Redis).from_url(redis_url)
    with client:
        assert list(client.scan_iter("*bench_*", count=1000)) == []


def _measured(store: str, tmp_path: Path, **environment: str) -> Results:
    """What each bench keeps of a quick run of all of them, in a process of its own as people start it."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", store, "--quick", "--results", tmp_path],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stdout
    kept = [json.loads(path.read_bytes()) for path in tmp_path.glob("*.json")]
    found: Results = {each["bench"]: each["results"][0] for each in kept if each["results"]}
    for name in (name for what in found.values() for name in _names(what)):
        assert name in run.stdout
    return found


def _names(found: dict[str, Any]) -> list[str]:
    return [figure["name"] for figure in found["figures"]]


def _served(found: Results, written: set[str]) -> None:
    """All that is measured on a server."""
    _shows(found["stores"], CALLS | BARE | SEVERAL)
    _shows(found["growth"], GROWTH | MANY | written)
    _shows(found["speed"], SPEED | {"a worker with 1 thread"})
    _durable(found)


def _durable(found: Results) -> None:
    _shows(found["engine"], {"a run of 5 steps beside its 7 bare saves", "a run of 5 steps beside 7 bare writes"})
    assert _counted(found["growth"], "drives of each") == 1
    assert [expense["name"] for expense in found["stores"]["expenses"]] == ["bare write", *SPENT]
    assert all(expense["wall"] > 0 for expense in found["stores"]["expenses"])
    room = [measure for measure in found["scale"]["measures"] if measure["name"].startswith("asleep after 3 steps")]
    own, *parts = [measure["value"] for measure in room]
    assert sum(parts) > own > 800


def _shows(found: dict[str, Any], figures: Iterable[str]) -> None:
    """Each of these figures, as a ratio of some rounds that says where it was measured, and no other."""
    names = _names(found)
    for name in names:
        assert name.startswith(tuple(figures)), f"{name} is not expected"
    for start in figures:
        assert any(name.startswith(start) for name in names), f"no figure of {start}"
    for figure in found["figures"]:
        assert figure["rounds"] >= 2
        assert figure["ratio"] > 0
        assert figure["server"]
        assert figure["durability"]


def _counted(found: dict[str, Any], start: str) -> float:
    value: float = next(measure["value"] for measure in found["measures"] if measure["name"].startswith(start))
    return value
