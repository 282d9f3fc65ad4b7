"""Fan out: branches side by side, children on any instance, each exactly once."""

import contextlib
import threading
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from kvflow import (
    ChildFailed,
    Context,
    InvalidArgument,
    Lease,
    Retry,
    Runtime,
    Status,
    StepFailed,
    Store,
    StoredRun,
    StoreUnavailable,
    workflow,
)
from kvflow.stores import MemoryStore
from kvflow.testing import FakeClock, FaultyStore, Killed
from kvflow.testing.runs import until

SECOND = timedelta(seconds=1)


def test_branches_run_side_by_side_each_once(store: Store, clock: FakeClock) -> None:
    both = threading.Barrier(3, timeout=20)
    calls: list[str] = []

    def branch(name: str) -> str:
        calls.append(name)
        both.wait()
        return name.upper()

    @workflow
    def order(ctx: Context, payload: None) -> dict[str, str]:
        found = ctx.parallel("all", {name: partial(branch, name) for name in "abc"})
        ctx.sleep("rest", SECOND)
        return found

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        runtime.trigger(order)
        clock.advance(SECOND)
        (run,) = runtime.sweep()
        assert run.output == {"a": "A", "b": "B", "c": "C"}
        assert sorted(calls) == ["a", "b", "c"]
        assert sorted(one.id for one in run.history if one.kind == "step") == ["all/a", "all/b", "all/c"]


