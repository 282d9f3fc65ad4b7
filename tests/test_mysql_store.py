"""MySQLStore on a real server: the contract, and what only MySQL and MariaDB can do to it."""

import logging
import multiprocessing
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pymysql
import pytest
from pymysql.connections import Connection
from pymysql.constants import CLIENT, CR
from pymysql.converters import encoders
from pymysql.cursors import DictCursor

from kvflow.errors import (
    Conflict,
    Corrupt,
    InvalidArgument,
    InvalidPrefix,
    KvflowError,
    NotSupported,
    SchemaTooNew,
    StoreUnavailable,
    TooLarge,
)
from kvflow.run import Lease, Status
from kvflow.store import Save, Store
from kvflow.stores import MySQLStore, open_store
from kvflow.stores.mysql_pool import Pool
from kvflow.stores.mysql_session import Session, check_version
from kvflow.stores.mysql_statements import Statements
from kvflow.stores.mysql_url import dialler
from kvflow.testing import OneProcessContract, Open, StoreContract
from kvflow.testing.runs import MINUTE, birth, get, hold, lease, refused, running, until, waiting
from servers.process import Server

if TYPE_CHECKING:
    Connect = Callable[[], Connection[Any]]
    AnyConnection = Connection[Any]
else:
    AnyConnection = Connection


@pytest.fixture
def prefix(mysql_url: str) -> Iterator[str]:
    """A prefix of the test's own, whose tables are dropped after it."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    yield name
    drop(mysql_url, name)


@pytest.fixture
def open(mysql_url: str, prefix: str) -> Open:
    return partial(MySQLStore.from_url, mysql_url, prefix=prefix)


@pytest.fixture
def store(open: Open) -> Iterator[Store]:
    with open() as store:
        yield store


@pytest.fixture
def admin(mysql_url: str) -> Iterator[AnyConnection]:
    """A connection beside the store's, which commits each statement."""
    with closing(dialler(mysql_url)(5.0)) as connection:
        yield connection


def drop(url: str, prefix: str) -> None:
    with closing(dialler(url)(5.0)) as connection:
        for table in ("log", "runs", "schema"):
            if ask(connection, f"SHOW TABLES LIKE '{prefix}_{table}'"):
                ask(connection, f"DROP TABLE {prefix}_{table}")


def ask(connection: AnyConnection, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def plain(url: str, **options: Any) -> "Connect":
    """Connections as a user makes them: nothing is set that the store needs."""
    where = urlsplit(url)
    return partial(
        pymysql.connect,
        host=where.hostname,
        port=where.port or 3306,
        user=where.username,
        password=where.password or "",
        database=where.path.removeprefix("/"),
        **options,
    )


class TestMySQLStore(StoreContract):
    pass


class TestMySQLStoreOnPlainConnections(OneProcessContract):
    """Connections that are set otherwise, one statement at a time, counting rows found, in a zone with summer time."""

    @pytest.fixture
    def open(self, mysql_url: str, prefix: str) -> Open:
        connect = plain(
            mysql_url,
            autocommit=False,
            client_flag=CLIENT.FOUND_ROWS,
            cursorclass=DictCursor,
            charset="latin1",
            use_unicode=False,
            conv=dict(encoders),  # and no decoders: numbers come as text
            sql_mode="ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH",
            init_command="SET time_zone = '-07:00', sql_safe_updates = 1, sql_select_limit = 1",
        )
        return lambda: MySQLStore(connect, prefix=prefix)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"autocommit": True, "client_flag": CLIENT.MULTI_STATEMENTS},
        {"client_flag": CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS},
        {"client_flag": CLIENT.INTERACTIVE, "init_command": "SET SESSION TRANSACTION READ ONLY"},
        {"init_command": "BEGIN"},
    ],
)
def test_any_connection_will_do(mysql_url: str, prefix: str, options: dict[str, Any]) -> None:
    with (
        MySQLStore(plain(mysql_url, **options), prefix=prefix) as store,
        MySQLStore(plain(mysql_url), prefix=prefix) as other,
    ):
        mine = lease()
        store.save(running(), [b"one"], mine)
        assert store.save(running(), [b"one"], mine) == 0
        assert other.post("a", b"two", 5)
        assert store.save(running(version=2, seen=1), [b"three"], mine) == 1
        assert get(other).log == (b"one", b"two", b"three")
        store.release("a", mine, 5)
        assert [run.run_id for run in other.claim(5, 10, lease())] == ["a"]
        assert store.claim(5, 10, lease()) == []


