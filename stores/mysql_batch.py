"""What becomes of many saves that are written together.

The rows are locked and read first, so here the rules themselves decide, entry by entry, each over what the
ones before it have made of its run; what is left to write is one change for each run. A run that somebody else has
locked, or that does not read, or an entry too large to share a packet, is left apart, with all later entries
of its run, for their order matters: those are saved one by one.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from kvflow import rules
from kvflow.checks import Save
from kvflow.errors import Conflict, Corrupt, KvflowError
from kvflow.rules import Entry
from kvflow.stores.mysql_rows import State
from kvflow.stores.mysql_session import Row
from kvflow.stores.mysql_statements import Change

ROOM_FOR_NAMES = 16 * 1024
"""More than all ids, names and numbers of one row take in a statement."""


class Batch:
    """The changes that come of saves over these rows, by this clock, in statements of this room at most."""

    def __init__(self, clock: int, rows: Iterable[Row], room: int) -> None:
        self._clock = clock
        self._room = room
        self._states = {row[1].decode(errors="backslashreplace"): State(*row) for row in rows}
        self._changes: dict[str, Change] = {}
        self._apart = set[str]()
        self.outcomes: dict[int, int | KvflowError] = {}

    def judge(self, at: int, save: Save) -> None:
        """Decide about one entry, or leave it and the rest of its run apart."""
        run, new, lease = save
        if run.run_id in self._apart or not self._shares(run.snapshot, new):
            self._apart.add(run.run_id)
            return
        try:
            before = self._entry(run.run_id)
            if before is None and run.version > 1:
                self._apart.add(run.run_id)
                return
            after, self.outcomes[at] = rules.saved(before, run, len(new), lease, self._clock)
        except Corrupt:
            self._apart.add(run.run_id)
        except Conflict as conflict:
            self.outcomes[at] = conflict
        else:
            if after is not before:
                self._change(before, after, new)

    def changes(self) -> Sequence[Change]:
        return list(self._changes.values())

    def _shares(self, snapshot: bytes, new: Sequence[bytes]) -> bool:
        return 2 * max(len(snapshot), *map(len, new), 0) + ROOM_FOR_NAMES < self._room

    def _entry(self, run_id: str) -> Entry | None:
        if (change := self._changes.get(run_id)) is not None:
            return change.entry
        return self._states[run_id].entry() if run_id in self._states else None

    def _change(self, before: Entry | None, after: Entry, new: Sequence[bytes]) -> None:
        run_id = after.run.run_id
        if before is not None and self._is_fresh(before, after):
            after = replace(after, expires=before.expires)
        if (change := self._changes.get(run_id)) is not None:
            self._changes[run_id] = Change(change.key, after, [*change.new, *new])
        else:
            state = self._states.get(run_id)
            self._changes[run_id] = Change(None if state is None else state.key, after, list(new))

    def _is_fresh(self, before: Entry, after: Entry) -> bool:
        """Whether most of the lease is left, so that the index may be spared a change."""
        left, ttl = before.expires - self._clock, after.expires - self._clock
        return after.token is not None and before.token == after.token and ttl / 2 < left <= ttl
