"""The server goes away under a worker and comes back: nothing is lost, and it is told once each."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from functools import partial

import pytest

from kvflow import Lease, Status, Store, StoreUnavailable
from kvflow.stores import open_store
from kvflow.testing import FaultyStore
from on_every_store import until
from servers.process import Server
from workers.colours import COLOURS, order, statuses, submitted, working

OUTAGE = 10.0


class Away(FaultyStore):
    """Answers nothing while it is away."""

    away = False
    refused = 0

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        if self.away:
            self.refused += 1
            raise StoreUnavailable("away")
        return super().next_wake(workflows)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [line.getMessage() for line in caplog.records if line.name == "kvflow"]
    return [line.split(" after")[0].split(",")[0] for line in lines if line.startswith("the store is")]


def is_told(caplog: pytest.LogCaptureFixture, lines: list[str]) -> bool:
    return told(caplog) == lines


@pytest.mark.parametrize(("server", "colour"), [("postgres", "def"), ("redis", "async"), ("mysql", "def")])
def test_ten_seconds_without_a_server(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, server: str, colour: str
) -> None:
    caplog.set_level(logging.INFO, "kvflow")
    own: Server = request.getfixturevalue(f"own_{server}")
    calls: Counter[str] = Counter()
    begun, end = threading.Event(), threading.Event()

    def first(run_id: str) -> None:
        calls.update(["first"])
        begun.set()
        end.wait(60)

    flow = order(colour, [("first", first), ("second", lambda _: calls.update(["second"]))])
    with closing(open_store(own.url, prefix=f"outage_{colour}", timeout=1)) as store:
        submitted(store, "o-1")
        with working(store, [flow], {"concurrency": 2}) as at_work:
            assert begun.wait(30)
            own.stop()
            end.set()  # its save finds nobody
            time.sleep(OUTAGE)
            assert at_work.is_alive()
            own.start()
            submitted(store, "o-2")
            until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "not all are driven")
            until(lambda: "the store is back" in told(caplog), "it is not told")
        store.delete("o-1")
        store.delete("o-2")
    assert calls == {"first": 2, "second": 2}, "a save in doubt is sent again, and no step is called again"
    assert told(caplog) == ["the store is away", "the store is back"]


@pytest.mark.parametrize(("server", "colour"), [("postgres", "async"), ("redis", "def"), ("mysql", "async")])
def test_a_worker_stops_though_the_server_is_away(request: pytest.FixtureRequest, server: str, colour: str) -> None:
    own: Server = request.getfixturevalue(f"own_{server}")
    begun, end = threading.Event(), threading.Event()

    def first(run_id: str) -> None:
        begun.set()
        end.wait(60)

    with closing(open_store(own.url, prefix=f"stop_{colour}", timeout=1)) as store:
        submitted(store, "o-1")
        with working(store, [order(colour, [("first", first)])], {"grace": 0.5}) as at_work:
            assert begun.wait(30)
            own.stop()
            end.set()
            time.sleep(0.2)
            asked = time.monotonic()
            at_work.worker.stop()
            at_work.ended()
            assert time.monotonic() - asked < 20, "long before the lease is over"
        own.start()
        store.delete("o-1")


@pytest.mark.parametrize("colour", COLOURS)
def test_a_worker_outlives_a_store_that_fails_at_any_of_its_calls(colour: str) -> None:
    """Whichever call of claims, suspects and drives it is that gets no answer."""
    for at in range(1, 10):
        with open_store("memory:") as store:
            submitted(store, "o-1", "suspect")
            for number in range(2):
                assert store.acquire("suspect", Lease(f"dies {number}", 1)) is not None
                until(lambda: "suspect" in store.due(0, 100), "the lease did not run out")
            flow = order(colour, [("step", lambda _: None)])
            with working(FaultyStore(store, at), [flow], {"poll": 0.05}, lease_ttl=0.2) as at_work:
                until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, f"stuck after {at}")
                assert at_work.is_alive()


@pytest.mark.parametrize("colour", COLOURS)
def test_an_outage_is_told_once(store: Store, caplog: pytest.LogCaptureFixture, colour: str) -> None:
    caplog.set_level(logging.INFO, "kvflow")
    away = Away(store)
    submitted(store, "o-1")
    with working(away, [order(colour, [])], {"poll": 0.02}):
        until(lambda: statuses(store)["o-1"] == Status.COMPLETED, "it is not driven")
        for outages in (1, 2):
            away.refused, away.away = 0, True
            until(lambda: away.refused >= 3, "it asks no more")
            away.away = False
            until(partial(is_told, caplog, ["the store is away", "the store is back"] * outages), "it is not told")
