"""What only Redis can do to a store: servers that go away, connections that die, scripts that are forgotten."""

import os
import socket
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from redis.exceptions import ConnectionError, ResponseError

from kvflow.errors import Conflict, KvflowError, NotSupported, SchemaTooNew, StoreUnavailable, TooLarge
from kvflow.stores import RedisStore
from kvflow.stores.redis_channels import Wire
from kvflow.stores.redis_deadline import BoundedConnection
from kvflow.stores.redis_scripts import CLAIM, POST, SCRIPTS
from kvflow.stores.redis_urls import connector
from kvflow.testing import (
    FenceContract,
    LeaseContract,
    ListContract,
    NextWakeContract,
    Open,
    PrimitivesContract,
    SaveManyContract,
)
from kvflow.testing.runs import birth, get, hold, lease, opened, running, until
from servers.process import Server

SLACK = 1.5
"""Seconds that a busy machine may add to a timeout."""


@pytest.fixture
def prefix() -> str:
    return f"t_{uuid.uuid4().hex[:16]}"


def client_of(url: str) -> Any:
    return connector(url)()


@pytest.fixture
def own(own_redis: Server) -> Iterator[Any]:
    """A client of a server that the test may spoil; what it set is set back."""
    client = client_of(own_redis.url)
    with closing(client):
        yield client
        own_redis.resume()
        own_redis.start()
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)
        client.config_set("proto-max-bulk-len", 512 * 1024 * 1024)
        client.replicaof("NO", "ONE")
        client.flushall()


def unavailable(call: Callable[[], object], within: float) -> str:
    """What StoreUnavailable says, which must come in time."""
    begin = time.monotonic()
    with pytest.raises(StoreUnavailable) as refusal:
        call()
    assert time.monotonic() - begin < within + SLACK
    return str(refusal.value)


def twice(server: fakeredis.FakeServer) -> Any:
    """A client that sends every script twice, as after a lost answer; a post's record would be there twice."""
    client: Any = fakeredis.FakeRedis(server=server)
    send = client.execute_command

    def send_twice(*args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA" and args[1] != POST.sha:
            send(*args, **options)
        return send(*args, **options)

    client.execute_command = send_twice
    return client


class TestScriptsSentTwice(
    PrimitivesContract, LeaseContract, FenceContract, SaveManyContract, ListContract, NextWakeContract
):
    @pytest.fixture
    def open(self) -> Open:
        server = fakeredis.FakeServer()
        return lambda: RedisStore(twice(server))


def test_a_save_without_a_lease_that_was_sent_twice_is_no_conflict_but_one_made_twice_is() -> None:
    store = RedisStore(twice(fakeredis.FakeServer()))
    assert store.save(birth(), [b"one"]) == 0
    assert get(store).log == (b"one",)
    with pytest.raises(Conflict):
        store.save(birth(), [b"one"])


def test_every_script_runs_on_a_real_server_and_again_when_it_was_forgotten(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url)) as store:
        for _ in range(2):
            own.script_flush()
            mine = lease()
            store.save(birth(), [b"one"])
            store.save_many([(birth("b"), [b"one"], None)])
            assert store.due(1000, 10) == ["a", "b"]
            assert len(store.claim(1000, 10, mine)) == 2
            store.release("a", mine)
            assert store.acquire("a", mine) is not None
            assert store.renew({"a": mine.token}, 1000) == {"a"}
            assert store.post("a", b"event", 5)
            assert len(store.list(10)) == 2
            store.next_wake()
            assert get(store).log == (b"one", b"event")
            store.delete("a")
            store.delete("b")
            known = own.script_exists(*[script.sha for script in SCRIPTS if script.name != "open"])
            assert all(known)


def test_connections_that_died_are_replaced_and_nobody_notices(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url)) as store:
        store.save(birth())
        for version in range(2, 12):
            own.client_kill_filter(_type="normal", skipme=True)
            store.save(birth(version=version))
        assert get(store).version == 11


def test_a_server_that_is_away_and_comes_back(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url, timeout=0.5)) as store:
        mine = lease()
        store.save(running(), [b"one"], mine)
        own_redis.stop()
        step = running(version=2, seen=1)
        for call in (
            partial(store.save, step, [b"two"], mine),
            partial(store.load, "a"),
            partial(store.claim, 0, 1, mine),
            partial(store.list, 1),
        ):
            unavailable(call, within=0.5)
        own_redis.start()
        assert store.save(step, [b"two"], mine) == 0
        assert get(store).log == (b"one", b"two")


def test_a_store_may_be_made_while_its_server_is_away(own_redis: Server, own: Any) -> None:
    own_redis.stop()
    with opened(partial(RedisStore.from_url, own_redis.url, timeout=0.5)) as store:
        unavailable(partial(store.save, birth()), within=0.5)
        own_redis.start()
        store.save(birth())


