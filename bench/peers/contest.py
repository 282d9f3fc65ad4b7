"""A contest: kvflow and one peer on one ground, each in a place of its own there, who take turns.

Whoever goes first changes from round to round. Each side's program starts anew in its place as often as a work wants.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from bench.grounds import Ground
from bench.peers.grounds import place
from bench.peers.program import Program
from bench.peers.rows import Side

One = TypeVar("One")
Answer = TypeVar("Answer")


class Wrong(Exception):
    """What a side gave that is not what the work must give."""


class Contestant:
    """A side in its place."""

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        self.arguments = arguments

    def program(self) -> Program:
        return Program(self.name, *self.arguments)


Pair = tuple[Contestant, Contestant]


@contextmanager
def contestants(ground: Ground, peer: str) -> Generator[Pair]:
    """kvflow, then the peer."""
    with place(ground, "kvflow") as ours, place(ground, peer) as theirs:
        yield Contestant("kvflow", ours), Contestant(peer, theirs)


def in_turn(number: int, sides: Sequence[One], call: Callable[[One], Answer]) -> list[Answer]:
    """The call's answers for both sides of a round; who is asked first depends on the round's number."""
    if number % 2 == 0:
        return [call(side) for side in sides]
    return [call(side) for side in reversed(sides)][::-1]


def side_of(program: Program, way: str) -> Side:
    about = program.about
    return Side(name=about["peer"], version=about["version"], settings=about.get("settings", ""), way=way)


def expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what}: {_short(found)}, and it should be {_short(expected)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}…"
