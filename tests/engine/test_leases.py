"""Leases whose renewal fails, whose answer is lost, or which nobody needs any more."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from kvflow import Conflict, Context, Corrupt, Lease, Runtime, Status, Store, StoreUnavailable, workflow
from kvflow.run import StoredRun
from kvflow.store import Outcomes, Save
from kvflow.testing import FakeClock, FaultyStore

TTL = timedelta(milliseconds=100)
HOUR = timedelta(hours=1)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.001)


class Away(FaultyStore):
    """Does not answer while ``away`` is set; with ``saves_happen`` it is the answer to a save that is lost."""

    def __init__(self, store: Store, *, saves_happen: bool = False) -> None:
        super().__init__(store)
        self.away = threading.Event()
        self.saves_happen = saves_happen
        self.saved: dict[int, set[tuple[bytes, ...]]] = {}
        self.renewals = 0

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        self.saved.setdefault(run.version, set()).add(tuple(new))
        if not self.saves_happen:
            self._answer()
        unseen = super().save(run, new, lease)
        self._answer()
        return unseen

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        self._answer()
        ours = super().renew(tokens, ttl)
        self.renewals += 1
        return ours

    def _answer(self) -> None:
        if self.away.is_set():
            raise StoreUnavailable("away")


def test_what_was_lost_stays_lost_though_the_runtime_takes_the_run_again(store: Store, clock: FakeClock) -> None:
    """The old drive must not believe in the lease of its successor in the same runtime."""
    away, go_on, end = Away(store), threading.Event(), threading.Event()
    first: list[bool] = [True]
    calls: list[str] = []

    def second() -> None:
        calls.append("second")
        end.wait(30)

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("first", lambda: 1)
        if first:
            first.clear()
            away.away.set()
            go_on.wait(30)
        ctx.step("second", second)

    with Runtime(away, workflows=[order], clock=clock, lease_ttl=TTL) as runtime, ThreadPoolExecutor(2) as pool:
        old = pool.submit(runtime.trigger, order, run_id="o-1")
        until(lambda: away.away.is_set() and store.due(0, 1) == ["o-1"], "the lease did not run out")
        new = pool.submit(runtime.sweep)
        until(lambda: calls == ["second"], "the successor did not get to the second step")
        away.away.clear()
        renewals = away.renewals
        until(lambda: away.renewals >= renewals + 2, "the successor's lease is not renewed")
        go_on.set()
        assert old.result(30).status is Status.RUNNING
        end.set()
        assert new.result(30)[0].status is Status.COMPLETED
    assert calls == ["second"]


def test_a_renewal_may_fail_by_anything(store: Store, clock: FakeClock) -> None:
    class Odd(FaultyStore):
        renewals = 0

        def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
            self.renewals += 1
            if self.renewals == 1:
                raise OSError("a driver's own")
            return super().renew(tokens, ttl)

    odd = Odd(store)

    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.step("long", lambda: until(lambda: odd.renewals >= 3, "nobody renews any more"))
        return ctx.step("next", lambda: "done")

    with Runtime(odd, workflows=[order], clock=clock, lease_ttl=3 * TTL) as runtime:
        assert runtime.trigger(order).output == "done"


def test_a_save_in_doubt_is_never_followed_by_another_of_its_version(store: Store, clock: FakeClock) -> None:
    """One branch's save is in doubt until the lease is gone; the other's must not pass for its repeat."""
    away, go_on = Away(store, saves_happen=True), threading.Event()

    @workflow
    def order(ctx: Context, payload: None) -> dict[str, str]:
        def first() -> str:
            away.away.set()
            return "first"

        def second() -> str:
            go_on.wait(30)
            return "second"

        return ctx.parallel("all", {"first": first, "second": second})

    with Runtime(away, workflows=[order], clock=clock, lease_ttl=TTL) as runtime, ThreadPoolExecutor(1) as pool:
        driven = pool.submit(runtime.trigger, order, run_id="o-1")
        until(lambda: away.away.is_set() and store.due(0, 1) == ["o-1"], "the lease did not run out")
        go_on.set()
        with pytest.raises(StoreUnavailable):
            driven.result(30)
    assert {version: len(saves) for version, saves in away.saved.items()} == {1: 1, 2: 1}
    with Runtime(store, workflows=[order], clock=clock, lease_ttl=TTL) as successor:
        (run,) = successor.sweep()
    assert (run.status, run.output) == (Status.COMPLETED, {"first": "first", "second": "second"})


def test_a_trigger_ends_though_the_store_stays_away(store: Store, clock: FakeClock) -> None:
    away = Away(store)
    away.away.set()

    @workflow
    def order(ctx: Context, payload: None) -> None:
        ctx.step("step", lambda: 1)

    with Runtime(away, workflows=[order], clock=clock, lease_ttl=TTL) as runtime:
        with pytest.raises(StoreUnavailable):
            runtime.trigger(order)
        assert runtime.list_runs() == []


def test_a_run_is_given_up_later_if_the_store_is_away(store: Store, clock: FakeClock) -> None:
    away = Away(store)
    away.away.set()

    @workflow
    def order(ctx: Context, payload: None) -> None: ...

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.submit(order, run_id="o-1")
    assert store.acquire("o-1", Lease("dies", 1)) is not None
    until(lambda: store.due(0, 1) == ["o-1"], "the lease did not run out")
    with Runtime(away, workflows=[order], clock=clock, lease_ttl=TTL, max_attempts=1) as runtime:
        (run,) = runtime.sweep()
        assert run.deferred is not None
        assert "store-unavailable" in run.deferred
        away.away.clear()
        clock.advance(HOUR)
        (run,) = runtime.sweep()
        assert run.error is not None
        assert (run.status, run.error.type) == (Status.FAILED, "HolderDied")


def test_a_long_sleeper_waits_only_a_moment_after_a_hiccup(store: Store, clock: FakeClock) -> None:
    away = Away(store)

    @workflow
    def order(ctx: Context, payload: None) -> str:
        ctx.sleep("long", timedelta(days=30))
        return ctx.step("step", lambda: "done")

    with Runtime(away, workflows=[order], clock=clock, lease_ttl=TTL) as runtime:
        runtime.trigger(order)
        clock.advance(timedelta(days=30))
        away.away.set()
        (run,) = runtime.sweep()
        assert run.deferred is not None
        away.away.clear()
        clock.advance(timedelta(seconds=5))
        (run,) = runtime.sweep()
        assert run.output == "done"


def test_a_retry_that_cannot_be_done_here_gives_the_run_back(store: Store, clock: FakeClock) -> None:
    broken = [True]

    def takes_words(ctx: Context, payload: str) -> str:
        if broken:
            raise ValueError(payload)
        return payload

    def takes_numbers(ctx: Context, payload: int) -> int:
        return payload

    good, other = workflow(name="order")(takes_words), workflow(name="order")(takes_numbers)
    with (
        Runtime(store, workflows=[good], clock=clock) as here,
        Runtime(store, workflows=[other], clock=clock) as elsewhere,
    ):
        here.trigger(good, "word", run_id="o-1")
        with pytest.raises(Corrupt):
            elsewhere.retry("o-1")
        broken.clear()
        try:
            assert here.retry("o-1").output == "word"
        except Conflict as error:
            pytest.fail(f"it is still held: {error}")


def test_a_run_whose_payload_cannot_be_made_is_let_go(store: Store, clock: FakeClock) -> None:
    broken: list[bool] = []

    class Odd:
        """Decoded by a method of its own, as pydantic models are."""

        def __init__(self, value: object) -> None:
            self.value = value

        @classmethod
        def model_validate_json(cls, value: bytes) -> "Odd":
            if broken:
                raise KeyError("not configured")
            return cls(value)

        def model_dump(self, mode: str) -> dict[str, int]:
            return {"id": 1}

    def takes_odd(ctx: Context, payload: Odd) -> str:
        return "odd"

    def takes_nothing(ctx: Context, payload: None) -> str:
        return "good"

    takes_odd.__annotations__["payload"] = Odd
    odd, good = workflow(name="odd")(takes_odd), workflow(name="good")(takes_nothing)
    with Runtime(store, workflows=[odd, good], clock=clock) as runtime:
        runtime.submit(odd, {"id": 1}, run_id="odd")
        runtime.submit(good, run_id="good")
        broken.append(True)
        swept = {run.run_id: run for run in runtime.sweep()}
        assert swept["good"].output == "good"
        assert "not configured" in (swept["odd"].deferred or "")
        broken.clear()
        clock.advance(timedelta(seconds=5))
        (run,) = runtime.sweep()
        assert run.output == "odd"


def test_a_child_that_cannot_tell_its_parent_tells_it_later(store: Store, clock: FakeClock) -> None:
    class Mute(FaultyStore):
        mute = False

        def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
            if self.mute:
                raise StoreUnavailable("away")
            return super().post(run_id, record, now, wake)

    @workflow
    def kid(ctx: Context, payload: None) -> int:
        return 42

    @workflow
    def order(ctx: Context, payload: None) -> int:
        return int(ctx.child("kid", kid))

    mute = Mute(store)
    with Runtime(mute, workflows=[order, kid], clock=clock) as runtime:
        runtime.trigger(order, run_id="o-1")
        mute.mute = True
        for _ in range(2):
            runtime.sweep()
        mute.mute = False
        clock.advance(timedelta(seconds=5))
        while runtime.sweep():
            pass
        run = runtime.get_run("o-1")
        assert run is not None
        assert (run.status, run.output) == (Status.COMPLETED, 42)


def test_a_store_that_fails_by_an_error_of_its_own_stops_no_sweep(store: Store, clock: FakeClock) -> None:
    class Odd(FaultyStore):
        def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
            if run.run_id == "bad" and run.version > 1:
                raise RuntimeError("the driver's, for this row")
            return super().save(run, new, lease)

        def save_many(self, saves: Iterable[Save]) -> Outcomes:
            return [self.save(*save) for save in saves]

    @workflow
    def order(ctx: Context, payload: None) -> None: ...

    with Runtime(Odd(store), workflows=[order], clock=clock) as runtime:
        for run_id in ("bad", "good"):
            runtime.submit(order, run_id=run_id)
        swept = {run.run_id: run for run in runtime.sweep()}
    assert swept["good"].status is Status.COMPLETED
    assert "the driver's" in (swept["bad"].deferred or "")
