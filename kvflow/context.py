"""What a body is given: ``ctx``, in the colour of its runtime.

The two classes say the same and differ in ``await`` alone; what a call means is in ``kvflow.engine``.
From inside a step only ``run_id``, ``payload``, ``lost`` and ``key`` may be read: a step is one call to the outside,
and what it did inside could not be replayed.
"""

import contextvars
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar, cast, overload

from kvflow.checks import LATEST
from kvflow.engine import NOT_YET, Drive
from kvflow.errors import InvalidArgument, NestedStep
from kvflow.retry import Retry
from kvflow.times import Cron, Duration, duration_ms, to_ms
from kvflow.values import check_sync
from kvflow.workflow import Workflow

Outcome = TypeVar("Outcome")

inside: contextvars.ContextVar[object | None] = contextvars.ContextVar("kvflow_inside", default=None)
"""The drive whose step is being called, so that a call on its ctx from in there can be refused."""


class _Shared:
    """What needs no waiting."""

    def __init__(self, drive: Drive, run: Callable[[Any], Any]) -> None:
        self._drive = drive
        self._run = run

    @property
    def run_id(self) -> str:
        """This run's id."""
        return self._drive.run.run_id

    @property
    def payload(self) -> Any:
        """What the run was triggered with."""
        return self._drive.payload

    @property
    def lost(self) -> bool:
        """Whether the lease is gone: another instance may drive this run, and nothing more is written here."""
        return self._drive.lost

    def key(self, step_id: str) -> str:
        """The key to hand to the other side of a step, the same however often the step is tried."""
        return self._drive.history.key(step_id)

    def _own(self) -> Drive:
        if inside.get() is self._drive:
            raise NestedStep(f"run {self.run_id!r}: ctx was called from inside a step; call it from the body")
        return self._drive


def _until(duration: "Duration | Cron") -> Callable[[int], int]:
    if isinstance(duration, Cron):
        return duration.after
    wait = duration_ms(duration)
    return lambda now: min(now + wait, LATEST)


def _at(when: datetime) -> Callable[[int], int]:
    wake_at = max(0, to_ms(when, "sleep_until"))
    return lambda _: wake_at


def _timeout(timeout: Duration | None) -> Callable[[int], int] | None:
    return None if timeout is None else _until(timeout)


def _branches(branches: dict[str, Callable[[], Any]], compensate: dict[str, Callable[[Any], Any]] | None) -> None:
    if not branches:
        raise InvalidArgument("parallel was given no branches: it takes {name: function, …}")
    for name in compensate or {}:
        if name not in branches:
            raise InvalidArgument(f"parallel was given a compensate for {name!r}, which is none of its branches")


class Context(_Shared):
    """The context of a ``def`` body."""

    def step(
        self,
        id: str,
        fn: Callable[..., Outcome],
        *args: Any,
        retry: Retry | None = None,
        compensate: Callable[[Any], Any] | None = None,
    ) -> Outcome:
        """Call ``fn(*args)`` once and record its result; in a replay give the record.

        A failure that ``retry`` does not cure raises ``StepFailed``. ``compensate`` is called with the
        result if the run fails or is cancelled later.
        """
        drive = self._drive
        if drive.called:  # in a replay, up to the first step that is new, nobody can be inside of one
            drive = self._own()
        result: Any = drive.replayed(id, fn, retry, compensate)
        if result is NOT_YET:
            check_sync(fn, "step")
            check_sync(compensate, "compensate")
            result = self._run(drive.step(id, fn, args, retry, compensate))
        return cast("Outcome", result)

    def sleep(self, id: str, duration: Duration | Cron) -> None:
        """Rest for a timedelta, a number of seconds, or until the next time of a ``cron(…)``."""
        self._run(self._own().sleep(id, _until(duration)))

    def sleep_until(self, id: str, when: datetime) -> None:
        """Rest until an aware datetime."""
        self._run(self._own().sleep(id, _at(when)))

    def wait_for_event(
        self, id: str, event: str, timeout: Duration | None = None, type: Any = Any, default: Any = None
    ) -> Any:
        """Rest until ``signal(run_id, event, payload)``; give the payload, or ``default`` after ``timeout``."""
        return self._run(
            self._own().wait_for_event(id, event, _timeout(timeout), Any if type is None else type, default)
        )

    def parallel(
        self,
        id: str,
        branches: dict[str, Callable[[], Any]],
        retry: Retry | None = None,
        compensate: dict[str, Callable[[Any], Any]] | None = None,
    ) -> dict[str, Any]:
        """Run the branches at once, each the step ``id/name``; give ``{name: result}`` when all have ended."""
        _branches(branches, compensate)
        functions: list[Callable[..., Any]] = [*branches.values(), *(compensate or {}).values()]
        for function in functions:
            check_sync(function, "branch")
        results: dict[str, Any] = self._run(self._own().parallel(id, branches, retry, compensate))
        return results

    def spawn(self, id: str, workflow: Workflow | str, payload: Any = None) -> str:
        """Start a child run on any instance; give its id."""
        run_id: str = self._run(self._own().spawn(id, workflow, payload))
        return run_id

    def join(self, id: str, *run_ids: str) -> list[Any]:
        """Rest until these children are over; give their outputs. A failed one raises ``ChildFailed``."""
        outputs: list[Any] = self._run(self._own().join(id, run_ids))
        return outputs

    def child(self, id: str, workflow: Workflow | str, payload: Any = None) -> Any:
        """``spawn`` and ``join`` of one child."""
        return self._run(self._own().child(id, workflow, payload))


