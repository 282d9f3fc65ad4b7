"""Workers: processes, or threads of an application, that drive whatever is due until they are told to stop.

A worker claims as many runs as it has free places, drives them side by side, and sleeps until the next wake. Where
drives are quick it claims some ahead, and gives back those that no place gets to within a moment. Told to stop, it
claims nothing more and has each run back at its next step boundary; what still stands in a step when the grace is
over is let go as it is. Whatever it lets go another worker has at once. A worker runs once.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from kvflow.driving import Claimed
from kvflow.effects import Each, Work
from kvflow.errors import InvalidArgument, WrongColour
from kvflow.flights import Flights
from kvflow.hands import Hands, Outcome
from kvflow.instance import MOST_AT_ONCE, PATIENCE
from kvflow.leases import LOST, Held
from kvflow.log import INFO, say
from kvflow.places import Places
from kvflow.run import StoredRun
from kvflow.runtime import AsyncRuntime, Runtime
from kvflow.signals import AT_ONCE, STOP, signals_told
from kvflow.stats import Stats
from kvflow.times import Duration, duration_ms
from kvflow.turns import Turn, Turns

LETTING_GO: Final = 2.0
"""How long, in seconds, a worker that leaves tries to release what stands in a step; the rest runs out by itself."""

QUIET: Final = 1 / 3
"""For which part of a lease a worker claims nothing, so that a suspect can be driven alone; then, if that was in vain,
it claims for the rest of the lease before it does so again."""

ENDED: Final = "ended"


class _Base:
    """What both colours are made of."""

    def __init__(self, runtime: Runtime | AsyncRuntime, concurrency: int, poll: Duration, grace: Duration) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidArgument(f"concurrency is {concurrency!r}: it must be an int of 1 or more")
        if not duration_ms(poll, "poll"):
            raise InvalidArgument(f"poll is {poll!r}: it must be longer than nothing")
        self._concurrency = concurrency
        self._grace = duration_ms(grace, "grace") / 1000
        self._instance = runtime.instance
        self._turns = Turns(runtime.instance, duration_ms(poll) / 1000)
        self._flights = Flights(runtime.instance, self._turns, concurrency)
        self._quiet_from = LOST
        self._stopping = False
        self._begun = False
        self._error: BaseException | None = None

    def stats(self) -> Stats:
        """What this worker has done so far."""
        return self._flights.stats()

    def _begin(self) -> None:
        if self._begun:
            raise InvalidArgument("this worker has run: make a new one")
        if not self._instance.workflows:
            raise InvalidArgument("the runtime has no workflows: register those that the worker is to drive")
        self._begun = True
        say(
            INFO, "the worker begins: %d at once, of %s", self._concurrency, ", ".join(sorted(self._instance.workflows))
        )

    def _end(self) -> None:
        say(INFO, "the worker has stopped")
        if self._error is not None:
            raise self._error

    def _quiet_for(self) -> float:
        """How long to claim nothing, for a suspect's sake."""
        return self._instance.leases.ttl / 1000 * QUIET if time.monotonic() >= self._quiet_from else 0

    def _in_vain(self) -> None:
        """There was no quiet: let the others have their turn before it is tried again."""
        if (now := time.monotonic()) >= self._quiet_from:
            self._quiet_from = now + self._instance.leases.ttl / 1000 * (1 - QUIET)


