"""When a worker claims, how many at a time, and what it asks while nothing is due."""

import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg
import pymysql
import pytest
import redis

from kvflow import AsyncContext, Context, InvalidArgument, Lease, Runtime, Status, Store, StoredRun, Worker, workflow
from kvflow.stores import open_store
from kvflow.testing import FaultyStore
from on_every_store import until
from servers.process import Server
from workers.colours import COLOURS, made, order, statuses, submitted, working

both = pytest.mark.parametrize("colour", COLOURS)


class Counting(FaultyStore):
    """Counts what is asked, and how many each claim asked for and got."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.claims: list[tuple[int, int]] = []

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> list[StoredRun]:
        runs = super().claim(now, limit, lease, workflows)
        self.claims.append((limit, len(runs)))
        return runs


def waiting(colour: str, seconds: float | None = None) -> Any:
    """A workflow that waits for an event, or sleeps."""

    @workflow(name="order")
    def plain(ctx: Context, payload: None) -> None:
        if seconds is None:
            ctx.wait_for_event("wait", "go")
        else:
            ctx.sleep("nap", seconds)

    @workflow(name="order")
    async def coloured(ctx: AsyncContext, payload: None) -> None:
        if seconds is None:
            await ctx.wait_for_event("wait", "go")
        else:
            await ctx.sleep("nap", seconds)

    return plain if colour == "def" else coloured


@both
def test_an_event_from_elsewhere_is_seen_within_the_poll(store: Store, colour: str) -> None:
    submitted(store, "o-1")
    with working(store, [waiting(colour)], {"poll": 0.5}):
        until(lambda: statuses(store)["o-1"] == Status.WAITING, "it does not wait")
        time.sleep(0.2)  # the worker sleeps by now, with nothing due
        with Runtime(store) as elsewhere:
            elsewhere.signal("o-1", "go")
        until(lambda: statuses(store)["o-1"] == Status.COMPLETED, "it is not seen")


@both
def test_a_wake_is_kept_to_the_moment_and_not_to_the_next_poll(store: Store, colour: str) -> None:
    submitted(store, *(f"o-{number}" for number in range(3)))
    with working(store, [waiting(colour, 0.7)], {"poll": 3600}) as at_work:
        until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "the next wake is slept through")
        stats = at_work.worker.stats()
        assert timedelta() <= stats.lateness <= stats.worst_lateness < timedelta(seconds=30)


@both
def test_places_that_become_free_are_filled_by_batches(store: Store, colour: str) -> None:
    counting, together = Counting(store), threading.Semaphore(0)
    running: set[str] = set()
    most: list[int] = []

    def step(run_id: str) -> None:
        running.add(run_id)
        most.append(len(running))
        if len(running) == 4:
            for _ in range(4):
                together.release()
        together.acquire(timeout=30)
        running.discard(run_id)

    submitted(store, *(f"o-{number}" for number in range(16)))
    with working(counting, [order(colour, [("step", step)])], {"concurrency": 4}):
        until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "not all are over")
    assert max(most) == 4, "as many side by side as there are places"
    assert counting.claims[0] == (4, 4)
    assert all(got <= asked <= (4 if colour == "async" else 4 + 16) for asked, got in counting.claims)
    assert sum(got for _, got in counting.claims) == 16, "each run is claimed once"


@both
@pytest.mark.parametrize("concurrency", [1, 100])
def test_any_concurrency(store: Store, colour: str, concurrency: int) -> None:
    calls: Counter[str] = Counter()
    running: set[str] = set()

    def step(run_id: str) -> None:
        running.add(run_id)
        assert len(running) <= concurrency
        calls.update([run_id])
        running.discard(run_id)

    submitted(store, *(f"o-{number}" for number in range(60)))
    with working(store, [order(colour, [("step", step), ("more", step)])], {"concurrency": concurrency}) as at_work:
        until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "not all are over")
        until(lambda: at_work.worker.stats().busy == 0, "a place is not given back")
        assert at_work.worker.stats().driven == 60
    assert set(calls.values()) == {2}


@both
def test_all_is_forgotten_of_what_was_driven(store: Store, colour: str) -> None:
    """No flight, no lease, no thread beyond the places."""
    flow = order(colour, [("step", lambda _: None)])
    with working(store, [flow], {"concurrency": 4, "poll": 0.05}) as at_work:
        submitted(store, *(f"o-{number}" for number in range(100)))
        until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "not all are over")
        until(lambda: at_work.worker.stats().busy == 0, "a place is not given back")
        assert not at_work.worker._instance.leases._held  # pyright: ignore[reportPrivateUsage]
        assert sum(thread.name.startswith("kvflow-place") for thread in threading.enumerate()) <= 4
    until(lambda: not any(thread.name.startswith("kvflow-place") for thread in threading.enumerate()), "threads stay")


# Idle


@both
def test_an_idle_worker_asks_no_more_than_twice_a_second(store: Store, colour: str) -> None:
    counting = Counting(store)
    submitted(store, "o-1")
    with working(counting, [waiting(colour, 3600)]) as at_work:
        until(lambda: statuses(store)["o-1"] == Status.SUSPENDED and not at_work.worker.stats().busy, "not at rest")
        time.sleep(0.2)
        before, since = len(counting.operations), time.monotonic()
        time.sleep(2)
        asked = counting.operations[before:]
        assert set(asked) == {"next_wake"}
        assert len(asked) <= 2 * (time.monotonic() - since)


class Unclaimable(Counting):
    """Something seems to be due, and nobody can have it."""

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        super().next_wake(workflows)
        return 1


@both
def test_what_is_due_and_cannot_be_had_is_not_asked_for_without_end(colour: str) -> None:
    with open_store("memory:") as store:
        counting = Unclaimable(store)
        with working(counting, [waiting(colour)]):
            until(lambda: len(counting.operations) >= 12, "it asks no more")
            before, since = len(counting.operations), time.monotonic()
            time.sleep(2)
            assert len(counting.operations) - before <= 4 * (time.monotonic() - since)


@pytest.mark.parametrize("server", ["postgres", "mysql", "redis"])
def test_what_a_server_counts_of_an_idle_worker(request: pytest.FixtureRequest, server: str) -> None:
    own: Server = request.getfixturevalue(f"own_{server}")
    with closing(open_store(own.url, prefix="idle")) as store:
        submitted(store, "o-1")
        with working(store, [waiting("def", 3600)]) as at_work:
            until(lambda: statuses(store)["o-1"] == Status.SUSPENDED and not at_work.worker.stats().busy, "no rest")
            time.sleep(2)  # some servers count late
            before, since = queries(own), time.monotonic()
            time.sleep(4)
            asked, seconds = queries(own) - before, time.monotonic() - since
        store.delete("o-1")
    assert 0 < asked <= 2 * seconds + 4, "some are those of who asks for the count, and the server's own"


def queries(server: Server) -> int:
    if server.url.startswith("redis"):
        client: Any = redis.Redis.from_url(server.url)  # pyright: ignore[reportUnknownMemberType]
        with closing(client):
            info = client.info("commandstats")
            ours = {name: one["calls"] for name, one in info.items() if "eval" in name or name == "cmdstat_time"}
            return sum(ours.values())
    if server.url.startswith("postgres"):
        with psycopg.connect(server.url) as postgres:
            row = postgres.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
            assert row is not None
            return int(row[0])
    host, port = server.url.rsplit("@", 1)[-1].split("/")[0].split(":")
    with pymysql.connect(host=host, port=int(port), user="root") as mysql, mysql.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Com_select'")
        found = cursor.fetchone()
        assert found is not None
        return int(found[1])


# What is refused


@pytest.mark.parametrize("options", [{"concurrency": 0}, {"concurrency": True}, {"poll": 0}, {"grace": -1}])
def test_what_makes_no_worker_is_refused(options: dict[str, Any]) -> None:
    with open_store("memory:") as store, pytest.raises(InvalidArgument, match=next(iter(options))):
        made(store, [order("def", [])], options)


def test_a_worker_without_workflows_is_refused() -> None:
    with Runtime() as runtime, pytest.raises(InvalidArgument, match="no workflows"):
        Worker(runtime).run()
