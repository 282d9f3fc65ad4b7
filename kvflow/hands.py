"""The two drivers of the engine's generators: one calls, the other awaits. The rules are elsewhere, once."""

import asyncio
import contextvars
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

from kvflow.context import AsyncContext, Context, inside
from kvflow.effects import Alone, Ask, Body, Call, Effect, Pause, Settle, Together, Work
from kvflow.errors import WrongColour
from kvflow.saving import Leaving
from kvflow.store import Store

Outcome = TypeVar("Outcome")

BRANCHES = 64
"""The most branches of one ``parallel`` that a sync runtime runs in threads of their own."""


class Hands:
    """Does for one drive at a time what the engine asks, by calling."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._alone = threading.Lock()
        self._ways: dict[type[Effect], Callable[[Any], Any]] = {
            Ask: self._ask,
            Call: _inside,
            Body: self._body,
            Alone: self._one_at_a_time,
            Together: self._together,
            Settle: lambda _: None,
            Pause: lambda pause: time.sleep(pause.seconds),
        }

    def run(self, work: Work[Outcome]) -> Outcome:
        """Do all that ``work`` wants and give what it comes to."""
        try:
            effect = next(work)
            while True:
                try:
                    outcome = self._ways[type(effect)](effect)
                except BaseException as error:  # noqa: BLE001 (whatever it is, it is the engine's to judge)
                    effect = work.throw(error)
                else:
                    effect = work.send(outcome)
        except StopIteration as end:
            result: Outcome = end.value
            return result

    def _ask(self, ask: Ask) -> Any:
        return getattr(self._store, ask.method)(*ask.args)

    def _body(self, body: Body) -> Any:
        drive = body.drive
        return drive.workflow.body(*drive.workflow.arguments(Context(drive, self.run), drive.payload))

    def _one_at_a_time(self, alone: Alone) -> Any:
        with self._alone:
            return self.run(alone.work)

    def _together(self, together: Together) -> list[Any]:
        works = together.works
        with ThreadPoolExecutor(min(len(works), BRANCHES), "kvflow-branch") as pool:
            begun = [pool.submit(contextvars.copy_context().run, self._settled, work) for work in works]
            return [future.result() for future in begun]

    def _settled(self, work: Work[Any]) -> Any:
        try:
            return self.run(work)
        except BaseException as error:  # noqa: BLE001 (all branches end before any error is raised)
            return error


def _inside(call: Call) -> Any:
    before = inside.set(call.drive)
    try:
        outcome = call.function(*call.args)
    finally:
        inside.reset(before)
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise WrongColour(
            f"step {call.function!r} gave a coroutine, which a sync runtime cannot await: use AsyncRuntime"
        )
    return outcome


class AsyncHands:
    """Does for one drive at a time what the engine asks, by awaiting; the store's calls run in threads."""

    def __init__(self, store: Store, threads: Executor) -> None:
        self._store = store
        self._threads = threads
        self._alone = asyncio.Lock()
        self._in_flight = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    async def run(self, work: Work[Outcome]) -> Outcome:
        """Do all that ``work`` wants and give what it comes to."""
        try:
            effect = next(work)
            while True:
                try:
                    outcome = await self._do(effect)
                except BaseException as error:  # noqa: BLE001 (whatever it is, it is the engine's to judge)
                    effect = work.throw(error)
                else:
                    effect = work.send(outcome)
        except StopIteration as end:
            result: Outcome = end.value
            return result

    async def run_for_body(self, work: Work[Outcome]) -> Outcome:
        """The same for a call on ctx; a task of the body's that leaves has nobody to tell."""
        try:
            return await self.run(work)
        except Leaving:
            task = asyncio.current_task()
            if task is not None:
                task.add_done_callback(_seen)
            raise

    async def _do(self, effect: Effect) -> Any:
        match effect:
            case Ask(method, args):
                call = getattr(self._store, method)
                return await asyncio.get_running_loop().run_in_executor(self._threads, call, *args)
            case Call():
                return await self._busy(self._call(effect))
            case Body(drive):
                context = AsyncContext(drive, self.run_for_body)
                body: Awaitable[Any] = drive.workflow.body(*drive.workflow.arguments(context, drive.payload))
                return await self._uncancelled(body)
            case Alone(work):
                return await self._busy(self._to_the_end(work))
            case Together(works):
                return await asyncio.gather(*map(self.run, works), return_exceptions=True)
            case Settle():
                await self._settle()
            case Pause(seconds):
                await asyncio.sleep(seconds)
        return None

    async def _call(self, call: Call) -> Any:
        before = inside.set(call.drive)
        try:
            if inspect.iscoroutinefunction(call.function):
                async with asyncio.timeout(call.timeout):
                    return await self._uncancelled(call.function(*call.args))
            outcome = await self._in_a_thread(call)
            return await self._uncancelled(outcome) if inspect.isawaitable(outcome) else outcome
        finally:
            inside.reset(before)

    async def _in_a_thread(self, call: Call) -> Any:
        """A thread cannot be cancelled: its outcome is awaited and recorded, and only then the task ends."""
        thread = asyncio.ensure_future(asyncio.to_thread(call.function, *call.args))
        try:
            done, _ = await asyncio.wait([thread], timeout=call.timeout)
        except asyncio.CancelledError:
            done, _ = await asyncio.wait([thread])
            _cancel_later()
        if not done:
            thread.add_done_callback(_seen)
            raise TimeoutError(f"{call.function!r} took longer than {call.timeout} s; its thread goes on by itself")
        return thread.result()

    async def _uncancelled(self, doing: Awaitable[Any]) -> Any:
        """Whoever raises CancelledError though nobody cancelled the task has failed like anybody else."""
        try:
            return await doing
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise RuntimeError("CancelledError was raised, though nobody cancelled the run") from error
            raise

    async def _to_the_end(self, work: Work[Any]) -> Any:
        """Do the work whole, even if who asked for it is cancelled meanwhile: a save that was sent is a save."""

        async def whole() -> Any:
            async with self._alone:
                return await self.run(work)

        task = asyncio.ensure_future(whole())
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                cancelled = error
            except BaseException:  # noqa: BLE001 (raised by result below)
                pass
        if cancelled is not None:
            _seen(task)
            raise cancelled
        return task.result()

    async def _busy(self, doing: Any) -> Any:
        self._in_flight += 1
        self._quiet.clear()
        try:
            return await doing
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._quiet.set()

    async def _settle(self) -> None:
        """Wait until nothing is in flight, and whoever had waited for it has had its turn."""
        turns = 0
        while turns < 3:
            if self._in_flight:
                await self._quiet.wait()
                turns = 0
            await asyncio.sleep(0)
            turns += 1


def _cancel_later() -> None:
    """Cancel this task once more, at its next pause: what it was just told of came too early."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
        task.cancel()


def _seen(task: "asyncio.Future[Any]") -> None:
    """Look at a task's error, so that nobody is told of one that was never looked at."""
    if not task.cancelled():
        task.exception()
