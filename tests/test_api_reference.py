"""The reference leaves nothing public out, and has something to say of each."""

import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import kvflow
import kvflow.stores
import kvflow.testing

API = Path(__file__).parent.parent / "docs" / "api"
MODULES = (kvflow, kvflow.stores, kvflow.testing)

DIRECTIVE = re.compile(r"^\.\. auto(?:class|data|exception|function):: ([\w.]+)", re.MULTILINE)


def public(module: ModuleType) -> set[str]:
    return {f"{module.__name__}.{name}" for name in module.__all__}


def test_every_public_name_is_in_the_reference_once() -> None:
    named = Counter(name for page in API.glob("*.rst") for name in DIRECTIVE.findall(page.read_text(encoding="utf-8")))
    assert set(named) == {name for module in MODULES for name in public(module)}
    assert set(named.values()) == {1}


def objects(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The classes and functions that a module makes public, and the public methods and properties of the classes."""
    for name in sorted(module.__all__):
        thing = getattr(module, name)
        if inspect.isclass(thing):
            yield name, thing
            for member in sorted(vars(thing)):
                found = inspect.getattr_static(thing, member)
                if not member.startswith("_") and isinstance(found, property | staticmethod | classmethod):
                    yield f"{name}.{member}", getattr(thing, member)
                elif not member.startswith("_") and inspect.isfunction(found):
                    yield f"{name}.{member}", found
        elif inspect.isfunction(thing):
            yield name, thing


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_class_and_method_says_what_it_does(module: ModuleType) -> None:
    assert [name for name, thing in objects(module) if not described(name, thing)] == []


def described(name: str, thing: object) -> bool:
    """A class by words of its own; a method also by those of the method that it overrides."""
    if inspect.isclass(thing):
        return bool(thing.__doc__)
    return bool(inspect.getdoc(thing)) or _is_test(name)


def _is_test(name: str) -> bool:
    """A test of the contract says in its name what it tests."""
    return name.partition(".")[2].startswith("test_")