def test_a_server_that_does_not_answer(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url, timeout=0.5)) as store:
        mine = lease()
        store.save(running(), [b"one"], mine)
        own_redis.pause()
        unavailable(partial(store.save, running(version=2, seen=1), [b"two"], mine), within=0.5)
        own_redis.resume()
        assert store.save(running(version=2, seen=1), [b"two"], mine) == 0
        assert get(store).log == (b"one", b"two")


def test_a_restart_while_a_call_waits(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url, timeout=30.0)) as store:
        store.save(birth())
        own_redis.stop()
        back = threading.Timer(0.3, own_redis.start)
        back.start()
        assert get(store) == birth()
        back.join()


def test_an_interrupt_at_any_point_leaves_no_answer_to_the_next_call(redis_url: str) -> None:
    """Ctrl-C once while the answer is awaited, and again while the connection is closed for it."""
    channel = Wire(client_of(redis_url))
    assert channel.read([("ECHO", "one")]) == [b"one"]
    interrupted: list[Any] = []

    def interrupt(connection: Any, *_: object, **__: object) -> None:
        interrupted.append(connection)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_response", "disconnect"):
            patch.setattr(BoundedConnection, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            channel.read([("ECHO", "two")])
    assert channel.read([("ECHO", "three")]) == [b"three"]
    assert len(interrupted) == 2
    interrupted[0].disconnect()
    channel.close()


def test_starting_over_while_others_call() -> None:
    """They take the last connection between a look for it and the taking."""
    client: Any = SimpleNamespace(connection_pool=SimpleNamespace(make_connection=_Still))
    channel = Wire(client)
    end = time.monotonic() + 0.5

    def repeat(call: Callable[[], object]) -> None:
        while time.monotonic() < end:
            call()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(5) as threads:
            calls = [channel.start_over] * 2 + [partial(channel.read, [("PING",)])] * 3
            for done in [threads.submit(repeat, call) for call in calls]:
                done.result()
    finally:
        sys.setswitchinterval(interval)


class _Still:
    """A connection that costs no time, so that threads meet often."""

    def send_packed_command(self, message: object) -> None: ...

    def read_response(self) -> None: ...

    def disconnect(self) -> None: ...


@pytest.mark.parametrize("answered", [1, 3, 11, 12])
def test_a_claim_cut_short_gives_what_it_has_taken(answered: int) -> None:
    """A script takes 50 at a time; the 11th is of the second window of 500, and of the 12th the logs do not come."""
    client: Any = fakeredis.FakeRedis()
    store = RedisStore(client, timeout=0.05)
    long = [b""] * 2001
    store.save_many([(birth(f"run {number:04}"), long if number > 550 else (), None) for number in range(600)])
    send, claims = client.execute_command, 0

    def send_some(*args: Any, **options: Any) -> Any:
        nonlocal claims
        claims += args[1] == CLAIM.sha
        if claims > answered:
            raise ConnectionError("gone")
        return send(*args, **options)

    def no_pipeline(**_: Any) -> Any:
        raise ConnectionError("gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "execute_command", send_some)
        patch.setattr(client, "pipeline", no_pipeline)
        claimed = store.claim(1000, 600, lease())
    expected = min(answered * 50, 551)
    assert [run.run_id for run in claimed] == [f"run {number:04}" for number in range(expected)]


def test_more_callers_than_connections(own_redis: Server, own: Any) -> None:
    url = f"{own_redis.url}?client_name=crowd"
    with opened(partial(RedisStore.from_url, url, pool_size=1, timeout=0.5)) as store:
        store.save(birth())
        own_redis.pause()
        first = threading.Thread(target=lambda: unavailable(partial(store.load, "a"), within=0.5))
        first.start()
        unavailable(partial(store.load, "a"), within=0.5)
        first.join()
        own_redis.resume()
        loads = [threading.Thread(target=partial(get, store)) for _ in range(20)]
        for thread in loads:
            thread.start()
        for thread in loads:
            thread.join()
        until(lambda: [one["name"] for one in own.client_list()].count("crowd") == 1)


@pytest.mark.parametrize(
    "scheme", ["redis://{0}", "redis+cluster://{0},{1},{2}", "redis+sentinel://{0},{1},{2}/kvflow"]
)
def test_hosts_that_take_connections_and_say_nothing(scheme: str) -> None:
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        hosts = [f"127.0.0.1:{one.getsockname()[1]}" for one in listening]
        with opened(partial(RedisStore.from_url, scheme.format(*hosts), timeout=0.6)) as store:
            for _ in range(2):
                unavailable(partial(store.save, birth()), within=0.6)


@pytest.mark.parametrize(
    "scheme", ["redis://{0}", "redis+cluster://{0},{1},{2}", "redis+sentinel://{0},{1},{2}/kvflow"]
)
def test_hosts_that_are_not_there(scheme: str) -> None:
    hosts = [f"127.0.0.1:{port}" for port in (1, 2, 3)]
    with opened(partial(RedisStore.from_url, scheme.format(*hosts), timeout=0.5)) as store:
        unavailable(partial(store.load, "a"), within=0.5)


def test_servers_that_would_evict_runs_are_refused(own_redis: Server, own: Any) -> None:
    own.config_set("maxmemory-policy", "allkeys-lru")
    with opened(partial(RedisStore.from_url, own_redis.url)) as store:
        with pytest.raises(NotSupported, match="allkeys-lru"):
            store.save(birth())
        own.config_set("maxmemory-policy", "noeviction")
        store.save(birth())


def test_servers_that_do_not_tell_their_policy_are_taken_and_said_so_once(caplog: pytest.LogCaptureFixture) -> None:
    store = RedisStore(fakeredis.FakeRedis())
    store.save(birth())
    store.load("a")
    (said,) = caplog.records
    assert said.name == "kvflow.stores"
    assert "maxmemory-policy" in said.getMessage()


def test_what_is_too_large_for_the_server_is_not_written(own_redis: Server, own: Any) -> None:
    own.config_set("proto-max-bulk-len", 1024 * 1024)
    with opened(partial(RedisStore.from_url, own_redis.url)) as store:
        store.save(birth())
        large = bytes(1024 * 1024 + 1)
        with pytest.raises(TooLarge, match=r"10485\d\d bytes"):
            store.save(birth(version=2), [large])
        with pytest.raises(TooLarge):
            store.save(birth(version=2, snapshot=large))
        with pytest.raises(TooLarge):
            store.post("a", large, 5)
        outcomes = store.save_many([(birth(version=2), [large], None), (birth("b"), (), None)])
        assert isinstance(outcomes[0], TooLarge)
        assert outcomes[1] == 0
        assert get(store) == birth()


def test_a_limit_lowered_behind_our_back_writes_nothing(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url, timeout=1.0)) as store:
        store.save(birth())
        own.config_set("proto-max-bulk-len", 1024 * 1024)
        with pytest.raises((TooLarge, StoreUnavailable)):
            store.save(birth(version=2), [bytes(2 * 1024 * 1024)])
        assert get(store) == birth()


def test_a_server_out_of_memory_writes_nothing(own_redis: Server, own: Any) -> None:
    with opened(partial(RedisStore.from_url, own_redis.url)) as store:
        mine = lease()
        store.save(birth(), [b"one"])
        store.save(running("held"), [b"one"], mine)
        own.config_set("maxmemory", 1)
        calls: list[Callable[[], object]] = [
            partial(store.save, birth(version=2, seen=1), [b"two"]),
            partial(store.save, running("held", version=2, seen=1, workflow="x"), (), mine),
            partial(store.save_many, [(birth("b"), [b"one"], None), (birth("c"), (), None)]),
            partial(store.post, "a", b"event", 5),
            partial(store.acquire, "a", lease()),
            partial(store.release, "held", mine),
        ]
        for call in calls:
            assert "memory" in unavailable(call, within=0.5)
        own.config_set("maxmemory", 0)
        assert get(store).log == (b"one",)
        assert [run.run_id for run in store.list(10)] == ["held", "a"]
        assert store.save(running("held", version=2, seen=1), [b"two"], mine) == 0
        assert store.due(1000, 10) == ["a"]


def test_a_schema_of_the_future_is_refused(own_redis: Server, own: Any) -> None:
    own.set("{kvflow}:schema", "2")
    with opened(partial(RedisStore.from_url, own_redis.url)) as store:
        for _ in range(2):
            with pytest.raises(SchemaTooNew, match="knows 1"):
                store.save(birth())


def test_a_server_that_is_a_replica_for_a_while(own_redis: Server, own: Any) -> None:
    brief, patient = partial(RedisStore.from_url, timeout=0.4), partial(RedisStore.from_url, timeout=30.0)
    with opened(partial(brief, own_redis.url)) as store, opened(partial(patient, own_redis.url)) as other:
        store.save(birth())
        own.replicaof("127.0.0.1", "1")
        assert "read only" in unavailable(partial(store.save, birth("b")), within=0.4)
        back = threading.Timer(0.3, partial(own.replicaof, "NO", "ONE"))
        back.start()
        other.save(birth(version=2))
        back.join()


def test_a_server_that_is_busy_for_a_while(own_redis: Server, own: Any) -> None:
    own.config_set("busy-reply-threshold", 50)
    with opened(partial(RedisStore.from_url, own_redis.url, timeout=30.0)) as store:
        store.save(birth())
        spins = threading.Thread(target=partial(_spin, own_redis.url))
        spins.start()
        until(partial(_is_busy, own))
        ends = threading.Timer(0.3, own.script_kill)
        ends.start()
        store.save(birth(version=2))
        ends.join()
        spins.join()


def _spin(url: str) -> None:
    with closing(client_of(url)) as client, pytest.raises(Exception, match="killed"):
        client.eval("while true do end", 0)


def _is_busy(client: Any) -> bool:
    try:
        client.ping()
    except ResponseError as error:
        return "BUSY" in str(error)
    return False


def test_a_node_of_a_cluster_is_not_taken_for_a_server_alone(redis_cluster_url: str, prefix: str) -> None:
    with closing(client_of(redis_cluster_url)) as client:
        slot = client.keyslot(f"{{{prefix}}}:")
        stranger = next(node for node in client.get_primaries() if node not in client.nodes_manager.slots_cache[slot])
    made = partial(RedisStore.from_url, f"redis://127.0.0.1:{stranger.port}", prefix=prefix)
    with opened(made) as store, pytest.raises(NotSupported, match=r"redis\+cluster"):
        store.save(birth())


def test_a_cluster_whose_primary_changes(redis_cluster_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_cluster_url, prefix=prefix, timeout=30.0)) as store:
        store.save(birth(), [b"one"])
        with closing(client_of(redis_cluster_url)) as client:
            replica = until(partial(_replica, client, prefix))
            client.execute_command("CLUSTER FAILOVER", target_nodes=replica)
            for version in range(2, 100):
                store.save(birth(version=version, seen=version - 1), [b"more"])
            until(partial(_is_primary, replica.port))
        assert len(get(store).log) == 99
        (run,) = store.claim(1000, 10, lease())
        assert run.version == 99
        store.delete("a")