def test_all_branches_end_before_a_failure_is_raised(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    @workflow
    def order(ctx: Context, payload: None) -> str:
        try:
            ctx.parallel("all", {"bad": lambda: 1 / 0, "good": lambda: calls.append("good")})
        except StepFailed as failed:
            return failed.error.type
        return "none"

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
    assert (run.output, calls) == ("ZeroDivisionError", ["good"])


def test_only_unfinished_branches_run_again(store: Store, clock: FakeClock) -> None:
    calls: list[str] = []

    def flaky() -> str:
        calls.append("flaky")
        if calls.count("flaky") < 3:
            raise ConnectionError
        return "at last"

    @workflow
    def order(ctx: Context, payload: None) -> dict[str, Any]:
        return ctx.parallel(
            "all",
            {"flaky": flaky, "good": lambda: calls.append("good")},
            retry=Retry(3, delay=1, factor=1, jitter=False),
        )

    with Runtime(store, workflows=[order], clock=clock) as runtime:
        run = runtime.trigger(order)
        assert (run.status, [one.id for one in run.pending]) == (Status.SUSPENDED, ["all/flaky"])
        for _ in range(2):
            clock.advance(SECOND)
            (run,) = runtime.sweep()
    assert run.output == {"flaky": "at last", "good": None}
    assert sorted(calls) == ["flaky", "flaky", "flaky", "good"]


# Children


@workflow
def double(ctx: Context, number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return ctx.step("double", lambda: number * 2)


def swept(runtime: Runtime) -> None:
    while runtime.sweep():
        pass


def test_a_child_gives_its_output(store: Store, clock: FakeClock) -> None:
    @workflow
    def parent(ctx: Context, number: int) -> int:
        doubled: int = ctx.child("double", double, number)
        return doubled + 1

    with Runtime(store, workflows=[parent, double], clock=clock) as runtime:
        run = runtime.trigger(parent, 20, run_id="p")
        assert run.status is Status.WAITING
        swept(runtime)
        found = runtime.get_run("p")
        assert found is not None
        assert (found.status, found.output) == (Status.COMPLETED, 41)
        assert len(runtime.list_runs()) == 2


def test_no_child_is_born_of_a_run_whose_lease_ran_out(clock: FakeClock) -> None:
    memory = MemoryStore()

    class Slow(FaultyStore):
        """A save takes longer than a lease, and renewals are not answered meanwhile."""

        def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
            outcome = super().save(run, new, lease)
            until(lambda: "p" in memory.due(0, 10))
            return outcome

        def renew(self, tokens: Any, ttl: int) -> set[str]:
            raise StoreUnavailable("no answer")

    @workflow
    def child(ctx: Context, payload: None) -> str:
        return "grown"

    @workflow
    def parent(ctx: Context, payload: None) -> str:
        return str(ctx.child("child", child))

    flows = [parent, child]
    with Runtime(Slow(memory), workflows=flows, clock=clock, lease_ttl=timedelta(milliseconds=60)) as runtime:
        runtime.trigger(parent, run_id="p")
    assert [run.run_id for run in memory.list(10)] == ["p"], "whoever has it now may have been told to end it"
    with Runtime(memory, workflows=flows, clock=clock) as elsewhere:
        elsewhere.tick(5)
        found = elsewhere.get_run("p")
        assert found is not None
        assert found.output == "grown"
    assert len(memory.list(10)) == 2


def test_children_run_on_other_instances(store: Store, clock: FakeClock) -> None:
    @workflow
    def parent(ctx: Context, numbers: list[int]) -> list[int]:
        children = [ctx.spawn(f"child {number}", "double", number) for number in numbers]
        return ctx.join("all", *children)

    with (
        Runtime(store, workflows=[parent], clock=clock) as parents,
        Runtime(store, workflows=[double], clock=clock) as children,
    ):
        parents.trigger(parent, [1, 2, 3], run_id="p")
        assert parents.sweep() == []
        assert len(children.sweep()) == 3
        swept(parents)
        found = parents.get_run("p")
        assert found is not None
        assert found.output == [2, 4, 6]


def test_a_failed_child_fails_its_join(store: Store, clock: FakeClock) -> None:
    seen: list[Any] = []

    @workflow
    def parent(ctx: Context, number: int) -> str:
        try:
            ctx.child("double", double, number)
        except ChildFailed as failed:
            seen.append((failed.error.type, failed.error.message))
        ctx.sleep("rest", SECOND)
        return "went on"

    with Runtime(store, workflows=[parent, double], clock=clock) as runtime:
        runtime.trigger(parent, -1, run_id="p")
        swept(runtime)
        clock.advance(SECOND)
        swept(runtime)
        found = runtime.get_run("p")
        assert found is not None
        assert found.output == "went on"
        assert seen == [("ValueError", "negative")] * 2


def test_a_retried_parent_begins_its_failed_child_anew(store: Store, clock: FakeClock) -> None:
    broken = [True]

    @workflow
    def child(ctx: Context, payload: None) -> str:
        if broken[0]:
            raise ValueError("broken")
        return "fixed"

    @workflow
    def parent(ctx: Context, payload: None) -> str:
        return str(ctx.child("kid", child))

    with Runtime(store, workflows=[parent, child], clock=clock) as runtime:
        runtime.trigger(parent, run_id="p")
        swept(runtime)
        found = runtime.get_run("p")
        assert found is not None
        assert found.status is Status.FAILED
        broken[0] = False
        runtime.retry("p")
        swept(runtime)
        found = runtime.get_run("p")
        assert found is not None
        assert (found.status, found.output) == (Status.COMPLETED, "fixed")


def test_cancelling_a_parent_cancels_its_children(store: Store, clock: FakeClock) -> None:
    @workflow
    def grandchild(ctx: Context, payload: None) -> None:
        ctx.wait_for_event("never", "never")

    @workflow
    def child(ctx: Context, payload: None) -> None:
        ctx.child("kid", grandchild)

    @workflow
    def parent(ctx: Context, payload: None) -> None:
        ctx.child("kid", child)

    with Runtime(store, workflows=[parent, child, grandchild], clock=clock) as runtime:
        runtime.trigger(parent, run_id="p")
        swept(runtime)
        assert [run.status for run in runtime.list_runs()] == [Status.WAITING] * 3
        runtime.cancel("p")
        swept(runtime)
        assert [run.status for run in runtime.list_runs()] == [Status.CANCELLED] * 3


def test_a_child_that_is_over_and_forgotten_is_not_born_again(store: Store, clock: FakeClock) -> None:
    """Its parent died between the child's birth and its own record of it, and was driven again late."""
    calls: list[str] = []

    @workflow
    def kid(ctx: Context, payload: None) -> str:
        ctx.step("work", calls.append, "work")
        return "done"

    @workflow
    def parent(ctx: Context, payload: None) -> Any:
        return ctx.child("kid", kid)

    ttl = timedelta(milliseconds=60)
    dying = FaultyStore(store, 4, kill=True)  # a load, the parent's birth, the child's birth
    with (
        Runtime(dying, workflows=[parent, kid], clock=clock, lease_ttl=ttl) as runtime,
        contextlib.suppress(Killed),
    ):
        runtime.trigger(parent, run_id="p")
    assert dying.operations == ["load", "save", "save", "save"]
    with Runtime(store, workflows=[kid], clock=clock, retention=SECOND) as elsewhere:
        (run,) = elsewhere.sweep()
        assert run.output == "done"
        clock.advance(SECOND)
        elsewhere.sweep()
        assert elsewhere.get_run(run.run_id) is None
    with Runtime(store, workflows=[parent, kid], clock=clock, lease_ttl=ttl) as runtime:
        (run,) = until(runtime.sweep)
        assert runtime.sweep() == []
    assert (run.output, calls) == ("done", ["work"])


def test_only_own_children_are_joined(store: Store, clock: FakeClock) -> None:
    @workflow
    def parent(ctx: Context, payload: None) -> str:
        with pytest.raises(InvalidArgument, match="no child"):
            ctx.join("all", "somebody else")
        return "refused"

    with Runtime(store, workflows=[parent], clock=clock) as runtime:
        assert runtime.trigger(parent).output == "refused"


def test_a_join_of_nothing_is_nothing(store: Store, clock: FakeClock) -> None:
    @workflow
    def parent(ctx: Context, payload: None) -> list[Any]:
        return ctx.join("all")

    with Runtime(store, workflows=[parent], clock=clock) as runtime:
        assert runtime.trigger(parent).output == []


def test_a_parent_that_is_gone_is_told_nothing(store: Store, clock: FakeClock) -> None:
    @workflow
    def parent(ctx: Context, payload: None) -> None:
        ctx.spawn("kid", double, 4)

    with Runtime(store, workflows=[parent, double], clock=clock) as runtime:
        run = runtime.trigger(parent)
        assert run.status is Status.COMPLETED
        runtime.delete_run(run.run_id)
        (child,) = runtime.sweep()
        assert (child.status, child.output) == (Status.COMPLETED, 8)
        assert runtime.sweep() == []
