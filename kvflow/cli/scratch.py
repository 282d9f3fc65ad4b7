"""Where a check writes: a prefix of its own on the user's server, empty for each test, and gone afterwards.

What always holds: nothing is written under the user's own prefix. A prefix that was given for the purpose must be
empty, and is left so; one that was made here is dropped with its tables, keys or directory, whatever happened.
"""

import logging
import multiprocessing
import secrets
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pickle import PicklingError

from kvflow.checks import check_prefix
from kvflow.errors import InvalidArgument, KvflowError, NotSupported
from kvflow.store import Store
from kvflow.stores.schemes import Factory, factory_of, scheme_of
from kvflow.stores.upkeep import Upkeep, upkeep_of
from kvflow.testing import Open

_LONGEST = 31 - len("_check_") - 6
_PAGE = 1000
_MANY = 200

TIMEOUT = 5.0
"""Seconds after which a server that says nothing is taken for gone."""


class Scratch:
    """A prefix on the server of ``url``: made here, or ``given``."""

    def __init__(self, url: str, prefix: str, given: str | None) -> None:
        check_prefix(prefix)
        if given is not None:
            check_prefix(given)
        if given == prefix:
            raise InvalidArgument(f"--scratch {given} is the prefix of your own runs: give another")
        self._url = url
        self._prefix = prefix
        self._given = given
        self._begun: list[tuple[Open, Upkeep | None]] = []
        self._children = set(multiprocessing.active_children())
        self._begin()

    @property
    def open(self) -> Open:
        """Opens the prefix, in this process or in another."""
        return self._begun[-1][0]

    @property
    def names(self) -> str:
        """What of it is on the server, in words."""
        return "; ".join(upkeep.names for _, upkeep in self._begun if upkeep is not None) or "runs of the check"

    def _begin(self) -> None:
        name = self._given or f"{self._prefix[:_LONGEST]}_check_{secrets.token_hex(3)}"
        self._begun.append((_opener(self._url, name), _upkeep(self._url, name)))

    def check_unused(self) -> None:
        """Refuse a given prefix that somebody uses."""
        if self._given:
            with opened(self.open) as store:
                if store.next_wake() is not None or store.list(1):
                    raise InvalidArgument(f"--scratch {self._given} has runs, which a check would delete: give another")

    @property
    def how_to_prepare(self) -> str:
        """What to do where this account may not do here what a store does."""
        upkeep, other = self._begun[-1][1], self._given or f"{self._prefix[:_LONGEST]}_check"
        if upkeep is not None and upkeep.ddl():
            return (
                f"let one who may make tables run what kvflow schema prints for --prefix {self._prefix}, and grant this"
                f" user SELECT, INSERT, UPDATE, DELETE on them; to check, the same for --prefix {other}, and --scratch"
                f" {other}"
            )
        return f"let this account use the prefix {self._prefix}; to check, also {other}, and give --scratch {other}"

    def empty(self) -> None:
        """Delete all runs; where that does not work, go on in another prefix, for no test may see another's runs."""
        upkeep = self._begun[-1][1]
        try:
            if upkeep is None or self._given or not self._is_full():
                _empty(self.open)
            else:
                upkeep.drop()
        except KvflowError:
            if self._given:
                raise
            self._begin()

    def _is_full(self) -> bool:
        """Whether there are so many runs that deleting each takes longer than making everything anew."""
        with opened(self.open) as store:
            return len(store.list(_MANY)) == _MANY

    def clear(self) -> None:
        """Leave nothing behind. Processes of a test that was broken off are ended first, or they would write on."""
        for child in set(multiprocessing.active_children()) - self._children:
            child.kill()
            child.join()
        for open, upkeep in self._begun:
            if upkeep is None or self._given:
                _empty(open)
            else:
                upkeep.drop()


class Stubborn(KvflowError):
    """Runs that were deleted are still listed."""


def _empty(open: Open) -> None:
    with opened(open) as store:
        before: list[str] = []
        while ids := [run.run_id for run in store.list(_PAGE)]:
            if ids == before:
                raise Stubborn(f"{len(ids)} runs were deleted and are still listed")
            before = ids
            for run_id in ids:
                store.delete(run_id)


def _upkeep(url: str, prefix: str) -> Upkeep | None:
    """None where there is nothing to drop: in memory, or, as far as is known, in a scheme that was registered."""
    try:
        return None if scheme_of(url) == "memory" else upkeep_of(url, prefix=prefix, timeout=TIMEOUT)
    except NotSupported:
        return None


def _opener(url: str, prefix: str) -> Open:
    if scheme_of(url) == "memory":
        return _Shared(_open(factory_of(url), url, prefix))
    return partial(_open, factory_of(url), url, prefix)


class _Shared:
    """Always the same handle, for what is in memory cannot be opened twice."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self) -> Store:
        return self._store

    def __reduce__(self) -> str:
        raise PicklingError("a MemoryStore is in the memory of one process")


def _open(factory: Factory, url: str, prefix: str) -> Store:
    """A handle. In a process that a test began, Ctrl-C is left to the one that began it, and nothing is logged."""
    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        logging.getLogger("kvflow").addHandler(logging.NullHandler())
    return factory(url, prefix=prefix, pool_size=10, timeout=TIMEOUT)


@contextmanager
def opened(open: Open) -> Generator[Store]:
    store = open()
    try:
        yield store
    finally:
        store.close()
