"""Simulated time: one that is true, and what each instance and the store take for it.

kvflow reads ``time.monotonic`` for its belief in leases, draws ids from the system and has one gate a process. While
``simulated`` is on, each of these belongs to the instance whose turn it is.
"""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from kvflow import driving, instance, leases, saving
from kvflow.gate import Gate


class Clock:
    """An instance's clocks: one that may be set, one that only goes on, neither quite right."""

    def __init__(self, true: Callable[[], float], offset: float, rate: float) -> None:
        self._true = true
        self._begun = true()
        self.offset = offset
        self._rate = rate
        self.read_as: float | None = None

    def wall(self) -> int:
        """Epoch milliseconds, as this instance has them."""
        return max(0, int(self._true() + self.offset))

    def monotonic(self) -> float:
        """Seconds since some time."""
        if self.read_as is not None:
            return self.read_as
        return (self._true() - self._begun) * self._rate / 1000


class Turn:
    """What the process that has its turn is made of."""

    clock: Clock
    gate: Gate


class _Time:
    """Stands for the module ``time`` where kvflow measures leases."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def monotonic(self) -> float:
        return self._turn.clock.monotonic()


class _Gate:
    """Stands for the gate of the process."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._turn.gate, name)


@contextmanager
def simulated(turn: Turn, new_id: Callable[[], str]) -> Generator[None]:
    """Have kvflow read these clocks, ids and gates instead of the machine's."""
    with ExitStack() as stack:
        for module in (driving, instance, leases, saving):
            stack.enter_context(patch.object(module, "time", _Time(turn)))
        for module in (driving, instance):
            stack.enter_context(patch.object(module, "new_id", new_id))
        stack.enter_context(patch.object(driving, "gate", _Gate(turn)))
        yield
