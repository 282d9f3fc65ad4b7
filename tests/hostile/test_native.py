"""Under a server's store: what somebody has written there by hand stops nobody."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import hypothesis.strategies as st
import pytest

from hostile.attack import run
from hostile.decoders import answered_within
from kvflow.stores import RedisStore
from kvflow.stores.redis_urls import connector
from kvflow.testing.runs import birth, get, lease

PREFIX = f"hostile_{uuid.uuid4().hex[:12]}"
TAG = f"{{{PREFIX}}}:"


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with closing(connector(redis_url)()) as client:
        made: Any = client
        yield made
        for key in made.scan_iter(f"{TAG}*"):
            made.delete(key)


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
        assert "good" in {run.run_id for run in store.claim(1000, 10, mine)}
        for call in (lambda: store.acquire("bad", mine), lambda: store.release("bad", mine)):
            answered_within(call)
        store.release("good", mine, wake_at=500)
        assert get(store, "good") == before

    run("lines of Redis heads", CHANGES, attacked, 60)


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
