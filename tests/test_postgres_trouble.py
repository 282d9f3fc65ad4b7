"""PostgresStore when connections, the server or the process under it do not last."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from kvflow.errors import StoreUnavailable
from kvflow.store import Store
from kvflow.stores import PostgresStore
from kvflow.stores.postgres_connections import OwnConnections, connector
from kvflow.stores.postgres_protocol import Patience
from kvflow.testing.runs import after, birth, expire, get, lease, running
from servers.process import Server

Make = Callable[..., PostgresStore]


@pytest.fixture
def prefix(postgres_url: str) -> Iterator[str]:
    """Tables of the test's own, and the name that its connections go by."""
    name = f"t_{uuid.uuid4().hex[:16]}"
    yield name
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        conn.execute(f"DROP TABLE IF EXISTS {name}_run, {name}_log, {name}_schema".encode())


@pytest.fixture
def named(postgres_url: str, prefix: str) -> str:
    """The server's address, its connections to be found by the prefix."""
    return make_conninfo(postgres_url, application_name=prefix)


@pytest.fixture
def store(named: str, prefix: str) -> Iterator[PostgresStore]:
    with PostgresStore.from_url(named, prefix=prefix) as store:
        yield store


@contextmanager
def users_pool(
    url: str, size: int = 3, kwargs: dict[str, Any] | None = None, reset: Callable[[Any], None] | None = None
) -> Generator["ConnectionPool[Any]"]:
    pool: ConnectionPool[Any] = ConnectionPool(
        url, min_size=size, max_size=size, kwargs=kwargs, reset=reset, reconnect_timeout=1, open=True
    )
    with pool:
        pool.wait(10)
        yield pool


def kill_connections(url: str, name: str) -> int:
    with psycopg.connect(url, autocommit=True) as conn:
        killed = conn.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", (name,)
        )
        return len(killed.fetchall())


def use_often(store: Store, run_id: str) -> None:
    for _ in range(5):
        use(store, run_id)


def use(store: Store, run_id: str) -> None:
    """One of nearly everything."""
    mine = lease()
    assert store.save(running(run_id), [b"one"], mine) == 0
    assert store.save(running(run_id, version=2, seen=1), [b"two"], mine) == 0
    assert store.renew({run_id: mine.token}, 60_000) == {run_id}
    assert store.post(run_id, b"event", 5)
    store.release(run_id, mine)
    (claimed,) = store.claim(1000, 10, mine)
    assert (claimed.run_id, claimed.log) == (run_id, (b"one", b"two", b"event"))
    assert store.save_many([(birth(run_id, version=3, seen=3, wake_at=9), [b"three"], mine)]) == [0]
    assert (store.due(9, 1), store.next_wake(), len(store.list(1))) == ([run_id], 9, 1)
    store.delete(run_id)
    assert store.load(run_id) is None


@contextmanager
def within(seconds: float) -> Generator[None]:
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable):
        yield
    assert time.monotonic() - begun < seconds


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"autocommit": True},
        {"row_factory": dict_row},
        {"options": "-c default_transaction_isolation=serializable"},
        {"client_encoding": "latin1"},
        {"prepare_threshold": None},
    ],
    ids=lambda kwargs: "".join(kwargs) or "as they come",
)
def test_whatever_the_users_connections_are_like(postgres_url: str, prefix: str, kwargs: dict[str, Any]) -> None:
    with users_pool(postgres_url, kwargs=kwargs) as pool:
        with PostgresStore(pool, prefix=prefix) as store:
            use(store, "a")
            use(store, "\U0001f600 é")
        with pool.connection() as conn:
            assert conn.autocommit is kwargs.get("autocommit", False)
            with conn.cursor(row_factory=dict_row) as cursor:
                assert cursor.execute("SELECT current_setting('enable_seqscan') AS on").fetchone() == {"on": "on"}


def test_two_stores_on_one_pool_both_keep_prepared_statements(postgres_url: str, prefix: str) -> None:
    other = prefix[:-1] + "x"
    with users_pool(postgres_url, size=1) as pool:
        try:
            for _ in range(2):
                for name in (prefix, other):
                    with PostgresStore(pool, prefix=name) as store:
                        use(store, "a")
            with pool.connection() as conn:
                rows = conn.execute(
                    "SELECT p, sum(generic_plans + custom_plans) > count(*) FROM unnest(%s::text[]) p"
                    " JOIN pg_prepared_statements ON strpos(statement, p || '_run') > 0 GROUP BY p",
                    ([prefix, other],),
                )
                assert dict(rows.fetchall()) == {prefix: True, other: True}
        finally:
            with pool.connection() as conn:
                conn.execute(f"DROP TABLE IF EXISTS {other}_run, {other}_log, {other}_schema".encode())


