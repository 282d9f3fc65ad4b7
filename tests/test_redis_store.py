"""RedisStore keeps the contract on fakeredis, on a real server, on a cluster, and through Sentinels."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import fakeredis
import pytest
from redis import asyncio

from kvflow.errors import InvalidArgument
from kvflow.stores import RedisStore, open_store
from kvflow.stores.redis_urls import connector
from kvflow.testing import (
    ClaimContract,
    FenceContract,
    OneProcessContract,
    Open,
    PostContract,
    ProcessesContract,
    SaveManyContract,
    StoreContract,
)
from kvflow.testing.runs import birth, get, hold, lease, opened, running


@pytest.fixture
def prefix() -> str:
    """Keys of the test's own."""
    return f"t_{uuid.uuid4().hex[:16]}"


def clear(url: str, prefix: str) -> None:
    client: Any = connector(url)()
    with closing(client):
        for key in client.scan_iter(f"{{{prefix}}}:*", count=1000):
            client.delete(key)


class TestFakeRedisStore(OneProcessContract):
    @pytest.fixture
    def open(self) -> Open:
        server = fakeredis.FakeServer()
        return lambda: RedisStore(fakeredis.FakeRedis(server=server))


class TestRedisStore(StoreContract):
    @pytest.fixture
    def open(self, redis_url: str, prefix: str) -> Iterator[Open]:
        yield partial(RedisStore.from_url, redis_url, prefix=prefix)
        clear(redis_url, prefix)


class TestRedisClusterStore(StoreContract):
    @pytest.fixture
    def open(self, redis_cluster_url: str, prefix: str) -> Iterator[Open]:
        yield partial(RedisStore.from_url, redis_cluster_url, prefix=prefix)
        clear(redis_cluster_url, prefix)


class TestRedisSentinelStore(ClaimContract, FenceContract, PostContract, SaveManyContract, ProcessesContract):
    @pytest.fixture
    def open(self, redis_sentinel_url: str, prefix: str) -> Iterator[Open]:
        yield partial(RedisStore.from_url, redis_sentinel_url, prefix=prefix)
        clear(redis_sentinel_url, prefix)


def test_a_client_of_ones_own_stays_open(redis_url: str, prefix: str) -> None:
    client: Any = connector(redis_url)()
    with closing(client):
        for _ in range(2):
            with RedisStore(client, prefix=prefix) as store:
                store.delete("a")
                store.save(birth())
        assert client.ping()
        clear(redis_url, prefix)


def test_prefixes_share_nothing(redis_url: str, prefix: str) -> None:
    first, second = partial(open_store, redis_url, prefix=prefix), partial(open_store, redis_url, prefix=f"{prefix}_2")
    with opened(first) as one, opened(second) as other:
        one.save(birth())
        other.save(birth(snapshot=b"other"))
        assert get(one).snapshot == b"snapshot"
        one.delete("a")
        assert [run.snapshot for run in other.claim(1000, 10, lease())] == [b"other"]
    clear(redis_url, f"{prefix}_2")
    clear(redis_url, prefix)


def test_a_driven_run_is_renewed_only_when_half_of_its_lease_is_gone(redis_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_url, prefix=prefix)) as store:
        client: Any = connector(redis_url)()
        with closing(client):
            mine = lease(600_000)
            store.save(running(), [b"one"], mine)
            (first,) = client.zrange(f"{{{prefix}}}:leases", 0, -1)
            store.save(running(version=2, seen=1), [b"two"], mine)
            assert client.zrange(f"{{{prefix}}}:leases", 0, -1) == [first]
            store.save(running(version=3, seen=2), (), type(mine)(mine.token, 300_000))
            assert client.zrange(f"{{{prefix}}}:leases", 0, -1) != [first]
            clear(redis_url, prefix)


def test_a_run_may_change_its_workflow(redis_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_url, prefix=prefix)) as store:
        store.save(birth())
        mine, _ = hold(store)
        store.save(birth(version=2, workflow="x"), lease=mine)
        assert store.claim(1000, 10, lease(), ["w"]) == []
        assert store.next_wake(["w"]) is None
        (run,) = store.claim(1000, 10, lease(), ["x"])
        assert run.workflow == "x"
        clear(redis_url, prefix)


def test_logs_too_long_for_a_script_come_whole(redis_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_url, prefix=prefix)) as store:
        small = [b"%d" % number for number in range(2500)]
        large = [bytes(700_000), bytes(600_000)]
        logs = {"few": [b"one"], "large": large, "none": [], "small": small, "two": [b"one", b"two"]}
        store.save_many([(birth(run_id), log, None) for run_id, log in logs.items()])
        claimed = store.claim(1000, 10, lease())
        assert {run.run_id: [*run.log] for run in claimed} == logs
        assert [run.seen for run in claimed] == [len(logs[run.run_id]) for run in claimed]
        clear(redis_url, prefix)


