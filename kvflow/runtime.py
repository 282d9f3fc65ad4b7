"""The runtimes: what an application calls to begin, wake, look at and end runs.

``Runtime`` takes ``def`` bodies and ``AsyncRuntime`` takes ``async def`` ones; their methods are the same, and
what they do is written once, in ``kvflow.instance``. Public times are aware datetimes and timedeltas.
"""

import asyncio
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from kvflow.async_hands import AsyncHands
from kvflow.checks import check_after, check_limit, check_name, check_run_id, check_status
from kvflow.commits import AsyncCommits, Commits
from kvflow.effects import Work
from kvflow.errors import InvalidArgument
from kvflow.hands import Hands
from kvflow.info import RunInfo, Tick
from kvflow.instance import Instance
from kvflow.leases import Leases
from kvflow.run import Status
from kvflow.store import Derived, Primitives, Store
from kvflow.times import Duration, Now, duration_ms, to_ms
from kvflow.workflow import Workflow

Outcome = TypeVar("Outcome")

LONGEST_REASON = 2000

THREADS = 10
"""How many calls of the store an AsyncRuntime makes at once, where the store does not say."""


class _Base:
    """What both colours are made of."""

    def __init__(
        self,
        store: Store | Primitives | None = None,
        workflows: Iterable[Workflow] = (),
        lease_ttl: Duration = timedelta(seconds=30),
        clock: Now | None = None,
        max_attempts: int = 5,
        retention: Duration | None = None,
        *,
        is_async: bool,
    ) -> None:
        ttl = duration_ms(lease_ttl, "lease_ttl")
        if ttl < 1:
            raise InvalidArgument(f"lease_ttl is {lease_ttl!r}: it must be longer than nothing")
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise InvalidArgument(f"max_attempts is {max_attempts!r}: it must be an int of 1 or more")
        self.store = _whole(store)
        self._owns_store = store is None
        self._clock = clock
        self._now_ms()
        self.leases = Leases(self.store, ttl)
        self.instance = Instance(
            leases=self.leases,
            now=self._now_ms,
            is_async=is_async,
            max_attempts=max_attempts,
            retention=None if retention is None else duration_ms(retention, "retention"),
        )
        for workflow in workflows:
            self.register(workflow)

    def register(self, workflow: Workflow) -> None:
        """Know one more workflow; two different ones of one name raise ``DuplicateWorkflow``."""
        self.instance.register(workflow)

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 if self._clock is None else to_ms(self._clock(), "the clock's time")

    def _sweep_now(self, now: datetime | None) -> int:
        return self._now_ms() if now is None else to_ms(now, "now")

    def _close(self) -> None:
        self.leases.close()
        if self._owns_store:
            self.store.close()


def _whole(store: Store | Primitives | None) -> Store:
    """The store given; runs in memory where there is none, and the rest of the contract where it has four calls."""
    if store is None:
        from kvflow.stores.memory import MemoryStore

        return MemoryStore()
    if hasattr(store, "claim"):
        return cast("Store", store)
    return Derived(store)


def _place(after: RunInfo | None) -> tuple[int, str] | None:
    place = None if after is None else (to_ms(after.created_at), after.run_id)
    check_after(place)
    return place


def _deadline(timeout: Duration | None) -> float | None:
    return None if timeout is None else time.monotonic() + duration_ms(timeout, "timeout") / 1000


def _check_reason(reason: str | None) -> None:
    if reason is None:
        return
    if not isinstance(reason, str) or len(reason) > LONGEST_REASON:
        raise InvalidArgument(
            f"reason is {str(reason)[:40]!r}: it must be a string of up to {LONGEST_REASON} characters"
        )
    if any("\ud800" <= char <= "\udfff" for char in reason):
        raise InvalidArgument(f"reason {reason!r} has a surrogate, which no store can keep")


def _check_id(run_id: str | None) -> None:
    if run_id is not None:
        check_run_id(run_id)


