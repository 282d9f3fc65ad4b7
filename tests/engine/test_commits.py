"""Saves that meet go out together: how many calls they make, what each is told, and what an interrupt leaves behind."""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from kvflow import (
    AsyncContext,
    AsyncRuntime,
    Conflict,
    Context,
    Lease,
    Retry,
    Runtime,
    Status,
    Store,
    StoreUnavailable,
    Workflow,
    workflow,
)
from kvflow.commits import THREADS, AsyncCommits, Commits
from kvflow.run import StoredRun
from kvflow.store import Outcomes, Save
from kvflow.stores import open_store
from kvflow.testing import FakeClock, FaultyStore, Killed
from on_every_store import until

HOUR = timedelta(hours=1)
TTL = timedelta(milliseconds=60)
ids = [f"o-{number}" for number in range(20)]


class Watched(FaultyStore):
    """Notes which runs are saved together, and lets them through when it is told to."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.sent: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        self.sent.append([run.run_id])
        self.open.wait(30)
        return super().save(run, new, lease)

    def save_many(self, saves: Iterable[Save]) -> Outcomes:
        saves = list(saves)
        self.sent.append([run.run_id for run, _, _ in saves])
        self.open.wait(30)
        return super().save_many(saves)


@pytest.fixture
def memory() -> Iterator[Store]:
    with open_store("memory:") as store:
        yield store


@pytest.fixture
def watched(memory: Store) -> Watched:
    return Watched(memory)


def born(run_id: str, version: int = 1) -> StoredRun:
    return StoredRun(
        run_id=run_id,
        workflow="order",
        status=Status.WAITING,
        version=version,
        created_at=1,
        updated_at=1,
        snapshot=b"{}",
    )


@workflow
def nap(ctx: Context, payload: None) -> str:
    ctx.sleep("nap", HOUR)
    return "rested"


def asleep(store: Store, clock: FakeClock, *run_ids: str) -> None:
    """Runs of ``nap`` that are due."""
    with Runtime(store, workflows=[nap], clock=clock) as runtime:
        for run_id in run_ids:
            runtime.trigger(nap, run_id=run_id)
    clock.advance(HOUR)


def free(store: Store, *run_ids: str) -> bool:
    return all(store.acquire(run_id, Lease("another", 60_000)) is not None for run_id in run_ids)


# Threads


def test_a_lone_save_is_one_call_and_waits_for_nobody(store: Store, clock: FakeClock) -> None:
    watched = Watched(store)
    with Runtime(watched, workflows=[nap], clock=clock) as runtime:
        runtime.trigger(nap)
        assert watched.operations == ["save"]
        clock.advance(HOUR)
        runtime.sweep()
    assert watched.operations.count("save") == 2
    assert "save_many" not in watched.operations


def gathered(commits: Commits) -> int:
    return len(commits._gathered)  # pyright: ignore[reportPrivateUsage]


def crowd(commits: Commits, watched: Watched, pool: ThreadPoolExecutor, *saves: StoredRun) -> list[Any]:
    """These wait, in this order, while as many calls as may be are under way."""
    watched.open.clear()
    under_way = [pool.submit(commits.save, born(f"first {number}")) for number in range(THREADS)]
    until(lambda: len(watched.sent) == THREADS, "the first ones are not sent")
    waiting: list[Any] = []
    for save in saves:
        waiting.append(pool.submit(commits.save, save))
        until(lambda: gathered(commits) == len(waiting), "it does not wait")
    return under_way + waiting


def test_threads_gather_and_each_has_its_own_outcome(store: Store) -> None:
    watched = Watched(store)
    commits = Commits(watched)
    with ThreadPoolExecutor(40) as pool:
        futures = crowd(commits, watched, pool, *map(born, ids), born("o-0"), born("o-1", version=7))
        watched.open.set()
        outcomes = [future.exception(30) or future.result() for future in futures]
    assert watched.sent[THREADS:] == [[*ids, "o-0", "o-1"]]
    assert set(outcomes[:-2]) == {0}
    assert [type(outcome) for outcome in outcomes[-2:]] == [Conflict, Conflict]
    assert {row.run_id for row in store.list(100)} >= set(ids)


def test_a_store_away_is_told_to_each_by_an_error_of_its_own(memory: Store) -> None:
    class Away(Watched):
        def save_many(self, saves: Iterable[Save]) -> Outcomes:
            raise StoreUnavailable("away")

    watched = Away(memory)
    with ThreadPoolExecutor(40) as pool:
        futures = crowd(Commits(watched), watched, pool, *map(born, ids))[THREADS:]
        watched.open.set()
        errors = [future.exception(30) for future in futures]
    assert {(type(error), str(error)) for error in errors} == {(StoreUnavailable, "away")}
    assert len({id(error) for error in errors}) == len(ids), "what one raises another one writes its traceback into"


def interrupted(commits: Commits, save: StoredRun, when: Any) -> None:
    """A save in this, the main thread, that is interrupted once it stands where it is to."""

    def interrupt() -> None:
        until(when, "it does not come so far")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        commits.save(save)
    thread.join()


@pytest.mark.parametrize("place", ["first", "last"])
def test_whoever_is_interrupted_while_it_waits_keeps_nobody(memory: Store, place: str) -> None:
    watched = Watched(memory)
    commits = Commits(watched)
    with ThreadPoolExecutor(40) as pool:
        before = 0 if place == "first" else 3
        futures = crowd(commits, watched, pool, *map(born, ids[:before]))
        waiting = commits._gathered  # pyright: ignore[reportPrivateUsage]
        interrupted(commits, born("interrupted"), lambda: len(waiting) > before)
        after = [pool.submit(commits.save, born(run_id)) for run_id in ids[before:]]
        until(lambda: len(waiting) == len(ids), "they do not wait")
        watched.open.set()
        assert {future.result(30) for future in (*futures, *after)} == {0}
    assert memory.load("interrupted") is None
    assert commits._under_way == 0  # pyright: ignore[reportPrivateUsage]


def test_whoever_is_interrupted_while_it_sends_leaves_its_crowd_to_the_next(memory: Store) -> None:
    class Slow(Watched):
        def save_many(self, saves: Iterable[Save]) -> Outcomes:
            outcomes = super().save_many(saves)
            if len(self.sent) == THREADS + 1:
                self.sent.append([])
                time.sleep(30)
            return outcomes

    watched = Slow(memory)
    commits = Commits(watched)
    with ThreadPoolExecutor(40) as pool:
        futures = crowd(commits, watched, pool)
        waiting = commits._gathered  # pyright: ignore[reportPrivateUsage]

        def follow() -> None:
            until(lambda: len(waiting) == 1, "the leader does not wait")
            lease = Lease("token", 60_000)
            futures.extend(pool.submit(commits.save, born(run_id), (), lease) for run_id in ids)
            until(lambda: len(waiting) == 1 + len(ids), "they do not wait")
            watched.open.set()

        following = threading.Thread(target=follow)
        following.start()
        interrupted(commits, born("interrupted"), lambda: len(watched.sent) == THREADS + 2)
        following.join()
        assert {future.result(30) for future in futures} == {0}
    assert commits._under_way == 0  # pyright: ignore[reportPrivateUsage]


def test_a_forked_child_waits_for_nobody_of_its_parent(memory: Store) -> None:
    watched = Watched(memory)
    commits = Commits(watched)
    with ThreadPoolExecutor(40) as pool:
        futures = crowd(commits, watched, pool)

        def in_child() -> None:
            watched.open = threading.Event()
            watched.open.set()
            commits.save(born("of the child"))
            os._exit(0)

        child = multiprocessing.get_context("fork").Process(target=in_child)
        child.start()
        child.join(20)
        code = child.exitcode
        child.kill()
        watched.open.set()
        assert {future.result(30) for future in futures} == {0}
    assert code == 0, "the child waits for a thread that is not there"


# Tasks


def test_tasks_at_once_make_few_calls(store: Store) -> None:
    @workflow
    async def order(ctx: AsyncContext, number: int) -> int:
        return await ctx.step("double", double, number)

    async def double(number: int) -> int:
        return 2 * number

    watched = Watched(store)

    async def main() -> None:
        async with AsyncRuntime(watched, workflows=[order]) as runtime:
            runs = await asyncio.gather(*(runtime.trigger(order, number) for number in range(100)))
        assert [run.output for run in runs] == [2 * number for number in range(100)]

    asyncio.run(asyncio.wait_for(main(), 60))
    assert sum(map(len, watched.sent)) == 300
    assert len(watched.sent) < 50, "well under one call for each run"


def test_children_of_many_parents_are_born_together(store: Store) -> None:
    @workflow
    async def child(ctx: AsyncContext, payload: None) -> None: ...

    @workflow
    async def parent(ctx: AsyncContext, payload: None) -> str:
        return await ctx.spawn("kid", child)

    async def main() -> None:
        async with AsyncRuntime(store, workflows=[parent, child]) as runtime:
            runs = await asyncio.gather(*(runtime.trigger(parent) for _ in range(20)))
            assert [run.error for run in runs] == [None] * 20
            found = [await runtime.get_run(run.output) for run in runs]
            assert None not in found

    asyncio.run(asyncio.wait_for(main(), 60))


def test_loops_in_several_threads_do_not_lose_each_others_saves(memory: Store) -> None:
    with ThreadPoolExecutor(4) as threads, ThreadPoolExecutor(4) as loops:
        commits = AsyncCommits(memory, threads)

        async def save(loop: int) -> None:
            for number in range(100):
                async with asyncio.TaskGroup() as group:
                    for part in "abc":
                        group.create_task(wait(commits.save(born(f"{loop} {number} {part}"))))

        async def wait(answer: asyncio.Future[Any]) -> None:
            done, _ = await asyncio.wait([answer], timeout=10)
            assert done, "nobody answers"

        for ended in [loops.submit(asyncio.run, save(loop)) for loop in range(4)]:
            ended.result(60)


def test_a_loop_that_stands_still_while_another_saves_goes_on(watched: Watched) -> None:
    with ThreadPoolExecutor(4) as threads:
        commits = AsyncCommits(watched, threads)

        async def begin(*run_ids: str) -> list["asyncio.Future[Any]"]:
            answers: list[asyncio.Future[Any]] = []
            for run_id in run_ids:
                answers.append(commits.save(born(run_id)))
                await asyncio.sleep(0.01)
            return answers

        async def end(answers: list["asyncio.Future[Any]"]) -> int:
            return len((await asyncio.wait(answers, timeout=10))[0])

        with asyncio.Runner() as first, asyncio.Runner() as second:
            watched.open.clear()
            answers = first.run(begin("o-1", "o-2", "gathered"))
            others = second.run(begin("o-3"))
            watched.open.set()
            assert second.run(end(others)) == 1
            assert first.run(end(answers)) == 3, "nobody answers"


def test_a_closed_runtime_answers_with_an_error(memory: Store) -> None:
    async def main() -> None:
        runtime = AsyncRuntime(memory)
        async with runtime:
            pass
        saving = asyncio.ensure_future(AsyncCommits(memory, runtime.threads).save(born("o-1")))
        done, _ = await asyncio.wait([saving], timeout=10)
        assert done, "nobody answers"
        with pytest.raises(RuntimeError, match="shutdown"):
            saving.result()

    asyncio.run(main())


@pytest.mark.parametrize("times", [1, 2])
def test_whoever_is_cancelled_while_it_saves_has_saved(watched: Watched, times: int) -> None:
    """The step is recorded, the task is cancelled, once, and counts as cancelled as often as it was."""
    calls: list[str] = []

    async def work(name: str) -> None:
        calls.append(name)
        if len(calls) == 1:
            watched.open.clear()

    @workflow
    async def order(ctx: AsyncContext, payload: None) -> None:
        await ctx.step("one", work, "one")
        await ctx.step("two", work, "two")

    async def main() -> None:
        async with AsyncRuntime(watched, workflows=[order]) as runtime:
            task = asyncio.create_task(runtime.trigger(order, run_id="o-1"))
            while len(watched.sent) < 2:
                await asyncio.sleep(0.001)
            for _ in range(times):
                task.cancel()
                await asyncio.sleep(0.01)
            assert not task.done(), "a save that was sent is a save"
            watched.open.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            found = await runtime.get_run("o-1")
            assert found is not None
            assert [one.id for one in found.history] == ["one"]
            assert task.cancelling() == times
            await runtime.sweep()
        assert calls == ["one", "two"]

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize("turns", range(12))
def test_a_sweep_that_is_cancelled_anywhere_holds_nothing(memory: Store, clock: FakeClock, turns: int) -> None:
    @workflow(name="nap")
    async def waking(ctx: AsyncContext, payload: None) -> None:
        await ctx.sleep("nap", HOUR)
        await ctx.wait_for_event("wait", "go")

    asleep(memory, clock, *ids[:5])

    async def main() -> None:
        async with AsyncRuntime(memory, workflows=[waking], clock=clock) as runtime:
            sweeping = asyncio.create_task(runtime.sweep())
            while not runtime.leases._held:  # pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            sweeping.cancel()
            await asyncio.wait([sweeping])
            assert free(memory, *ids[:5]), "a lease is kept that nobody gives back"

    asyncio.run(asyncio.wait_for(main(), 60))


# Sweeps


def test_a_sweep_of_sleepers_makes_few_calls(store: Store, clock: FakeClock) -> None:
    run_ids = [f"s-{number:03}" for number in range(100)]
    asleep(store, clock, *run_ids)
    watched = Watched(store)
    with Runtime(watched, workflows=[nap], clock=clock) as runtime:
        swept = runtime.sweep()
    assert [run.run_id for run in swept] == run_ids
    assert {run.output for run in swept} == {"rested"}
    assert sum(map(len, watched.sent)) == 100
    assert len(watched.sent) < 30
    assert {row.status for row in store.list(100)} == {Status.COMPLETED}


def working(call: Any) -> Workflow:
    """As ``nap``; and one of its runs calls a step."""

    @workflow(name="nap")
    def order(ctx: Context, payload: None) -> None:
        ctx.sleep("nap", HOUR)
        if ctx.run_id == "o-3":
            ctx.step("work", call)

    return order


def test_what_is_parked_goes_out_before_a_step_is_called(store: Store, clock: FakeClock) -> None:
    found: dict[str, str] = {}

    def look() -> None:
        found.update({row.run_id: row.status for row in store.list(10)})

    asleep(store, clock, *ids[:5])
    with Runtime(store, workflows=[working(look)], clock=clock) as runtime:
        runtime.sweep()
    assert [found[run_id] for run_id in ids[:5]] == ["completed", "completed", "completed", "running", "suspended"]


def test_no_step_is_called_whose_lease_ran_out_while_parked_runs_were_saved(memory: Store, clock: FakeClock) -> None:
    class Slow(FaultyStore):
        """The last save of ``o-0`` takes longer than a lease, and renewals are not answered meanwhile."""

        def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
            if run.run_id == "o-0":
                until(lambda: "o-1" in memory.due(0, 10), "the lease of the next one does not run out")
            return super().save(run, new, lease)

        def renew(self, tokens: Any, ttl: int) -> set[str]:
            raise StoreUnavailable("no answer")

    called: list[str] = []

    def work() -> None:
        called.append("o-1")
        if len(called) == 1:
            raise OSError("not yet")

    @workflow(name="nap")
    def order(ctx: Context, payload: None) -> None:
        if ctx.run_id == "o-1":
            ctx.step("work", work, retry=Retry(2, delay=HOUR))

    asleep(memory, clock, "o-0")
    with Runtime(memory, workflows=[order], clock=clock) as before:
        before.trigger(order, run_id="o-1")
    clock.advance(HOUR)
    with Runtime(Slow(memory), workflows=[order], clock=clock, lease_ttl=TTL) as runtime:
        runtime.sweep(limit=2)
    assert called == ["o-1"], "somebody else may be in this very step"
    with Runtime(memory, workflows=[order], clock=clock) as elsewhere:
        elsewhere.sweep()
    assert called == ["o-1", "o-1"]
    assert {row.status for row in memory.list(10)} == {Status.COMPLETED}


def test_the_trouble_of_one_that_is_parked_is_not_that_of_the_next(memory: Store, clock: FakeClock) -> None:
    class Broken(FaultyStore):
        """A store that is wrong about one run, and not by an error of kvflow's."""

        def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
            if run.run_id == "o-2":
                raise OSError("broken")
            return super().save(run, new, lease)

        def save_many(self, saves: Iterable[Save]) -> Outcomes:
            raise OSError("broken")

        def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
            raise OSError("broken")

    asleep(memory, clock, *ids[:5])
    with Runtime(Broken(memory), workflows=[working(lambda: None)], clock=clock) as runtime:
        with pytest.raises(OSError, match="broken"):
            runtime.sweep()
        statuses = {row.run_id: row.status for row in memory.list(10)}
    assert statuses.pop("o-2") == Status.SUSPENDED
    assert set(statuses.values()) == {Status.COMPLETED}