class Worker(_Base):
    """Drives ``def`` workflows in threads: ``run()`` until ``stop()``, SIGTERM or SIGINT."""

    def __init__(self, runtime: Runtime, concurrency: int = 8, poll: Duration = 1.0, grace: Duration = 30.0) -> None:
        if not isinstance(runtime, Runtime):
            raise WrongColour(f"Worker was given {runtime!r}: it takes a Runtime; an AsyncRuntime needs AsyncWorker")
        super().__init__(runtime, concurrency, poll, grace)
        self._runtime = runtime
        self._places = Places(concurrency)
        self._claimed: SimpleQueue[Claimed | None] = SimpleQueue()  # None, the last of all, ends the places
        self._claimed_at = LOST
        self._served = 0
        self._words: SimpleQueue[str] = SimpleQueue()  # a signal handler may put into it at any time
        self._awake = threading.Event()
        self._claiming = True

    def run(self) -> None:
        """Drive what is due until told to stop; in the main thread SIGTERM and SIGINT tell it too."""
        with signals_told(self._words.put):
            self._begin()
            claims = threading.Thread(target=self._claim, name="kvflow-claims", daemon=True)
            claims.start()
            self._words.get()
            self._stopping = True
            self._flights.ask_back()
            self._awake.set()
            self._wait_until_quiet()
            self._let_go(claims)
        self._claimed.put(None)
        self._places.close()
        self._end()

    def stop(self) -> None:
        """Have ``run()`` return, as SIGTERM would; from any thread."""
        self._words.put(STOP)

    def _claim(self) -> None:
        """Take turns until told to stop; a turn makes no call while all places are taken."""
        try:
            hands = self._runtime.hands()
            while not self._stopping:
                turn = hands.run(self._turns.turn(free)) if (free := self._free()) else Turn(wait=None)
                for run, held in turn.claimed:
                    self._drive(hands, run, held)
                for run_id in turn.suspects:
                    self._drive_alone(hands, run_id)
                self._wait(PATIENCE if turn.wait is None and self._claimed.qsize() else turn.wait)
                if time.monotonic() - self._claimed_at >= PATIENCE:
                    self._give_back(hands)
            self._give_back(hands)
        except BaseException as error:  # noqa: BLE001 (raised by run)
            self._fail(error)
        finally:
            self._claiming = False
            self._words.put(ENDED)

    def _free(self) -> int:
        """How many to claim: for the free places, and ahead of them once half of what was claimed ahead has begun."""
        free, ahead = self._flights.free(), self._flights.ahead()
        return max(0, free + ahead) if free > 0 or self._claimed.qsize() <= ahead // 2 else 0

    def _wait(self, seconds: float | None) -> None:
        """Wait until a drive has ended, or for so long."""
        if seconds != 0:
            self._awake.wait(seconds)
            self._awake.clear()

    def _drive(self, hands: Hands, run: StoredRun, held: Held) -> None:
        if not self._flights.take(run, held):
            hands.run(self._instance.let_go(held))
            return
        self._claimed_at = time.monotonic()
        self._claimed.put((run, held))
        if self._served < min(self._concurrency, len(self._flights)):
            self._served += 1
            self._places.do(self._serve)

    def _serve(self) -> None:
        """Drive in this place, one after another, what no other place has taken."""
        while (one := self._claimed.get()) is not None:
            try:
                self._runtime.hands().do(Each(self._drives(one)))
            except BaseException as error:  # noqa: BLE001 (an interrupt; raised by run)
                self._fail(error)
            self._awake.set()
            if self._stopping:
                self._words.put(ENDED)
        self._claimed.put(None)

    def _drives(self, one: Claimed | None) -> Iterator[Work[None]]:
        with suppress(Empty):
            for number in range(MOST_AT_ONCE):
                one = self._claimed.get_nowait() if number else one
                if one is None:
                    self._claimed.put(None)
                    return
                try:
                    yield self._flights.drive(*one)
                finally:
                    self._flights.leave_place()
                    self._awake.set()

    def _give_back(self, hands: Hands) -> None:
        """Let others have what was claimed ahead and has not begun."""
        with suppress(Empty):
            for run, held in iter(self._claimed.get_nowait, None):
                held.ask_back()
                hands.run(self._flights.drive(run, held))
                self._flights.leave_place()
            self._claimed.put(None)

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.stop()

    def _drive_alone(self, hands: Hands, run_id: str) -> None:
        """Drive a suspect with nothing beside it, if that can be had soon; else it is due again later."""
        if not self._wait_for_quiet(self._quiet_for()):
            self._in_vain()
            if self._stopping:
                hands.run(self._turns.hand_over(run_id))
        elif (taken := hands.run(self._turns.take(run_id))) is not None:
            run, held = taken
            self._drive(hands, run, held)
            self._wait_for_quiet(None)

    def _wait_for_quiet(self, seconds: float | None) -> bool:
        """Wait until nothing is in flight, or for so long, or until told to stop."""
        until = None if seconds is None else time.monotonic() + seconds
        while self._flights and not self._stopping:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            self._wait(left)
        return not self._stopping

    def _wait_until_quiet(self) -> None:
        """Wait until all that was asked back has come back, for the grace, or until told to leave at once."""
        until = time.monotonic() + self._grace
        while (self._flights or self._claiming) and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                if self._words.get(timeout=left) == AT_ONCE:
                    return

    def _let_go(self, claims: threading.Thread) -> None:
        """Release what still stands in a step or comes of a last claim, so that another instance has it at once."""
        releases = threading.Thread(target=self._release, args=(self._flights.left(),), daemon=True)
        releases.start()
        until = time.monotonic() + LETTING_GO
        for thread in (releases, claims):
            thread.join(max(0, until - time.monotonic()))

    def _release(self, left: list[Held]) -> None:
        for held in left:
            self._runtime.hands().run(self._instance.let_go(held))


