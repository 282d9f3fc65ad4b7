"""The store contract as promises in people's words, each with the tests of ``kvflow.testing`` that hold a store to it.

A test is named as the sentence that it proves, so what is not kept is said by its name, and by the line that failed.
"""

import traceback
from collections.abc import Sequence
from pathlib import Path
from unittest import SkipTest

from msgspec import Struct

from kvflow import testing
from kvflow.errors import KvflowError, StoreUnavailable
from kvflow.testing import Open


class Promise(Struct, frozen=True):
    """What a store promises, in a sentence, and the mixins that try it."""

    says: str
    mixins: tuple[type, ...]

    @property
    def tests(self) -> list[tuple[type, str]]:
        return [(mixin, name) for mixin in self.mixins for name in vars(mixin) if name.startswith("test_")]


PROMISES = (
    Promise("what is saved comes back, and only the next version is saved", (testing.PrimitivesContract,)),
    Promise("a run has one holder at a time, by the store's clock", (testing.LeaseContract,)),
    Promise("who lost a run writes nothing more; a save sent twice is one save", (testing.FenceContract,)),
    Promise("what is due is claimed, earliest first, by one claimer", (testing.ClaimContract,)),
    Promise("no event is lost, and each wakes who waits for it", (testing.PostContract,)),
    Promise("of many saves at once each succeeds or fails by itself", (testing.SaveManyContract,)),
    Promise("lists and the next wake tell what is there", (testing.ListContract, testing.NextWakeContract)),
    Promise("hostile ids and arguments are refused, or are only text", (testing.BadInputContract,)),
    Promise("many threads: every race has one winner", (testing.ThreadsContract,)),
    Promise("many processes, also such as are killed: nothing is lost or half done", (testing.ProcessesContract,)),
)


class Broken(Struct, frozen=True):
    """A sentence that is not true of a store, and how that showed."""

    test: str
    why: str


class Outcome(Struct, frozen=True):
    """How a promise fared: tests that passed, those that did not, and why some were left out."""

    promise: str
    kept: int = 0
    broken: tuple[Broken, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        return "broken" if self.broken else "kept" if self.kept else "left out"

    @property
    def count(self) -> str:
        return f"{self.kept} of {self.kept + len(self.broken)}"


class Away(Exception):
    """The server does not answer any more, so nothing can be said of its promises."""


def tried(promise: Promise, outcomes: Sequence[Broken | str | None]) -> Outcome:
    """The outcome of a promise from those of its tests."""
    return Outcome(
        promise.says,
        kept=sum(outcome is None for outcome in outcomes),
        broken=tuple(outcome for outcome in outcomes if isinstance(outcome, Broken)),
        left_out=tuple(dict.fromkeys(outcome for outcome in outcomes if isinstance(outcome, str))),
    )


def try_test(mixin: type, name: str, open: Open) -> Broken | str | None:
    """None where the store passes, or what is broken, or why the test could not be made."""
    try:
        getattr(mixin(), name)(open)
    except SkipTest as skipped:
        return str(skipped)
    except Exception as error:  # noqa: BLE001 - whatever a store does wrong is what is looked for
        if isinstance(error, StoreUnavailable):
            _check_there(open)
        return Broken(_sentence(name), _why(error))
    return None


def _check_there(open: Open) -> None:
    """Tell a server that is gone, for whom every test would wait in vain, from one that failed a single test."""
    try:
        store = open()
        try:
            store.load("a")
        finally:
            store.close()
    except StoreUnavailable as error:
        raise Away(str(error)) from error
    except KvflowError:
        return


def _sentence(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


def _why(error: Exception) -> str:
    if isinstance(error, KvflowError):
        return f"{error.code}: {error}"
    said = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    return said or _line(error)


def _line(error: Exception) -> str:
    """The line of the contract that does not hold."""
    home = str(Path(testing.__file__).parent)
    lines = [frame.line or "" for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(home)]
    return lines[-1] if lines else type(error).__name__