def _replica(client: Any, prefix: str) -> Any:
    client.nodes_manager.initialize()
    return next(iter(client.nodes_manager.slots_cache[client.keyslot(f"{{{prefix}}}:")][1:]), None)


def _is_primary(port: int) -> bool:
    with closing(client_of(f"redis://127.0.0.1:{port}")) as client:
        told: dict[str, object] = client.info("replication")
        return told["role"] == "master"


def test_a_failover_by_sentinels(redis_sentinel_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_sentinel_url, prefix=prefix, timeout=60.0)) as store:
        mine = lease(600_000)
        store.save(running(), [b"one"], mine)
        with closing(client_of(redis_sentinel_url)) as client:
            before = client.connection_pool.get_master_address()
            assert client.wait(1, 10_000) == 1
            watcher = client.connection_pool.sentinel_manager.sentinels[0]
            until(partial(_fails_over, watcher), seconds=60)
            until(lambda: client.connection_pool.get_master_address() != before, seconds=60)
        assert store.save(running(version=2, seen=1), [b"two"], mine) == 0
        assert get(store).log == (b"one", b"two")
        store.delete("a")


def _fails_over(watcher: Any) -> bool:
    """Ask for it; a Sentinel that has not heard of the replica for a moment refuses."""
    try:
        watcher.execute_command("SENTINEL", "FAILOVER", "kvflow")
    except ResponseError:
        return False
    return True