def test_an_event_that_comes_between_rest_and_save_is_not_lost(store: Store, clock: FakeClock) -> None:
    @workflow(name="nap")
    def order(ctx: Context, payload: None) -> Any:
        ctx.sleep("nap", HOUR)
        if ctx.run_id == "o-1":
            with Runtime(store, clock=clock) as elsewhere:
                elsewhere.signal("o-0", "go", "came")
        return ctx.wait_for_event("wait", "go")

    asleep(store, clock, "o-0", "o-1")
    with Runtime(store, workflows=[order], clock=clock) as runtime:
        assert [run.status for run in runtime.sweep()][:2] == [Status.WAITING] * 2
        while runtime.sweep():
            pass
        found = runtime.get_run("o-0")
    assert found is not None
    assert (found.status, found.output) == (Status.COMPLETED, "came")


def test_a_run_that_was_taken_away_while_it_was_parked_is_left_alone(memory: Store, clock: FakeClock) -> None:
    @workflow(name="nap")
    def order(ctx: Context, payload: None) -> str:
        ctx.sleep("nap", HOUR)
        if ctx.run_id == "o-1":  # slow, outside of a step, and its process stands still meanwhile
            until(lambda: "o-0" in memory.due(0, 10), "its lease does not run out")
            with Runtime(memory, workflows=[nap], clock=clock) as elsewhere:
                assert elsewhere.resume("o-0").output == "rested"
        return "late"

    class Silent(FaultyStore):
        def renew(self, tokens: Any, ttl: int) -> set[str]:
            return set(tokens)

    asleep(memory, clock, "o-0", "o-1")
    with Runtime(Silent(memory), workflows=[order], clock=clock, lease_ttl=TTL) as runtime:
        first, second = runtime.sweep()
    assert (first.output, second.output) == ("rested", "late")


