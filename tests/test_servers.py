"""The tests' own servers: none outlives its session, and none that is missing goes unnoticed in CI."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from servers.process import Server

HERE = Path(__file__).parent

KILLED = """
    import os, pathlib, signal

    def test_that_is_killed(own_postgres, redis_url, guardian):
        pathlib.Path("said").write_text("\\n".join((own_postgres.url, redis_url, str(guardian.home))))
        os.kill(os.getpid(), signal.SIGKILL)
"""

MISSING = """
    import pytest
    import servers.mysql

    @pytest.fixture(scope="session", autouse=True)
    def bare_machine():
        servers.mysql._find = lambda name: None

    def test_that_needs_it(mysql_url):
        pass
"""


def session(directory: Path, test: str, **environment: str) -> str:
    """Another session with our fixtures, on one test of its own; returns what it printed."""
    (directory / "test_it.py").write_text("\n".join(line.removeprefix("    ") for line in test.splitlines()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KVFLOW_TEST_", "PYTEST_", "CI"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:valkey", "-p", "conftest", "-rs", "--rootdir=.", "test_it.py"],
        cwd=directory,
        env=kept | {"PYTHONPATH": str(HERE)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def answers(url: str) -> bool:
    where = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((where.hostname or "", where.port or 0)) == 0


def test_servers_and_their_directory_go_with_a_session_that_is_killed(tmp_path: Path) -> None:
    session(tmp_path, KILLED)
    *urls, home = (tmp_path / "said").read_text().splitlines()
    deadline = time.monotonic() + 30
    while Path(home).exists() or any(map(answers, urls)):
        assert time.monotonic() < deadline, f"still there: {home}, {urls}"
        time.sleep(0.05)


def test_a_missing_server_is_skipped_with_a_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    said = session(tmp_path, MISSING)
    assert "1 skipped" in said
    assert "apt install mariadb-server" in said


def test_a_missing_server_fails_in_ci(tmp_path: Path) -> None:
    said = session(tmp_path, MISSING, CI="1")
    assert "1 error" in said
    assert "apt install mariadb-server" in said


def test_a_stopped_server_comes_back_with_what_it_held(own_postgres: Server) -> None:
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("CREATE TABLE kept (n int)")
    own_postgres.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(own_postgres.url)
    own_postgres.start()
    with psycopg.connect(own_postgres.url) as connection:
        connection.execute("DROP TABLE kept")


def test_a_paused_server_answers_nobody_until_it_is_resumed(own_postgres: Server) -> None:
    with psycopg.connect(own_postgres.url, autocommit=True) as connection:
        own_postgres.pause()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            psycopg.connect(own_postgres.url, connect_timeout=2)
        own_postgres.resume()
        connection.execute("SELECT 1")
