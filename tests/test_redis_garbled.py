"""Entries that no save wrote: they stop nobody, clog nothing, are reported, and are left as they are."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import fakeredis
import pytest

from kvflow.checks import LATEST
from kvflow.errors import Corrupt
from kvflow.run import Lease
from kvflow.stores import RedisStore
from kvflow.stores.redis_urls import connector
from kvflow.testing.runs import MINUTE, birth, expire, get, hold, lease, running, until


class Spoilt:
    """A store and a client that spoils what is in it."""

    def __init__(self, client: Any, prefix: str) -> None:
        self.store = RedisStore(client, prefix=prefix)
        self.client = client
        self.tag = f"{{{prefix}}}:"

    def head(self, run_id: str = "bad") -> str:
        return f"{self.tag}run:{run_id}"

    def log(self, run_id: str = "bad") -> str:
        return f"{self.tag}log:{run_id}"

    def index(self, name: str) -> list[bytes]:
        entries: list[bytes] = self.client.zrange(self.tag + name, 0, -1)
        return entries

    def change(self, line: int, text: bytes) -> None:
        """Replace a line of the head."""
        lines = self.client.hget(self.head(), "head").split(b"\n")
        lines[line] = text
        self.client.hset(self.head(), "head", b"\n".join(lines))

    def everything(self) -> object:
        """What is stored of the bad run, whatever its type."""
        kind = self.client.type(self.head())
        head = self.client.hgetall(self.head()) if kind == b"hash" else self.client.get(self.head())
        log = self.client.lrange(self.log(), 0, -1) if self.client.type(self.log()) == b"list" else None
        return head, log


@pytest.fixture(params=["fakeredis", "server"])
def spoilt(request: pytest.FixtureRequest) -> Iterator[Spoilt]:
    prefix = f"t_{uuid.uuid4().hex[:16]}"
    if request.param == "fakeredis":
        yield Spoilt(fakeredis.FakeRedis(), prefix)
        return
    client: Any = connector(request.getfixturevalue("redis_url"))()
    with closing(client):
        yield Spoilt(client, prefix)
        for key in client.scan_iter(f"{{{prefix}}}:*"):
            client.delete(key)


def _overwrite(spoilt: Spoilt) -> None:
    spoilt.client.delete(spoilt.head())
    spoilt.client.set(spoilt.head(), "text")


def _overwrite_log(spoilt: Spoilt) -> None:
    spoilt.client.delete(spoilt.log())
    spoilt.client.set(spoilt.log(), "text")


GARBLINGS: dict[str, Callable[[Spoilt], object]] = {
    "no head": lambda spoilt: spoilt.client.hdel(spoilt.head(), "head"),
    "no snapshot": lambda spoilt: spoilt.client.hdel(spoilt.head(), "snapshot"),
    "cut off": lambda spoilt: spoilt.client.hset(spoilt.head(), "head", b"1\nsuspended\nw"),
    "not text": lambda spoilt: spoilt.client.hset(spoilt.head(), "head", b"\xff\x00\xfe"),
    "a line more": lambda spoilt: spoilt.change(12, b"event\nmore"),
    "no version": lambda spoilt: spoilt.change(0, b"first"),
    "no status": lambda spoilt: spoilt.change(10, b"dreaming"),
    "no number of records": lambda spoilt: spoilt.change(2, b"-1"),
    "something else": _overwrite,
    "no log": lambda spoilt: spoilt.client.delete(spoilt.log()),
    "a record lost": lambda spoilt: spoilt.client.rpop(spoilt.log()),
    "another log": _overwrite_log,
}


@pytest.mark.parametrize("garbling", GARBLINGS)
def test_a_garbled_run_stops_nobody(spoilt: Spoilt, garbling: str, caplog: pytest.LogCaptureFixture) -> None:
    store = spoilt.store
    store.save(birth("bad", wake_at=0), [b"one", b"two"])
    for number in range(3):
        store.save(birth(f"good {number}", wake_at=number))
    GARBLINGS[garbling](spoilt)
    before = spoilt.everything()
    caplog.clear()

    assert [run.run_id for run in store.claim(1000, 3, lease())] == ["good 0", "good 1", "good 2"]
    assert ["'bad' is garbled" in record.getMessage() for record in caplog.records] == [True]
    assert store.claim(1000, 10, lease()) == []
    assert {run.run_id for run in store.list(10)} >= {"good 0", "good 1", "good 2"}
    with pytest.raises(Corrupt):
        store.load("bad")
    with pytest.raises(Corrupt, match="bad"):
        store.acquire("bad", lease())
    assert spoilt.everything() == before
    store.delete("bad")
    assert store.load("bad") is None


@pytest.mark.parametrize("garbling", GARBLINGS)
def test_a_garbled_run_is_not_due(spoilt: Spoilt, garbling: str) -> None:
    store = spoilt.store
    store.save(birth("bad", wake_at=0), [b"one", b"two"])
    store.save(birth("good"))
    GARBLINGS[garbling](spoilt)
    assert store.due(1000, 1) == ["good"]


def test_a_run_whose_text_is_none_stops_nobody(spoilt: Spoilt, caplog: pytest.LogCaptureFixture) -> None:
    """Lua does not see that; the claim gives it back until later."""
    store = spoilt.store
    store.save(birth("bad", wake_at=0))
    store.save(birth("good"))
    spoilt.change(12, b"\xff")
    caplog.clear()
    assert [run.run_id for run in store.claim(1000, 2, lease())] == ["good"]
    assert ["'bad' is garbled" in record.getMessage() for record in caplog.records] == [True]
    assert spoilt.index("wakes") == [b"w\n%016d\nbad" % (1000 + MINUTE)]
    assert [run.run_id for run in store.list(10)] == ["good"]


@pytest.mark.parametrize(("line", "text"), [(0, b"%d" % (LATEST + 1)), (9, b"9" * 16), (11, b"9" * 16), (12, b"\x1b")])
def test_a_run_that_no_save_could_build_upon_is_given_to_nobody(
    spoilt: Spoilt, line: int, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be driven, its save refused, and so at each wake."""
    store, mine = spoilt.store, lease()
    store.save(birth("bad", wake_at=0), [b"one"])
    store.save(birth("good"))
    spoilt.change(line, text)
    before = spoilt.everything()
    calls: list[Callable[[], object]] = [
        lambda: store.load("bad"),
        lambda: store.load("bad", log=False),
        lambda: store.acquire("bad", mine),
    ]
    for call in calls:
        with pytest.raises(Corrupt, match="bad"):
            call()
    assert spoilt.everything() == before
    assert store.renew({"bad": mine.token}, MINUTE) == set()
    caplog.clear()
    assert [run.run_id for run in store.claim(1000, 2, mine)] == ["good"]
    assert ["'bad'" in record.getMessage() for record in caplog.records] == [True]
    assert spoilt.index("wakes") == [b"w\n%016d\nbad" % (1000 + MINUTE)]


