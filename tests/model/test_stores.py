"""All stores, and the four primitives under Derived, beside the model of the contract."""

from collections.abc import Callable

import pytest

from chaos import chaos_seeds, replayable
from model.courses import run
from model.machine import Ground, machine

COURSES = {"memory": 300, "derived": 100, "file": 100, "postgres": 50, "mysql": 40, "redis": 50}


def name(request: pytest.FixtureRequest) -> str:
    """Which store this is about."""
    return str(request.node.callspec.params["ground"])


def test_every_call_is_answered_as_the_contract_says(
    request: pytest.FixtureRequest, ground: Callable[[], Ground]
) -> None:
    run(machine(ground), COURSES[name(request)], shrink=name(request) in ("memory", "derived", "file"))


@pytest.mark.chaos
def test_every_call_is_answered_as_the_contract_says_for_long(
    request: pytest.FixtureRequest, ground: Callable[[], Ground]
) -> None:
    for seed in chaos_seeds():
        with replayable(seed):
            run(machine(ground), COURSES[name(request)], by=seed)
