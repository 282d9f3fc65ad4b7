"""What the engine wants done.

The engine's logic is generators that yield one of these and are sent the outcome, or thrown the
error. Who does it, and whether by calling or by awaiting, is the business of ``kvflow.hands``.
"""

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from msgspec import Struct

Outcome = TypeVar("Outcome")


class Ask(Struct, frozen=True):
    """A call of the store."""

    method: str
    args: tuple[Any, ...]


class Call(Struct, frozen=True):
    """A call of the user's function on behalf of a step of ``drive``."""

    drive: Any
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    timeout: float | None = None


class Body(Struct, frozen=True):
    """The run's body, with a context to call the engine back through."""

    drive: Any


class Alone(Struct, frozen=True):
    """Work of one drive of which only one piece is done at a time, to its end whatever is cancelled."""

    work: "Work[Any]"


class Together(Struct, frozen=True):
    """Pieces of work side by side; gives what each came to, or its error, when all have ended."""

    works: "list[Work[Any]]"


class Each(Struct, frozen=True):
    """Drives of different runs, one after another or side by side; gives what each came to."""

    works: "Iterable[Work[Any]]"


class Settle(Struct, frozen=True):
    """Wait until no step of the drive is in flight."""


class Pause(Struct, frozen=True):
    """Let real time pass."""

    seconds: float


Effect = Ask | Call | Body | Alone | Together | Each | Settle | Pause
Work = Generator[Effect, Any, Outcome]