def test_a_garbled_run_comes_up_again_later(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("bad", wake_at=1))
    lines = spoilt.client.hget(spoilt.head(), "head")
    spoilt.client.hset(spoilt.head(), "head", b"garbage")
    begin = time.time_ns() // 1_000_000
    month = 30 * 24 * 60 * MINUTE
    for now in (1000, begin + month):
        assert store.claim(now, 10, lease()) == []
        (entry,) = spoilt.index("wakes")
        assert int(entry.split(b"\n")[1]) >= max(now, begin) + MINUTE

    spoilt.client.hset(spoilt.head(), "head", lines)
    assert store.due(1000, 10) == []
    assert [run.run_id for run in store.claim(begin + 2 * month, 10, lease())] == ["bad"]
    assert spoilt.index("wakes") == []


def test_a_garbled_run_whose_lease_ran_out_comes_up_again_later(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("bad"))
    store.save(birth("good"))
    expire(store, "bad")
    spoilt.client.hset(spoilt.head(), "head", b"garbage")
    assert [run.run_id for run in store.claim(1000, 1, lease())] == ["good"]
    (entry, _) = sorted(spoilt.index("leases"), key=lambda entry: b"bad" not in entry)
    assert int(entry.split(b"\n")[1]) >= time.time_ns() // 1_000_000 + MINUTE // 2


def test_saves_posts_and_releases_to_a_garbled_run_are_refused(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("bad"), [b"one"])
    mine, _ = hold(store, "bad")
    spoilt.client.hset(spoilt.head(), "head", b"garbage")
    before = spoilt.everything()
    calls: list[Callable[[], object]] = [
        partial(store.save, birth("bad", version=2, seen=1), [b"two"], mine),
        partial(store.post, "bad", b"event", 5),
        partial(store.release, "bad", mine),
        partial(store.save, birth("bad")),
    ]
    for call in calls:
        with pytest.raises(Corrupt, match="bad"):
            call()
    assert store.renew({"bad": mine.token}, MINUTE) == set()
    outcomes = store.save_many([(birth("bad", version=2, seen=1), (), mine), (birth("good"), (), None)])
    assert isinstance(outcomes[0], Corrupt)
    assert outcomes[1] == 0
    assert spoilt.everything() == before


