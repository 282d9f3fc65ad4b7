"""The third driver of the engine's generators: it asks the scheduler, which decides who goes on and when.

A task is a coroutine that gives the scheduler what it wants and is resumed with the outcome. A step's function is
begun in the same moment in which the engine asked for it, as it is by the two real drivers.
"""

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from functools import partial
from types import coroutine
from typing import Any

from msgspec import Struct

from kvflow.context import AsyncContext
from kvflow.effects import Alone, Ask, Body, Call, Each, Effect, Pause, Settle, Together, Work
from kvflow.testing import Killed


class Operation(Struct, frozen=True):
    """A call of the store, on its way."""

    method: str
    args: tuple[Any, ...]


class When(Struct, frozen=True):
    """Wait until this is true."""

    true: Callable[[], bool]


class Until(Struct, frozen=True):
    """Wait until a time of this instance's ``time.monotonic``."""

    seconds: float


class Fork(Struct, frozen=True):
    """Have these as tasks of the same instance, beside whoever asks, who goes on at once."""

    doing: list[Coroutine[Any, Any, None]]


Wish = Operation | When | Until | Fork


@coroutine
def wish(wanted: Wish) -> Generator[Wish, Any, Any]:
    """Give way to the scheduler until it has what is wanted."""
    return (yield wanted)


async def moment() -> None:
    """Give way: anything may happen meanwhile."""
    await wish(When(lambda: True))


async def gather(*doing: Callable[[], Awaitable[None]]) -> None:
    """As ``asyncio.gather``: the first error is raised at once, and the others go on."""
    ended: list[BaseException | None] = []

    async def branch(one: Callable[[], Awaitable[None]]) -> None:
        try:
            await one()
        except BaseException as error:  # noqa: BLE001 (raised below)
            ended.append(error)
        else:
            ended.append(None)

    await wish(Fork([branch(one) for one in doing]))
    await wish(When(lambda: any(ended) or len(ended) == len(doing)))
    for error in filter(None, ended):
        raise error


class SimulatedHands:
    """Does for one drive at a time what the engine asks, in an instance that may be killed at any wish."""

    def __init__(
        self, dead: Callable[[], bool], monotonic: Callable[[], float], all_have_begun: Callable[[], bool]
    ) -> None:
        self._dead = dead
        self._monotonic = monotonic
        self._all_have_begun = all_have_begun
        self._locked = False
        self._in_flight = 0

    async def run(self, work: Work[Any]) -> Any:
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
            return end.value

    async def _do(self, effect: Effect) -> Any:
        if self._dead():
            raise Killed
        match effect:
            case Ask(method, args):
                return await wish(Operation(method, args))
            case Call(_, function, args):
                return await self._busy(function(*args))
            case Body(drive):
                return await drive.workflow.body(
                    *drive.workflow.arguments(AsyncContext(drive, self.run), drive.payload)
                )
            case Alone(work):
                return await self._busy(self._one_at_a_time(work))
            case Together(works):
                return await self._together([partial(self.run, work) for work in works])
            case Each(works):
                return await self._each(list(works))
            case Settle():
                await wish(When(lambda: not self._in_flight and self._all_have_begun()))
            case Pause(seconds):
                await wish(Until(self._monotonic() + seconds))
        return None

    async def _busy(self, doing: Awaitable[Any]) -> Any:
        self._in_flight += 1
        try:
            return await doing
        finally:
            self._in_flight -= 1

    async def _one_at_a_time(self, work: Work[Any]) -> Any:
        await wish(When(lambda: not self._locked))
        self._locked = True
        try:
            return await self.run(work)
        finally:
            self._locked = False

    async def _each(self, works: list[Work[Any]]) -> list[Any]:
        """Drives of different runs, side by side as ``AsyncHands`` has them."""
        each = [SimulatedHands(self._dead, self._monotonic, self._all_have_begun) for _ in works]
        outcomes = await self._together([partial(hands.run, work) for hands, work in zip(each, works, strict=True)])
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return outcomes

    async def _together(self, works: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
        outcomes: dict[int, Any] = {}

        async def branch(number: int, work: Callable[[], Awaitable[Any]]) -> None:
            try:
                outcomes[number] = await work()
            except BaseException as error:  # noqa: BLE001 (all branches end before any error is raised)
                outcomes[number] = error

        await wish(Fork([branch(number, work) for number, work in enumerate(works)]))
        await wish(When(lambda: len(outcomes) == len(works)))
        return [outcomes[number] for number in range(len(works))]
