"""Simulated time: one that is true, and what each instance and the store take for it.

kvflow reads ``time.monotonic`` for its belief in leases, draws ids and jitter from the system, has one gate a process,
threads for the branches of a sync body, and a worker listens to signals. While ``simulated`` is on, clocks and gate
are those of the instance whose turn it is, branches come one after the other, saves are gathered as soon as two meet,
and no signal comes.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from random import Random
from typing import Any
from unittest.mock import patch

from kvflow import commits, driving, flights, hands, instance, leases, runtime, saving, turns, worker
from kvflow.gate import Gate
from simulation.strands import Lock, OneByOne, wished
from simulation.tasks import Until


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

    def sleep(self, seconds: float) -> None:
        wished(Until(self.monotonic() + seconds))


class _Gate:
    """Stands for the gate of the process."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def __getattr__(self, name: str) -> Any:
        return getattr(self._turn.gate, name)


class _Threading:
    """Stands for the module ``threading`` where saves of threads meet."""

    Lock = Lock


def _no_signal(tell: Callable[[str], object]) -> AbstractContextManager[None]:
    return nullcontext()


@contextmanager
def simulated(turn: Turn, new_id: Callable[[], str]) -> Generator[None]:
    """Have kvflow read these clocks, ids and gates instead of the machine's."""
    with ExitStack() as stack:
        for module in (driving, flights, hands, instance, leases, runtime, saving, worker):
            stack.enter_context(patch.object(module, "time", _Time(turn)))
        for module in (driving, instance):
            stack.enter_context(patch.object(module, "new_id", new_id))
        stack.enter_context(patch.object(driving, "gate", _Gate(turn)))
        stack.enter_context(patch.object(turns, "random", Random(0)))
        stack.enter_context(patch.object(hands, "Places", OneByOne))
        stack.enter_context(patch.object(commits, "threading", _Threading))
        stack.enter_context(patch.object(commits, "THREADS", 1))
        stack.enter_context(patch.object(worker, "signals_told", _no_signal))
        yield
