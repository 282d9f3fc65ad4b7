"""The driver of the engine's generators that awaits; what they want is the same as for the one that calls."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from kvflow.commits import Answer
from kvflow.context import AsyncContext, inside
from kvflow.effects import Alone, Ask, Body, Call, Each, Effect, Settle, Together, Work
from kvflow.hands import called
from kvflow.places import begin
from kvflow.saving import Leaving
from kvflow.signals import own_interrupts
from kvflow.store import Store

Outcome = TypeVar("Outcome")


class AsyncHands:
    """Does for one drive at a time what the engine asks, by awaiting; the store's calls run in threads."""

    def __init__(self, store: Store, threads: Executor, save: Callable[..., asyncio.Future[int]]) -> None:
        self._store = store
        self._threads = threads
        self._save = save
        self._alone = asyncio.Lock()
        self._in_flight = 0
        self._quiet: asyncio.Event | None = None

    async def run(self, work: Work[Outcome]) -> Outcome:
        """Do all that ``work`` wants and give what it comes to."""
        return await self._run(work, self._do)

    async def _run(self, work: Work[Outcome], do: Callable[[Effect], Awaitable[Any]]) -> Outcome:
        try:
            effect = next(work)
            while True:
                try:
                    outcome = await do(effect)
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
        """What is asked for most comes first: this is gone through a dozen times a step."""
        if isinstance(effect, Alone):
            return await self._busy(self._to_the_end(effect.work))
        if isinstance(effect, Call):
            return await self._busy(self._call(effect))
        if isinstance(effect, Ask):
            return await self._ask(effect)
        if isinstance(effect, Settle):
            return await self._settle()
        if isinstance(effect, Body):
            drive = effect.drive
            context = AsyncContext(drive, self.run_for_body)
            body: Awaitable[Any] = drive.workflow.body(*drive.workflow.arguments(context, drive.payload))
            return await self._uncancelled(body)
        if isinstance(effect, Together):
            return await asyncio.gather(*map(self.run, effect.works), return_exceptions=True)
        if isinstance(effect, Each):
            return await self._each(effect)
        return await asyncio.sleep(effect.seconds)

    async def _each(self, each: Each) -> list[Any]:
        """Drives side by side: their saves meet, and go out together; an interrupt is raised when all have ended."""
        drives = [AsyncHands(self._store, self._threads, self._save).run(work) for work in each.works]
        outcomes = await asyncio.gather(*drives, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    def _ask(self, ask: Ask) -> "asyncio.Future[Any]":
        if ask.method == "save":
            return self._save(*ask.args)
        call = getattr(self._store, ask.method)
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *ask.args)

    async def _call(self, call: Call) -> Any:
        before = inside.set(call.drive)
        try:
            if not inspect.iscoroutinefunction(call.function):
                outcome = await self._in_a_thread(call)
                return await self._uncancelled(outcome) if inspect.isawaitable(outcome) else outcome
            if call.timeout is None:
                return await self._uncancelled(call.function(*call.args))
            async with asyncio.timeout(call.timeout):
                return await self._uncancelled(call.function(*call.args))
        finally:
            inside.reset(before)

    async def _in_a_thread(self, call: Call) -> Any:
        """A thread cannot be cancelled: its outcome is awaited and recorded, and only then the task ends."""
        thread = asyncio.wrap_future(begin(contextvars.copy_context().run, called, call))
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
            with own_interrupts():
                return await doing
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                raise RuntimeError("CancelledError was raised, though nobody cancelled the run") from error
            raise

    async def _to_the_end(self, work: Work[Any]) -> Any:
        """Do the work whole, even if who asked for it is cancelled meanwhile: a save that was sent is a save."""
        told: list[asyncio.CancelledError] = []
        while True:
            try:
                await self._alone.acquire()
                break
            except asyncio.CancelledError as error:
                told.append(error)
        try:
            return await self._run(work, lambda effect: self._whole(effect, told))
        finally:
            self._alone.release()
            if told:
                raise told[-1]

    async def _whole(self, effect: Effect, told: list[asyncio.CancelledError]) -> Any:
        """Do this to its end, and note who cancels meanwhile."""
        doing = self._ask(effect) if isinstance(effect, Ask) else asyncio.ensure_future(self._do(effect))
        while True:
            try:
                return await (doing if isinstance(doing, Answer) else asyncio.shield(doing))
            except asyncio.CancelledError as error:
                told.append(error)
                if doing.done():
                    return doing.result()

    async def _busy(self, doing: Any) -> Any:
        self._in_flight += 1
        try:
            return await doing
        finally:
            self._in_flight -= 1
            if not self._in_flight and self._quiet is not None:
                self._quiet.set()

    async def _settle(self) -> None:
        """Wait until nothing is in flight, and whoever had waited for it has had its turn."""
        turns = 0
        while turns < 3:
            while self._in_flight:
                self._quiet = self._quiet or asyncio.Event()
                self._quiet.clear()
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
