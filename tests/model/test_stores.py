"""All stores, and the four primitives under Derived, beside the model of the contract."""

from collections.abc import Callable, Iterator

import pytest

from chaos import replayable
from chaos.figures import Figures
from kvflow import Store
from model.conftest import SERVERS
from model.courses import run
from model.machine import Ground, machine
from servers.version import version

COURSES = {"memory": 300, "derived": 100, "file": 100, "postgres": 50, "mysql": 40, "redis": 50}


def name(request: pytest.FixtureRequest) -> str:
    """Which store this is about."""
    return str(request.node.callspec.params["ground"])


def test_every_call_is_answered_as_the_contract_says(
    request: pytest.FixtureRequest, ground: Callable[[], Ground]
) -> None:
    run(machine(ground), COURSES[name(request)], shrink=name(request) in ("memory", "derived", "file"))


@pytest.mark.chaos(share=1 / 8)
def test_every_call_is_answered_as_the_contract_says_for_long(
    request: pytest.FixtureRequest, ground: Callable[[], Ground], seeds: Iterator[int]
) -> None:
    store = name(request)
    figures = Figures("model", store, version(request.getfixturevalue(f"{store}_url")) if store in SERVERS else "")

    def one_more() -> Ground:
        figures.count("courses")
        return ground()

    def called(store: Store) -> Store:
        figures.count("calls")
        return store

    for seed in seeds:
        with figures.noted(), replayable(seed):
            run(machine(one_more, called), COURSES[store], by=seed)