@pytest.mark.parametrize("error", [KeyboardInterrupt, Killed])
def test_an_interrupt_leaves_no_lease_behind(memory: Store, clock: FakeClock, error: type[BaseException]) -> None:
    def interrupt() -> None:
        raise error

    asleep(memory, clock, *ids[:6])
    with Runtime(memory, workflows=[working(interrupt)], clock=clock) as runtime, pytest.raises(error):
        runtime.sweep()
    statuses = {row.run_id: row.status for row in memory.list(10)}
    assert [statuses[run_id] for run_id in ids[:3]] == [Status.COMPLETED] * 3
    assert free(memory, *ids[3:6])


@pytest.mark.parametrize("sends", [0, 1])
def test_an_interrupt_while_parked_runs_are_saved_leaves_no_lease(memory: Store, clock: FakeClock, sends: int) -> None:
    class Interrupting(FaultyStore):
        def save_many(self, saves: Iterable[Save]) -> Outcomes:
            if sends:
                super().save_many(saves)
            raise KeyboardInterrupt

    asleep(memory, clock, *ids[:6])
    runtime = Runtime(Interrupting(memory), workflows=[working(lambda: None)], clock=clock)
    with runtime, pytest.raises(KeyboardInterrupt):
        runtime.sweep()
    assert free(memory, *ids[:6])


