"""The leases of a store, in one file of lines: so a hundred runs claimed are one write and one sync.

A lease taken or renewed is a line that says on which state of the run it was based: its birth and its
count of changes. It holds as long as the run is in that state. Every change of the run's own file
carries the lease on, or drops it, within that one append; so head and lease change together
although they lie in two files.

The lines are also the index of what is held: for every held run there is one whose expiry is not
later than the true one. A take is synced before it is given, so that a holder who takes the whole machine
down is counted like one who takes its process down. A renewal is not: after a power cut there is nobody to hold.
"""

import heapq
from bisect import bisect_left
from collections.abc import Iterator

from msgspec import Struct

from kvflow.checks import LATEST
from kvflow.stores.file_hints import Pair
from kvflow.stores.file_lines import Lines

_MOST = 2 * LATEST
"""An expiry is a time and a ttl, each of which may be the last there is."""


class Held(Struct, frozen=True):
    """One lease, and the state of the run that it was based on."""

    run_id: str
    workflow: str
    token: str
    expires: int
    attempt: int
    birth: str
    change: int


class Leases(Lines):
    """All leases by run, and those of each workflow in order of their expiry."""

    def reset(self) -> None:
        self.of = dict[str, Held]()
        self._order = dict[str, list[Pair]]()

    def take(self, lines: list[list[str]]) -> None:
        for fields in lines:
            if fields[0] == "+":
                _, expires, attempt, change, birth, token, workflow, run_id = fields
                held = Held(run_id, workflow, token, _count(expires), _count(attempt), birth, _count(change))
                self._drop(run_id)
                self.of[run_id] = held
                order, pair = self._order.setdefault(workflow, []), (held.expires, run_id)
                order.insert(bisect_left(order, pair), pair)
            else:
                sign, run_id = fields
                if sign != "-":
                    raise ValueError(sign)
                self._drop(run_id)

    def living(self) -> list[str]:
        return [line(held) for held in self.of.values()]

    def __len__(self) -> int:
        return len(self.of)

    def expired(self, workflows: tuple[str, ...] | None, clock: int) -> Iterator[tuple[int, str, str]]:
        """The leases of these workflows, or of all, that may have run out, as expiry, id, workflow: earliest first."""
        names = tuple(self._order) if workflows is None else workflows
        return heapq.merge(*(self._expired(name, clock) for name in names))

    def drop(self, run_ids: list[str]) -> None:
        """Take lines away, of runs that nobody holds."""
        self.append(f"-\t{run_id}" for run_id in run_ids if run_id in self.of)
        self.tidy(durable=True)

    def _expired(self, workflow: str, clock: int) -> Iterator[tuple[int, str, str]]:
        for expires, run_id in self._order.get(workflow, ()):
            if expires > clock:
                return
            yield expires, run_id, workflow

    def _drop(self, run_id: str) -> None:
        if (held := self.of.pop(run_id, None)) is not None:
            order = self._order[held.workflow]
            del order[bisect_left(order, (held.expires, run_id))]
            if not order:
                del self._order[held.workflow]


def _count(text: str) -> int:
    """A number as it was written; ValueError for one that no head could take."""
    number = int(text)
    if not 0 <= number <= _MOST:
        raise ValueError(text)
    return number


def line(held: Held) -> str:
    """How a lease is written."""
    return "\t".join(
        (
            "+",
            str(held.expires),
            str(held.attempt),
            str(held.change),
            held.birth,
            held.token,
            held.workflow,
            held.run_id,
        )
    )
