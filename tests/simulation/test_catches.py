"""The checker finds what it is for: kvflow broken on purpose does not get through many courses."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from kvflow import (
    AsyncRuntime,
    AsyncWorker,
    Lease,
    Store,
    StoredRun,
    StoreUnavailable,
    commits,
    driving,
    ending,
    hands,
    records,
    rules,
)
from kvflow.commits import Commits, send
from kvflow.driving import Driving
from kvflow.effects import Ask, Call, Work
from kvflow.engine import Drive
from kvflow.hands import Gathering
from kvflow.history import History
from kvflow.leases import Held
from kvflow.records import AnyRecord, Posted, StepDone
from kvflow.rules import Entry
from kvflow.saving import Saving
from kvflow.store import Save
from kvflow.stores import MemoryStore
from kvflow.stores.memory import Line
from kvflow.turns import Turn, Turns
from simulation.checker import Checker
from simulation.course import run_course
from simulation.reading import Broken

COURSES = 300

Patch = Callable[[pytest.MonkeyPatch], None]


def fencing_off(patch: pytest.MonkeyPatch) -> None:
    def taken(entry: Entry | None, run: StoredRun, lease: Lease | None, clock: int) -> None:
        """Every save is taken, whoever sends it."""

    patch.setattr(rules, "_refusal", taken)


def an_index_write_left_out(patch: pytest.MonkeyPatch) -> None:
    move = Line.move

    def forgetful(line: Line, run_id: str, to: tuple[str, int] | None) -> None:
        move(line, run_id, None if to is not None and to[1] % 7 == 0 else to)

    patch.setattr(Line, "move", forgetful)


def posted_records_dropped(patch: pytest.MonkeyPatch) -> None:
    def post(store: MemoryStore, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        run = store.load(run_id, log=False)
        return run is not None and not run.status.over

    patch.setattr(MemoryStore, "post", post)


def a_post_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    def posted(entry: Entry, now: int, wake: bool, clock: int) -> Entry | None:
        return None if entry.run.status.over else replace(entry, records=entry.records + 1)

    patch.setattr(rules, "posted", posted)


def seen_ignored(patch: pytest.MonkeyPatch) -> None:
    def wake(run: StoredRun, records: int) -> int | None:
        return run.wake_at

    patch.setattr(rules, "_wake_after_save", wake)


def runs_of_the_dead_are_not_due(patch: pytest.MonkeyPatch) -> None:
    def place(entry: Entry, now: int, clock: int) -> tuple[bool, int, str] | None:
        run = entry.run
        free = entry.token is None and run.wake_at is not None and run.wake_at <= now
        return (True, run.wake_at or 0, run.run_id) if free else None

    patch.setattr(rules, "place_due", place)


def the_lease_check_removed(patch: pytest.MonkeyPatch) -> None:
    def alive(held: Held) -> bool:
        return True

    patch.setattr(Held, "alive", alive)


def a_lease_believed_for_too_long(patch: pytest.MonkeyPatch) -> None:
    renewed = Held.renewed

    def late(held: Held, sent: float) -> None:
        renewed(held, sent + held.lease.ttl / 1000 * 0.3)

    patch.setattr(Held, "renewed", late)


def undo_in_order(patch: pytest.MonkeyPatch) -> None:
    def first_first(done: Sequence[str]) -> list[str]:
        return list(done)

    patch.setattr(ending, "reversed", first_first, raising=False)


def a_branch_that_is_done_not_undone(patch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> None:
        """As it was before it was mended."""

    patch.setattr(Drive, "_can_undo_branches", nothing)


def what_was_learned_not_stored_before_a_step(patch: pytest.MonkeyPatch) -> None:
    store_new = Saving._store_new  # pyright: ignore[reportPrivateUsage]

    def only_the_birth(drive: Saving) -> Any:
        if not drive.run.version:
            yield from store_new(drive)

    patch.setattr(Saving, "_store_new", only_the_birth)


def the_latest_event_first(patch: pytest.MonkeyPatch) -> None:
    def last(history: History, name: str) -> Posted | None:
        events = history._events.get(name)  # pyright: ignore[reportPrivateUsage]
        return events[-1] if events else None

    patch.setattr(History, "next_event", last)


def an_event_got_twice(patch: pytest.MonkeyPatch) -> None:
    def kept(history: History, record: AnyRecord) -> None:
        """What a wait got is left for the next one."""

    patch.setattr(History, "_take", kept)


def a_recorded_step_forgotten(patch: pytest.MonkeyPatch) -> None:
    decode = records.decode_log

    def without_the_last_step(run_id: str, log: tuple[bytes, ...]) -> list[AnyRecord]:
        known = decode(run_id, log)
        return known[:-1] if isinstance(known[-1], StepDone) else known

    patch.setattr(driving, "decode_log", without_the_last_step)


def a_new_key_for_each_process(patch: pytest.MonkeyPatch) -> None:
    def key(history: History, step_id: str) -> str:
        return f"{history.run_id} {step_id} {len(history.records)}"

    patch.setattr(History, "key", key)


def parents_not_told(patch: pytest.MonkeyPatch) -> None:
    def tell(*_: Any) -> Any:
        yield from ()

    patch.setattr(Driving, "_tell", tell)


def a_lease_lost_while_others_are_saved_not_seen(patch: pytest.MonkeyPatch) -> None:
    def only_saved(gathering: Gathering, call: Call) -> None:
        gathering.flush()

    patch.setattr(Gathering, "_before_a_call", only_saved)


def the_last_of_a_crowd_not_sent(patch: pytest.MonkeyPatch) -> None:
    def forgetful(store: Store, saves: list[Save]) -> list[int | Exception]:
        return [*send(store, saves[:-1]), 0] if len(saves) > 1 else send(store, saves)

    for module in (commits, hands):
        patch.setattr(module, "send", forgetful)


def a_save_in_doubt_taken_for_one_that_is_stored(patch: pytest.MonkeyPatch) -> None:
    def hopeful(store: Store, saves: list[Save]) -> list[int | Exception]:
        return [0 if isinstance(outcome, StoreUnavailable) else outcome for outcome in send(store, saves)]

    for module in (commits, hands):
        patch.setattr(module, "send", hopeful)


def what_a_worker_claimed_forgotten(patch: pytest.MonkeyPatch) -> None:
    turn, claims = Turns._turn, itertools.count()  # pyright: ignore[reportPrivateUsage]

    def asks_for_more(turns: Turns, free: int) -> Work[Turn]:
        claimed = yield from turn(turns, free)
        if claimed.claimed and next(claims) % 2:
            raise StoreUnavailable("whatever else is asked in this turn is not answered")
        return claimed

    patch.setattr(Turns, "_turn", asks_for_more)


def a_worker_that_claims_nothing(patch: pytest.MonkeyPatch) -> None:
    def idle(turns: Turns, free: int) -> Work[Turn]:
        yield Ask("next_wake", (["program"],))
        return Turn(wait=1.0)

    patch.setattr(Turns, "_turn", idle)


def a_worker_that_does_not_end(patch: pytest.MonkeyPatch) -> None:
    run = AsyncWorker.run

    async def for_ever(worker: AsyncWorker) -> None:
        await run(worker)
        await asyncio.get_running_loop().create_future()

    patch.setattr(AsyncWorker, "run", for_ever)


def a_call_that_does_not_return(patch: pytest.MonkeyPatch) -> None:
    trigger = AsyncRuntime.trigger

    async def for_ever(runtime: AsyncRuntime, *args: Any, **options: Any) -> None:
        await trigger(runtime, *args, **options)
        await asyncio.get_running_loop().create_future()

    patch.setattr(AsyncRuntime, "trigger", for_ever)


def those_who_wait_to_be_saved_not_woken(patch: pytest.MonkeyPatch) -> None:
    def forgotten(commits: Commits) -> None:
        commits._under_way -= 1  # pyright: ignore[reportPrivateUsage]

    patch.setattr(Commits, "_next", forgotten)


@pytest.mark.parametrize(
    ("broken", "found_by"),
    [
        (fencing_off, "24"),
        (an_index_write_left_out, "1"),
        (posted_records_dropped, "3"),
        (a_post_wakes_nobody, "1"),
        (seen_ignored, "1"),
        (runs_of_the_dead_are_not_due, "1"),
        (the_lease_check_removed, "4"),
        (a_lease_believed_for_too_long, "4"),
        (undo_in_order, "undo"),
        (a_branch_that_is_done_not_undone, "undo"),
        (what_was_learned_not_stored_before_a_step, "8"),
        (the_latest_event_first, "3"),
        (an_event_got_twice, "3"),
        (a_recorded_step_forgotten, "4"),
        (a_new_key_for_each_process, "4"),
        (parents_not_told, "1"),
        (a_lease_lost_while_others_are_saved_not_seen, "4"),
        (the_last_of_a_crowd_not_sent, "1348"),
        (a_save_in_doubt_taken_for_one_that_is_stored, "1348"),
        (what_a_worker_claimed_forgotten, "1"),
        (a_worker_that_claims_nothing, "1"),
        (a_worker_that_does_not_end, "1"),
        (a_call_that_does_not_return, "1"),
        (those_who_wait_to_be_saved_not_woken, "1"),
    ],
)
def test_kvflow_broken_on_purpose_is_seen(broken: Patch, found_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch)
    with pytest.raises(Broken) as found:
        run_courses()
    assert found.value.rule in found_by


def run_courses() -> None:
    for seed in range(COURSES):
        run_course(seed)


@pytest.mark.parametrize("place", ["look", "step_begins"])
def test_a_checker_that_fails_itself_is_seen(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise KeyError(place)

    monkeypatch.setattr(Checker, place, fails)
    with pytest.raises(KeyError, match=place):
        run_courses()


def test_an_error_that_is_none_of_kvflows_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise TypeError("no save")

    monkeypatch.setattr(MemoryStore, "save", fails)
    with pytest.raises(TypeError, match="no save"):
        run_courses()