def test_a_store_that_takes_no_saves_costs_no_ttl_for_each_parked_run(memory: Store, clock: FakeClock) -> None:
    class Full(FaultyStore):
        def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
            raise StoreUnavailable("full")

        def save_many(self, saves: Iterable[Save]) -> Outcomes:
            raise StoreUnavailable("full")

    ttl = 0.4
    asleep(memory, clock, *ids[:8])
    with Runtime(Full(memory), workflows=[nap], clock=clock, lease_ttl=ttl) as runtime:
        began = time.monotonic()
        swept = runtime.sweep()
        took = time.monotonic() - began
    assert len(swept) == 8
    assert all(run.deferred is not None for run in swept)
    assert took < 8 * ttl / 2 + 5, "they wait for the store one after the other"


def test_what_waits_in_a_slow_sweep_is_given_to_others(memory: Store, clock: FakeClock) -> None:
    """The first batches are quick, so more is claimed; then one is slow."""
    run_ids = [f"s-{number:03}" for number in range(60)]
    asleep(memory, clock, *run_ids)
    elsewhere: list[str] = []

    @workflow(name="nap")
    def order(ctx: Context, payload: None) -> None:
        if ctx.run_id >= "s-024":
            time.sleep(0.13)
        if not elsewhere and ctx.run_id >= "s-045":
            elsewhere.extend(memory.due(2**53, 100))
        ctx.sleep("nap", HOUR)

    with Runtime(memory, workflows=[order], clock=clock) as runtime:
        swept = runtime.sweep()
    assert len(elsewhere) > 5, "they are kept from others"
    assert Counter(run.run_id for run in swept) == Counter(run_ids)


