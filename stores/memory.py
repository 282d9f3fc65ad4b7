"""Runs in this process's memory: for tests, for trying things out, and as the contract's plainest reading.

One lock around everything, so each call is one write. What is due is kept in sorted lists, one of
wakes and one of leases for each workflow: finding the first few costs the same beside any number
of sleepers. Nothing survives the process; a forked child goes on with a copy of its own.
"""

import heapq
import os
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from kvflow import checks, rules
from kvflow.errors import KvflowError
from kvflow.rules import Clock, Entry
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Ids, Outcomes, Runs, Store

Place = tuple[int, str]

# One for all stores, and held while this process forks, so that no child finds a store half changed.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class Places:
    """Run ids in order of a time, a list for each group (a workflow, or "" where there are none)."""

    def __init__(self) -> None:
        self._of: dict[str, list[Place]] = {}

    def move(self, before: tuple[str, Place] | None, after: tuple[str, Place] | None) -> None:
        """Take a run from one place, if it had one, to another, if it gets one."""
        if before == after:
            return
        if before is not None:
            places = self._of[before[0]]
            del places[bisect_left(places, before[1])]
            if not places:
                del self._of[before[0]]
        if after is not None:
            insort(self._of.setdefault(after[0], []), after[1])

    def first(self, groups: tuple[str, ...] | None = None) -> Iterator[Place]:
        """The places of these groups, or of all, earliest first."""
        names = self._of if groups is None else groups
        return heapq.merge(*(self._of.get(name, ()) for name in names))

    def last(self, before: Place | None) -> Iterator[Place]:
        """The places of a store's only group from behind, or from below one of them."""
        places = self._of.get("", [])
        end = len(places) if before is None else bisect_left(places, before)
        return (places[at] for at in range(end - 1, -1, -1))


class MemoryStore(Store):
    """The contract over a dict and a few sorted lists."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = rules.reader(clock)
        self._entries: dict[str, Entry] = {}
        self._logs: dict[str, list[bytes]] = {}
        self._wakes = Places()
        self._leases = Places()
        self._births = Places()

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        checks.check_save(run, new, lease)
        with _lock:
            before = self._entries.get(run.run_id)
            after, unseen = rules.saved(before, run, len(new), lease, self._clock())
            if after is not before:
                self._put(run.run_id, after)
                self._logs.setdefault(run.run_id, []).extend(new)
            return unseen

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        checks.check_run_id(run_id)
        with _lock:
            entry = self._entries.get(run_id)
            if entry is None:
                return None
            return entry.read(tuple(self._logs[run_id]) if log else ())

    def delete(self, run_id: str) -> None:
        checks.check_run_id(run_id)
        with _lock:
            if run_id in self._entries:
                self._put(run_id, None)
                del self._logs[run_id]

    def due(self, now: int, limit: int) -> Ids:
        checks.check_limit(limit)
        with _lock:
            return list(islice(self._due(checks.clamp(now), None), limit))

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        with _lock:
            due = list(islice(self._due(now, names), limit))
            return [run for run_id in due if (run := self._take(run_id, lease)) is not None]

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        with _lock:
            return self._take(run_id, lease)

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        checks.check_tokens(tokens, ttl)
        with _lock:
            return {run_id for run_id, token in tokens.items() if self._renew(run_id, token, ttl)}

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        checks.check_wake_at(wake_at)
        with _lock:
            entry = self._entries.get(run_id)
            if entry is not None and (after := rules.released(entry, lease.token, wake_at)) is not None:
                self._put(run_id, after)

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        checks.check_run_id(run_id)
        checks.check_records([record])
        now = checks.clamp(now)
        with _lock:
            entry = self._entries.get(run_id)
            if entry is None or (after := rules.posted(entry, now, wake, self._clock())) is None:
                return False
            self._put(run_id, after)
            self._logs[run_id].append(record)
            return True

    def save_many(self, saves: Iterable[checks.Save]) -> Outcomes:
        outcomes: Outcomes = []
        for run, new, lease in saves:
            try:
                outcomes.append(self.save(run, new, lease))
            except KvflowError as error:
                outcomes.append(error)
        return outcomes

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_after(after)
        status = checks.check_status(status)
        with _lock:
            newest = (self._entries[run_id] for _, run_id in self._births.last(before=after))
            return [entry.read() for entry in islice((e for e in newest if status in (None, e.run.status)), limit)]

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        names = checks.check_workflows(workflows)
        with _lock:
            clock = self._clock()
            first = (next(places.first(names), None) for places in (self._wakes, self._leases))
            wakes = (place and rules.next_due(self._entries[place[1]], clock) for place in first)
            return min((wake for wake in wakes if wake is not None), default=None)

    def close(self) -> None:
        """Nothing: there is nothing open."""

    def _due(self, now: int, names: tuple[str, ...] | None) -> Iterator[str]:
        """Due runs in the order of the contract: the rule ends each list where the rest is not yet due."""
        clock = self._clock()
        for places in (self._leases, self._wakes):
            for _, run_id in places.first(names):
                if rules.place_due(self._entries[run_id], now, clock) is None:
                    break
                yield run_id

    def _take(self, run_id: str, lease: Lease) -> StoredRun | None:
        entry = self._entries.get(run_id)
        if entry is None or (after := rules.taken(entry, lease, self._clock())) is None:
            return None
        self._put(run_id, after)
        return after.read(tuple(self._logs[run_id]))

    def _renew(self, run_id: str, token: str, ttl: int) -> bool:
        entry = self._entries.get(run_id)
        if entry is None or (after := rules.renewed(entry, token, ttl, self._clock())) is None:
            return False
        self._put(run_id, after)
        return True

    def _put(self, run_id: str, after: Entry | None) -> None:
        """Replace the entry and move it in the indexes; None removes it."""
        before = self._entries.get(run_id)
        for places, place in ((self._wakes, _wake), (self._leases, _expiry), (self._births, _birth)):
            places.move(place(before), place(after))
        if after is None:
            del self._entries[run_id]
        else:
            self._entries[run_id] = after


def _wake(entry: Entry | None) -> tuple[str, Place] | None:
    if entry is None or entry.token or entry.run.wake_at is None:
        return None
    return entry.run.workflow, (entry.run.wake_at, entry.run.run_id)


def _expiry(entry: Entry | None) -> tuple[str, Place] | None:
    if entry is None or not entry.token:
        return None
    return entry.run.workflow, (entry.expires, entry.run.run_id)


def _birth(entry: Entry | None) -> tuple[str, Place] | None:
    return None if entry is None else ("", (entry.run.created_at, entry.run.run_id))
