"""Under a server's store: what somebody has written there by hand stops nobody."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest

from hostile.attack import run, run_long
from hostile.decoders import answered_within
from hostile.rows import answer, paged
from kvflow import Lease, SchemaTooNew
from kvflow.checks import check_stored
from kvflow.stores import RedisStore
from kvflow.stores.redis_urls import connector
from kvflow.testing.runs import birth, get, lease, refused

PREFIX = f"hostile_{uuid.uuid4().hex[:12]}"
TAG = f"{{{PREFIX}}}:"


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with closing(connector(redis_url)()) as client:
        made: Any = client
        yield made
        empty(made)


def empty(client: Any) -> None:
    for key in client.scan_iter(f"{TAG}*"):
        client.delete(key)


LINES = st.sampled_from(
    [
        b"",
        b"0",
        b"1",
        b"2",
        b"-1",
        b"9" * 17,
        b"9" * 400,
        b"9" * 5000,
        b"1e9",
        b"inf",
        b"nan",
        b"0x10",
        b"\xff",
        b"a\tb",
    ]
) | st.binary(max_size=6).filter(lambda line: b"\n" not in line)
CHANGES = st.lists(st.tuples(st.integers(0, 12), LINES), min_size=1, max_size=2)


def test_a_head_with_lines_of_anything_stops_nobody(client: Any) -> None:
    store = RedisStore(client, prefix=PREFIX)
    store.save(birth("good", wake_at=500), [b"record"])
    store.save(birth("bad", wake_at=0), [b"one", b"two"])
    stored = client.hgetall(f"{TAG}run:bad")
    before = get(store, "good")

    def attacked(changes: list[tuple[int, bytes]]) -> None:
        client.delete(f"{TAG}run:bad", f"{TAG}log:bad", f"{TAG}wakes", f"{TAG}leases")
        lines = stored[b"head"].split(b"\n")
        for at, line in changes:
            lines[at] = line
        client.hset(f"{TAG}run:bad", mapping={"head": b"\n".join(lines), "snapshot": b"snapshot"})
        client.rpush(f"{TAG}log:bad", b"one", b"two")
        client.zadd(f"{TAG}wakes", {f"w\n{0:016}\nbad": 0, f"w\n{500:016}\ngood": 0})
        mine = lease()
        assert "good" in {run.run_id for run in store.list(10)}
        assert "good" in store.due(1000, 10)
        for call in (
            lambda: store.load("bad"),
            lambda: store.next_wake(),
            lambda: store.save_many([(birth("bad", version=2, seen=2), [b"x"], None)]),
            lambda: store.post("bad", b"x", 5, True),
        ):
            answered_within(call)
        claimed = store.claim(1000, 10, mine)
        assert "good" in {run.run_id for run in claimed}
        for one in claimed:
            check_stored(one, one.seen)
        for call in (lambda: store.acquire("bad", mine), lambda: store.release("bad", mine)):
            answered_within(call)
        store.release("good", mine, wake_at=500)
        assert get(store, "good") == before

    run("lines of Redis heads", CHANGES, attacked, 60)


TIMES = LINES | st.sampled_from([b"%016d" % 0, b"%016d" % 5, b"%016d" % 999, b"%016d" % 500, b"%016d" % 10])
ENTRIES = st.binary(max_size=12) | st.one_of(
    st.tuples(
        st.sampled_from([b"w", b"v", b"", b"\xff", b"w\t", b"\xf4\x8f\xbf\xbf"]),
        TIMES,
        st.sampled_from([b"bad", b"good", b"nobody", b"unborn", b"\xff", b"", b"a\nb", b"\t", b"good\n"]),
    ).map(b"\n".join),
    st.tuples(TIMES, st.sampled_from([b"bad", b"good", b"nobody", b"", b"\xff"])).map(b"\n".join),
)
INDEXED = st.lists(st.tuples(st.sampled_from(["wakes", "leases", "births"]), ENTRIES), max_size=4)
KINDS: dict[str, Callable[[Any, str], object]] = {
    "string": lambda client, key: client.set(key, "text"),
    "list": lambda client, key: client.rpush(key, "text", b"\xff"),
    "set": lambda client, key: client.sadd(key, "text"),
    "sorted set": lambda client, key: client.zadd(key, {"text": float("inf")}),
    "hash": lambda client, key: client.hset(key, mapping={"text": "text"}),
    "nothing": lambda client, key: None,
}
REPLACED = st.lists(
    st.tuples(
        st.sampled_from(["run:bad", "log:bad", "run:nobody", "log:nobody", "log:unborn"]), st.sampled_from([*KINDS])
    ),
    max_size=2,
)
KEYS = st.tuples(INDEXED, REPLACED)


class Ground:
    """A store's keys, of which some are replaced, and its indexes, to which entries are added."""

    def __init__(self, client: Any) -> None:
        self.client, self.store = client, RedisStore(client, prefix=PREFIX)

    def spoil(self, indexed: list[tuple[str, bytes]], replaced: list[tuple[str, str]]) -> None:
        empty(self.client)
        self.store.save(birth("good", wake_at=500), [b"record"])
        self.store.save(birth("bad", wake_at=0), [b"one", b"two"])
        for index, entry in indexed:
            self.client.zadd(TAG + index, {entry: 0})
        for key, kind in replaced:
            self.client.delete(TAG + key)
            KINDS[kind](self.client, TAG + key)

    def keys(self, given: tuple[list[tuple[str, bytes]], list[tuple[str, str]]]) -> None:
        """Every call of the contract answers, about the bad run too, and the neighbour is as it should be."""
        store = self.store
        self.spoil(*given)
        assert store.due(1000, 10).count("good") == 1
        self.spoil(*given)
        for wake in (store.next_wake(), store.next_wake(["w", "v"])):
            assert wake is not None
            assert wake <= 500
        self.spoil(*given)
        assert [run.run_id for run in paged(store)].count("good") == 1
        for call in (store.next_wake, lambda: store.next_wake(["w", "v"]), lambda: store.load("nobody")):
            answer(call)
        taken: list[str] = []
        mine = lease()
        while "good" not in taken:
            mine = lease()  # a new one for each take, or what is taken may be given again
            claimed = store.claim(1000, 1, mine)
            assert claimed, "nothing was claimed, and the neighbour is due"
            taken += [run.run_id for run in claimed]
        assert len(taken) == len(set(taken))
        outcomes = store.save_many(
            [
                (birth("bad", version=2, seen=2), [b"x"], mine),
                (birth("unborn"), [b"x"], None),
                (birth("good", version=2, seen=1), [b"two"], mine),
            ]
        )
        assert outcomes[2] == 0
        for name in ("bad", "nobody", "unborn"):
            for about in CALLS:
                answer(partial(about, store, name, mine))
        assert get(store, "good") == birth("good", version=2, seen=2, log=(b"record", b"two"))
        assert [run.run_id for run in paged(store)].count("good") == 1
        assert store.due(1000, 1000).count("good") == 1
        store.delete("bad")
        assert store.save(birth("bad"), [b"anew"]) == 0