def test_more_runs_than_one_script_deals_with(redis_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_url, prefix=prefix)) as store:
        ids = [f"run {number:04}" for number in range(1200)]
        assert store.save_many([(birth(run_id, wake_at=7), (), None) for run_id in ids]) == [0] * 1200
        assert store.due(1000, 5000) == ids
        assert store.due(1000, 777) == ids[:777]
        mine = lease()
        assert [run.run_id for run in store.claim(1000, 1111, mine)] == ids[:1111]
        assert store.renew(dict.fromkeys(ids, mine.token), 60_000) == set(ids[:1111])
        assert [run.run_id for run in store.list(5000)] == ids[::-1]
        clear(redis_url, prefix)


def test_clients_that_decode_are_refused() -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    with pytest.raises(InvalidArgument, match="decode_responses=True"):
        RedisStore(client)


def test_clients_that_read_from_replicas_are_refused(redis_cluster_url: str) -> None:
    from redis import RedisCluster
    from redis.cluster import LoadBalancingStrategy

    made: Any = RedisCluster
    url = redis_cluster_url.replace("redis+cluster", "redis")
    client = made.from_url(url, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN)
    with closing(client), pytest.raises(InvalidArgument, match="replicas"):
        RedisStore(client)


def test_a_cluster_client_of_ones_own(redis_cluster_url: str, prefix: str) -> None:
    from redis import RedisCluster

    made: Any = RedisCluster
    with closing(made.from_url(redis_cluster_url.replace("redis+cluster", "redis"))) as client:
        store = RedisStore(client, prefix=prefix)
        store.save(birth(), [b"one"])
        (run,) = store.claim(1000, 10, lease())
        assert run.log == (b"one",)
        clear(redis_cluster_url, prefix)


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:what",
        "redis://user:secret",
        "redis+cluster://user:secret",
        "redis:localhost",
        "redis://localhost?nonsense=1",
        "redis://localhost?decode_responses=True",
        "redis://localhost?socket_timeout=3",
        "redis://localhost?socket_type=x",
        "redis://localhost?encoding=hm",
        "redis://localhost?health_check_interval=1",
        "redis://localhost?client_name=a%20b",
        "redis://localhost?db=-1",
        "redis://localhost/secret",
        "redis://a..b",
        f"redis://{64 * 'x'}.com",
        "redis+cluster://one,a..b",
        "redis+sentinel://one,a..b/master",
        "redis://a%00b",
        "unix:///tmp/%00",
        "redis://user:secret\u2100@localhost",
        "redis://user:secret[@localhost",
        "redis://user:123#secret@localhost",
        "redis://user:123/secret@localhost",
        "redis://user:123?secret@localhost",
        "redis://user:secret\ud800@localhost",
        "rediss://localhost?ssl_cert_reqs=hm",
        "rediss://localhost?ssl_min_version=1",
        "rediss://localhost?ssl_keyfile=/secret",
        "redis+sentinel://one/master/secret",
        "redis+cluster://",
        "redis+cluster://one:6379,,two:6379",
        "redis+cluster://one:6379/3",
        "redis+cluster://one:6379?nonsense=1",
        "redis+sentinel://one:26379",
        "redis+sentinel://one:26379/?db=1",
        "http://localhost",
    ],
)
def test_urls_that_are_not_understood(url: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        RedisStore.from_url(url)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None
    for secret in ("secret", "a..b", "123"):
        assert secret not in str(refusal.value)


@pytest.mark.parametrize("option", ["pool_size", "timeout"])
def test_options_that_no_store_could_use(option: str) -> None:
    wrong: dict[str, Any] = {option: 0}
    with pytest.raises(InvalidArgument, match=option):
        RedisStore.from_url("redis://", **wrong)


def test_what_is_no_client_is_refused() -> None:
    given: list[Any] = ["redis://:secret@localhost", asyncio.Redis(), None]
    for one in given:
        with pytest.raises(InvalidArgument, match="from_url") as refusal:
            RedisStore(one)
        assert "secret" not in str(refusal.value)
    with pytest.raises(InvalidArgument, match="timeout"):
        RedisStore(fakeredis.FakeRedis(), timeout=-1)


def test_a_timeout_longer_than_the_system_takes(redis_url: str, prefix: str) -> None:
    with opened(partial(RedisStore.from_url, redis_url, prefix=prefix, timeout=1e12)) as store:
        assert store.load("a") is None
    clear(redis_url, prefix)


def test_an_entry_that_is_no_save_does_not_stop_the_others() -> None:
    store = RedisStore(fakeredis.FakeRedis())
    entries: list[Any] = [(birth(), ()), (birth("b"), (), None), None]
    assert [type(outcome) for outcome in store.save_many(entries)] == [InvalidArgument, int, InvalidArgument]


def test_urls_that_are_understood() -> None:
    for url in (
        "redis://",
        "redis://localhost",
        "redis://user:secret@localhost:6379/3",
        "rediss://localhost?ssl_cert_reqs=none",
        "unix:///tmp/redis.sock?db=2",
        "redis+cluster://user:secret@one:6379,two,[::1]:7000",
        "redis+sentinel://user:secret@one:26379,two/master/2?sentinel_password=other",
    ):
        RedisStore.from_url(url).close()