class AsyncContext(_Shared):
    """The context of an ``async def`` body: the same, to await."""

    @overload
    async def step(
        self,
        id: str,
        fn: Callable[..., Awaitable[Outcome]],
        *args: Any,
        retry: Retry | None = None,
        compensate: Callable[[Any], Any] | None = None,
        timeout: Duration | None = None,
    ) -> Outcome: ...
    @overload
    async def step(
        self,
        id: str,
        fn: Callable[..., Outcome],
        *args: Any,
        retry: Retry | None = None,
        compensate: Callable[[Any], Any] | None = None,
        timeout: Duration | None = None,
    ) -> Outcome: ...
    async def step(
        self,
        id: str,
        fn: Callable[..., Any],
        *args: Any,
        retry: Retry | None = None,
        compensate: Callable[[Any], Any] | None = None,
        timeout: Duration | None = None,
    ) -> Any:
        """As ``Context.step``; a plain ``def`` runs in a thread, and ``timeout`` is a failure like any other."""
        drive = self._own()
        result = drive.replayed(id, fn, retry, compensate)
        if result is NOT_YET:
            seconds = None if timeout is None else duration_ms(timeout, "timeout") / 1000
            result = await self._run(drive.step(id, fn, args, retry, compensate, seconds))
        return result

    async def sleep(self, id: str, duration: Duration | Cron) -> None:
        """As ``Context.sleep``."""
        await self._run(self._own().sleep(id, _until(duration)))

    async def sleep_until(self, id: str, when: datetime) -> None:
        """As ``Context.sleep_until``."""
        await self._run(self._own().sleep(id, _at(when)))

    async def wait_for_event(
        self, id: str, event: str, timeout: Duration | None = None, type: Any = Any, default: Any = None
    ) -> Any:
        """As ``Context.wait_for_event``."""
        wanted = Any if type is None else type
        return await self._run(self._own().wait_for_event(id, event, _timeout(timeout), wanted, default))

    async def parallel(
        self,
        id: str,
        branches: dict[str, Callable[[], Any]],
        retry: Retry | None = None,
        compensate: dict[str, Callable[[Any], Any]] | None = None,
    ) -> dict[str, Any]:
        """As ``Context.parallel``."""
        _branches(branches, compensate)
        results: dict[str, Any] = await self._run(self._own().parallel(id, branches, retry, compensate))
        return results

    async def spawn(self, id: str, workflow: Workflow | str, payload: Any = None) -> str:
        """As ``Context.spawn``."""
        run_id: str = await self._run(self._own().spawn(id, workflow, payload))
        return run_id

    async def join(self, id: str, *run_ids: str) -> list[Any]:
        """As ``Context.join``."""
        outputs: list[Any] = await self._run(self._own().join(id, run_ids))
        return outputs

    async def child(self, id: str, workflow: Workflow | str, payload: Any = None) -> Any:
        """As ``Context.child``."""
        return await self._run(self._own().child(id, workflow, payload))
