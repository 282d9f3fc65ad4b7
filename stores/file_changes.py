"""Changes of runs' own files: saves, posts and releases, alone or many at once.

A round of changes holds the stripes of its runs throughout. Under the index lock each change is decided by its
rule, hinted at and appended; then the files are synced, with no lock that others need; last, what is
no longer true of the index is taken away. A birth is written and synced beside before it is put in
its place. Only then is anybody told, so a change is either on the disk or nobody heard of it.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Generic, TypeVar, cast

from kvflow.errors import KvflowError
from kvflow.rules import Entry
from kvflow.stores.file_directory import Directory, check_id
from kvflow.stores.file_disk import file_name, put, sync_directory, unavailable
from kvflow.stores.file_lock import Stripe
from kvflow.stores.file_run import Head, RunFile, born, write_birth

_log = logging.getLogger("kvflow.stores")

ROUND = 64
"""The most runs changed at once: each holds an open file."""

MANY, SIDE_BY_SIDE = 4, 16
"""From how many files on they are synced side by side, and how many at most: below, a thread costs what it saves."""

Result = TypeVar("Result")

Rule = Callable[[Entry | None, int], tuple[Entry | None, Result]]
"""The entry to write and what to tell the caller; None or the very same entry writes nothing."""


class Change(Generic[Result]):
    """One change of one run: what is asked, and on the way what becomes of it."""

    def __init__(self, run_id: str, new: Sequence[bytes], rule: Rule[Result]) -> None:
        self.run_id = run_id
        self.digest = file_name(run_id)[0]
        self.new = new
        self.rule = rule
        self._outcome: Result | KvflowError | None = None
        self.before: Entry | None = None
        self.head: Head | None = None
        self.file: RunFile | None = None
        self.failed = False

    @property
    def outcome(self) -> Result | KvflowError:
        """What the caller is told."""
        return cast("Result | KvflowError", self._outcome)  # it is set once the round was run

    @outcome.setter
    def outcome(self, outcome: Result | KvflowError) -> None:
        self._outcome = outcome


def rounds(changes: Sequence[Change[Result]]) -> Iterator[list[Change[Result]]]:
    """The changes in order, parted so that no run is changed twice in a round."""
    batch: list[Change[Result]] = []
    ids: set[str] = set()
    for change in changes:
        if change.run_id in ids or len(batch) == ROUND:
            yield batch
            batch, ids = [], set[str]()
        batch.append(change)
        ids.add(change.run_id)
    if batch:
        yield batch


class Round(Generic[Result]):
    """Changes of different runs that are decided, written and synced together."""

    def __init__(self, directory: Directory, clock: Callable[[], int], changes: Sequence[Change[Result]]) -> None:
        self._directory = directory
        self._clock = clock
        self._changes = changes
        self._stripes = directory.locks.stripes([change.digest for change in changes])
        self._appended: list[Change[Result]] = []
        self._births: list[Change[Result]] = []
        self._rested: list[Change[Result]] = []
        self._notes: dict[Stripe, list[str]] = {}
        self._failed: set[Stripe] = set()

    def run(self, deadline: float) -> None:
        """Give every change its outcome."""
        with self._stripes.held(deadline):
            try:
                self._run(deadline)
            finally:
                for change in self._changes:
                    if change.file is not None:
                        change.file.close()

    def _run(self, deadline: float) -> None:
        with self._directory.indexed(deadline) as self._index:
            self._each(self._changes, self._decide)
        self._each(self._births, self._write_birth)
        self._sync_all([*self._births, *self._appended])
        if self._births or self._rested:
            with self._directory.indexed(deadline) as self._index:
                self._each(self._births, self._put)
                self._each(self._rested, self._rest)
            self._sync_names()
        self._each(self._appended, self._tidy)
        for stripe in self._notes:
            if stripe not in self._failed:
                stripe.clear()

    def _each(self, changes: Sequence[Change[Result]], step: Callable[[Change[Result]], None]) -> None:
        """Take a step with every change that went well so far; an error is the outcome of its own alone."""
        for change in changes:
            if not change.failed:
                try:
                    step(change)
                except KvflowError as error:
                    change.outcome, change.failed = error, True
                except OSError as error:
                    self._fail(change, error)

    def _fail(self, change: Change[Result], error: OSError) -> None:
        """The note of the run stays, so that whoever comes next makes sure of what is on the disk."""
        self._failed.add(self._stripes.of(change.digest))
        change.outcome, change.failed = unavailable(error), True
        change.outcome.__cause__ = error

    def _decide(self, change: Change[Result]) -> None:
        """Ask the rule, and append what it answers."""
        state = None
        change.file = RunFile.open(self._directory.path(change.run_id))
        if change.file is not None:
            state = change.file.head()
            check_id(change.file, state, change.run_id)
            change.before = self._index.current(state)
        after, change.outcome = change.rule(change.before, self._clock())
        if after is None or after is change.before:
            return
        if change.file is None or state is None or change.before is None:
            change.head = born(after, change.new)
            self._births.append(change)
            return
        change.head = state.next(after, change.new)
        self._index.expect(change.before, state, after)
        self._note(change)
        change.file.append(change.head, change.new)
        self._appended.append(change)
        if change.before.token is not None and after.token is None:
            self._rested.append(change)

    def _note(self, change: Change[Result]) -> None:
        stripe = self._stripes.of(change.digest)
        notes = self._notes.setdefault(stripe, [])
        notes.append(self._directory.note(change.run_id))
        stripe.note(notes)

    def _write_birth(self, change: Change[Result]) -> None:
        """Write a birth beside its place, unsynced: of many files the first sync does most for the rest."""
        if change.head is not None:
            change.file = write_birth(self._directory.path(change.run_id), change.head, change.new)

    def _sync(self, change: Change[Result]) -> None:
        """Bring what was written to the disk."""
        if change.file is not None:
            change.file.sync()

    def _sync_all(self, changes: Sequence[Change[Result]]) -> None:
        """Side by side, for a file system makes one commit of what it is asked to sync at the same time."""
        if len(changes) < MANY:
            self._each(changes, self._sync)
            return
        with ThreadPoolExecutor(min(len(changes), SIDE_BY_SIDE), "kvflow-sync") as threads:
            for synced in [threads.submit(self._each, [change], self._sync) for change in changes]:
                synced.result()

    def _put(self, change: Change[Result]) -> None:
        """Put a birth in its place."""
        if change.head is not None:
            self._index.expect(None, change.head, change.head.entry)
            self._note(change)
            put(self._directory.path(change.run_id))

    def _rest(self, change: Change[Result]) -> None:
        """Take away the lease of a run that came to rest."""
        with suppress(OSError):  # the save has happened; whoever comes upon the line takes it away
            self._index.leases.drop([change.run_id])

    def _sync_names(self) -> None:
        """Bring the names of births to the disk."""
        of: dict[str, list[Change[Result]]] = {}
        for change in self._births:
            if not change.failed:
                of.setdefault(os.path.dirname(self._directory.path(change.run_id)), []).append(change)
        for directory, births in of.items():
            try:
                sync_directory(directory)
            except OSError as error:
                for change in births:
                    self._fail(change, error)

    def _tidy(self, change: Change[Result]) -> None:
        """Write a file anew that is mostly dead heads; the change has happened, whatever comes of this."""
        if change.file is not None and change.head is not None and change.file.dead(change.head):
            try:
                change.file.rewrite()
            except (OSError, KvflowError) as error:
                _log.warning("%s keeps its dead heads for now: %s", change.file.path, error)