def test_a_serialization_that_always_fails_is_not_tried_for_ever(postgres_url: str, named: str, prefix: str) -> None:
    with PostgresStore.from_url(named, prefix=prefix, timeout=1) as store:
        store.save(birth())
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(
                f"CREATE FUNCTION {prefix}_fail() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'never' USING ERRCODE = '40001'; END $$;"
                f" CREATE TRIGGER fail BEFORE UPDATE ON {prefix}_run FOR EACH ROW"
                f" EXECUTE FUNCTION {prefix}_fail()".encode()
            )
            try:
                with within(2):
                    store.post("a", b"event", 5)
            finally:
                conn.execute(f"DROP FUNCTION {prefix}_fail CASCADE".encode())


def test_a_pool_that_forgets_prepared_statements(postgres_url: str, prefix: str) -> None:
    def forget(conn: psycopg.Connection[Any]) -> None:
        conn.autocommit = True
        conn.execute("DEALLOCATE ALL")
        conn.autocommit = False

    with users_pool(postgres_url, reset=forget) as pool, PostgresStore(pool, prefix=prefix) as store:
        use(store, "a")
        use(store, "b")


def test_killed_connections_are_replaced_unnoticed(
    store: PostgresStore, named: str, postgres_url: str, prefix: str
) -> None:
    use(store, "a")
    assert kill_connections(postgres_url, prefix) >= 1
    use(store, "a")
    with users_pool(named) as pool, PostgresStore(pool, prefix=prefix) as other:
        use(other, "b")
        assert kill_connections(postgres_url, prefix) >= 2
        use(other, "b")


def test_threads_share_few_connections(named: str, postgres_url: str, prefix: str) -> None:
    with PostgresStore.from_url(named, prefix=prefix, pool_size=2) as store:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for _ in range(20):
                    store.save(birth(f"run {number} {uuid.uuid4()}"), [b"record"])
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test is to see it
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert len(store.due(1000, 1000)) == 160
        assert kill_connections(postgres_url, prefix) <= 2


def test_a_lock_that_is_never_let_go_ends_the_wait(named: str, prefix: str) -> None:
    with PostgresStore.from_url(named, prefix=prefix, timeout=1, pool_size=1) as store:
        store.save(birth())
        with psycopg.connect(named) as locker:
            locker.execute(f"SELECT FROM {prefix}_run FOR UPDATE".encode())
            with within(2):
                store.save(birth(version=2))
            with within(2):
                store.post("a", b"event", 5)
            assert store.claim(1000, 10, lease()) == []
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                store.save_many([(birth(version=2), (), None), (birth("b"), (), None)])
            assert time.monotonic() - begun < 2
            assert get(store) == birth()
        assert store.save(birth(version=2)) == 0


def test_connections_that_are_all_in_use(named: str, prefix: str) -> None:
    with users_pool(named, size=1) as pool, PostgresStore(pool, prefix=prefix, timeout=1) as store:
        use(store, "a")
        with pool.connection(), within(2):
            store.load("a")
        use(store, "a")
    with closing(OwnConnections(connector(named, 1), 1)) as own:
        conn = own.lend(Patience(1))
        with pytest.raises(psycopg.OperationalError, match="in use"):
            own.lend(Patience(0.1))
        own.take_back(conn)
        assert own.lend(Patience(1)) is conn
        own.take_back(conn)


def test_a_server_that_stops_and_comes_back(own_postgres: Server, prefix: str) -> None:
    with (
        PostgresStore.from_url(own_postgres.url, prefix=prefix, timeout=2) as store,
        users_pool(own_postgres.url) as pool,
        PostgresStore(pool, prefix=prefix, timeout=2) as other,
    ):
        use(store, "a")
        store.save(birth("kept"), [b"record"])
        get(other, "kept")
        own_postgres.stop()
        for each in (store, other):
            calls: list[Callable[[], object]] = [
                partial(each.load, "kept"),
                partial(each.save, birth("b")),
                partial(each.claim, 5, 1, lease()),
                partial(each.save_many, [(birth("b"), (), None)]),
            ]
            for call in calls:
                with within(3):
                    call()
        own_postgres.start()
        assert get(store, "kept").log == (b"record",)
        deadline = time.monotonic() + 20  # psycopg_pool pauses between its attempts
        while True:
            with suppress(StoreUnavailable):
                assert get(other, "kept").log == (b"record",)
                break
            assert time.monotonic() < deadline
        store.delete("kept")
        use(store, "a")


