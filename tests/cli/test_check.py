"""``kvflow check`` on real servers: what it finds, what it says of it, and that it leaves nothing behind."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
import pymysql
import pytest

from kvflow import testing
from kvflow.cli import main, promises, scratch
from kvflow.cli.measures import measure
from kvflow.errors import Conflict
from kvflow.findings import Level
from kvflow.run import Lease, StoredRun
from kvflow.store import Runs, Store
from kvflow.stores import FileStore, MemoryStore, open_store, register_scheme
from kvflow.stores.redis_urls import connector
from kvflow.stores.upkeep import upkeep_of
from kvflow.testing.runs import birth, get, until
from servers.process import Server

SERVERS = ("postgres", "mysql", "redis", "redis_cluster", "redis_sentinel")


class Checked(NamedTuple):
    """What a check came to: its exit code, and the fields of each line."""

    code: int
    rows: list[list[str]]
    err: str

    def about(self, kind: str) -> list[list[str]]:
        return [row[1:] for row in self.rows if row[0] == kind]

    @property
    def verdict(self) -> str:
        [[verdict, _]] = self.about("verdict")
        return verdict

    def setting(self, about: str) -> list[str]:
        """The level of a setting, what is said of it, and what to set."""
        [[level, _, *says]] = [row for row in self.about("setting") if row[1] == about]
        return [level, *says]


Check = Callable[..., Checked]


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Check:
    for name in ("KVFLOW_STORE", "KVFLOW_PREFIX"):
        monkeypatch.delenv(name, raising=False)

    def checked(*arguments: str) -> Checked:
        code = main(["check", *arguments])
        out, err = capsys.readouterr()
        return Checked(code, [line.split("\t") for line in out.splitlines()], err)

    return checked


@pytest.fixture
def prefix() -> str:
    """Of the test's own, and so is what a check makes of it."""
    return f"t_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the whole contract, which each store's own tests try."""
    mixins = (testing.FenceContract, testing.ListContract)
    monkeypatch.setattr("kvflow.cli.check.PROMISES", [p for p in promises.PROMISES if p.mixins[0] in mixins])


def left(url: str, prefix: str) -> list[str]:
    """What there is on a server under this prefix."""
    if url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT relname FROM pg_class WHERE starts_with(relname, %s)", [prefix])
            return [str(name) for (name,) in found]
    if url.startswith("mysql"):
        with mysql(url) as cursor:
            cursor.execute("SHOW TABLES LIKE %s", [prefix.replace("_", "\\_") + "%"])
            return [str(row[0]) for row in cursor.fetchall()]
    client: Any = connector(url)()
    with closing(client):
        return [key.decode() for key in client.scan_iter(f"{{{prefix}*", count=1000)]


