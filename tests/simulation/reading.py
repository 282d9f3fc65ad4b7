"""What is stored of a run, read from the bytes alone: by nothing of kvflow's but the names of its records."""

from collections import defaultdict
from typing import Any

import msgspec

from kvflow.run import StoredRun


class Broken(AssertionError):
    """Something that always holds did not; ``rule`` says which, as DESIGN.md numbers them."""

    def __init__(self, rule: str, why: str) -> None:
        super().__init__(f"{rule}: {why}")
        self.rule = rule


RESOLVED = {
    "step": "step",
    "fail": "step",
    "slept": "sleep",
    "got": "event",
    "late": "event",
    "spawn": "spawn",
    "join": "join",
}


class Reading:
    """A run's head and log, and what the log comes to, record by record."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.head: dict[str, Any] = msgspec.msgpack.decode(run.snapshot)
        self.payload: Any = None
        self.nonce = ""
        self.parent: str | None = None
        self.children: dict[str, list[Any]] = {}
        self.spawned: set[str] = set()
        self.resolved: dict[str, list[Any]] = {}
        self.output: dict[str, Any] | None = None
        self.backward: list[Any] | None = None
        self.cancels: list[str] = []
        self.ever_cancelled = False
        self.posted: dict[str, list[list[Any]]] = defaultdict(list)
        self.got: dict[str, list[str]] = defaultdict(list)
        self.undone: dict[str, list[Any]] = {}
        self.generations: dict[str, int] = defaultdict(int)
        self.epoch = 0
        self.messages: dict[str, list[Any]] = {}
        for data in run.log:
            self._apply(msgspec.msgpack.decode(data))

    def _apply(self, record: list[Any]) -> None:
        kind = record[0]
        if kind in RESOLVED:
            self._resolve(kind, record)
        elif kind in ("event", "cancel", "child"):
            self._message(kind, record)
        elif kind == "born":
            self._need(not self.nonce, "2", "it was born twice")
            self.payload, self.nonce, self.parent = record[2], record[3], record[4]
        elif kind == "undo":
            self._need(self.backward is None, "8", "it turned back twice")
            self.backward = record
        elif kind == "undone":
            self._undo(record)
        elif kind == "retry":
            self._begin_again()
        elif kind == "end":
            self.output = record[2]

    def _resolve(self, kind: str, record: list[Any]) -> None:
        step_id = record[2]
        self._need(step_id not in self.resolved, "4", f"{step_id!r} is recorded twice")
        if self.undone:  # before the first is undone, branches that were in flight come to their end
            self._need(False, "undo", f"{step_id!r} is recorded as {kind} when it went backward")
        self.resolved[step_id] = record
        if kind == "got":
            event, message = record[3], record[4]
            queue = [one[2] for one in self.posted[event] if one[2] not in self.got[event]]
            self._need(bool(queue), "3", f"{step_id!r} got an event that nobody posted, or that was got before")
            self._need(queue[0] == message, "3", f"{step_id!r} got a later event before an earlier one")
            self.got[event].append(message)
        if kind == "spawn":
            self.spawned.add(record[3])

    def _message(self, kind: str, record: list[Any]) -> None:
        if record[2] in self.messages:
            return
        self.messages[record[2]] = record
        if kind == "event":
            self.posted[record[3]].append(record)
        elif kind == "cancel":
            self.cancels.append(record[2])
            self.ever_cancelled = True
        else:
            self.children[record[3]] = record

    def _undo(self, record: list[Any]) -> None:
        """Steps are undone latest first, each once, and only going backward."""
        self._need(self.backward is not None, "undo", f"{record[2]!r} is undone going forward")
        todo = [step_id for step_id, done in self.resolved.items() if undoable(done) and step_id not in self.undone]
        self._need(
            bool(todo) and todo[-1] == record[2], "undo", f"{record[2]!r} is undone out of turn; due is {todo[-1:]}"
        )
        self.undone[record[2]] = record

    def _begin_again(self) -> None:
        self.epoch += 1
        for step_id, record in self.undone.items():
            if record[3] is None:
                self.resolved.pop(step_id, None)
                self.generations[step_id] += 1
            self.generations[f"undo/{step_id}"] += 1
        for step_id, record in list(self.resolved.items()):
            if record[0] == "fail":
                del self.resolved[step_id]
            elif record[0] == "join":
                self._forget_failed(step_id, record)
        self.backward, self.undone, self.cancels, self.output = None, {}, [], None

    def _forget_failed(self, step_id: str, join: list[Any]) -> None:
        overs = [self.messages[message] for message in join[3]]
        failed = {over[3] for over in overs if over[5] is not None}
        if failed:
            del self.resolved[step_id]
        for other, record in list(self.resolved.items()):
            if record[0] == "spawn" and record[3] in failed:
                del self.resolved[other]
                self.generations[other] += 1

    def _need(self, holds: bool, rule: str, why: str) -> None:
        if not holds:
            raise Broken(rule, f"run {self.run.run_id!r}: {why}")

    # What it comes to

    @property
    def over(self) -> bool:
        return self.run.status in ("completed", "failed", "cancelled")

    def undelivered(self) -> str | None:
        """Something that has come and that a run at rest would go on for."""
        if self.cancels and self.backward is None:
            return "a cancel"
        for open_ in self.head.get("open", {}).values():
            if open_["kind"] == "event":
                event = open_["event"]
                if len(self.posted[event]) > len(self.got[event]):
                    return f"an event {event!r}"
            if open_["kind"] == "join" and all(child in self.children for child in self._joined(open_["id"])):
                return f"the children of {open_['id']!r}"
        return None

    def _joined(self, step_id: str) -> list[str]:
        """The child that a ``child`` call of the program waits for."""
        spawn = self.resolved.get(step_id.removesuffix("/join"))
        return [] if spawn is None else [spawn[3]]

    def values(self) -> dict[str, Any]:
        """For each id what the body was given."""
        return {step_id: self.value(record) for step_id, record in self.resolved.items() if record[0] != "spawn"}

    def value(self, record: list[Any]) -> Any:
        match record[0]:
            case "step":
                return record[3]
            case "got":
                return self.messages[record[4]][4]
            case "late":
                return "late"
            case "slept":
                return "slept"
            case "fail":
                return "failed"
            case "join":
                over = self.messages[record[3][0]]
                return over[4] if over[5] is None else "failed"
            case kind:
                raise Broken("8", f"run {self.run.run_id!r} was given a {kind!r}")


def undoable(record: list[Any]) -> bool:
    """Whether this is a done step with a compensation: the programs name these with a mark."""
    kind, step_id = str(record[0]), str(record[2])
    return kind == "step" and step_id.endswith("!")
