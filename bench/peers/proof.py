"""What the works must give, whoever does them; the programs and the bench know it each for themselves."""

import hashlib
from collections.abc import Sequence

STEPS = 5
SIZE = 200
"""Bytes that a step gives."""


def step(run: str, number: int) -> str:
    """What a run's step gives: its own, so that no other step's can stand for it."""
    return (f"{run} step {number} " * SIZE)[:SIZE]


def output(results: Sequence[str]) -> str:
    """What a run gives in the end: all that its steps gave is in it."""
    return hashlib.sha256("".join(results).encode()).hexdigest()


def woken(run: str) -> str:
    """What a run gives that has slept."""
    return f"{run} has slept"