CALLS: tuple[Callable[[RedisStore, str, Lease], object], ...] = (
    lambda store, name, mine: store.load(name),
    lambda store, name, mine: store.load(name, log=False),
    lambda store, name, mine: store.renew({name: mine.token, "good": mine.token}, 60_000),
    lambda store, name, mine: store.post(name, b"x", 5, True),
    lambda store, name, mine: store.save(birth(name), [b"x"]),
    lambda store, name, mine: store.save(birth(name, version=2, seen=3), [b"x"]),
    lambda store, name, mine: store.acquire(name, mine),
    lambda store, name, mine: store.release(name, mine, wake_at=5),
    lambda store, name, mine: store.claim(1000, 10, mine, ["v"]),
    lambda store, name, mine: store.next_wake(),
)


@pytest.fixture
def ground(client: Any) -> Ground:
    return Ground(client)


def test_text_that_is_no_entry_ends_no_claim(ground: Ground) -> None:
    for entry in (b"w\n%016d\n" % 5, b"w\nnever\nnobody", b"w\n0\na\tb"):
        ground.keys(([("wakes", entry)], []))


def test_keys_and_entries_that_nobody_wrote_stop_nobody(ground: Ground) -> None:
    run("keys and entries of Redis", KEYS, ground.keys, 60)


@pytest.mark.chaos
def test_keys_and_entries_that_nobody_wrote_stop_nobody_for_long(ground: Ground) -> None:
    run_long("keys and entries of Redis", KEYS, ground.keys, 60)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nothing"])