def test_open_store_knows_both_schemes(mysql_url: str, prefix: str) -> None:
    for scheme in ("mysql", "mariadb"):
        with open_store(f"{scheme}:{mysql_url.partition(':')[2]}", prefix=prefix) as store:
            assert isinstance(store, MySQLStore)
            assert store.load("nobody") is None


@pytest.mark.parametrize(
    ("url", "saying"),
    [
        ("mysql://localhost", "database"),
        ("mysql://localhost:port/test", "no URL"),
        ("mysql://localhost/test?sslmode=require", "none of ssl_ca, ssl_cert"),
        ("mysql://localhost/test?ssl_verify_cert=perhaps", "true or false"),
    ],
)
def test_a_url_that_says_nothing_is_refused(url: str, saying: str) -> None:
    with refused(InvalidArgument, saying=saying):
        MySQLStore.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mysql:u:hunter2@h/db",
        "mysql://u:1/hunter2#x?@h/db",
        "mysql://u:1/hunter2@h/db",
        "mysql://u:1/x?hunter2=3@h/db",
        "mysql://u:hunter2#w@h/db",
        "mysql://u:hunter2/w@h/db",
        "mysql://u:hunter2?w@h/db",
        "mysql://u:hunter2@[::1/db",
        "mysql://u:hunter2@a..b/db",
        "mysql://u:hunter2@h:99x/db",
        "mysql://u:hunter2\u2100@h/db",
        "mysql://u@h/db?ssl_disabled=hunter2",
    ],
)
def test_no_error_about_a_url_holds_a_password(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        MySQLStore.from_url(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("options", [{"pool_size": 0}, {"pool_size": "3"}, {"timeout": 0}, {"timeout": "5"}])
def test_options_that_make_no_sense_are_refused(mysql_url: str, options: dict[str, Any]) -> None:
    with refused(InvalidArgument, saying="".join(options)):
        MySQLStore.from_url(mysql_url, **options)
    with refused(InvalidArgument, saying="".join(options)):
        MySQLStore(plain(mysql_url), **options)


def test_a_url_instead_of_a_function_is_refused() -> None:
    url: Any = "mysql://u:hunter2@localhost/test"
    with pytest.raises(InvalidArgument, match="use from_url") as caught:
        MySQLStore(url)
    assert "hunter2" not in str(caught.value)


def test_a_prefix_that_names_no_table_is_refused(mysql_url: str) -> None:
    with refused(InvalidPrefix):
        MySQLStore.from_url(mysql_url, prefix="Kv-flow")


@pytest.mark.parametrize("version", ["5.7.44-log", "8.0.0-dmr", "10.5.23-MariaDB", "5.5.5-10.4.2-MariaDB", "what"])
def test_a_server_without_skip_locked_is_refused(version: str) -> None:
    with refused(NotSupported, saying=version):
        check_version(version)


@pytest.mark.parametrize("version", ["8.0.1", "8.4.3", "9.1.0-commercial", "10.6.0-MariaDB", "11.4.2-MariaDB-log"])
def test_a_server_with_it_is_not(version: str) -> None:
    check_version(version)


def test_without_its_driver_it_says_what_to_install() -> None:
    program = "import sys; sys.modules['pymysql'] = None; from kvflow.stores import MySQLStore"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "MissingDriver: MySQLStore needs PyMySQL: pip install 'kvflow[mysql]'" in done.stderr


# Tables


def test_tables_made_by_hand_are_used_without_the_right_to_make_any(
    mysql_url: str, prefix: str, admin: AnyConnection
) -> None:
    database = urlsplit(mysql_url).path.removeprefix("/")
    user = f"u{uuid.uuid4().hex[:12]}"
    ask(admin, f"CREATE USER '{user}'@'%' IDENTIFIED BY 'pass word'")
    ask(admin, f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY 'pass word'")
    try:
        for host in ("%", "127.0.0.1"):
            ask(admin, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database}.* TO '{user}'@'{host}'")
        where = urlsplit(mysql_url)
        url = f"mysql://{user}:pass%20word@{where.hostname}:{where.port or 3306}/{database}"
        with MySQLStore.from_url(url, prefix=prefix) as store:
            with refused(NotSupported, saying="store.schema()"):
                store.load("a")
            for statement in store.schema().split(";\n"):
                if statement:
                    ask(admin, statement)
            store.save(birth(), [b"one"])
            assert len(store.claim(1000, 1, lease())) == 1
            store.delete("a")
            assert store.load("a") is None
    finally:
        for host in ("%", "127.0.0.1"):
            ask(admin, f"DROP USER '{user}'@'{host}'")


def test_the_schema_may_be_run_twice(open: Open, prefix: str, admin: AnyConnection) -> None:
    with MySQLStore(lambda: admin, prefix=prefix) as store:
        for statement in 2 * store.schema().split(";\n"):
            if statement:
                ask(admin, statement)
    with open() as other:
        other.save(birth())


def test_a_newer_schema_is_refused(open: Open, store: Store, prefix: str, admin: AnyConnection) -> None:
    store.save(birth())
    ask(admin, f"UPDATE {prefix}_schema SET version = 2")
    with open() as other, refused(SchemaTooNew, saying="version 2"):
        other.load("a")


def _first_use(open: Open, name: str) -> None:
    with open() as store:
        store.save(birth(name))


def test_many_processes_use_it_first(open: Open) -> None:
    names = [f"run {number}" for number in range(8)]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_first_use, [open] * len(names), names))
    with open() as store:
        assert store.due(1000, 100) == names


def test_prefixes_keep_stores_apart(mysql_url: str, prefix: str) -> None:
    other_prefix = f"{prefix}_o"
    try:
        with (
            MySQLStore.from_url(mysql_url, prefix=prefix) as store,
            MySQLStore.from_url(mysql_url, prefix=other_prefix) as other,
        ):
            store.save(birth(), [b"one"])
            assert other.load("a") is None
            assert other.claim(1000, 10, lease()) == []
            other.save(birth(snapshot=b"other"))
            other.delete("a")
            assert get(store).log == (b"one",)
    finally:
        drop(mysql_url, other_prefix)


@pytest.mark.parametrize(
    "change",
    [
        "status = 'sleeping'",
        "status = 'Suspended'",
        "wake_at = NULL",
        "wake_at = -1",
        "status = 'running', wake_at = NULL",
        "token = X'61'",
        "expires_at = 5",
        "version = 0",
        "records = -1",
        "attempt = -1",
        "workflow = ''",
        "run_id = ''",
        "run_id = NULL",
    ],
)
def test_a_row_that_must_not_be_is_refused_by_the_server(
    store: Store, prefix: str, admin: AnyConnection, change: str
) -> None:
    store.save(birth())
    with pytest.raises(pymysql.MySQLError):
        ask(admin, f"UPDATE {prefix}_runs SET {change}")
    assert get(store) == birth()


def test_a_record_belongs_to_a_run_and_goes_with_it(store: Store, prefix: str, admin: AnyConnection) -> None:
    store.save(birth(), [b"one", b"two"])
    with pytest.raises(pymysql.MySQLError):
        ask(admin, f"INSERT INTO {prefix}_log (id, seq, record) VALUES (4711, 0, '')")
    store.delete("a")
    assert ask(admin, f"SELECT COUNT(*) FROM {prefix}_log") == ((0,),)


# What cannot be read


def test_a_log_with_a_record_missing_is_corrupt_and_in_nobodys_way(
    store: Store, prefix: str, admin: AnyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    store.save(birth("bad", wake_at=1), [b"one", b"two", b"three"])
    store.save(birth("good", wake_at=2), [b"one"])
    ask(admin, f"DELETE FROM {prefix}_log WHERE seq = 1")
    calls: list[Callable[[], object]] = [lambda: store.load("bad"), lambda: store.acquire("bad", lease())]
    for call in calls:
        with refused(Corrupt, saying="'bad'"):
            call()
    assert store.due(1000, 10) == ["bad", "good"]
    with caplog.at_level(logging.WARNING, "kvflow.stores"):
        assert [run.run_id for run in store.claim(1000, 2, lease())] == ["good"]
    assert "'bad'" in caplog.text
    assert store.due(1000, 10) == []
    wake = store.next_wake()
    assert wake is not None
    assert wake > 1000 * (time.time() + 30)
    assert ask(admin, f"SELECT COUNT(*) FROM {prefix}_log WHERE record IN ('one', 'three')") == ((3,),)


def test_a_run_lost_to_somebody_else_was_not_put_aside(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the lease and the reading of it: a claim goes on past what cannot be read, and past nothing else."""
    heads = Statements.heads

    def too_late(self: Statements, keys: Sequence[int], token: str) -> str:
        monkeypatch.undo()
        return heads(self, keys, "somebody else's")

    store.save(birth("lost", wake_at=1))
    store.save(birth("next", wake_at=2))
    monkeypatch.setattr(Statements, "heads", too_late)
    assert store.claim(1000, 1, lease()) == []
    assert store.due(1000, 10) == ["next"]


def test_a_name_that_is_no_text_is_in_nobodys_way(
    store: Store, prefix: str, admin: AnyConnection, caplog: pytest.LogCaptureFixture
) -> None:
    for run_id in ("bad", "good", "worse"):
        store.save(birth(run_id))
    ask(admin, f"UPDATE {prefix}_runs SET run_id = X'ff61' WHERE run_id = 'bad'")
    ask(admin, f"UPDATE {prefix}_runs SET event = X'ff' WHERE run_id = 'worse'")
    with caplog.at_level(logging.WARNING, "kvflow.stores"):
        assert store.due(1000, 10) == ["good", "worse"]
        assert [run.run_id for run in store.list(10)] == ["good"]
        assert [run.run_id for run in store.claim(1000, 10, lease())] == ["good"]
        assert store.claim(1000, 10, lease()) == []
    assert len(caplog.records) == 5
    with refused(Corrupt, saying="'worse'"):
        store.load("worse", log=False)


def test_a_record_too_many_is_corrupt(store: Store, prefix: str, admin: AnyConnection) -> None:
    mine = lease()
    store.save(running(), [b"one"], mine)
    ask(admin, f"INSERT INTO {prefix}_log (id, seq, record) SELECT id, 1, 'stray' FROM {prefix}_runs")
    calls: list[Callable[[], object]] = [
        lambda: store.save(running(version=2, seen=1), [b"two"], mine),
        lambda: store.save(running(version=2, seen=1), [b"two"] * 20, mine),
        lambda: store.post("a", b"two", 5),
    ]
    for call in calls:
        with refused(Corrupt, saying="more records than its head counts"):
            call()
    (outcome,) = store.save_many([(running(version=2, seen=1), [b"two"], mine)])
    assert isinstance(outcome, Corrupt)
    assert get(store).log == (b"one",)


# What is too large


@pytest.fixture
def packet(admin: AnyConnection) -> int:
    """The longest statement that the server takes; bytes travel as two digits each."""
    return int(ask(admin, "SELECT @@max_allowed_packet")[0][0])


def test_what_no_packet_holds_is_too_large_and_changes_nothing(store: Store, packet: int) -> None:
    large = bytes(packet // 2)
    mine = lease()
    store.save(running(), [b"one"], mine)
    before = get(store)
    calls: list[Callable[[], object]] = [
        lambda: store.save(birth("b", snapshot=large)),
        lambda: store.save(birth("b"), [b"small", large]),
        lambda: store.save(running(version=2, seen=1, snapshot=large), [b"two"], mine),
        lambda: store.save(running(version=2, seen=1), [b"two", large], mine),
        lambda: store.save(running(version=2, seen=1), [b"two", large, *[b"small"] * 20], mine),
        lambda: store.post("a", large, 5),
    ]
    for call in calls:
        with refused(TooLarge, saying="max_allowed_packet"):
            call()
    assert get(store) == before
    assert store.load("b") is None
    assert store.save(running(version=2, seen=1), [b"two"], mine) == 0


def test_one_entry_that_is_too_large_spoils_no_other(store: Store, packet: int) -> None:
    large = bytes(packet // 2)
    store.save(birth("old"))
    saves: list[Save] = [
        (birth("a"), [b"one"], None),
        (birth("b", snapshot=large), (), None),
        (birth("old", version=2), [large], None),
        (birth("a", version=2, seen=1), [b"two"], None),
        (birth("old", version=2), [b"one"], None),
    ]
    outcomes = store.save_many(saves)
    assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
        0,
        TooLarge,
        TooLarge,
        0,
        0,
    ]
    assert get(store).log == (b"one", b"two")
    assert get(store, "old").log == (b"one",)


def test_what_one_packet_holds_is_kept_and_more_together_than_one_holds(store: Store, packet: int) -> None:
    most = min(packet, 2**24) // 2 - 4096
    parts = [bytes([number]) * (most // 3) for number in range(5)]
    store.save(birth(snapshot=b"s" * most), parts)
    assert get(store) == birth(snapshot=b"s" * most, seen=5, log=tuple(parts))
    store.save(birth(version=2, seen=5), [b"r" * most])
    assert store.post("a", b"p" * most, 5)
    mine, run = hold(store)
    assert run.log == (*parts, b"r" * most, b"p" * most)
    assert store.save_many([(running(version=3, seen=7), parts, mine)]) == [0]
    assert get(store).log[7:] == tuple(parts)


# Connections that come and go


def kill_all(admin: AnyConnection) -> None:
    others = "id <> CONNECTION_ID() AND db = DATABASE() AND command = 'Sleep'"
    for (thread,) in ask(admin, f"SELECT id FROM information_schema.processlist WHERE {others}"):
        ask(admin, f"KILL {thread}")


def test_killed_connections_are_replaced_unseen(mysql_url: str, prefix: str) -> None:
    """In a database of its own: whatever sleeps there is this store's."""
    database = f"{prefix}_d"
    with closing(dialler(mysql_url)(5.0)) as admin:
        ask(admin, f"CREATE DATABASE {database}")
        try:
            ask(admin, f"USE {database}")
            where = urlsplit(mysql_url)
            with MySQLStore.from_url(where._replace(path=f"/{database}").geturl()) as store:
                store.save(birth())
                hundred = [threading.Thread(target=store.load, args=("a",)) for _ in range(20)]
                for thread in hundred:
                    thread.start()
                for thread in hundred:
                    thread.join()
                for version in range(2, 7):
                    kill_all(admin)
                    store.save(birth(version=version))
                kill_all(admin)
                assert store.post("a", b"one", 5)
                kill_all(admin)
                assert len(store.claim(1000, 1, lease())) == 1
        finally:
            ask(admin, f"DROP DATABASE {database}")


class Forgetful(AnyConnection):
    """A connection that can break between what the server did and the answer."""

    breaks = 0

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        count = super().query(sql, unbuffered)  # pyright: ignore[reportUnknownMemberType]
        if Forgetful.breaks and b"UPDATE" in bytes(sql, "ascii"):
            while vars(self)["_result"].has_next:
                self.next_result()
            Forgetful.breaks -= 1
            self._force_close()  # type: ignore[attr-defined]
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, "lost by a test")
        return count


class Overburdened(AnyConnection):
    """A connection that breaks under the second large packet."""

    large = 0

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        Overburdened.large += len(sql) > 2**20
        if Overburdened.large > 1:
            self._force_close()  # type: ignore[attr-defined]
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, "lost by a test")
        return super().query(sql, unbuffered)  # pyright: ignore[reportUnknownMemberType]


def test_a_server_that_goes_in_the_midst_of_many_saves_leaves_what_it_took(
    monkeypatch: pytest.MonkeyPatch, mysql_url: str, prefix: str
) -> None:
    monkeypatch.setattr(Overburdened, "large", 0)
    monkeypatch.setattr(pymysql, "connect", Overburdened)
    saves: list[Save] = [(birth(run_id, snapshot=bytes(3 * 2**20)), (), None) for run_id in "abc"]
    with MySQLStore(plain(mysql_url), prefix=prefix) as store:
        outcomes = store.save_many(saves)
        assert [type(outcome) for outcome in outcomes] == [int, StoreUnavailable, StoreUnavailable]
        Overburdened.large = -10
        assert [store.load(run_id) is not None for run_id in "abc"] == [True, False, False]
        Overburdened.large = 1
        with refused(StoreUnavailable):  # nothing is there yet that it would hide
            store.save_many([(birth("d", snapshot=bytes(3 * 2**20)), (), None)])


@pytest.fixture
def forgetful(mysql_url: str, prefix: str) -> Iterator[Store]:
    where = urlsplit(mysql_url)
    connect = partial(
        Forgetful,
        host=where.hostname,
        port=where.port or 3306,
        user=where.username,
        password=where.password or "",
        database=where.path.removeprefix("/"),
        client_flag=CLIENT.MULTI_STATEMENTS,
    )
    with MySQLStore(connect, prefix=prefix) as store:
        yield store
    Forgetful.breaks = 0


def test_a_call_whose_answer_was_lost_is_made_again(forgetful: Store) -> None:
    mine = lease()
    forgetful.save(running(), lease=mine)
    Forgetful.breaks = 1
    assert forgetful.save(running(version=2), [b"one"], mine) == 0
    Forgetful.breaks = 1
    forgetful.release("a", mine, 5)
    Forgetful.breaks = 1
    assert [run.log for run in forgetful.claim(5, 10, mine)] == [(b"one",)]
    Forgetful.breaks = 1
    assert forgetful.renew({"a": mine.token}, MINUTE) == {"a"}
    Forgetful.breaks = 1
    assert forgetful.acquire("a", mine) is not None
    Forgetful.breaks = 1
    assert forgetful.post("a", b"twice", 5)
    assert Forgetful.breaks == 0
    assert (get(forgetful).version, get(forgetful).attempt, get(forgetful).log) == (2, 0, (b"one", b"twice", b"twice"))


def test_a_save_without_a_lease_whose_answer_was_lost_may_have_happened(forgetful: Store) -> None:
    forgetful.save(birth())
    Forgetful.breaks = 1
    with refused(StoreUnavailable, saying="lost by a test"):
        forgetful.save(birth(version=2))
    assert get(forgetful).version == 2


def all_calls(store: Store) -> list[Callable[[], object]]:
    mine = Lease("mine", MINUTE)
    return [
        lambda: store.save(birth("new")),
        lambda: store.load("a"),
        lambda: store.delete("new"),
        lambda: store.due(1000, 1),
        lambda: store.claim(1000, 1, mine),
        lambda: store.acquire("a", mine),
        lambda: store.renew({"a": "mine"}, MINUTE),
        lambda: store.release("a", mine),
        lambda: store.post("a", b"record", 5),
        lambda: store.save_many([(birth("new"), (), None), (birth("newer"), (), None)]),
        lambda: store.list(1),
        lambda: store.next_wake(),
    ]


def check_unavailable(store: Store, timeout: float) -> None:
    for call in all_calls(store):
        began = time.monotonic()
        with refused(StoreUnavailable):
            call()
        assert time.monotonic() - began < timeout + 2  # a busy machine takes some of it


def is_unavailable(store: Store) -> bool:
    try:
        store.load("a")
    except StoreUnavailable:
        return True
    return False


def test_a_server_that_stops_and_comes_back(own_mysql: Server) -> None:
    with MySQLStore.from_url(own_mysql.url, timeout=2.0) as store:
        store.save(birth())
        own_mysql.stop()
        check_unavailable(store, 2.0)
        own_mysql.start()
        for call in all_calls(store):
            call()
        drop(own_mysql.url, "kvflow")


def test_a_server_that_freezes(own_mysql: Server) -> None:
    with MySQLStore.from_url(own_mysql.url, timeout=0.5) as store:
        store.save(birth())
        own_mysql.pause()
        until(lambda: is_unavailable(store))  # the signal may come a moment later
        check_unavailable(store, 0.5)
        own_mysql.resume()
        for call in all_calls(store):
            call()
        drop(own_mysql.url, "kvflow")


def test_a_restart_between_two_calls_is_not_seen(own_mysql: Server) -> None:
    with MySQLStore.from_url(own_mysql.url) as store:
        store.save(birth())
        own_mysql.stop()
        own_mysql.start()
        store.save(birth(version=2))
        assert get(store).version == 2
        drop(own_mysql.url, "kvflow")


def test_a_pool_that_is_used_up_says_so(mysql_url: str, prefix: str, admin: AnyConnection) -> None:
    with MySQLStore.from_url(mysql_url, prefix=prefix, pool_size=1, timeout=3.0) as store:
        store.save(birth())
        _lock(admin, prefix)
        blocked: list[KvflowError] = []

        def block() -> None:
            try:
                store.post("a", b"record", 5)
            except KvflowError as error:
                blocked.append(error)

        thread = threading.Thread(target=block)
        thread.start()
        _until_waiting(admin)
        with refused(StoreUnavailable, saying="all 1 connections"):
            MySQLStore.load(_with_timeout(store, 0.2), "a")
        ask(admin, "ROLLBACK")
        thread.join()
        assert blocked == []
        assert get(store).log == (b"record",)


def test_who_waits_for_a_session_is_told_that_the_store_was_closed(mysql_url: str) -> None:
    pool = Pool(lambda seconds: Session(dialler(mysql_url)(seconds), seconds), 1)
    session = pool.take(time.monotonic() + 5)
    told: list[str] = []

    def wait() -> None:
        try:
            pool.take(time.monotonic() + 30)
        except StoreUnavailable as error:
            told.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)  # whether it waits already or not, it is told
    pool.close()
    thread.join(10)
    assert told == ["this store is closed: open another"]
    pool.give(session, whole=True)
    assert not session.quiet()