def test_a_server_that_is_restarted_between_two_calls(own_postgres: Server, prefix: str) -> None:
    with PostgresStore.from_url(own_postgres.url, prefix=prefix) as store:
        use(store, "a")
        own_postgres.stop()
        own_postgres.start()
        use(store, "a")


def test_a_server_that_freezes(own_postgres: Server, prefix: str) -> None:
    with PostgresStore.from_url(own_postgres.url, prefix=prefix, timeout=2) as store:
        use(store, "a")
        own_postgres.pause()
        with within(3):  # it may be saved when the server goes on
            store.save(birth("b", wake_at=2000), [b"record"])
        with within(3):  # on a new connection
            store.load("b")
        own_postgres.resume()
        use(store, "a")


def test_a_closed_store_says_so(store: PostgresStore) -> None:
    use(store, "a")
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.load("a")


@pytest.mark.parametrize("pooled", [False, True])
def test_parent_and_child_go_on_after_a_fork(named: str, prefix: str, pooled: bool) -> None:
    with users_pool(named) as pool:
        store = PostgresStore(pool, prefix=prefix) if pooled else PostgresStore.from_url(named, prefix=prefix)
        with store:
            use(store, "a")
            child = fork(lambda: use_often(store, "child"))
            for _ in range(5):
                assert store.load("parent") is None
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            use(store, "a")


def fork(work: Callable[[], object]) -> int:
    """A child that does the work and is gone, with 0 if the work was done."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


class Wire:
    """A way to the server that can be cut just when an answer comes back."""

    def __init__(self, url: str) -> None:
        params = conninfo_to_dict(url)
        self._server = (str(params["host"]), int(str(params["port"])))
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.url = make_conninfo(url, host=host, port=port)
        self.cut_next = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        self._end(source, target)

    def _answer(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self.cut_next:
                    self.cut_next = False
                    break
                target.sendall(data)
        self._end(source, target)

    @staticmethod
    def _end(*ends: socket.socket) -> None:
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def wire(own_postgres: Server) -> Iterator[Wire]:
    with closing(Wire(own_postgres.url)) as wire:
        yield wire


@pytest.fixture
def cut(wire: Wire, prefix: str) -> Iterator[Store]:
    """A store on a wire that can be cut."""
    with PostgresStore.from_url(wire.url, prefix=prefix) as store:
        store.load("a")
        yield store


def test_a_save_whose_answer_was_lost_succeeds_once(cut: Store, wire: Wire) -> None:
    mine = lease()
    wire.cut_next = True
    assert cut.save(running(), [b"one"], mine) == 0
    wire.cut_next = True
    assert cut.save(running(version=2, seen=1), [b"two"], mine) == 0
    wire.cut_next = True
    assert cut.save_many([(running(version=3, seen=2), [b"three"], mine)]) == [0]
    assert get(cut).log == (b"one", b"two", b"three")


def test_a_save_without_a_lease_whose_answer_was_lost_is_in_doubt(cut: Store, wire: Wire) -> None:
    wire.cut_next = True
    with pytest.raises(StoreUnavailable, match="perhaps after it was done"):
        cut.save(birth(), [b"one"])
    assert get(cut) == birth(seen=1, log=(b"one",))
    wire.cut_next = True
    (outcome,) = cut.save_many([(birth(version=2, seen=1), [b"two"], None)])
    assert isinstance(outcome, StoreUnavailable)
    assert get(cut).log == (b"one", b"two")


def test_a_claim_whose_answer_was_lost_gives_what_it_took(cut: Store, wire: Wire) -> None:
    for number in range(10):
        cut.save(birth(f"run {number}", wake_at=number), [b"record"])
    expire(cut, "run 5")
    mine = lease()
    wire.cut_next = True
    claimed = cut.claim(1000, 3, mine)
    assert sorted((run.run_id, run.attempt) for run in claimed) == [("run 0", 0), ("run 1", 0), ("run 5", 1)]
    assert len(cut.due(1000, 100)) == 7


def test_other_answers_that_were_lost(cut: Store, wire: Wire) -> None:
    cut.save(birth())
    first, second = expire(cut, "a")[0], lease()
    for call, answer in (
        (lambda: getattr(cut.acquire("a", second), "attempt", None), 1),
        (lambda: cut.renew({"a": second.token, "b": first.token}, 60_000), {"a"}),
        (lambda: cut.release("a", second, 7), None),
        (lambda: cut.next_wake(), 7),
        (lambda: cut.load("a"), after(birth(), version=1, wake_at=7, attempt=1)),
        (lambda: cut.delete("a"), None),
        (lambda: cut.load("a"), None),
    ):
        wire.cut_next = True
        assert call() == answer
        assert not wire.cut_next