# Acknowledged means stored


def kills(store: Store) -> Iterator[FaultyStore]:
    """The store with each of its operations broken in turn, before it happens and after."""
    for at in itertools.count(1):
        for after in (False, True):
            dying = FaultyStore(store, at, kill=True, after=after)
            yield dying
            for row in store.list(100):
                store.delete(row.run_id)
            if not dying.broke:
                assert "save_many" in dying.operations
                return


def children(calls: list[str]) -> list[Workflow]:
    """Parents whose children rest, step and end beside them in one sweep."""

    @workflow
    def child(ctx: Context, name: str) -> str:
        ctx.sleep("nap", HOUR)
        if name == "b":
            ctx.step("work", calls.append, name)
        return name

    @workflow
    def parent(ctx: Context, names: str) -> list[str]:
        kids = [ctx.spawn(f"kid {name}", child, name) for name in names]
        ctx.sleep("nap", HOUR)
        outputs: list[str] = ctx.join("all", *kids)
        return outputs

    return [parent, child]


def swept(runtime: Runtime, clock: FakeClock) -> None:
    for _ in range(3):
        while any(run.deferred is None for run in runtime.sweep()):
            pass
        clock.advance(HOUR)


def test_a_kill_at_every_operation_of_sweeps_that_gather(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvflow.hands.LONGEST", 30)  # however slow the machine is, the saves gather
    for dying in kills(store):
        clock, calls = FakeClock(), list[str]()
        flows = children(calls)
        Runtime(store, workflows=flows, clock=clock).submit("parent", "abc", run_id="p")
        with Runtime(dying, workflows=flows, clock=clock, lease_ttl=TTL) as runtime, contextlib.suppress(Killed):
            swept(runtime, clock)
        before = {row.run_id: (row.version, row.status) for row in store.list(100)}
        with Runtime(store, workflows=flows, clock=clock, lease_ttl=TTL) as elsewhere:
            deadline = time.monotonic() + 30
            while any(not row.status.over for row in store.list(100)):
                swept(elsewhere, clock)
                time.sleep(0.01)
                assert time.monotonic() < deadline, [elsewhere.get_run(row.run_id) for row in store.list(100)]
            run = elsewhere.get_run("p")
        assert run is not None
        assert run.output == ["a", "b", "c"]
        after = {row.run_id: (row.version, row.status) for row in store.list(100)}
        assert len(after) == 4, "a child was born twice"
        assert all(after[run_id] >= there for run_id, there in before.items()), "what was stored is gone"
        assert 1 <= len(calls) <= 2, "more than the step in flight ran twice"