def test_a_session_that_everybody_forgot_takes_no_place(mysql_url: str) -> None:
    pool = Pool(lambda seconds: Session(dialler(mysql_url)(seconds), seconds), 1)
    pool.take(time.monotonic() + 5)  # and an interrupt, before anybody holds it
    session = pool.take(time.monotonic() + 1)
    pool.give(session, whole=True)
    assert pool.take(time.monotonic() + 1) is session
    with refused(StoreUnavailable, saying="all 1 connections"):
        pool.take(time.monotonic() + 0.1)
    pool.give(session, whole=False)
    pool.close()


def _with_timeout(store: MySQLStore, seconds: float) -> MySQLStore:
    vars(store)["_timeout"] = seconds
    return store


def _until_waiting(admin: AnyConnection) -> None:
    def somebody_waits() -> Any:
        time.sleep(0.15)  # asked more often than each 100 ms, InnoDB gives the same old answer
        return ask(admin, "SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")

    until(somebody_waits)


def _lock(admin: AnyConnection, prefix: str) -> None:
    """Lock the run ``a`` as a client would that froze in a transaction."""
    ask(admin, "BEGIN")
    ask(admin, f"SELECT 1 FROM {prefix}_runs WHERE run_id = 'a' FOR UPDATE")


def test_a_run_that_somebody_has_locked_is_waited_for_no_longer_than_the_timeout(
    mysql_url: str, prefix: str, admin: AnyConnection
) -> None:
    with MySQLStore.from_url(mysql_url, prefix=prefix, timeout=1.5) as store:
        mine = lease()
        store.save(running(), lease=mine)
        store.save(birth("b"))
        _lock(admin, prefix)
        calls: list[Callable[[], object]] = [
            lambda: store.save(running(version=2), [b"one"], mine),
            lambda: store.acquire("a", mine),
            lambda: store.release("a", mine),
            lambda: store.renew({"a": mine.token}, MINUTE),
            lambda: store.post("a", b"one", 5),
            lambda: store.delete("a"),
        ]
        for call in calls:
            began = time.monotonic()
            with refused(StoreUnavailable):
                call()
            assert time.monotonic() - began < 2.0
        assert get(store) == running()
        saves: list[Save] = [(running(version=2), (), mine), (birth("b", version=2), (), None), (birth("c"), (), None)]
        outcomes = store.save_many(saves)
        assert isinstance(outcomes.pop(0), StoreUnavailable)
        assert outcomes == [0, 0]
        assert [run.run_id for run in store.claim(1000, 10, lease())] == ["b", "c"]
        ask(admin, "ROLLBACK")
        for call in calls:
            call()


