"""Where a course of the simulation is chosen: at random by a seed, or one after the other, all that there are."""

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar

Option = TypeVar("Option")


class Choices(Protocol):
    """All that differs between two courses."""

    def below(self, number: int) -> int:
        """A number from 0 on, below this one."""
        ...

    def chance(self, part: float) -> bool:
        """True for about this part of the times."""
        ...


def pick(choices: Choices, options: Sequence[Option]) -> Option:
    """One of these."""
    return options[choices.below(len(options))]


class Seeded:
    """By a seed: the same one, the same course."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def below(self, number: int) -> int:
        return int(self._random.random() * number)

    def chance(self, part: float) -> bool:
        return part > 0 and self._random.random() < part


class Listed:
    """By a list of numbers, then always the first option; it remembers how many options there were each time.

    ``after`` gives the next list, so that all courses come, each once, those first that differ late. ``chance`` is
    never: an exhaustive course has what its scenario says and nothing by chance.
    """

    def __init__(self, chosen: Sequence[int] = ()) -> None:
        self._chosen = chosen
        self._options: list[tuple[int, int]] = []

    def below(self, number: int) -> int:
        at = len(self._options)
        chosen = self._chosen[at] if at < len(self._chosen) else 0
        self._options.append((chosen, number))
        return chosen

    def chance(self, part: float) -> bool:
        return False

    def after(self) -> list[int] | None:
        """The list of the next course; None after the last."""
        options = list(self._options)
        while options:
            chosen, number = options.pop()
            if chosen + 1 < number:
                return [*(one for one, _ in options), chosen + 1]
        return None