def test_one_foreign_log_does_not_stop_a_batch(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("bad"), [b"one"])
    _overwrite_log(spoilt)
    before = spoilt.everything()
    outcomes = store.save_many(
        [(birth("a"), [b"one"], None), (birth("bad", version=2, seen=1), [b"two"], None), (birth("c"), [b"one"], None)]
    )
    assert [type(outcome) for outcome in outcomes] == [int, Corrupt, int]
    assert spoilt.everything() == before
    assert get(store, "c").log == (b"one",)


@pytest.mark.parametrize("limit", [2, 10, 51, 200])
@pytest.mark.parametrize("stray", [3, 1003])
def test_a_run_that_stands_in_line_twice_is_claimed_once(spoilt: Spoilt, limit: int, stray: int) -> None:
    """Before or behind its own entry, in the same script or in the next; a script takes 50."""
    store = spoilt.store
    store.save(birth("twice", wake_at=1000))
    others = [birth(f"other {number:03}", wake_at=1001) for number in range(limit - 1)]
    store.save_many([(run, (), None) for run in others])
    spoilt.client.zadd(spoilt.tag + "wakes", {b"w\n%016d\ntwice" % stray: 0})
    claimed = [run.run_id for run in store.claim(2000, limit, lease())]
    claimed += [run.run_id for run in store.claim(2000, limit, lease())]
    assert sorted(claimed) == sorted(["twice", *[run.run_id for run in others]])
    assert spoilt.index("wakes") == []
    assert len(spoilt.index("leases")) == limit


def test_runs_that_are_gone_leave_the_index(spoilt: Spoilt) -> None:
    store = spoilt.store
    for run_id in ("gone", "held", "here"):
        store.save(birth(run_id, wake_at=1))
    store.acquire("held", Lease("dies", 1))
    until(lambda: store.due(0, 1) == ["held"])
    spoilt.client.delete(spoilt.head("gone"), spoilt.head("held"))
    assert store.due(1000, 10) == ["here"]
    assert [run.run_id for run in store.claim(1000, 1, lease())] == ["here"]
    assert [run.run_id for run in store.list(10)] == ["here"]
    assert spoilt.index("wakes") == []
    assert len(spoilt.index("leases")) == len(spoilt.index("births")) == 1


def test_a_head_that_is_gone_leaves_no_log_to_the_next_run_of_its_name(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("bad"), [b"one", b"two"])
    spoilt.client.delete(spoilt.head())
    assert store.load("bad") is None
    store.save(birth("bad", wake_at=2), [b"new"])
    assert get(store, "bad").log == (b"new",)
    assert store.due(1000, 10) == ["bad"]
    (run,) = store.claim(1000, 10, lease())
    assert run.wake_at == 2


def test_what_is_no_entry_is_dropped_from_the_index(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("good"))
    foreign = [
        b"text",
        b"w\nnever\nbad",
        b"w\n0000000000000001\n",
        b"w\n0000000000000001\n\tbad",
        b"\xff\n1\n\xff",
        b"\n",
    ]
    for index in ("wakes", "leases", "births"):
        spoilt.client.zadd(spoilt.tag + index, dict.fromkeys(foreign, 0))
    store.next_wake()
    assert store.due(1000, 10) == ["good"]
    assert [run.run_id for run in store.list(10)] == ["good"]
    assert [run.run_id for run in store.claim(1000, 10, lease(), ["w"])] == ["good"]
    assert store.claim(1000, 10, lease()) == []


def test_a_foreign_key_in_place_of_an_index_is_found_before_the_first_write(spoilt: Spoilt) -> None:
    spoilt.client.set(spoilt.tag + "leases", "text")
    with pytest.raises(Corrupt, match="holds something else"):
        spoilt.store.save(running(), (), lease())
    assert spoilt.client.exists(spoilt.head("a")) == 0


def test_a_foreign_key_in_place_of_the_births_stops_a_birth_before_it_is_written(spoilt: Spoilt) -> None:
    store = spoilt.store
    store.save(birth("a"))
    spoilt.client.delete(spoilt.tag + "births")
    spoilt.client.set(spoilt.tag + "births", "text")
    with pytest.raises(Corrupt, match="holds something else"):
        store.save(birth("b"), [b"one"])
    with pytest.raises(Corrupt, match="holds something else"):
        store.save_many([(birth("b"), [b"one"], None)])
    assert spoilt.client.exists(spoilt.head("b"), spoilt.log("b")) == 0
    assert store.due(1000, 10) == ["a"]
    assert store.save(birth("a", version=2)) == 0