def test_many_that_are_locked_are_waited_for_as_long_as_one(mysql_url: str, prefix: str, admin: AnyConnection) -> None:
    with MySQLStore.from_url(mysql_url, prefix=prefix, timeout=1.5) as store:
        ids = [f"run {number}" for number in range(6)]
        for run_id in ids:
            store.save(birth(run_id))
        ask(admin, "BEGIN")
        ask(admin, f"SELECT 1 FROM {prefix}_runs FOR UPDATE")
        began = time.monotonic()
        outcomes = store.save_many([(birth(run_id, version=2), (), None) for run_id in ids])
        assert time.monotonic() - began < 2.5
        ask(admin, "ROLLBACK")
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 6
        assert [get(store, run_id).version for run_id in ids] == [1] * 6


@pytest.mark.parametrize(
    ("change", "error", "saying"),
    [
        ("ALTER TABLE {p}_runs ADD CONSTRAINT zz CHECK (version < 2)", Corrupt, "zz"),
        ("ALTER TABLE {p}_runs CHANGE writer writer2 VARBINARY(800)", NotSupported, "writer"),
        ("DROP TABLE {p}_log", NotSupported, "_log"),
    ],
)
def test_tables_that_were_changed_are_told_from_a_server_that_is_away(
    store: Store, prefix: str, admin: AnyConnection, change: str, error: type[KvflowError], saying: str
) -> None:
    store.save(birth())
    ask(admin, change.format(p=prefix))
    with refused(error, saying=saying):
        store.save(birth(version=2), [b"record"])


