"""The line of due runs: hints followed to the files, in the exact order of the contract.

A hint is never later than the truth. So when hints are taken in order, and a run whose true place is
later waits for it in a heap, runs come out in order although some hints are stale. Whatever was
found stale on the way is mended afterwards, when nobody walks along the hints any more.
"""

import heapq
import logging
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kvflow import rules
from kvflow.errors import Corrupt
from kvflow.stores.file_directory import Directory, Look
from kvflow.stores.file_index import Hint

_log = logging.getLogger("kvflow.stores")

Place = tuple[bool, int, str]


class Found(NamedTuple):
    """A due run, ordered by where it stands."""

    place: Place
    hint: Hint
    look: Look


class Line:
    """Due runs, earliest first, under the index lock."""

    def __init__(self, directory: Directory, now: int, clock: int, names: tuple[str, ...] | None, log: bool = False):
        self._directory = directory
        self._now, self._clock, self._names, self._log = now, clock, names, log
        self._stale = list[Hint]()
        self._unreadable = list[Hint]()

    def walk(self, hints: Iterable[Hint]) -> Iterator[Found]:
        """The due runs that these hints, in their order, lead to."""
        waiting, met = list[Found](), set[str]()
        for hint in hints:
            while waiting and waiting[0].place <= hint.place:
                yield heapq.heappop(waiting)
            if hint.run_id in met:
                self._stale.append(hint)
                continue
            met.add(hint.run_id)
            found = self._follow(hint)
            if found is not None and found.place == hint.place:
                yield found
            elif found is not None:
                heapq.heappush(waiting, found)
        while waiting:
            yield heapq.heappop(waiting)

    def mend(self) -> None:
        """Take away what was found stale or empty, and put what cannot be read out of the way."""
        index = self._directory.index
        for hint in self._unreadable:
            index.defer(hint, self._now, self._clock)
        for hint in self._stale:
            try:
                look = self._directory.look(hint.run_id)
            except Corrupt:
                index.defer(hint, self._now, self._clock)
            else:
                index.mend(hint, look and look.head, self._clock)
        index.sweep(self._clock)

    def _follow(self, hint: Hint) -> Found | None:
        try:
            look = self._directory.look(hint.run_id, self._log)
        except Corrupt as error:
            _log.warning("a run is passed over: %s", error)
            self._unreadable.append(hint)
            return None
        known = look is not None and (self._names is None or look.entry.run.workflow in self._names)
        place = rules.place_due(look.entry, self._now, self._clock) if look is not None and known else None
        if look is None or place != hint.place or look.entry.run.workflow != hint.workflow:
            self._stale.append(hint)
        return None if look is None or place is None else Found(place, hint, look)
