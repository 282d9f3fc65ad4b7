"""What a run's records come to: what is done, what has come, what is asked for.

Records are applied one by one, in the order of the log, when a run is read and as each is stored, so
a first pass and a replay look things up in the same place. Three rules live here:

- Events of one name reach waits in the order in which they came, each once; a message that was sent twice
  is one message.
- From ``Undoing`` on the run only goes backward, until a ``Retried``.
- ``Retried`` makes failed and undone steps, and failed children, not run. What was undone gets a new
  generation, and so new keys.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Iterable

from kvflow.errors import Corrupt
from kvflow.records import (
    AnyRecord,
    Born,
    CancelAsked,
    ChildOver,
    Ended,
    Got,
    Joined,
    Posted,
    Retried,
    Slept,
    Spawned,
    StepDone,
    StepLost,
    TimedOut,
    Undoing,
    Undone,
)

KINDS: dict[type, str] = {
    StepDone: "step",
    StepLost: "step",
    Slept: "sleep",
    Got: "event",
    TimedOut: "event",
    Spawned: "spawn",
    Joined: "join",
}
"""What each record that belongs to an id says of its kind."""

Resolution = StepDone | StepLost | Slept | Got | TimedOut | Spawned | Joined
Resolved = (StepDone, StepLost, Slept, Got, TimedOut, Spawned, Joined)


class History:
    """All that one run's log says."""

    def __init__(self, run_id: str, records: Iterable[AnyRecord] = ()) -> None:
        self.run_id = run_id
        self.records: list[AnyRecord] = []
        self.born: Born | None = None
        self.ended: Ended | None = None
        self.undoing: Undoing | None = None
        self.cancel: CancelAsked | None = None
        self.resolved: dict[str, Resolution] = {}
        self.undone: dict[str, Undone] = {}
        self.children: dict[str, ChildOver] = {}
        self._events: dict[str, deque[Posted]] = {}
        self._messages: dict[str, AnyRecord] = {}
        self._generations: Counter[str] = Counter()
        resolved, known = self.resolved, self.records
        for record in records:
            if isinstance(record, StepDone):  # nearly all, of a long log
                resolved[record.id] = record
                known.append(record)
            else:
                self.apply(record)

    def apply(self, record: AnyRecord) -> None:
        """Take one more record; a message that is known is passed over."""
        if isinstance(record, Resolved):
            self.resolved[record.id] = record
            if isinstance(record, Got):
                self._take(record)
        elif not self._apply_other(record):
            return
        self.records.append(record)

    def _apply_other(self, record: AnyRecord) -> bool:
        """Take a record that belongs to no id; False for a message that is known."""
        if isinstance(record, (Posted, CancelAsked, ChildOver)):
            if record.message in self._messages:
                return False
            self._messages[record.message] = record
        match record:
            case Posted():
                self._events.setdefault(record.event, deque()).append(record)
            case CancelAsked():
                self.cancel = self.cancel or record
            case ChildOver():
                self.children[record.run_id] = record
            case Born():
                self.born = record
            case Undoing():
                self.undoing = record
            case Undone():
                self.undone[record.id] = record
            case Retried():
                self._begin_again()
            case Ended():
                self.ended = record
            case _:
                pass
        return True

    def apply_posted(self, records: Iterable[AnyRecord]) -> None:
        """Take what others posted meanwhile out of the whole log; our own records are known."""
        for record in records:
            if isinstance(record, (Posted, CancelAsked, ChildOver)):
                self.apply(record)

    def next_event(self, name: str) -> Posted | None:
        """The first event of this name that no wait has got."""
        events = self._events.get(name)
        return events[0] if events else None

    def message(self, message: str) -> Posted:
        """The event that a wait got."""
        record = self._messages.get(message)
        if not isinstance(record, Posted):
            raise Corrupt(f"run {self.run_id!r}: a wait got {message!r}, which is no event in its log")
        return record

    def outcomes(self, join: Joined) -> list[ChildOver]:
        """What the children of a join came to when it was resolved, whatever became of them since."""
        found = [over for message in join.messages if isinstance(over := self._messages.get(message), ChildOver)]
        if len(found) < len(join.messages):
            raise Corrupt(f"run {self.run_id!r}: join {join.id!r} names a child's word that is not in its log")
        return found

    def key(self, step_id: str) -> str:
        """The idempotency key of a step: the same for every try, another for another run of the same id."""
        nonce = "" if self.born is None else self.born.nonce
        return hashed(self.run_id, nonce, step_id, str(self._generations[step_id]))

    def _take(self, record: Got) -> None:
        events = self._events.get(record.event, deque())
        taken = next((event for event in events if event.message == record.message), None)
        if taken is not None:
            events.remove(taken)

    def _begin_again(self) -> None:
        for step_id, undone in self.undone.items():
            if undone.error is None:
                self.resolved.pop(step_id, None)
                self._generations[step_id] += 1
            self._generations[f"undo/{step_id}"] += 1
        for step_id, record in list(self.resolved.items()):
            if isinstance(record, StepLost):
                del self.resolved[step_id]
            elif isinstance(record, Joined):
                self._forget_failed_children(record)
        self.undoing, self.cancel, self.undone = None, None, {}

    def _forget_failed_children(self, join: Joined) -> None:
        failed = [over.run_id for over in self.outcomes(join) if over.error is not None]
        if failed:
            del self.resolved[join.id]
        for step_id, record in list(self.resolved.items()):
            if isinstance(record, Spawned) and record.run_id in failed:
                del self.resolved[step_id]
                self._generations[step_id] += 1


def hashed(*parts: str) -> str:
    """A name of fixed length for these parts, which no other parts can have: each goes in with its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:40]
