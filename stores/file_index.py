"""Which runs are due, held, and there at all: the leases, and hints at wakes and births.

What always holds, whoever dies when: a run that is held has a line among the leases that is not later than
its expiry, any other run with a wake has a hint that is not later than its wake, and every run has a
hint at its birth. So ``expect`` comes before a run's file is written, and what is no longer true is
taken away afterwards or when somebody comes upon it. All of it happens under the index lock.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from msgspec.structs import replace

from kvflow.rules import Entry
from kvflow.stores.file_hints import Hints, Pair
from kvflow.stores.file_leases import Held, Leases, line
from kvflow.stores.file_run import Head

LATER = 60_000
"""Milliseconds until a run that cannot be read is looked at again."""

BIRTHS = "all"


class Hint(NamedTuple):
    """Where a run may stand in line: its place by the rule, and the workflow that it was found in."""

    place: tuple[bool, int, str]
    workflow: str

    @property
    def run_id(self) -> str:
        return self.place[2]


class Index:
    """The index of one store, as one process has read it so far."""

    def __init__(self, leases: str, directory: str) -> None:
        self.directory = directory
        self.leases = Leases(leases)
        self.leases.reset()
        self.wakes = Hints(f"{directory}/wakes")
        self.births = Hints(f"{directory}/births")

    @property
    def garbled(self) -> bool:
        """Whether lines were found that nobody wrote so, and hints may be missing."""
        return self.leases.garbled or self.wakes.garbled or self.births.garbled

    def current(self, head: Head) -> Entry:
        """The entry with the lease that it is under, if that was based on this very state."""
        entry = head.entry
        held = self.leases.of.get(entry.run.run_id)
        if held is None or held.birth != head.birth or held.change != head.change:
            return entry
        run = entry.run if entry.run.attempt == held.attempt else replace(entry.run, attempt=held.attempt)
        return replace(entry, run=run, token=held.token, expires=held.expires)

    def expect(self, before: Entry | None, state: Head, after: Entry) -> None:
        """Have all hints that ``after`` needs; ``state`` is what is stored now, or of a birth what will be."""
        run = after.run
        if before is None or before.run.created_at != run.created_at:
            self.births.add(BIRTHS, (run.created_at, run.run_id))
        if after.token is not None:
            self._expect_lease(after if before is None else before, state, after)
        elif run.wake_at is not None and not _hinted(before, after):
            self.wakes.add(run.workflow, (run.wake_at, run.run_id))

    def hold(self, leases: Iterable[tuple[Head, Entry]]) -> None:
        """Write the leases that these entries are under, each based on its head."""
        self.leases.append(line(_held(head, entry)) for head, entry in leases)
        self.leases.tidy(durable=True)

    def keep(self, leases: Iterable[tuple[Head, Entry]]) -> None:
        """Write the leases that these entries are under in the place of all that were written before."""
        self.leases.rewrite([line(_held(head, entry)) for head, entry in leases], durable=True)
        self.leases.garbled = False

    def due(self, now: int, clock: int, workflows: tuple[str, ...] | None) -> Iterator[Hint]:
        """Hints at all that may be due, in the order of the contract."""
        yield from self.expired(clock, workflows)
        yield from self.woken(now, workflows)

    def expired(self, clock: int, workflows: tuple[str, ...] | None) -> Iterator[Hint]:
        """Hints at leases that may have run out."""
        for time, run_id, workflow in self.leases.expired(workflows, clock):
            yield Hint((False, time, run_id), workflow)

    def woken(self, now: int, workflows: tuple[str, ...] | None) -> Iterator[Hint]:
        """Hints at wakes up to ``now``."""
        for time, run_id, workflow in self.wakes.ascending(workflows, now):
            yield Hint((True, time, run_id), workflow)

    def mend(self, hint: Hint, state: Head | None, clock: int) -> None:
        """Take away a hint that was found stale, once the run, if it is there, has a true one."""
        if state is not None:
            entry = self.current(state)
            if entry.token is not None:
                self._follow(entry, state)
            elif entry.run.wake_at is not None:
                self.wakes.add(entry.run.workflow, (entry.run.wake_at, hint.run_id))
            if _places(entry) == (hint.place[:2], hint.workflow):
                return
        self._drop(hint, None if state is None else self.current(state), clock)

    def defer(self, hint: Hint, now: int, clock: int) -> None:
        """Put a run that cannot be read out of the way of the others for a while."""
        self.wakes.add(hint.workflow, (max(now, clock) + LATER, hint.run_id))
        self._drop(hint, None, clock)

    def sweep(self, clock: int) -> None:
        """Remove what is empty and past of what the last walk went over."""
        self.wakes.sweep(clock)

    def close(self) -> None:
        """Forget everything that was read."""
        self.leases.close()
        self.leases.garbled = False
        self.wakes.close()
        self.births.close()

    def drop_wakes(self, hints: list[Hint], clock: int) -> None:
        """Take away hints at wakes of runs that are now held."""
        of = dict[str, list[Pair]]()
        for (woken, time, run_id), workflow in hints:
            if woken:
                of.setdefault(workflow, []).append((time, run_id))
        for workflow, pairs in of.items():
            self.wakes.drop(workflow, pairs, clock)

    def _drop(self, hint: Hint, entry: Entry | None, clock: int) -> None:
        if hint.place[0]:
            self.drop_wakes([hint], clock)
        elif entry is None or entry.token is None:
            self.leases.drop([hint.run_id])

    def _follow(self, entry: Entry, state: Head) -> None:
        """Move the line of a held run to where its expiry is now."""
        held = self.leases.of.get(entry.run.run_id)
        if held is None or held.expires != entry.expires or held.workflow != entry.run.workflow:
            self.leases.append([line(_held(state, entry))])

    def _expect_lease(self, before: Entry, state: Head, after: Entry) -> None:
        """Have a line not later than the new expiry: as a renewal of what is stored, so that it is true at once."""
        held = self.leases.of.get(after.run.run_id)
        if held is None or held.expires > after.expires or held.workflow != after.run.workflow:
            renewed = replace(before, token=after.token, expires=after.expires)
            self.leases.append([line(_held(state, renewed, after.run.workflow))])


def _hinted(before: Entry | None, after: Entry) -> bool:
    """Whether the wake was the run's before, unheld, so that it has its hint."""
    return (
        before is not None
        and before.token is None
        and before.run.wake_at == after.run.wake_at
        and before.run.workflow == after.run.workflow
    )


def _held(state: Head, entry: Entry, workflow: str | None = None) -> Held:
    run = entry.run
    return Held(
        run_id=run.run_id,
        workflow=workflow or run.workflow,
        token=entry.token or "",
        expires=entry.expires,
        attempt=run.attempt,
        birth=state.birth,
        change=state.change,
    )


def _places(entry: Entry) -> tuple[tuple[bool, int | None], str]:
    """Where the true hint of an entry lies."""
    if entry.token is not None:
        return (False, entry.expires), entry.run.workflow
    return (True, entry.run.wake_at), entry.run.workflow
