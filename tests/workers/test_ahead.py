"""Runs that a worker claims before there is a place for them: never kept from others, whatever the places stand in."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

from kvflow import Context, Status, Store, Worker, workflow
from on_every_store import until
from workers.colours import Working, made, order, statuses, submitted


@contextmanager
def eager(store: Store, flow: object, end: threading.Event, **options: float) -> Generator[Worker]:
    """A worker of two places that claims fifty ahead, as if it had just driven so many, and only for a moment."""
    worker = made(store, [flow], options | {"concurrency": 2})  # type: ignore[list-item]
    assert isinstance(worker, Worker)
    moment = time.monotonic() + 1
    worker._flights._ended.extend([moment] * 50)  # pyright: ignore[reportPrivateUsage]
    at_work = Working(worker)
    try:
        yield worker
    finally:
        end.set()
        worker.stop()
        at_work.ended()


def due(store: Store) -> int:
    return len(store.due(time.time_ns() // 1_000_000, 1000))


def test_what_no_place_gets_to_is_given_back(store: Store) -> None:
    begun, end = list[str](), threading.Event()

    def step(run_id: str) -> None:
        begun.append(run_id)
        end.wait(60)

    submitted(store, *(f"o-{number:02}" for number in range(40)))
    with eager(store, order("def", [("step", step)]), end) as worker:
        until(lambda: len(begun) == 2 and due(store) == 0, "it claims nothing ahead")
        assert worker.stats().busy == 2
        until(lambda: due(store) == 38, "others do not get what no place gets to")
        end.set()
        until(lambda: set(statuses(store).values()) == {Status.COMPLETED}, "it does not go on")
    assert len(begun) == len(set(begun)) == 40
    assert worker.stats().driven == 40


def test_what_has_not_begun_is_for_another_as_soon_as_it_stops(store: Store) -> None:
    begun, end = list[str](), threading.Event()

    def step(run_id: str) -> None:
        begun.append(run_id)
        end.wait(60)

    submitted(store, *(f"o-{number:02}" for number in range(40)))
    with eager(store, order("def", [("step", step)]), end, grace=60) as worker:
        until(lambda: len(begun) == 2 and due(store) == 0, "it claims nothing ahead")
        worker.stop()
        until(lambda: due(store) == 38, "they wait for the grace to end")
        assert not end.is_set()
    assert len(begun) == 2


def test_runs_whose_last_save_waits_take_no_place(store: Store) -> None:
    slow, end = threading.Event(), threading.Event()

    @workflow
    def order(ctx: Context, payload: None) -> None:
        if ctx.run_id == "o-slow":  # outside of a step, so what is parked beside it waits
            slow.set()
            end.wait(60)

    submitted(store, *(f"o-{number:02}" for number in range(30)), "o-slow")
    with eager(store, order, end):
        assert slow.wait(60)
        time.sleep(1.2)  # the moment is over in which it claims ahead
        submitted(store, "late-1", "late-2", "late-3")
        until(lambda: all(statuses(store)[f"late-{n}"] == "completed" for n in (1, 2, 3)), "a place stands idle")
        assert not end.is_set()