@contextmanager
def mysql(url: str) -> Generator[pymysql.cursors.Cursor]:
    where = urlsplit(url)
    with (
        pymysql.connect(
            host=where.hostname,
            port=where.port or 3306,
            user=where.username,
            password=where.password or "",
            database=where.path[1:],
            autocommit=True,
        ) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def test_each_test_of_the_contract_is_tried_for_one_promise() -> None:
    tried = [name for promise in promises.PROMISES for _, name in promise.tests]
    assert sorted(tried) == sorted(name for name in dir(testing.StoreContract) if name.startswith("test_"))


def test_the_whole_contract_holds_on_redis(redis_url: str, prefix: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kvflow", "check", redis_url, "--prefix", prefix],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    kept = {row[2]: row[3] for row in rows if row[:2] == ["promise", "kept"]}
    assert kept == {one.says: f"{len(one.tests)} of {len(one.tests)}" for one in promises.PROMISES}
    assert rows[-1][0] == "verdict"
    assert left(redis_url, prefix) == []


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("server", SERVERS)
def test_nothing_is_left_and_ones_own_runs_are_untouched(
    check: Check, request: pytest.FixtureRequest, prefix: str, server: str
) -> None:
    url: str = request.getfixturevalue(f"{server}_url")
    own = upkeep_of(url, prefix=prefix)
    with open_store(url, prefix=prefix) as store:
        store.save(birth(), [b"mine"])
        try:
            before = sorted(left(url, prefix))
            checked = check(url, "--prefix", prefix)
            assert (checked.code, checked.err) == (0, "")
            assert [row[0] for row in checked.about("promise")] == ["kept", "kept"]
            assert checked.setting("speed")[0] == "note"
            assert sorted(left(url, prefix)) == before
            assert get(store).log == (b"mine",)
        finally:
            own.drop()
    assert left(url, prefix) == []


@pytest.mark.usefixtures("few")
def test_a_directory_that_was_not_there_is_gone_again(check: Check, tmp_path: Path) -> None:
    for url in (f"file:{tmp_path}/a/b", f"file:{tmp_path}/a"):
        checked = check(url)
        assert (checked.code, checked.err) == (0, "")
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    assert check(f"file:{tmp_path}/a").code == 0
    assert [*tmp_path.rglob("*")] == [tmp_path / "a"]


def test_memory_is_said_to_forget_and_to_be_of_one_process(check: Check) -> None:
    checked = check("memory:")
    assert (checked.code, checked.verdict) == (0, "good enough with these limits")
    assert checked.setting("durability")[0] == "limit"
    [[promise, why]] = checked.about("left out")
    assert promise.startswith("many processes")
    assert "the memory of one process" in why


SLOW = [
    (testing.ClaimContract, "test_a_claim_that_dies_is_claimed_again"),
    (testing.ClaimContract, "test_expired_leases_are_of_their_workflow_too"),
    (testing.ProcessesContract, "test_no_run_is_claimed_by_two_processes"),
    (testing.ProcessesContract, "test_a_writer_that_is_killed_loses_nothing_it_was_told"),
]
"""They take long, some of them waiting for what a broken store never does."""


class LosesPosts(FileStore):
    """Says yes, and keeps every second post alone."""

    posts = 0

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        self.posts += 1
        return super().post(run_id, record, now, wake) if self.posts % 2 else True


class ClaimsWithoutLease(FileStore):
    """Gives what is due to everybody who asks."""

    def claim(self, now: int, limit: int, lease: Lease, workflows: Any = None) -> Runs:
        found = [self.load(run_id) for run_id in self.due(now, limit)]
        return [run for run in found if run is not None and (workflows is None or run.workflow in workflows)]


class SavesWithoutFence(FileStore):
    """Tells a writer that came too late that all is well."""

    def save(self, run: StoredRun, new: Any = (), lease: Lease | None = None) -> int:
        try:
            return super().save(run, new, lease)
        except Conflict:
            return 0


def opened_as(kind: type[FileStore], url: str, *, prefix: str, pool_size: int, timeout: float) -> Store:
    return kind(f"{url.partition(':')[2]}/{prefix}", timeout=timeout)


@pytest.mark.parametrize(
    ("kind", "mixin", "sentence"),
    [
        (LosesPosts, testing.PostContract, "a post is appended"),
        (ClaimsWithoutLease, testing.ClaimContract, "claim gives due runs with their logs and holds them"),
        (SavesWithoutFence, testing.FenceContract, "a takeover fences the old holders save"),
        (ClaimsWithoutLease, testing.ThreadsContract, "no run is claimed twice"),
        (SavesWithoutFence, testing.ProcessesContract, "one process bears a run"),
    ],
)
def test_a_store_that_breaks_a_promise_is_not_good_enough(
    check: Check,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: type[FileStore],
    mixin: type,
    sentence: str,
) -> None:
    asked = [one for one in promises.PROMISES if mixin in one.mixins or testing.ListContract in one.mixins]
    for slow in SLOW:
        monkeypatch.delattr(*slow)
    monkeypatch.setattr("kvflow.cli.check.PROMISES", asked)
    register_scheme("broken", partial(opened_as, kind))
    checked = check(f"broken:{tmp_path}")
    assert (checked.code, checked.verdict) == (1, "not good enough")
    states = {row[1]: row[0] for row in checked.about("promise")}
    [says] = [one.says for one in asked if mixin in one.mixins]
    assert states[says] == "broken"
    assert sentence in [row[1] for row in checked.about("broken") if row[0] == says]
    assert all(why for _, _, why in checked.about("broken"))
    assert checked.setting("durability")[0] == "unknown"


@pytest.mark.usefixtures("few")
def test_a_store_that_does_not_delete_is_tried_in_new_places(check: Check, tmp_path: Path) -> None:
    class KeepsAll(FileStore):
        def delete(self, run_id: str) -> None:
            self.load(run_id)

    register_scheme("broken", partial(opened_as, KeepsAll))
    checked = check(f"broken:{tmp_path}")
    assert checked.code == 1
    broken = {row[1] for row in checked.about("broken")}
    assert "a listing follows saves and deletes" in broken
    assert "pages follow each other" not in broken
    assert "still listed" in checked.err


@contextmanager
def configured(server: Server, **settings: str) -> Generator[None]:
    """A Redis with these settings for a while."""
    client: Any = connector(server.url)()
    names = {name.replace("_", "-"): value for name, value in settings.items()}
    with closing(client):
        before = {name: client.config_get(name)[name] for name in names}
        try:
            for name, value in names.items():
                client.config_set(name, value)
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)


def findings(url: str) -> dict[str, tuple[str, str, str]]:
    return {one.about: (one.level.value, one.says, one.remedy) for one in upkeep_of(url).findings()}


def test_a_redis_that_throws_runs_away_is_refused_before_anything_is_tried(check: Check, own_redis: Server) -> None:
    with configured(own_redis, maxmemory_policy="allkeys-lru"):
        checked = check(own_redis.url)
    assert (checked.code, checked.verdict) == (1, "not good enough")
    level, says, remedy = checked.setting("maxmemory-policy")
    assert (level, remedy) == ("bad", "set maxmemory-policy noeviction")
    assert "allkeys-lru" in says
    assert checked.about("promise") == []


def test_what_the_aof_of_a_redis_means(own_redis: Server) -> None:
    assert findings(own_redis.url)["appendfsync"][0] == "good"
    with configured(own_redis, appendfsync="everysec"):
        level, says, remedy = findings(own_redis.url)["appendfsync"]
        assert (level, "last second" in says, "always" in remedy) == ("limit", True, True)
    with configured(own_redis, appendonly="no"):
        level, says, remedy = findings(own_redis.url)["appendonly"]
        assert (level, "every run is gone" in says, "appendonly yes" in remedy) == ("limit", True, True)
    with configured(own_redis, appendonly="no", save="3600 1"):
        assert "as the last dump has them (save 3600 1)" in findings(own_redis.url)["appendonly"][1]


def test_what_a_failover_of_redis_loses(redis_sentinel_url: str, redis_cluster_url: str) -> None:
    for url in (redis_sentinel_url, redis_cluster_url):
        level, says, remedy = findings(url)["replicas"]
        assert (level, "a failover may lose" in says) == ("limit", True)
        assert "min-replicas-to-write" in remedy


def test_a_replica_of_redis_is_not_good_enough(check: Check, own_redis: Server) -> None:
    client: Any = connector(own_redis.url)()
    with closing(client):
        client.replicaof("127.0.0.1", "1")
        try:
            checked = check(own_redis.url)
        finally:
            client.replicaof("NO", "ONE")
    assert (checked.code, checked.setting("role")[0]) == (1, "bad")
    assert "primary" in checked.setting("role")[2]


def test_what_the_settings_of_postgres_mean(own_postgres: Server) -> None:
    found = findings(own_postgres.url)
    assert [found[name][0] for name in ("version", "fsync", "synchronous_commit")] == ["good"] * 3
    lazy = findings(with_options(own_postgres.url, "-c synchronous_commit=off"))["synchronous_commit"]
    assert lazy[0] == "limit"
    assert "steps recorded in them run again" in lazy[1]
    with psycopg.connect(own_postgres.url, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET fsync = off")
        admin.execute("SELECT pg_reload_conf()")
        try:
            assert until(lambda: findings(own_postgres.url)["fsync"][0] == "limit")
        finally:
            admin.execute("ALTER SYSTEM RESET fsync")
            admin.execute("SELECT pg_reload_conf()")


def test_a_postgres_that_takes_no_writes_is_not_good_enough(check: Check, postgres_url: str) -> None:
    checked = check(with_options(postgres_url, "-c default_transaction_read_only=on"))
    assert (checked.code, checked.setting("role")[0]) == (1, "bad")


def with_options(url: str, options: str) -> str:
    return f"{url}?options={options.replace(' ', '%20').replace('=', '%3D')}"


def test_what_the_settings_of_mysql_mean(own_mysql: Server) -> None:
    name = "innodb_flush_log_at_trx_commit"
    assert findings(own_mysql.url)[name][0] == "good"
    with mysql(own_mysql.url) as cursor:
        cursor.execute(f"SET GLOBAL {name} = 2")
        try:
            level, says, remedy = findings(own_mysql.url)[name]
        finally:
            cursor.execute(f"SET GLOBAL {name} = 1")
    assert (level, "crash of the machine" in says, remedy) == ("limit", True, f"set {name} = 1")


@pytest.mark.usefixtures("few")
def test_a_role_of_postgres_that_may_make_no_tables(
    check: Check, postgres_url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared, role = f"{prefix}_c", f"{prefix}_r"
    url = with_options(postgres_url, f"-c role={role}")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role}".encode())
        try:
            admin.execute("REVOKE CREATE ON SCHEMA public FROM public")
            refused = check(url, "--prefix", prefix)
            assert (refused.code, refused.err) == (1, "")
            level, says, remedy = refused.setting("permission")
            assert (level, "permission denied" in says, "kvflow schema" in remedy) == ("bad", True, True)
            assert main(["schema", url, "--prefix", prepared]) == 0
            admin.execute(capsys.readouterr().out.encode())
            tables = f"{prepared}_run, {prepared}_log, {prepared}_schema"
            admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}".encode())
            allowed = check(url, "--prefix", prefix, "--scratch", prepared)
            assert (allowed.code, allowed.err) == (0, "")
            assert admin.execute(f"SELECT count(*) FROM {prepared}_run".encode()).fetchone() == (0,)
        finally:
            upkeep_of(postgres_url, prefix=prepared).drop()
            admin.execute(f"DROP ROLE {role}".encode())


@pytest.mark.usefixtures("few")
def test_a_user_of_mysql_that_may_make_no_tables(
    check: Check, mysql_url: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared, user = f"{prefix}_c", f"{prefix}_u"
    where = urlsplit(mysql_url)
    url = f"mysql://{user}:secret@{where.hostname}:{where.port or 3306}{where.path}"
    with mysql(mysql_url) as cursor:
        cursor.execute(f"CREATE USER {user} IDENTIFIED BY 'secret'")
        try:
            assert main(["schema", url, "--prefix", prepared]) == 0
            for statement in capsys.readouterr().out.split(";\n")[:-1]:
                cursor.execute(statement)
            for table in ("runs", "log", "schema"):
                cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {prepared}_{table} TO {user}")
            refused = check(url, "--prefix", prefix)
            assert (refused.code, refused.err) == (1, "")
            level, says, remedy = refused.setting("permission")
            assert (level, "denied" in says, "kvflow schema" in remedy) == ("bad", True, True)
            allowed = check(url, "--prefix", prefix, "--scratch", prepared)
            assert (allowed.code, allowed.err) == (0, "")
            cursor.execute(f"SELECT count(*) FROM {prepared}_runs")
            assert cursor.fetchall() == ((0,),)
        finally:
            upkeep_of(mysql_url, prefix=prepared).drop()
            cursor.execute(f"DROP USER {user}")


@pytest.mark.usefixtures("few")
def test_an_account_of_redis_with_keys_of_its_own_and_no_config(check: Check, own_redis: Server, prefix: str) -> None:
    prepared = f"{prefix}_c"
    url = own_redis.url.replace("redis://", "redis://app:secret@")
    client: Any = connector(own_redis.url)()
    with closing(client):
        allowed = ["+@all", "-config", "-info"]
        client.execute_command(
            "ACL", "SETUSER", "app", "on", ">secret", f"~{{{prefix}}}:*", f"~{{{prepared}}}:*", *allowed
        )
        try:
            refused = check(url, "--prefix", prefix)
            tried = check(url, "--prefix", prefix, "--scratch", prepared)
        finally:
            client.execute_command("ACL", "DELUSER", "app")
    assert (refused.code, refused.err) == (1, "")
    level, _, remedy = refused.setting("permission")
    assert (level, "--scratch" in remedy) == ("bad", True)
    assert (tried.code, tried.verdict) == (0, "good enough with these limits")
    unknown = {row[1] for row in tried.about("setting") if row[0] == "unknown"}
    assert unknown == {"version", "appendonly", "maxmemory-policy", "replicas"}


def test_runs_of_others_are_no_scratch(check: Check, redis_url: str, prefix: str) -> None:
    with open_store(redis_url, prefix=prefix) as store:
        store.save(birth())
        for scratch_prefix, own in ((prefix, "kvflow"), (prefix, prefix)):
            checked = check(redis_url, "--prefix", own, "--scratch", scratch_prefix)
            assert (checked.code, checked.rows) == (2, [])
            assert "give another" in checked.err
        assert get(store) == birth()
    upkeep_of(redis_url, prefix=prefix).drop()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_check_that_is_stopped_cleans_up(postgres_url: str, prefix: str, number: int, code: int) -> None:
    command = [sys.executable, "-m", "kvflow", "check", postgres_url, "--prefix", prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("promise"):
            assert process.poll() is None
        assert left(postgres_url, prefix) != []
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "kvflow: stopped, and nothing is left behind\n")
    assert "verdict" not in out
    assert left(postgres_url, prefix) == []


class Outage:
    """A promise during which the server goes away."""

    server: Server

    def test_an_outage(self, open: testing.Open) -> None:
        self.server.stop()
        open().load("a")


def test_a_server_that_goes_away_is_no_promise_broken(
    check: Check, own_redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Outage, "server", own_redis, raising=False)
    monkeypatch.setattr(scratch, "TIMEOUT", 0.3)
    monkeypatch.setattr("kvflow.cli.check.PROMISES", [promises.Promise("it stays", (Outage,))])
    checked = check(own_redis.url)
    assert (checked.code, checked.verdict) == (1, "not good enough")
    assert checked.about("broken") == []
    assert checked.setting("server")[0] == "bad"
    assert "may be left" in checked.err


def test_no_server_is_one_line(check: Check) -> None:
    checked = check("postgresql://127.0.0.1:1/none")
    assert (checked.code, checked.rows, len(checked.err.splitlines())) == (1, [], 1)


def test_without_a_store_or_with_one_unknown_it_is_usage(check: Check) -> None:
    assert check().code == 2
    assert check("redsi://localhost").code == 2
    assert check("memory:", "--prefix", "Not A Prefix").code == 2


def test_without_asserts_nothing_would_be_found() -> None:
    command = [sys.executable, "-O", "-m", "kvflow", "check", "memory:"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "asserts" in done.stderr


@pytest.mark.usefixtures("few")
def test_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"file:{tmp_path}/runs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"].startswith("good enough")
    assert {one["about"] for one in told["settings"]} == {"disk", "clock", "speed"}
    assert [(one["kept"], one["broken"], one["left_out"]) for one in told["promises"]] == [(21, [], []), (15, [], [])]


def test_on_a_terminal_it_is_a_table() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    command = [sys.executable, "-m", "kvflow", "check", "memory:"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                said += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        assert process.wait(60) == 0
    os.close(ours)
    assert b"many threads: every race has one winner" in said
    assert b"good enough with these limits" in said
    assert b"promise\t" not in said


def test_a_clock_that_is_wrong_is_told() -> None:
    late = datetime.now(UTC) - timedelta(minutes=5)
    clock, _ = measure(MemoryStore(lambda: late))
    assert clock.level is Level.LIMIT
    assert "behind this machine's" in clock.says
    right, speed = measure(MemoryStore())
    assert (right.level, speed.level) == (Level.NOTE, Level.NOTE)
