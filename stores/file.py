"""Runs in plain files, for one machine and its local disk; a person can read the place with ``ls``.

    format               the layout's version
    runs/<0-f>/          one file a run: its head and its log (file_run)
    leases               who holds what (file_leases)
    index/               hints at wakes and births, made anew after each boot (file_index, file_hints)
    locks/               never unlinked (file_lock)

Each call is one write: of a run's file one append, synced once, of the leases one append. What holds:

- A call returns when what it wrote is on the disk; a renewal alone is not synced, for whoever
  holds a lease dies with the machine.
- A run's stripe is held from before the look at its file until that sync, so nobody acts on what a power cut
  could take back. The index lock is held only while something is looked up or appended, so syncs of
  different runs overlap. Whatever is appended, to a run's file or to the index, is appended under it.
- Hints are written before what they hint at, and taken away after it, so none is ever missing.
"""

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TypeVar

from kvflow import checks, rules
from kvflow.errors import Corrupt, InvalidArgument, KvflowError
from kvflow.rules import Clock, Entry
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Ids, Outcomes, Runs, Store
from kvflow.stores.file_changes import Change, Round, Rule, rounds
from kvflow.stores.file_directory import Directory, Look
from kvflow.stores.file_disk import BESIDE, at_the_edge, check_platform, file_name, sync, sync_directory
from kvflow.stores.file_hints import Pair
from kvflow.stores.file_index import BIRTHS, Index
from kvflow.stores.file_line import Line
from kvflow.stores.file_run import Head, check_size, remove

_LISTED = 256
"""Heads read for a listing before others get their turn."""

Changed = TypeVar("Changed")

_log = logging.getLogger("kvflow.stores")


