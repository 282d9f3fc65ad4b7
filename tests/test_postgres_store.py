"""PostgresStore on a real server: the contract, the tables, and what it says of rows that are none."""

import logging
import multiprocessing
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from kvflow.errors import Corrupt, InvalidArgument, InvalidPrefix, NotSupported, SchemaTooNew, TooLarge
from kvflow.run import Status
from kvflow.stores import PostgresStore, open_store
from kvflow.stores.postgres_batch import LIMIT
from kvflow.stores.postgres_server import PLANS
from kvflow.stores.postgres_statements import Statements
from kvflow.testing import Open, StoreContract
from kvflow.testing.runs import MINUTE, after, birth, get, lease, opened, running

Admin = psycopg.Connection[Any]


def drop(url: str, prefix: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"DROP TABLE IF EXISTS {prefix}_run, {prefix}_log, {prefix}_schema".encode())


@pytest.fixture
def prefix(postgres_url: str) -> Iterator[str]:
    """Tables of the test's own."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    yield name
    drop(postgres_url, name)


@pytest.fixture
def admin(postgres_url: str) -> Iterator[Admin]:
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
def open(postgres_url: str, prefix: str) -> Open:
    return partial(PostgresStore.from_url, postgres_url, prefix=prefix)


class TestPostgresStore(StoreContract):
    pass


def run_sql(admin: Admin, sql: str, prefix: str) -> psycopg.Cursor[Any]:
    return admin.execute(sql.replace("kvflow", prefix).encode())


def test_a_url_of_either_scheme(postgres_url: str, prefix: str) -> None:
    assert postgres_url.startswith("postgresql:")
    for url in (postgres_url, postgres_url.replace("postgresql:", "Postgres:", 1)):
        with open_store(url, prefix=prefix, pool_size=1) as store:
            assert store.load("a") is None


def test_a_bad_url_or_prefix_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="PostgreSQL server"):
        PostgresStore.from_url("postgresql://localhost/?nonsense=1")
    with pytest.raises(InvalidPrefix):
        PostgresStore.from_url("postgresql://localhost/", prefix="Drop Table")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:1/hunter2@h/db",
        "postgresql://u:hunter2%zz@h/db",
        "postgresql://u:hunter2/x@h/db",
        "postgresql://u:1/x?hunter2@h/db",
        "postgresql://u:hunter2@[::1/db",
        "postgresql://u:hunter2@a..b/db",
        "postgresql://u:hunter2@h/db?bogus=1",
        "postgresql://u:hunter2@h:port/db",
        "postgresql://u:hunter2\ud800@h/db",
        "postgresql://u:p@hunter2@h/db",
    ],
)
def test_no_error_about_a_url_holds_a_password(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        PostgresStore.from_url(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("options", [{"pool_size": 0}, {"pool_size": "3"}, {"timeout": 0}, {"timeout": "5"}])
def test_options_that_make_no_sense_are_refused(postgres_url: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="".join(options)):
        PostgresStore.from_url(postgres_url, **options)


def test_a_url_instead_of_a_pool_is_refused() -> None:
    url: Any = "postgresql://u:hunter2@localhost/test"
    with pytest.raises(InvalidArgument, match="use from_url") as caught:
        PostgresStore(url)
    assert "hunter2" not in str(caught.value)


def test_without_the_driver_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from kvflow.errors import MissingDriver\n"
        "try:\n    from kvflow.stores import PostgresStore\n"
        "except MissingDriver as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'kvflow[postgres]'" in said


def test_tables_made_by_hand_serve_a_role_that_may_make_none(
    admin: Admin, open: Open, postgres_url: str, prefix: str
) -> None:
    with PostgresStore.from_url(postgres_url, prefix=prefix) as store:
        ddl = store.schema()
    admin.execute(ddl.encode())
    admin.execute(ddl.encode())
    role = f"{prefix}_role"
    admin.execute(f"CREATE ROLE {role} LOGIN".encode())
    try:
        admin.execute(f"REVOKE CREATE ON SCHEMA public FROM public, {role}".encode())
        tables = f"{prefix}_run, {prefix}_log, {prefix}_schema"
        admin.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {role}".encode())
        url = make_conninfo(postgres_url, options=f"-c role={role}")
        with PostgresStore.from_url(url, prefix=prefix) as store:
            store.save(birth(), [b"record"])
            (held,) = store.claim(1000, 10, lease())
            assert held.log == (b"record",)
            store.delete("a")
        with PostgresStore.from_url(url, prefix=f"{prefix}_none") as store, pytest.raises(NotSupported, match="schema"):
            store.load("a")
    finally:
        admin.execute(f"DROP OWNED BY {role}".encode())
        admin.execute(f"DROP ROLE {role}".encode())


def test_tables_of_a_newer_kvflow_are_refused(admin: Admin, open: Open, prefix: str) -> None:
    with opened(open) as store:
        store.save(birth())
        run_sql(admin, "UPDATE kvflow_schema SET version = 2", prefix)
        with opened(open) as late, pytest.raises(SchemaTooNew, match="version 2"):
            late.load("a")


def test_prefixes_part_applications(open: Open, postgres_url: str, prefix: str) -> None:
    other = f"{prefix}_other"
    try:
        with opened(open) as one, PostgresStore.from_url(postgres_url, prefix=other) as two:
            one.save(birth(), [b"mine"])
            two.save(birth(wake_at=2000))
            assert (one.due(1000, 10), two.due(1000, 10)) == (["a"], [])
            two.delete("a")
            assert get(one).log == (b"mine",)
    finally:
        drop(postgres_url, other)


def _use_first(open: Open, number: int, begin: Any, failures: Any) -> None:
    try:
        begin.wait(30)
        with opened(open) as store:
            store.save(birth(f"run {number}"), [b"record"])
    except BaseException as error:
        failures.put(repr(error))
        raise


def test_many_processes_may_be_the_first(open: Open) -> None:
    context = multiprocessing.get_context("spawn")
    begin, failures = context.Barrier(6), context.Queue()
    workers = [context.Process(target=_use_first, args=(open, n, begin, failures)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6, failures.get(timeout=1)
    with opened(open) as store:
        assert len(store.due(1000, 10)) == 6


@pytest.mark.parametrize(
    "change",
    [
        "status = 'done'",
        "status = 'running', wake_at = NULL",
        "wake_at = NULL",
        "token = 'somebody'",
        "expires_at = 5",
        "version = NULL",
        "snapshot = NULL",
        "workflow = NULL",
    ],
)
def test_the_tables_refuse_a_row_that_is_no_run(admin: Admin, open: Open, prefix: str, change: str) -> None:
    with opened(open) as store:
        store.save(birth())
        with pytest.raises(psycopg.IntegrityError):
            run_sql(admin, f"UPDATE kvflow_run SET {change}", prefix)
        assert get(store) == birth()


def test_a_run_whose_log_has_a_gap_is_corrupt_and_stops_nobody(
    admin: Admin, open: Open, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(open) as store:
        store.save(birth("a", wake_at=1), [b"one", b"two", b"three"])
        store.save(birth("b", wake_at=2), [b"one"])
        run_sql(admin, "DELETE FROM kvflow_log WHERE run_id = 'a' AND seq = 2", prefix)
        reads: list[Callable[[], object]] = [lambda: store.load("a"), lambda: store.acquire("a", lease())]
        for read in reads:
            with pytest.raises(Corrupt, match=r"'a' .* 3 records"):
                read()
        with caplog.at_level(logging.WARNING, "kvflow.stores"):
            assert [run.run_id for run in store.claim(1000, 2, lease())] == ["b"]
        assert "'a'" in caplog.text
        now = time.time_ns() // 1_000_000
        assert store.due(now, 10) == []
        assert store.due(now + 2 * MINUTE, 10) == ["a"]
        assert get(store, "b").log == (b"one",)


def test_what_cannot_be_put_off_takes_nobody_with_it(
    admin: Admin, open: Open, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(open) as store:
        store.save(birth("bad", wake_at=1), [b"one"])
        store.save(birth("good", wake_at=2))
        run_sql(admin, "DELETE FROM kvflow_log", prefix)
        run_sql(admin, "ALTER TABLE kvflow_run ADD CHECK (run_id <> 'bad' OR wake_at = 1)", prefix)
        assert [run.run_id for run in store.claim(1000, 2, lease())] == ["good"]
        assert "until their leases run out" in caplog.text
        run_sql(admin, "UPDATE kvflow_run SET token = NULL, expires_at = NULL WHERE run_id = 'bad'", prefix)
        with pytest.raises(Corrupt, match="violates check constraint"):
            store.claim(1000, 2, lease())


def test_a_status_that_is_none_is_corrupt_and_stops_nobody(
    admin: Admin, open: Open, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(open) as store:
        store.save(birth("a"))
        store.save(birth("b"))
        run_sql(admin, "ALTER TABLE kvflow_run DROP CONSTRAINT kvflow_run_check1", prefix)
        run_sql(admin, "UPDATE kvflow_run SET status = 'done' WHERE run_id = 'a'", prefix)
        with pytest.raises(Corrupt, match="done"):
            store.load("a")
        with pytest.raises(Corrupt, match="done"):
            store.save(birth("a", version=3))
        assert [run.run_id for run in store.list(10)] == ["b"]
        assert [run.run_id for run in store.claim(1000, 10, lease())] == ["b"]
        assert caplog.text.count("'done'") == 2


def test_what_one_message_cannot_hold_is_too_large(open: Open) -> None:
    huge = bytes(LIMIT)
    with opened(open) as store:
        store.save(birth())
        calls: list[Callable[[], object]] = [
            lambda: store.save(birth("b", snapshot=huge), [b"one more"]),
            lambda: store.save(birth("b"), [huge]),
            lambda: store.post("a", huge + b"1", 5),
        ]
        for call in calls:
            with pytest.raises(TooLarge, match=f"{LIMIT}"):
                call()
        first, second = store.save_many([(birth("b"), [huge], None), (birth("c"), (), None)])
        assert isinstance(first, TooLarge)
        assert second == 0
        assert [run.run_id for run in store.list(10)] == ["c", "a"]
        assert get(store).log == ()


def test_a_log_that_is_read_in_portions(open: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvflow.stores.postgres._PORTION", 3000)
    with opened(open) as store:
        for number in range(20):
            store.save(birth(f"run {number:02}", wake_at=number), [b"%d" % number * 400] * (number % 4))
        claimed = store.claim(1000, 100, lease())
        assert [run.run_id for run in claimed] == [f"run {number:02}" for number in range(20)]
        assert [run.log for run in claimed] == [(b"%d" % number * 400,) * (number % 4) for number in range(20)]


@pytest.mark.parametrize("state", ["new", "vacuumed"])
def test_no_plan_made_on_empty_tables_reads_them_whole(admin: Admin, open: Open, prefix: str, state: str) -> None:
    """Such a plan is kept by the connections that made it, and used when the tables have grown."""
    with opened(open) as store:
        store.load("a")
    if state == "vacuumed":
        run_sql(admin, "VACUUM ANALYZE kvflow_run, kvflow_log", prefix)
    for name, to in PLANS.items():
        admin.execute(f"SET {name} = {to}".encode())
    for name, statement in vars(Statements(prefix)).items():
        parameters = [str(oid) for oid in statement.oids]
        types = [admin.execute("SELECT %s::regtype::text", (oid,)).fetchone() for oid in parameters]
        signature = f"({', '.join(found[0] for found in types if found)})" if types else ""
        admin.execute(f"PREPARE {name}_ {signature} AS ".encode() + statement.sql)
        arguments = f"({', '.join(['NULL'] * len(types))})" if types else ""
        plan = "\n".join(row[0] for row in admin.execute(f"EXPLAIN EXECUTE {name}_ {arguments}".encode()))
        assert "Seq Scan" not in plan, f"{name}:\n{plan}"
        assert ("_run_birth" in plan) == (name == "list"), f"{name}:\n{plan}"
        lines = plan.splitlines()
        for number, line in enumerate(lines):
            if "_pkey on" in line:
                assert "Index Cond: (run_id =" in lines[number + 1], f"{name}:\n{plan}"


def test_a_save_under_a_lease_touches_no_index(admin: Admin, open: Open, prefix: str) -> None:
    mine = lease()
    with opened(open) as store:
        run = running()
        store.save(run, [b"record"], mine)
        for _ in range(200):
            store.save(run := after(run, seen=run.seen + 1), [b"record"], mine)
    updates = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'kvflow_run'"
    deadline = time.monotonic() + 20
    while (counts := run_sql(admin, updates, prefix).fetchone()) is None or counts[0] < 200:
        assert time.monotonic() < deadline, counts
        time.sleep(0.05)
    assert counts[1] >= 195, "a few may find their page full before it is pruned"


def test_posts_in_the_midst_of_deletes_leave_no_record_behind(admin: Admin, open: Open, prefix: str) -> None:
    over = threading.Event()

    def post() -> None:
        while not over.is_set():
            store.post("a", b"event", 5)

    with opened(open) as store:
        posters = [threading.Thread(target=post) for _ in range(3)]
        for poster in posters:
            poster.start()
        for _ in range(150):
            store.save(birth(), [b"first"])
            store.delete("a")
        over.set()
        for poster in posters:
            poster.join()
        assert run_sql(admin, "SELECT count(*) FROM kvflow_log", prefix).fetchone() == (0,)
        store.save(birth(status=Status.WAITING), [b"first"])
        assert get(store).log == (b"first",)
