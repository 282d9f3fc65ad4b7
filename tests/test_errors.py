"""The error tree: as designed, as drawn, and with a code for each."""

import pickle
import re

import pytest

import kvflow
from kvflow import errors
from kvflow.errors import KvflowError

INVALID = ["InvalidRunId", "InvalidPrefix", "UnknownScheme", "InvalidPayload"]
OTHERS = [
    *("Conflict", "TooLarge", "StoreUnavailable", "MissingDriver", "SchemaTooNew", "Corrupt", "NotSupported"),
    *("UnknownWorkflow", "DuplicateWorkflow", "WrongColour", "RunNotFound", "RunExists", "RunNotFailed"),
    *("StepFailed", "ChildFailed", "DuplicateStep", "StepReused", "NestedStep"),
]
CODES = {
    "KvflowError": "kvflow-error",
    "InvalidArgument": "invalid-argument",
    "InvalidRunId": "invalid-run-id",
    "InvalidPrefix": "invalid-prefix",
    "UnknownScheme": "unknown-scheme",
    "InvalidPayload": "invalid-payload",
    "Conflict": "conflict",
    "TooLarge": "too-large",
    "StoreUnavailable": "store-unavailable",
    "MissingDriver": "missing-driver",
    "SchemaTooNew": "schema-too-new",
    "Corrupt": "corrupt",
    "NotSupported": "not-supported",
    "UnknownWorkflow": "unknown-workflow",
    "DuplicateWorkflow": "duplicate-workflow",
    "WrongColour": "wrong-colour",
    "RunNotFound": "run-not-found",
    "RunExists": "run-exists",
    "RunNotFailed": "run-not-failed",
    "StepFailed": "step-failed",
    "ChildFailed": "child-failed",
    "DuplicateStep": "duplicate-step",
    "StepReused": "step-reused",
    "NestedStep": "nested-step",
}


def tree() -> list[type[KvflowError]]:
    """Every error of the module, the root first."""
    return [made for made in vars(errors).values() if isinstance(made, type) and issubclass(made, KvflowError)]


def drawn() -> dict[str, str]:
    """The tree in the module's docstring: each error and the one above it, by the column it stands in."""
    above: dict[int, str] = {}
    edges: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        node = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if node is not None:
            column, name = len(node[1]), node[2]
            if column:
                edges[name] = above[column - 4]
            above[column] = name
    return edges


def test_the_tree_is_as_designed() -> None:
    expected = {"InvalidArgument": "KvflowError", **dict.fromkeys(INVALID, "InvalidArgument")}
    expected |= dict.fromkeys(OTHERS, "KvflowError")
    assert {made.__name__: made.__mro__[1].__name__ for made in tree() if made is not KvflowError} == expected


def test_the_drawing_is_the_tree() -> None:
    assert drawn() == {made.__name__: made.__mro__[1].__name__ for made in tree() if made is not KvflowError}


def test_each_code_is_the_name_in_kebab_case() -> None:
    assert {made.__name__: made.code for made in tree()} == CODES


def test_an_error_of_ones_own_has_a_code_too() -> None:
    class CardDeclined(KvflowError):
        """A test's."""

    assert CardDeclined("no").code == "card-declined"


@pytest.mark.parametrize("made", tree(), ids=lambda made: made.__name__)
def test_each_error_is_public_and_says_what_it_means(made: type[KvflowError]) -> None:
    assert getattr(kvflow, made.__name__) is made
    assert made.__name__ in kvflow.__all__
    assert "__doc__" in vars(made)
    assert made.__doc__


@pytest.mark.parametrize("made", tree(), ids=lambda made: made.__name__)
def test_each_error_comes_back_from_another_process(made: type[KvflowError]) -> None:
    error = pickle.loads(pickle.dumps(made("what was given")))
    assert (type(error), str(error)) == (made, "what was given")