@pytest.mark.parametrize("kind", ["redis_url", "redis_cluster_url", "redis_sentinel_url"])
def test_a_fork_while_threads_are_at_work(kind: str, prefix: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(kind)
    with opened(partial(RedisStore.from_url, url, prefix=prefix, pool_size=3)) as store:
        stop = threading.Event()
        failures: list[KvflowError] = []

        def work(name: str) -> None:
            version = 0
            while not stop.is_set():
                version += 1
                try:
                    store.save(birth(name, version=version))
                except KvflowError as error:
                    failures.append(error)
                    return

        threads = [threading.Thread(target=work, args=(f"thread {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(6):
                _in_a_child(partial(_work_in_child, store, f"child {number}"))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert failures == []
        assert {run.run_id for run in store.list(100)} >= {f"child {number}" for number in range(6)}
        for run in store.list(100):
            store.delete(run.run_id)


def _work_in_child(store: RedisStore, name: str) -> None:
    """As the parent does: several threads, more than connections."""
    store.save(birth(name))
    mine, _ = hold(store, name)
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(store.load(name) is not None)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    store.release(name, mine)


def _in_a_child(call: Callable[[], None]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what forking with threads warns of is what is tried here
        child = os.fork()
    if child == 0:
        failed = 1
        try:
            call()
            failed = 0
        finally:
            os._exit(failed)
    deadline = time.monotonic() + 60
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            pytest.fail("the forked child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(status) == 0, "the forked child failed"
