"""An event loop whose time, threads and timers are the scheduler's, for kvflow's own driver that awaits.

As with any loop, callbacks are run in the order in which they came. It goes on when the scheduler has something for it,
and then until nothing is left to do: in between nothing can come from outside, as in a process of its own.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

from kvflow.testing import Killed
from simulation.tasks import Operation, Task, Until, Wish

if TYPE_CHECKING:
    from simulation.processes import Process


class Loop:
    """The part of ``asyncio.AbstractEventLoop`` that asyncio's tasks, futures, locks and timeouts ask for."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._whole = cast("asyncio.AbstractEventLoop", self)
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[asyncio.TimerHandle, Task]] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self.unseen: BaseException | None = None

    def go_on(self) -> None:
        """Run what is ready, until nothing is."""
        asyncio._set_running_loop(self._whole)
        try:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def unwind(self) -> None:
        """End all tasks of a process that is dead."""
        for _ in range(100):
            left = self.left()
            for task in left:
                task.cancel()
            self.go_on()
            if not left:
                return
        raise AssertionError(f"cannot be ended: {self._tasks}")

    def left(self) -> list[asyncio.Task[Any]]:
        """What has begun and has not come to an end."""
        return [task for task in self._tasks if not task.done()]

    def time(self) -> float:
        return self._process.clock.monotonic()

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> "asyncio.Future[Any]":
        future: asyncio.Future[Any] = asyncio.Future(loop=self._whole)
        return future

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self._whole, name=name, context=context)
        self._tasks = self.left()
        self._tasks.append(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self._whole, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self._whole, context)
        self._timers.append((timer, self._process.begin(self._after(timer))))
        return timer

    def _after(self, timer: asyncio.TimerHandle) -> Generator[Wish, Any, None]:
        yield Until(timer.when())
        self._timers = [one for one in self._timers if one[0] is not timer]
        self._ready.append(timer)
        self.go_on()

    def _timer_handle_cancelled(self, timer: asyncio.TimerHandle) -> None:
        """asyncio's word for a timer that nobody waits for any more."""
        for one in self._timers:
            if one[0] is timer:
                self._process.world.end(one[1])
        self._timers = [one for one in self._timers if one[0] is not timer]

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> "asyncio.Future[Any]":
        future = self.create_future()
        if self._process.dead:
            future.set_exception(Killed())
        else:
            self._process.begin(self._answered(future, Operation(func, args)))
        return future

    def moment(self) -> "asyncio.Future[Any]":
        """Any time may pass."""
        future = self.create_future()
        self._process.begin(self._answered(future, Until()))
        return future

    def _answered(self, future: "asyncio.Future[Any]", wish: Wish) -> Generator[Wish, Any, None]:
        try:
            outcome = yield wish
        except BaseException as error:  # noqa: BLE001 (theirs, who asked)
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                future.set_result(outcome)
        self.go_on()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._process.dead:
            self.unseen = context.get("exception") or AssertionError(context["message"])
