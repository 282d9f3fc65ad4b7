"""Whether what always holds does hold: looked at after each step, from the store's contents and the journal alone.

It knows nothing of how kvflow comes to what it does. It reads records by their bytes, asks the store what will ever be
due, keeps its own account of who was given which lease until when, and holds both against DESIGN.md's list.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from kvflow.checks import LATEST
from kvflow.run import Lease, Status, StoredRun
from kvflow.stores import MemoryStore
from simulation.journal import Called
from simulation.reading import Broken, Reading

MANY = 1000


class Holder(Struct):
    """Who was given a run, and until when by the store's clock."""

    instance: str
    token: str
    until: int


class Accounts:
    """What the store has told to whom: leases given, posts accepted."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.holders: dict[str, Holder] = {}
        self.accepted: dict[str, list[bytes]] = defaultdict(list)
        self.deleted: set[str] = set()
        self.severed: set[tuple[str, str]] = set()
        self._clock = clock

    def saved(self, instance: str, run: StoredRun, lease: Lease | None, before: StoredRun | None) -> None:
        """The store has saved this; where it had this very version before, it was sent again and gives nothing."""
        if before is not None and before.version == run.version:
            return
        if run.status is Status.RUNNING and lease is not None:
            self._give(run.run_id, instance, lease)
        elif lease is None or self._holds(run.run_id, lease):
            self.holders.pop(run.run_id, None)

    def note(self, instance: str, method: str, args: tuple[Any, ...], answer: Any) -> None:
        """The store has done this for this instance."""
        match method:
            case "claim":
                for run in answer:
                    self._give(run.run_id, instance, args[2])
            case "acquire":
                if answer is not None:
                    self._give(args[0], instance, args[1])
            case "renew":
                for run_id in answer:
                    self._give(run_id, instance, Lease(args[0][run_id], args[1]))
            case "release":
                if self._holds(args[0], args[1]):
                    del self.holders[args[0]]
            case "post":
                if answer:
                    self.accepted[args[0]].append(args[1])
            case "delete":
                self.deleted.add(args[0])
                holder = self.holders.pop(args[0], None)
                if holder is not None:
                    self.severed.add((holder.instance, args[0]))
                self.accepted.pop(args[0], None)
            case _:
                pass

    def _give(self, run_id: str, instance: str, lease: Lease) -> None:
        self.severed.discard((instance, run_id))
        self.holders[run_id] = Holder(instance, lease.token, self._clock() + lease.ttl)

    def _holds(self, run_id: str, lease: Lease) -> bool:
        return run_id in self.holders and self.holders[run_id].token == lease.token


class Checker:
    """Raises ``Broken`` at the first thing that does not hold."""

    def __init__(
        self, store: MemoryStore, clock: Callable[[], int], end_of_time: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self.accounts = Accounts(clock)
        self.last: dict[str, Reading] = {}
        self.ends: dict[str, Reading] = {}
        self._leases_can_be_known = True
        self._store = store
        self._clock = clock
        self._end_of_time = end_of_time
        self._values: dict[tuple[str, str], Any] = {}
        self._keys: dict[str, tuple[str, str, str]] = {}
        self._keyed: dict[tuple[str, str, str, int], str] = {}

    def storm(self) -> None:
        """The store's clock jumps: a lease may end before its holder can know, so none is held to it."""
        self._leases_can_be_known = False

    # After each operation

    def look(self) -> None:
        """At every run, as it is stored now."""
        due: set[str] = set(self._end_of_time(lambda: self._store.due(LATEST, MANY)))
        rows = self._store.list(MANY)
        for gone in set(self.last) - {row.run_id for row in rows}:
            self._forget(gone)
        for row in rows:
            reading = self.read(row.run_id)
            self._wakes(reading, row.run_id in due)

    def read(self, run_id: str) -> Reading:
        """What is stored, compared with what was stored when it was last looked at."""
        run = self._store.load(run_id)
        assert run is not None
        before = self.last.get(run_id)
        if before is not None and (before.run.version, len(before.run.log)) == (run.version, len(run.log)):
            before.run = run
            return before
        reading = Reading(run)
        if before is not None and before.nonce == reading.nonce:
            self._grew(before.run, run)
        for record in self.accounts.accepted[run_id]:
            if record not in run.log:
                raise Broken("3", f"run {run_id!r}: a message that was accepted is not in its log")
        self._ended_right(reading)
        self.last[run_id] = reading
        if reading.over:
            self.ends[run_id] = reading
        return reading

    def _forget(self, run_id: str) -> None:
        del self.last[run_id]

    def _grew(self, before: StoredRun, run: StoredRun) -> None:
        """One write: a version at a time, or one message without a version; records stay."""
        added = run.log[len(before.log) :]
        if run.log[: len(before.log)] != before.log:
            raise Broken("2", f"run {run.run_id!r}: a stored record was changed")
        if run.version not in (before.version, before.version + 1):
            raise Broken("2", f"run {run.run_id!r}: version {before.version} became {run.version}")
        kinds = [msgspec.msgpack.decode(record)[0] for record in added]
        if run.version == before.version and (len(kinds) != 1 or kinds[0] not in ("event", "cancel", "child")):
            raise Broken("2", f"run {run.run_id!r}: {kinds} came without a version")

    def _wakes(self, reading: Reading, due: bool) -> None:
        """Nothing gets stuck."""
        run = reading.run
        owes, forget_at = reading.head.get("owes", False), reading.head.get("forget_at")
        if reading.over:
            if (owes or forget_at is not None) and not due:
                raise Broken("1", f"run {run.run_id!r} is over, still has to be woken, and never will be")
        elif not due:
            if run.status is not Status.WAITING:
                raise Broken("1", f"run {run.run_id!r} is {run.status} with neither wake nor lease")
            if (what := reading.undelivered()) is not None:
                raise Broken("1", f"run {run.run_id!r} waits and will not be woken, and {what} has come")

    def _ended_right(self, reading: Reading) -> None:
        """What is over says so alike in head and log, and what was to be undone is."""
        run, values = reading.run, reading.values()
        if run.status is Status.COMPLETED:
            if reading.output is None:
                raise Broken("2", f"run {run.run_id!r} is completed without an end")
            if reading.output != values:
                raise Broken("8", f"run {run.run_id!r}: its output is {reading.output!r}, recorded is {values!r}")
        if run.status in (Status.FAILED, Status.CANCELLED):
            if reading.backward is None:
                raise Broken("undo", f"run {run.run_id!r} is {run.status} and never turned back")
            left = [name for name, record in reading.resolved.items() if record[0] == "step" and name.endswith("!")]
            if set(left) - set(reading.undone):
                raise Broken("undo", f"run {run.run_id!r} is {run.status}, and {left} are not all undone")
            if run.status is Status.CANCELLED and not reading.ever_cancelled:
                raise Broken("3", f"run {run.run_id!r} is cancelled, and nobody asked for it")

    # As steps and bodies tell

    def step_begins(self, call: Called, seen: Mapping[str, Any]) -> None:
        """A step's function is being called."""
        run = self._store.load(call.run_id)
        if not self._leases_can_be_known:
            return  # who lost a lease and cannot know it may begin a step that somebody else has recorded
        if run is None or (call.instance, call.run_id) in self.accounts.severed:
            return  # deleted while it was driven: its holder learns of it at its next save
        self._under_a_lease(call, run)
        reading = Reading(run)
        if call.name in reading.resolved or (
            call.name.startswith("undo/") and call.name.removeprefix("undo/") in reading.undone
        ):
            raise Broken("4", f"run {call.run_id!r}: {call.name!r} is recorded and is called again")
        self._direction(call, reading)
        self._one_key(call, reading)
        self._all_is_stored(call, reading, seen)

    def _under_a_lease(self, call: Called, run: StoredRun) -> None:
        holder = self.accounts.holders.get(call.run_id)
        if holder is None or holder.instance != call.instance or holder.until <= self._clock():
            raise Broken("4", f"run {call.run_id!r}: {call.instance} begins {call.name!r}, and {holder} has the lease")

    def _direction(self, call: Called, reading: Reading) -> None:
        undo = call.name.startswith("undo/")
        if undo != (reading.backward is not None):
            way = "forward" if reading.backward is None else "backward"
            raise Broken("undo", f"run {call.run_id!r} goes {way}, and {call.name!r} is called")
        if undo:
            done = [name for name, record in reading.resolved.items() if record[0] == "step" and name.endswith("!")]
            todo = [name for name in done if name not in reading.undone]
            if not todo or f"undo/{todo[-1]}" != call.name:
                raise Broken("undo", f"run {call.run_id!r}: {call.name!r} is called, and {todo[-1:]} is next to undo")

    def _one_key(self, call: Called, reading: Reading) -> None:
        """One key for a step, however often it is called; another for any other step, and for one that was undone."""
        own = (reading.nonce, call.run_id, call.name)
        if self._keyed.setdefault((*own, reading.generations[call.name]), call.key) != call.key:
            raise Broken("4", f"run {call.run_id!r}: {call.name!r} is called under another key")
        if self._keys.setdefault(call.key, own) != own:
            raise Broken("4", f"run {call.run_id!r}: {call.name!r} is called under the key of another step")

    def _all_is_stored(self, call: Called, reading: Reading, seen: Mapping[str, Any]) -> None:
        values = reading.values()
        for name, value in seen.items():
            if not before(name, call.name):
                continue
            if name not in values:
                raise Broken("8", f"run {call.run_id!r}: {call.name!r} is called, and {name!r} before it is not stored")
            if values[name] != value:
                raise Broken(
                    "8", f"run {call.run_id!r}: as {name!r} the body was given {value!r}, not {values[name]!r}"
                )

    def is_seen(self, run_id: str, key: str, name: str, value: Any) -> None:
        """A body was given a value; a step's is the recorded one, whoever asks and however often."""
        if not isinstance(value, str) or not name.startswith(("step ", "all ")) or value == "failed":
            return
        if self._values.setdefault((key, name), value) != value:
            raise Broken("8", f"run {run_id!r}: the body was given two values as {name!r}")
        reading = self.last.get(run_id)
        if run_id in self.accounts.deleted or reading is None or reading.epoch:
            return  # a pass of before may look on
        if reading.values().get(name) not in (None, value):
            raise Broken("8", f"run {run_id!r}: the body was given {value!r} as {name!r}, which is not recorded")

    def is_undone(self, run_id: str, name: str, result: Any) -> None:
        """A compensation is given what its step gave."""
        run = self._store.load(run_id)
        if run is not None and (recorded := Reading(run).values().get(name)) != result:
            raise Broken("undo", f"run {run_id!r}: {name!r} gave {recorded!r}, and {result!r} is undone")


def before(name: str, later: str) -> bool:
    """Whether what the body was given under one name came before it called another: not if that is of another branch.

    The number in a name says where in the program it stands; of two branches of one gather it says which.
    """
    branch = number(name).rpartition(".")[0]
    return not branch or number(later).startswith(f"{branch}.")


def number(name: str) -> str:
    return name.removeprefix("undo/").split()[1].split("/")[0].rstrip("!")
