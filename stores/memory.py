"""Runs in this process's memory: for tests, for trying things out, and as the contract's plainest reading.

One lock around everything, so each call is one write. Wakes and leases stand in line, a heap for each
workflow: finding the first few costs the same beside any number of sleepers. Nothing survives the
process; a forked child goes on with a copy of its own.
"""

import os
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush, heapreplace
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


class Line:
    """Runs in order of a time, a heap for each workflow; who moves leaves an entry that is passed over."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[Place]] = {}
        self._stands: dict[str, tuple[str, int]] = {}
        self._standing: Counter[str] = Counter()

    def move(self, run_id: str, to: tuple[str, int] | None) -> None:
        """Put a run at a workflow and a time, or take it out of the line."""
        before = self._stands.pop(run_id, None)
        if before is not None:
            self._standing[before[0]] -= 1
        if to is not None:
            workflow, time = to
            self._stands[run_id] = to
            self._standing[workflow] += 1
            if to != before:
                heappush(self._heaps.setdefault(workflow, []), (time, run_id))
        for workflow in {place[0] for place in (before, to) if place is not None}:
            self._tidy(workflow)

    def first(self, workflows: tuple[str, ...] | None, limit: int, wanted: Callable[[str], bool]) -> list[str]:
        """The first few of these workflows, or of all, as far as they are wanted."""
        names = list(self._heaps) if workflows is None else [name for name in workflows if name in self._heaps]
        met: list[tuple[str, Place]] = []
        heads = [head for name in names if (head := self._take(name, met)) is not None]
        heapify(heads)
        found: list[str] = []
        while heads and len(found) < limit and wanted(heads[0][0][1]):
            (_, run_id), name = heads[0]
            found.append(run_id)
            following = self._take(name, met)
            if following is None:
                heappop(heads)
            else:
                heapreplace(heads, following)
        for name, place in met:
            heappush(self._heaps[name], place)
        return found

    def _take(self, workflow: str, met: list[tuple[str, Place]]) -> tuple[Place, str] | None:
        """Take the next entry that still holds, once; whoever looks puts back what was met."""
        heap = self._heaps[workflow]
        while heap:
            place = heappop(heap)
            twice = bool(heap) and heap[0] == place
            if self._stands.get(place[1]) == (workflow, place[0]) and not twice:
                met.append((workflow, place))
                return place, workflow
        return None

    def _tidy(self, workflow: str) -> None:
        """Drop what is passed over before it is more than what holds."""
        heap, standing = self._heaps.get(workflow, []), self._standing[workflow]
        if len(heap) > 2 * standing + 16:
            holds = {place for place in heap if self._stands.get(place[1]) == (workflow, place[0])}
            self._heaps[workflow] = sorted(holds)
        if not standing:
            self._heaps.pop(workflow, None)
            del self._standing[workflow]


class MemoryStore(Store):
    """The contract over a dict and a few sorted lists."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = rules.reader(clock)
        self._entries: dict[str, Entry] = {}
        self._logs: dict[str, list[bytes]] = {}
        self._wakes = Line()
        self._leases = Line()
        self._births: list[Place] = []

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
            return self._due(checks.clamp(now), limit, None)

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        with _lock:
            due = self._due(now, limit, names)
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
        for save in saves:
            try:
                checks.check_entry(save)
                outcomes.append(self.save(*save))
            except KvflowError as error:
                outcomes.append(error)
        return outcomes

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        checks.check_limit(limit)
        checks.check_after(after)
        status = checks.check_status(status)
        with _lock:
            end = len(self._births) if after is None else bisect_left(self._births, after)
            newest = (self._entries[self._births[at][1]] for at in range(end - 1, -1, -1))
            return [entry.read() for entry in islice((e for e in newest if status in (None, e.run.status)), limit)]

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        names = checks.check_workflows(workflows)
        with _lock:
            clock = self._clock()
            first = [*self._wakes.first(names, 1, _always), *self._leases.first(names, 1, _always)]
            wakes = (rules.next_due(self._entries[run_id], clock) for run_id in first)
            return min((wake for wake in wakes if wake is not None), default=None)

    def close(self) -> None:
        """Nothing: there is nothing open."""

    def _due(self, now: int, limit: int, names: tuple[str, ...] | None) -> Ids:
        """Due runs in the order of the contract: leases that ran out, then wakes."""
        clock = self._clock()

        def due(run_id: str) -> bool:
            return rules.place_due(self._entries[run_id], now, clock) is not None

        expired = self._leases.first(names, limit, due)
        return expired + self._wakes.first(names, limit - len(expired), due)

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
        before = self._entries.pop(run_id, None)
        if before is not None and (after is None or after.run.created_at != before.run.created_at):
            del self._births[bisect_left(self._births, (before.run.created_at, run_id))]
            before = None
        if after is None:
            self._wakes.move(run_id, None)
            self._leases.move(run_id, None)
            return
        if before is None:
            insort(self._births, (after.run.created_at, run_id))
        run, held = after.run, after.token is not None
        self._entries[run_id] = after
        self._wakes.move(run_id, None if held or run.wake_at is None else (run.workflow, run.wake_at))
        self._leases.move(run_id, (run.workflow, after.expires) if held else None)


def _always(_: str) -> bool:
    return True