class Runtime(_Base):
    """Runs ``def`` workflows on a store; safe to share between threads."""

    def __init__(
        self,
        store: Store | Primitives | None = None,
        workflows: Iterable[Workflow] = (),
        lease_ttl: Duration = timedelta(seconds=30),
        clock: Now | None = None,
        max_attempts: int = 5,
        retention: Duration | None = None,
    ) -> None:
        super().__init__(store, workflows, lease_ttl, clock, max_attempts, retention, is_async=False)
        self._commits = Commits(self.store)

    def trigger(self, workflow: Workflow | str, payload: Any = None, *, run_id: str | None = None) -> RunInfo:
        """Begin a run and drive it until it rests.

        The same ``run_id`` again with the same workflow and payload gives the run that exists; with others
        it raises ``RunExists``. Without one the id is new.
        """
        _check_id(run_id)
        return self._run(self.instance.trigger(workflow, payload, run_id))

    def submit(self, workflow: Workflow | str, payload: Any = None, *, run_id: str | None = None) -> RunInfo:
        """As ``trigger``, without driving: the run is due at once, for whoever sweeps."""
        _check_id(run_id)
        return self._run(self.instance.submit(workflow, payload, run_id))

    def signal(self, run_id: str, event: str, payload: Any = None) -> RunInfo:
        """Send an event to a run: kept for a wait that is yet to come, and never lost."""
        check_run_id(run_id)
        check_name("event", event, InvalidArgument)
        return self._run(self.instance.signal(run_id, event, payload))

    def resume(self, run_id: str) -> RunInfo:
        """Drive a run if it is due and free."""
        check_run_id(run_id)
        return self._run(self.instance.resume(run_id))

    def sweep(self, now: datetime | None = None, limit: int = 100) -> list[RunInfo]:
        """Claim what is due of the registered workflows and drive it; one RunInfo for each run driven."""
        check_limit(limit)
        return self._run(self.instance.sweep(self._sweep_now(now), limit))

    def tick(self, budget: Duration) -> Tick:
        """Sweep what is due within the time given, for hosts without a process of their own.

        When the time is up a run is given back at its next step boundary; a step is never cut short.
        """
        return self._run(self.instance.tick(duration_ms(budget, "budget") / 1000))

    def cancel(self, run_id: str, reason: str | None = None) -> RunInfo:
        """End a run at its next step boundary, wherever it is driven, undoing what asks to be undone."""
        check_run_id(run_id)
        _check_reason(reason)
        return self._run(self.instance.cancel(run_id, reason))

    def retry(self, run_id: str) -> RunInfo:
        """Drive a failed run again from where it failed."""
        check_run_id(run_id)
        return self._run(self.instance.retry(run_id))

    def wait(self, run_id: str, timeout: Duration | None = None) -> RunInfo:
        """Wait until a run is over, or for ``timeout``; drives nothing."""
        check_run_id(run_id)
        return self._run(self.instance.wait(run_id, _deadline(timeout)))

    def get_run(self, run_id: str) -> RunInfo | None:
        """A run with its history; None where there is none."""
        check_run_id(run_id)
        return self._run(self.instance.get(run_id))

    def list_runs(
        self, limit: int = 100, after: RunInfo | None = None, status: Status | str | None = None
    ) -> list[RunInfo]:
        """Runs, newest first, from behind the run ``after``; without payloads, outputs and histories."""
        check_limit(limit)
        return self._run(self.instance.list(limit, _place(after), check_status(status)))

    def delete_run(self, run_id: str) -> None:
        """Forget a run and all that is stored of it; nothing where there is none."""
        check_run_id(run_id)
        self._run(self.instance.delete(run_id))

    def close(self) -> None:
        """End what this runtime began; a store that was given to it stays open."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Work[Outcome]) -> Outcome:
        return self.hands().run(work)

    def hands(self) -> Hands:
        """Who does one piece of work for this runtime; its saves go out with those of others."""
        return Hands(self.store, self._commits.save)


class AsyncRuntime(_Base):
    """Runs ``async def`` workflows on a store; the same methods, to await."""

    def __init__(
        self,
        store: Store | Primitives | None = None,
        workflows: Iterable[Workflow] = (),
        lease_ttl: Duration = timedelta(seconds=30),
        clock: Now | None = None,
        max_attempts: int = 5,
        retention: Duration | None = None,
    ) -> None:
        super().__init__(store, workflows, lease_ttl, clock, max_attempts, retention, is_async=True)
        self.threads = ThreadPoolExecutor(getattr(self.store, "pool_size", THREADS), "kvflow-store")
        self._commits = AsyncCommits(self.store, self.threads)

    async def trigger(self, workflow: Workflow | str, payload: Any = None, *, run_id: str | None = None) -> RunInfo:
        """As ``Runtime.trigger``."""
        _check_id(run_id)
        return await self._run(self.instance.trigger(workflow, payload, run_id))

    async def submit(self, workflow: Workflow | str, payload: Any = None, *, run_id: str | None = None) -> RunInfo:
        """As ``Runtime.submit``."""
        _check_id(run_id)
        return await self._run(self.instance.submit(workflow, payload, run_id))

    async def signal(self, run_id: str, event: str, payload: Any = None) -> RunInfo:
        """As ``Runtime.signal``."""
        check_run_id(run_id)
        check_name("event", event, InvalidArgument)
        return await self._run(self.instance.signal(run_id, event, payload))

    async def resume(self, run_id: str) -> RunInfo:
        """As ``Runtime.resume``."""
        check_run_id(run_id)
        return await self._run(self.instance.resume(run_id))

    async def sweep(self, now: datetime | None = None, limit: int = 100) -> list[RunInfo]:
        """As ``Runtime.sweep``."""
        check_limit(limit)
        return await self._run(self.instance.sweep(self._sweep_now(now), limit))

    async def tick(self, budget: Duration) -> Tick:
        """As ``Runtime.tick``."""
        return await self._run(self.instance.tick(duration_ms(budget, "budget") / 1000))

    async def cancel(self, run_id: str, reason: str | None = None) -> RunInfo:
        """As ``Runtime.cancel``."""
        check_run_id(run_id)
        _check_reason(reason)
        return await self._run(self.instance.cancel(run_id, reason))

    async def retry(self, run_id: str) -> RunInfo:
        """As ``Runtime.retry``."""
        check_run_id(run_id)
        return await self._run(self.instance.retry(run_id))

    async def wait(self, run_id: str, timeout: Duration | None = None) -> RunInfo:
        """As ``Runtime.wait``."""
        check_run_id(run_id)
        return await self._run(self.instance.wait(run_id, _deadline(timeout)))

    async def get_run(self, run_id: str) -> RunInfo | None:
        """As ``Runtime.get_run``."""
        check_run_id(run_id)
        return await self._run(self.instance.get(run_id))

    async def list_runs(
        self, limit: int = 100, after: RunInfo | None = None, status: Status | str | None = None
    ) -> list[RunInfo]:
        """As ``Runtime.list_runs``."""
        check_limit(limit)
        return await self._run(self.instance.list(limit, _place(after), check_status(status)))

    async def delete_run(self, run_id: str) -> None:
        """As ``Runtime.delete_run``."""
        check_run_id(run_id)
        await self._run(self.instance.delete(run_id))

    async def close(self) -> None:
        """As ``Runtime.close``."""
        await asyncio.to_thread(self._close)
        self.threads.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, work: Work[Outcome]) -> Outcome:
        return await self.hands().run(work)

    def hands(self) -> AsyncHands:
        """As ``Runtime.hands``."""
        return AsyncHands(self.store, self.threads, self._commits.save)
