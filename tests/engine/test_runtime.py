"""The runtime's own methods: beginning, looking, ending, and what is none of an instance's business."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import msgspec
import pytest

from kvflow import (
    AsyncRuntime,
    Context,
    DuplicateWorkflow,
    InvalidArgument,
    InvalidPayload,
    InvalidRunId,
    RunExists,
    RunNotFound,
    Runtime,
    Status,
    Store,
    UnknownWorkflow,
    WrongColour,
    workflow,
)
from kvflow.run import Lease, StoredRun
from kvflow.testing import FakeClock, FaultyStore

HOUR = timedelta(hours=1)


class Order(msgspec.Struct):
    id: str
    lines: list[int] = []


@dataclass
class Customer:
    name: str


class Address(TypedDict):
    city: str


@workflow
def nap(ctx: Context, order: Order) -> str:
    ctx.sleep("nap", HOUR)
    return order.id


def test_a_payload_must_fit(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        for bad, where in (
            ({}, "id"),
            ({"id": 7}, "$.id"),
            ({"id": "x", "lines": [1, "2"]}, "$.lines[1]"),
            (None, "object"),
        ):
            for begin in (runtime.trigger, runtime.submit):
                with pytest.raises(InvalidPayload, match="nap") as raised:
                    begin(nap, bad)
                assert where in str(raised.value)
        with pytest.raises(InvalidPayload):
            runtime.trigger(nap, object())
        assert runtime.list_runs() == []


def test_payloads_of_every_kind(clock: FakeClock) -> None:
    seen: list[Any] = []

    def body_of(wanted: Any) -> Any:
        def body(ctx: Context, payload: Any) -> None:
            seen.append(payload)

        body.__annotations__["payload"] = wanted
        return workflow(name=str(wanted))(body)

    for wanted, given, expected in (
        (Order, {"id": "a"}, Order("a")),
        (Order, Order("a", [1]), Order("a", [1])),
        (Customer, {"name": "Ann"}, Customer("Ann")),
        (Address, {"city": "Bern"}, {"city": "Bern"}),
        (datetime, datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (int | None, None, None),
    ):
        body = body_of(wanted)
        with Runtime(workflows=[body], clock=clock) as runtime:
            assert runtime.trigger(body, given).status is Status.COMPLETED
        assert seen.pop() == expected


def test_the_same_trigger_twice_is_one_run(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        run = runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        clock.advance(HOUR / 2)
        for again in (runtime.trigger, runtime.submit):
            assert again(nap, Order("a"), run_id="o-1") == run
            assert again("nap", {"id": "a", "lines": []}, run_id="o-1") == run
            with pytest.raises(RunExists, match="o-1"):
                again(nap, {"id": "b"}, run_id="o-1")
        assert len(runtime.list_runs()) == 1


def test_a_trigger_that_races_another_is_one_run(store: Store, clock: FakeClock) -> None:
    class Raced(FaultyStore):
        """Somebody else triggers between the look and the birth."""

        raced = False

        def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
            if not self.raced:
                self.raced = True
                with Runtime(store, workflows=[nap], clock=clock) as other:
                    other.trigger(nap, {"id": "a"}, run_id="o-1")
            return super().save(run, new, lease)

    raced = Raced(store)
    with Runtime(raced, workflows=[nap], clock=clock) as runtime:
        assert runtime.trigger(nap, {"id": "a"}, run_id="o-1").status is Status.SUSPENDED
    raced.raced = False
    with Runtime(raced, workflows=[nap], clock=clock) as runtime, pytest.raises(RunExists):
        runtime.submit(nap, {"id": "b"}, run_id="o-1")


def test_a_submitted_run_is_driven_by_whoever_sweeps(store: Store, clock: FakeClock) -> None:
    calls: list[int] = []

    @workflow
    def order(ctx: Context, payload: int) -> int:
        calls.append(payload)
        return payload

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.submit(order, 7, run_id="o-1")
        assert (calls, run.payload, run.wake_at) == ([], 7, clock())
        (run,) = runtime.sweep()
        assert (run.output, calls) == (7, [7])


def test_unknown_things_are_named(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        with pytest.raises(UnknownWorkflow, match=r"'other'.*nap"):
            runtime.trigger("other")
        with pytest.raises(UnknownWorkflow):
            runtime.register(lambda ctx: None)  # type: ignore[arg-type]
        calls: list[Callable[[str], object]] = [
            lambda run_id: runtime.signal(run_id, "go"),
            runtime.resume,
            runtime.cancel,
            runtime.retry,
            runtime.wait,
        ]
        for call in calls:
            with pytest.raises(RunNotFound, match="nobody"):
                call("nobody")
            with pytest.raises(InvalidRunId):
                call("")
        assert runtime.get_run("nobody") is None
        runtime.delete_run("nobody")
        with pytest.raises(InvalidArgument):
            runtime.sweep(limit=0)
        with pytest.raises(InvalidArgument, match="time zone"):
            runtime.sweep(datetime(2030, 1, 1))


def test_two_workflows_of_one_name(clock: FakeClock) -> None:
    other = workflow(name="nap")(print)
    with Runtime(workflows=[nap, nap], clock=clock) as runtime:
        with pytest.raises(DuplicateWorkflow, match="'nap'"):
            runtime.register(other)
        with pytest.raises(UnknownWorkflow):
            runtime.trigger(other)


def test_colours(clock: FakeClock) -> None:
    @workflow
    async def later(ctx: Any, payload: None) -> None: ...

    with pytest.raises(WrongColour, match="async def"):
        Runtime(workflows=[later])
    with pytest.raises(WrongColour, match="plain def"):
        AsyncRuntime(workflows=[nap])

    @workflow
    def order(ctx: Context, payload: None) -> None:
        async def work() -> None: ...

        with pytest.raises(WrongColour):
            _ = ctx.step("work", work)

    with Runtime(workflows=[order], clock=clock) as runtime:
        assert runtime.trigger(order).status is Status.COMPLETED


def test_options_that_make_no_sense() -> None:
    with pytest.raises(InvalidArgument, match="lease_ttl"):
        Runtime(lease_ttl=0)
    with pytest.raises(InvalidArgument, match="max_attempts"):
        Runtime(max_attempts=0)
    with pytest.raises(InvalidArgument, match="retention"):
        Runtime(retention=-1)
    with pytest.raises(InvalidArgument, match="time zone"):
        Runtime(clock=lambda: datetime(2030, 1, 1))


def test_runs_are_listed_newest_first_without_what_is_large(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        for number in range(5):
            runtime.trigger(nap, {"id": f"{number}"}, run_id=f"o-{number}")
            clock.advance(timedelta(seconds=1))
        page = runtime.list_runs(limit=2)
        assert [run.run_id for run in page] == ["o-4", "o-3"]
        assert [run.run_id for run in runtime.list_runs(after=page[-1])] == ["o-2", "o-1", "o-0"]
        assert all((run.payload, run.output, run.history) == (None, None, ()) for run in page)
        assert page[0].pending[0].id == "nap"
        assert runtime.list_runs(status="completed") == []
        assert len(runtime.list_runs(status=Status.SUSPENDED)) == 5


def test_resume_drives_what_is_due_and_nothing_else(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        run = runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        assert runtime.resume("o-1") == run
        clock.advance(HOUR)
        assert runtime.resume("o-1").output == "a"
        assert runtime.resume("o-1").output == "a"


def test_a_run_held_elsewhere_is_not_driven(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        clock.advance(HOUR)
        theirs = Lease("theirs", 60_000)
        assert store.acquire("o-1", theirs) is not None
        assert runtime.resume("o-1").status is Status.SUSPENDED
        assert runtime.sweep() == []
        store.release("o-1", theirs)
        assert len(runtime.sweep()) == 1


def test_workflows_of_others_are_nobodys_business_here(store: Store, clock: FakeClock) -> None:
    @workflow
    def other(ctx: Context, payload: None) -> None:
        ctx.sleep("nap", HOUR)

    with Runtime(store, workflows=[other], clock=clock) as others:
        for number in range(20):
            others.trigger(other, run_id=f"other {number}")
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="mine")
        clock.advance(2 * HOUR)
        assert [run.run_id for run in runtime.sweep(limit=3)] == ["mine"]
        assert runtime.sweep() == []
        assert runtime.resume("other 1").status is Status.SUSPENDED
        assert runtime.signal("other 1", "go").status is Status.SUSPENDED


def test_a_run_that_cannot_be_read_is_put_back_and_stops_nobody(store: Store, clock: FakeClock) -> None:
    now = int(clock().timestamp() * 1000)
    bad = StoredRun(
        run_id="bad",
        workflow="nap",
        status=Status.SUSPENDED,
        version=1,
        wake_at=now,
        created_at=now - 5000,
        updated_at=now - 5000,
        snapshot=b"\xff not ours",
    )
    store.save(bad, [b"\xc1 nor this"])
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        runtime.submit(nap, {"id": "a"}, run_id="good")
        swept = {run.run_id: run for run in runtime.sweep()}
        assert swept["good"].status is Status.SUSPENDED
        deferred = swept["bad"]
        assert deferred.deferred is not None
        assert "corrupt" in deferred.deferred
        assert deferred.wake_at == clock() + timedelta(seconds=5)
        assert runtime.sweep() == []
        clock.advance(timedelta(seconds=5))
        (again,) = runtime.sweep()
        assert again.wake_at == clock() + timedelta(seconds=10)
        assert {run.run_id: run.deferred is None for run in runtime.list_runs()} == {"good": True, "bad": False}
    stored = store.load("bad")
    assert stored is not None
    assert (stored.snapshot, stored.log, stored.attempt) == (b"\xff not ours", (b"\xc1 nor this",), 0)


def test_a_payload_that_no_longer_fits_waits_for_a_deployment_that_takes_it(store: Store, clock: FakeClock) -> None:
    def wants_number(ctx: Context, order: int) -> int:
        return order

    newer = workflow(name="nap")(wants_number)
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="o-1")
    clock.advance(HOUR)
    with Runtime(store, workflows=[newer], clock=clock) as runtime:
        (run,) = runtime.sweep()
        assert (run.status, run.deferred is None) == (Status.SUSPENDED, False)
    clock.advance(2 * HOUR)
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        (run,) = runtime.sweep()
        assert run.output == "a"


def test_a_run_that_kills_its_process_again_and_again_fails(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock, max_attempts=3) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        clock.advance(HOUR)
        for _ in range(3):
            assert store.acquire("o-1", Lease(f"dies {_}", 1)) is not None
            while "o-1" not in store.due(0, 10):
                pass
        (run,) = runtime.sweep()
        assert run.status is Status.FAILED
        assert run.error is not None
        assert run.error.type == "HolderDied"
        assert runtime.sweep() == []
        assert runtime.retry("o-1").output == "a"


def test_retention_forgets_what_is_over(store: Store, clock: FakeClock) -> None:
    with Runtime(store, workflows=[nap], clock=clock, retention=timedelta(days=7)) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert (run.status, run.wake_at) == (Status.COMPLETED, clock() + timedelta(days=7))
        clock.advance(timedelta(days=6))
        assert runtime.sweep() == []
        assert runtime.get_run("o-1") is not None
        clock.advance(timedelta(days=1))
        runtime.sweep()
        assert runtime.get_run("o-1") is None


def test_wait_waits_until_a_run_is_over(store: Store, clock: FakeClock) -> None:
    import threading

    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        assert runtime.wait("o-1", timeout=0.02).status is Status.SUSPENDED
        clock.advance(HOUR)
        sweeper = threading.Thread(target=runtime.sweep)
        sweeper.start()
        assert runtime.wait("o-1", timeout=20).output == "a"
        sweeper.join()


def test_a_store_that_fails_once_is_asked_again(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.step("first", lambda: calls.append("first"))
        ctx.step("second", lambda: calls.append("second"))
        return "done"

    for after in (False, True):
        for at in range(1, 5):
            calls.clear()
            faulty = FaultyStore(store, at, after=after)
            with Runtime(faulty, workflows=[order], clock=clock) as runtime:
                run = runtime.trigger(order)
                assert faulty.broke
                assert (run.status, run.output, calls) == (Status.COMPLETED, "done", ["first", "second"])
                assert [one.id for one in run.history] == ["first", "second"]


def test_primitives_alone_will_do(clock: FakeClock) -> None:
    from kvflow.stores import MemoryStore

    class Four:
        def __init__(self) -> None:
            inner = MemoryStore()
            self.save, self.load, self.delete, self.due = inner.save, inner.load, inner.delete, inner.due

    with Runtime(Four(), workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap, {"id": "a"}, run_id="o-1")
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert run.output == "a"