class AsyncWorker(_Base):
    """Drives ``async def`` workflows in tasks: ``await run()`` until ``stop()``, SIGTERM or SIGINT."""

    def __init__(
        self, runtime: AsyncRuntime, concurrency: int = 8, poll: Duration = 1.0, grace: Duration = 30.0
    ) -> None:
        if not isinstance(runtime, AsyncRuntime):
            raise WrongColour(f"AsyncWorker was given {runtime!r}: it takes an AsyncRuntime; a Runtime needs Worker")
        super().__init__(runtime, concurrency, poll, grace)
        self._runtime = runtime
        self._words: list[str] = []
        self._told = asyncio.Event()
        self._awake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Drive what is due until told to stop; in the main thread SIGTERM and SIGINT tell it too."""
        self._loop = asyncio.get_running_loop()
        with signals_told(self._tell):
            self._begin()
            claims = asyncio.create_task(self._claim())
            try:
                await self._until(lambda: bool(self._words))
                self._stop_claiming()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._grace):
                        await self._until(lambda: AT_ONCE in self._words or (claims.done() and not self._tasks))
            finally:
                self._stop_claiming()
                await self._let_go(claims)
                self._loop = None
        self._end()

    def stop(self) -> None:
        """Have ``run()`` return, as SIGTERM would; from any thread."""
        self._tell(STOP)

    def _tell(self, word: str) -> None:
        self._words.append(word)
        if (loop := self._loop) is not None:
            with suppress(RuntimeError):  # the loop has just been closed: nobody waits any more
                loop.call_soon_threadsafe(self._told.set)

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._told.wait()
            self._told.clear()

    def _stop_claiming(self) -> None:
        if not self._stopping:
            self._stopping = True
            self._flights.ask_back()
            self._awake.set()

    async def _claim(self) -> None:
        """Take turns until told to stop; a turn makes no call while all places are taken."""
        try:
            while not self._stopping:
                turn = await self._do(self._turns.turn(free)) if (free := self._flights.free()) else Turn(wait=None)
                for run, held in turn.claimed:
                    await self._drive(run, held)
                for run_id in turn.suspects:
                    await self._drive_alone(run_id)
                await self._wait(turn.wait)
        except Exception as error:  # noqa: BLE001 (raised by run)
            self._fail(error)
        finally:
            self._told.set()

    async def _do(self, work: Work[Outcome]) -> Outcome:
        return await self._runtime.hands().run(work)

    async def _wait(self, seconds: float | None) -> None:
        """Wait until a drive has ended, or for so long."""
        if seconds != 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._awake.wait()
            self._awake.clear()

    async def _drive(self, run: StoredRun, held: Held) -> None:
        if self._flights.take(run, held):
            task = asyncio.create_task(self._do(self._flights.drive(run, held)))
            self._tasks.add(task)
            task.add_done_callback(self._driven)
        else:
            await self._do(self._instance.let_go(held))

    def _driven(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._flights.leave_place()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        self._awake.set()
        self._told.set()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.stop()

    async def _drive_alone(self, run_id: str) -> None:
        """Drive a suspect with nothing beside it, if that can be had soon; else it is due again later."""
        if not await self._wait_for_quiet(self._quiet_for()):
            self._in_vain()
            if self._stopping:
                await self._do(self._turns.hand_over(run_id))
        elif (taken := await self._do(self._turns.take(run_id))) is not None:
            run, held = taken
            await self._drive(run, held)
            await self._wait_for_quiet(None)

    async def _wait_for_quiet(self, seconds: float | None) -> bool:
        """Wait until nothing is in flight, or for so long, or until told to stop."""
        until = None if seconds is None else time.monotonic() + seconds
        while self._flights and not self._stopping:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            await self._wait(left)
        return not self._stopping

    async def _let_go(self, claims: asyncio.Task[None]) -> None:
        """Cancel what still stands in a step, and release it, so that another instance has it at once.

        A step in a thread cannot be cancelled: it is left to end by itself.
        """
        for task in self._tasks:
            task.cancel()
        if rest := {claims, *self._tasks}:
            await asyncio.wait(rest, timeout=LETTING_GO / 2)
        releases = [asyncio.ensure_future(self._do(self._instance.let_go(held))) for held in self._flights.left()]
        if releases:
            await asyncio.wait(releases, timeout=LETTING_GO / 2)
