"""kvflow, broken on purpose in a worker's process, each time in one way that the checker is to see.

They break the rules in Python, so they are for a course on FileStore, which decides by them.
"""

from typing import Any

from kvflow import Lease, StoredRun, driving, rules
from kvflow.history import History
from kvflow.leases import Held
from kvflow.records import AnyRecord, StepDone, decode_log
from kvflow.rules import Entry
from kvflow.stores import FileStore
from kvflow.stores.file_hints import Hints

_add = Hints.add


def _take_every_save(entry: Entry | None, run: StoredRun, lease: Lease | None, clock: int) -> None:
    """Whoever sends it."""


def _add_to_the_index_but_one_time_in_four(hints: Hints, group: str, pair: tuple[int, str]) -> None:
    if pair[0] % 4:
        _add(hints, group, pair)


def _say_that_it_is_posted(store: FileStore, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
    return True


def _believe_every_lease(held: Held) -> bool:
    return True


def _forget_the_last_step(run_id: str, log: tuple[bytes, ...]) -> list[AnyRecord]:
    records = decode_log(run_id, log)
    return records[:-1] if records and isinstance(records[-1], StepDone) else records


def _leave_for_the_next_wait(history: History, record: AnyRecord) -> None:
    """What a wait got."""


BREAKS: dict[str, tuple[Any, str, Any]] = {
    "fencing off": (rules, "_refusal", _take_every_save),
    "index write left out": (Hints, "add", _add_to_the_index_but_one_time_in_four),
    "posted records dropped": (FileStore, "post", _say_that_it_is_posted),
    "lease check removed": (Held, "alive", _believe_every_lease),
    "recorded step forgotten": (driving, "decode_log", _forget_the_last_step),
    "event got twice": (History, "_take", _leave_for_the_next_wait),
}
"""By name: of what which part is replaced, and by what."""


def break_kvflow(name: str) -> None:
    """In this process, for good."""
    setattr(*BREAKS[name])
