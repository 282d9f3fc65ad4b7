"""What the scheduler decides about: calls of the store on their way, moments, timers.

A task is a generator that gives the scheduler what it wishes for and is sent the outcome. What asks for it is
kvflow's own driver: in ``simulation.loop`` the one that awaits, in ``simulation.strands`` the one that calls.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from kvflow.testing import Killed

if TYPE_CHECKING:
    from simulation.processes import Process


class Operation(Struct, frozen=True):
    """A call that goes to the store, whole."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


class Until(Struct, frozen=True):
    """Wait until a time of this instance's ``time.monotonic``; until the scheduler likes where there is none."""

    seconds: float | None = None


class When(Struct, frozen=True):
    """Wait until this is so."""

    true: Callable[[], bool]


Wish = Operation | Until | When


class Doing(Protocol):
    """A generator, or what is one to whoever sends to it."""

    def send(self, value: Any, /) -> Wish: ...

    def throw(self, error: BaseException, /) -> Wish: ...


class Task:
    """What is being done, what it wishes for, and the answer on its way to it."""

    def __init__(self, process: "Process", doing: Doing) -> None:
        self.process = process
        self.doing = doing
        self.wish: Wish | None = None
        self.answer: Callable[[], Any] | None = None
        self.done = False

    def go_on(self, answer: Callable[[], Any]) -> None:
        """Take the answer, which may be an error, and go on to the next wish."""
        try:
            outcome = answer()
        except Exception as error:  # noqa: BLE001 (theirs, who asked)
            self._next(partial(self.doing.throw, error))
        else:
            self._next(partial(self.doing.send, outcome))

    def kill(self) -> None:
        """Unwind, whatever it catches; what it still wants to do does not happen."""
        while not self.done:
            self._next(partial(self.doing.throw, Killed()))

    def _next(self, go: Callable[[], Wish]) -> None:
        try:
            self.wish = go()
        except (StopIteration, Killed):
            self.done, self.wish = True, None
