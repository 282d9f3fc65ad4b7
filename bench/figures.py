"""A figure is a ratio of two sides that take turns within one run.

Seconds differ from machine to machine and from minute to minute; whatever slows one side of a round slows the other.
So each round measures a small batch of both, one right after the other and first by turns; the figure is the median of
the rounds' ratios, and its spread is where the middle half of them lies.
"""

import gc
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from time import perf_counter
from typing import ParamSpec, TypeVar

from msgspec import Struct

Params = ParamSpec("Params")
Answer = TypeVar("Answer")

Batch = Callable[[], float]
"""Makes what its calls need, makes the calls, and gives the seconds that one of them took."""

LEAST_ROUNDS = 5


class Goal(Struct, frozen=True):
    """What a ratio has to be: at most the bound, or at least."""

    bound: float
    least: bool = False

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.least else ratio <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.bound:g}"


class Figure(Struct, frozen=True, kw_only=True):
    """One row of a store's table; ``one`` and ``other`` are the medians of both sides: seconds of a call, or bytes."""

    name: str
    ratio: float
    spread: tuple[float, float]
    one: float
    other: float
    rounds: int
    goal: Goal | None
    unit: str = "s"
    series: str = ""
    """What is plotted together: figures of one series differ in ``at``."""

    at: int = 0
    beside: int = 0
    """Where the side lies that all of the series are held against."""

    server: str = ""
    durability: str = ""

    @property
    def verdict(self) -> str:
        return verdict(self.goal, self.ratio)


class Measure(Struct, frozen=True, kw_only=True):
    """What is counted and no ratio: commits, threads, bytes."""

    name: str
    value: float
    unit: str
    goal: Goal | None = None
    server: str = ""
    durability: str = ""

    @property
    def verdict(self) -> str:
        return verdict(self.goal, self.value)


def verdict(goal: Goal | None, value: float) -> str:
    if goal is None:
        return "–"
    if goal.met(value):
        return "ok"
    return "under" if goal.least else "over"


def compare(name: str, one: Batch, other: Batch, rounds: int, goal: Goal | None) -> Figure:
    """How many times what ``other`` takes ``one`` takes."""
    first, second = in_turn((one, other), rounds)
    return figure(name, [*zip(first, second, strict=True)], goal)


def in_turn(sides: Sequence[Batch], rounds: int) -> list[list[float]]:
    """What each side took in each round; every other round goes through them backward."""
    for warm in sides:  # connections, caches and prepared statements are there before the first round
        warm()
    took: list[list[float]] = [[] for _ in sides]
    for number in range(max(rounds, LEAST_ROUNDS)):
        turns = [*zip(took, sides, strict=True)]
        for samples, side in reversed(turns) if number % 2 else turns:
            samples.append(side())
    return took


def figure(name: str, pairs: Sequence[tuple[float, float]], goal: Goal | None) -> Figure:
    """The figure of rounds already measured."""
    ratios = [first / second for first, second in pairs]
    low, _, high = quantiles(ratios, method="inclusive")
    return Figure(
        name=name,
        ratio=median(ratios),
        spread=(low, high),
        one=median(first for first, _ in pairs),
        other=median(second for _, second in pairs),
        rounds=len(ratios),
        goal=goal,
    )


def clocked(call: Callable[Params, Answer], *args: Params.args, **kwargs: Params.kwargs) -> tuple[float, Answer]:
    """The seconds that the call took, and its answer. Garbage is not collected meanwhile."""
    gc.disable()
    try:
        begin = perf_counter()
        answer = call(*args, **kwargs)
        return perf_counter() - begin, answer
    finally:
        gc.enable()


def each(call: Callable[..., object], arguments: Sequence[tuple[object, ...]]) -> float:
    """The seconds that one of these calls took, made one after the other."""

    def make() -> None:
        for args in arguments:
            call(*args)

    return clocked(make)[0] / len(arguments)