class FileStore(Store):
    """The contract over one directory, shared by any number of processes and threads of one machine."""

    def __init__(self, path: str | os.PathLike[str], clock: Clock | None = None, timeout: float = 5.0) -> None:
        check_platform()
        checks.check_options(1, timeout)
        self._clock = rules.reader(clock)
        self._timeout = timeout
        self._directory = Directory(_absolute(path))
        self._open()

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        checks.check_save(run, new, lease)
        check_size(run.run_id, run.snapshot, new)
        return self._change(Change(run.run_id, new, _saving(run, new, lease)))

    @at_the_edge
    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        checks.check_run_id(run_id)
        deadline = self._deadline()
        with (
            self._directory.stripe(run_id).held(deadline),
            self._directory.indexed(deadline),
        ):
            look = self._directory.look(run_id, log)
            return None if look is None else look.entry.read(look.log)

    @at_the_edge
    def delete(self, run_id: str) -> None:
        checks.check_run_id(run_id)
        deadline, path = self._deadline(), self._directory.path(run_id)
        with self._directory.stripe(run_id).held(deadline) as stripes:
            stripe = stripes.of(file_name(run_id)[0])
            with self._directory.indexed(deadline) as index:
                if not os.path.lexists(path):
                    return
                stripe.note([self._directory.note(run_id)])
                self._unlink(run_id, path, index)
            sync_directory(os.path.dirname(path))
            stripe.clear()

    @at_the_edge
    def due(self, now: int, limit: int) -> Ids:
        checks.check_limit(limit)
        now = checks.clamp(now)
        with self._directory.indexed(self._deadline()) as index:
            clock = self._clock()
            line = Line(self._directory, now, clock, None)
            found = [found.place[2] for found in islice(line.walk(index.due(now, clock, None)), limit)]
            line.mend()
            return found

    @at_the_edge
    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        deadline = self._deadline()
        with self._directory.indexed(deadline) as index:
            clock = self._clock()
            if next(index.due(now, clock, names), None) is None:
                index.sweep(clock)
                return []
        with self._directory.locks.all_stripes().held(deadline), self._directory.indexed(deadline) as index:
            taken = self._take(index, now, limit, lease, names)
            leases = os.dup(index.leases.fd) if taken else -1
        if taken:
            _sync_and_close(leases)
        return taken

    @at_the_edge
    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        deadline = self._deadline()
        with (
            self._directory.stripe(run_id).held(deadline),
            self._directory.indexed(deadline) as index,
        ):
            look = self._directory.look(run_id, log=True)
            if look is None or (after := rules.taken(look.entry, lease, self._clock())) is None:
                return None
            index.hold([(look.head, after)])
            leases = os.dup(index.leases.fd)
        _sync_and_close(leases)
        return after.read(look.log)

    @at_the_edge
    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        checks.check_tokens(tokens, ttl)
        with self._directory.indexed(self._deadline()) as index:
            ours = list[tuple[Head, Entry]]()
            for run_id, token in tokens.items():
                look = self._readable(run_id)
                if look and (after := rules.renewed(look.entry, token, ttl, self._clock())) is not None:
                    ours.append((look.head, after))
            index.hold(ours)
            return {entry.run.run_id for _, entry in ours}

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        checks.check_wake_at(wake_at)

        def releasing(before: Entry | None, clock: int) -> tuple[Entry | None, None]:
            return before and rules.released(before, lease.token, wake_at), None

        self._change(Change(run_id, (), releasing))

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        checks.check_run_id(run_id)
        checks.check_records([record])
        check_size(run_id, b"", [record])
        now = checks.clamp(now)

        def posting(before: Entry | None, clock: int) -> tuple[Entry | None, bool]:
            after = before and rules.posted(before, now, wake, clock)
            return after, after is not None

        return self._change(Change(run_id, [record], posting))

    @at_the_edge
    def save_many(self, saves: Iterable[checks.Save]) -> Outcomes:
        entries = list(saves)
        outcomes: Outcomes = [0] * len(entries)
        changes = dict[int, Change[int]]()
        for at, ((run, new, lease), refusal) in enumerate(zip(entries, checks.check_each(entries), strict=True)):
            try:
                if refusal is not None:
                    raise refusal
                check_size(run.run_id, run.snapshot, new)
            except KvflowError as error:
                outcomes[at] = error
            else:
                changes[at] = Change(run.run_id, new, _saving(run, new, lease))
        for batch in rounds(list(changes.values())):
            Round(self._directory, self._clock, batch).run(self._deadline())
        for at, change in changes.items():
            outcomes[at] = change.outcome
        return outcomes

    @at_the_edge
    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_after(after)
        status = checks.check_status(status)
        rows: Runs = []
        while (wanted := min(_LISTED, limit - len(rows))) > 0:
            with self._directory.indexed(self._deadline()) as index:
                births = tuple(islice(index.births.descending(BIRTHS, after), wanted))
                rows += (run for run in self._born(births, index) if status in (None, run.status))
            if len(births) < wanted:
                break
            after = births[-1]
        return rows

    @at_the_edge
    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        names = checks.check_workflows(workflows)
        with self._directory.indexed(self._deadline()) as index:
            clock = self._clock()
            line = Line(self._directory, checks.LATEST, clock, names)
            first = [
                next(line.walk(index.expired(clock, names)), None),
                # A wake may lead to a run whose lease has run out, which stands before all wakes and is found above.
                next((found for found in line.walk(index.woken(checks.LATEST, names)) if found.place[0]), None),
            ]
            line.mend()
            return min((found.place[1] for found in first if found is not None), default=None)

    @at_the_edge
    def close(self) -> None:
        """Close every file; whoever calls again opens them again."""
        self._directory.close(self._deadline())

    @at_the_edge
    def _open(self) -> None:
        self._directory.open(self._deadline())

    def _deadline(self) -> float:
        return time.monotonic() + self._timeout

    @at_the_edge
    def _change(self, change: Change[Changed]) -> Changed:
        """Make one change; what went wrong is raised."""
        Round(self._directory, self._clock, [change]).run(self._deadline())
        if isinstance(change.outcome, KvflowError):
            raise change.outcome
        return change.outcome

    def _take(self, index: Index, now: int, limit: int, lease: Lease, names: tuple[str, ...] | None) -> Runs:
        """Lease the first of the line."""
        clock = self._clock()
        line = Line(self._directory, now, clock, names, log=True)
        found = list(islice(line.walk(index.due(now, clock, names)), limit))
        held = [(each.look, rules.taken(each.look.entry, lease, clock)) for each in found]
        taken = [(look, after) for look, after in held if after is not None]
        index.hold([(look.head, after) for look, after in taken])
        index.drop_wakes([each.hint for each in found], clock)
        line.mend()
        return [after.read(look.log) for look, after in taken]

    def _readable(self, run_id: str) -> Look | None:
        """What is stored of a run, if it can be read; where it cannot, whoever loads it is told."""
        try:
            return self._directory.look(run_id)
        except Corrupt as error:
            _log.warning("a run is passed over: %s", error)
            return None

    def _born(self, births: tuple[Pair, ...], index: Index) -> Runs:
        """The heads of the runs born then; hints at runs that were not are taken away."""
        runs: Runs = []
        stale = list[Pair]()
        for pair in births:
            try:
                look = self._directory.look(pair[1])
            except Corrupt as error:
                _log.warning("a run is passed over: %s", error)
                continue
            if look is not None and look.entry.run.created_at == pair[0]:
                runs.append(look.entry.read())
            else:
                stale.append(pair)
        clock = self._clock()
        index.births.drop(BIRTHS, stale, clock)
        index.births.sweep(clock)
        return runs

    def _unlink(self, run_id: str, path: str, index: Index) -> None:
        """Remove a run's file, readable or not, and then what led to it."""
        look = self._readable(run_id)
        remove(path)
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{BESIDE}")
        index.leases.drop([run_id])
        if look is not None:
            index.births.drop(BIRTHS, [(look.entry.run.created_at, run_id)], self._clock())


def _absolute(path: str | os.PathLike[str]) -> str:
    """The directory meant, wherever the process goes later."""
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    try:
        fits = isinstance(text, str) and bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        fits = False
    if text is None or not fits:
        raise InvalidArgument(f"path is {path!r}: it must be the path of a directory")
    return os.path.abspath(text)


def _saving(run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> Rule[int]:
    """The rule of a save."""
    return lambda before, clock: rules.saved(before, run, len(new), lease, clock)


def _sync_and_close(fd: int) -> None:
    """Bring to the disk what was written under a descriptor of our own, whoever closes the other meanwhile."""
    try:
        sync(fd)
    finally:
        os.close(fd)