def test_a_deadlock_is_tried_again(store: Store, prefix: str, admin: AnyConnection) -> None:
    """Ours waits for ``a`` with ``b`` locked, theirs then asks for ``b``: one of the two is told to go."""
    mine = lease()
    for run_id in "ab":
        store.save(running(run_id), lease=mine)
    renewed: list[set[str]] = []
    ask(admin, "BEGIN")
    ask(admin, f"SELECT 1 FROM {prefix}_runs WHERE run_id = 'b' FOR UPDATE")
    thread = threading.Thread(target=lambda: renewed.append(store.renew(dict.fromkeys("ab", mine.token), MINUTE)))
    thread.start()
    _until_waiting(admin)
    try:
        ask(admin, f"SELECT 1 FROM {prefix}_runs WHERE run_id = 'a' FOR UPDATE")
    except pymysql.OperationalError as error:
        assert error.args[0] == 1213  # noqa: PT017
    ask(admin, "ROLLBACK")
    thread.join()
    assert renewed == [{"a", "b"}]


def test_an_open_claim_blocks_no_birth(store: Store, prefix: str, admin: AnyConnection) -> None:
    """What a claim does, done by hand and left open."""
    store.save(birth("z"))
    ask(admin, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    ask(admin, "BEGIN")
    ask(
        admin,
        f"SELECT id FROM {prefix}_runs FORCE INDEX (due) WHERE workflow = 'w' AND due_at <= 10"
        " ORDER BY due_at, run_id LIMIT 10 FOR UPDATE SKIP LOCKED",
    )
    began = time.monotonic()
    store.save(birth("a", wake_at=5))
    assert time.monotonic() - began < 1
    ask(admin, "ROLLBACK")


def test_a_conflict_says_why(store: Store) -> None:
    store.save(waiting())
    with refused(Conflict, saying="version 1 is stored"):
        store.save(waiting(version=3))
    with refused(Conflict, saying="1 records of 0"):
        store.save(waiting(version=2, seen=1))
    with refused(Conflict, saying="no longer held"):
        store.save(waiting(version=2), lease=lease())
    hold(store)
    with refused(Conflict, saying="live lease"):
        store.save(waiting(version=2, status=Status.COMPLETED))