@pytest.mark.parametrize("key", ["wakes", "leases", "births", "schema"])
def test_another_kind_of_key_in_the_place_of_an_index_is_told_of(ground: Ground, key: str, kind: str) -> None:
    """The index is everybody's: calls fail then, but in words of kvflow's, and what is stored stays."""
    mine = lease()
    ground.spoil([], [(key, kind)])
    for anew in (False, True):
        store = RedisStore(ground.client, prefix=PREFIX) if anew else ground.store
        for call in CALLS:
            answer(partial(call, store, "new", mine))
        answer(lambda store=store: store.list(10))  # type: ignore[misc]
        answer(lambda store=store: store.due(1000, 10))  # type: ignore[misc]
    assert get(ground.store, "good") == birth("good", seen=1, wake_at=500, log=(b"record",))


@pytest.mark.parametrize("version", [b"", b"-1", b"9" * 5000, b"\xff", b"\xb2", b"2"])
def test_a_version_that_this_kvflow_does_not_know_is_told_of(client: Any, version: bytes) -> None:
    client.set(f"{TAG}schema", version)
    with refused(SchemaTooNew, saying="this kvflow knows 1"):
        RedisStore(client, prefix=PREFIX).load("a")
    client.delete(f"{TAG}schema")


def test_a_wake_too_far_to_be_a_number_is_no_wake(ground: Ground) -> None:
    far = [b"9" * 400, b"0000" + b"9" * 20, b"9" * 16]
    ground.spoil([("wakes", b"v\n" + time + b"\nnobody") for time in far], [])
    assert ground.store.next_wake() == 0
    assert ground.store.next_wake(["v"]) is None
    ground.store.save(birth("behind", workflow="v", wake_at=1_700_000_000_000))
    ground.client.zadd(f"{TAG}wakes", {b"v\n" + time + b"\nnobody": 0 for time in far})
    assert ground.store.next_wake(["v"]) == 1_700_000_000_000


@pytest.mark.parametrize(("name", "created"), [(b"\x1b", b"%016d" % 20), (b"bad", b"9" * 17)])
def test_a_run_that_nobody_can_name_is_no_last_page(ground: Ground, name: bytes, created: bytes) -> None:
    ground.spoil([], [])
    lines = ground.client.hget(f"{TAG}run:bad", "head").split(b"\n")
    lines[9] = created
    ground.client.hset(TAG.encode() + b"run:" + name, mapping={"head": b"\n".join(lines), "snapshot": b"snapshot"})
    ground.client.zadd(f"{TAG}births", {created + b"\n" + name: 0})
    assert "good" in {run.run_id for run in paged(ground.store)}


def test_what_is_no_entry_hides_no_wake(ground: Ground) -> None:
    ground.spoil([("wakes", b"w\n!"), ("wakes", b"w\n0\n"), ("leases", b"w\nnever\nbad")], [])
    assert ground.store.next_wake(["w"]) == 0
    ground.client.delete(f"{TAG}leases")
    assert ground.store.next_wake() == 0


def test_a_log_said_to_be_longer_than_a_number_can_be_read_stops_nobody(client: Any) -> None:
    store = RedisStore(client, prefix=PREFIX)
    store.save(birth("good"))
    store.save(birth("bad", wake_at=0), [b"one"])
    lines = client.hget(f"{TAG}run:bad", "head").split(b"\n")
    lines[3] = b"9" * 5000
    client.hset(f"{TAG}run:bad", "head", b"\n".join(lines))
    assert "good" in {run.run_id for run in store.claim(1000, 10, lease())}


def test_an_id_that_is_no_text_stops_nobody(client: Any) -> None:
    store = RedisStore(client, prefix=PREFIX)
    store.save(birth("good"))
    store.save(birth("bad", wake_at=0))
    name = TAG.encode() + b"run:\xff\xfe"
    client.hset(name, mapping=client.hgetall(f"{TAG}run:bad"))
    for index, entry in (("wakes", b"w\n%016d\n\xff\xfe" % 0), ("births", b"%016d\n\xff\xfe" % 10)):
        client.zadd(TAG + index, {entry: 0})
    assert store.due(1000, 10) == ["bad", "good"]
    assert [run.run_id for run in store.list(10)] == ["good", "bad"]
    assert [run.run_id for run in store.claim(1000, 10, lease())] == ["bad", "good"]
