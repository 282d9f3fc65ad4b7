"""The machine finds what it is for: a store broken on purpose does not pass for the model."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from kvflow import Lease, Store, StoredRun, rules
from kvflow.rules import Entry
from kvflow.stores.file_hints import Hints
from kvflow.stores.memory import Line
from model.conftest import Make, memory
from model.courses import run
from model.machine import itself, machine

Rule = Callable[..., Any]


def fails(make: Make, wrap: Callable[[Store], Any] = itself) -> None:
    """The machine must see that this store is broken."""
    with pytest.raises(AssertionError):
        run(machine(make, wrap), 300, shrink=False)


def no_fence(_: Entry | None, run: StoredRun, lease: Lease | None, clock: int) -> None:
    """Every save is taken, whoever sends it."""


def no_repeat(_: Entry, run: StoredRun, lease: Lease | None) -> bool:
    return False


def unseen_ignored(run: StoredRun, records: int) -> int | None:
    return run.wake_at


def wakes_nobody(entry: Entry, now: int, wake: bool, clock: int) -> Entry | None:
    return None if entry.run.status.over else replace(entry, records=entry.records + 1)


def taken_from_anybody(entry: Entry, lease: Lease, clock: int) -> Entry:
    return replace(entry, token=lease.token, expires=clock + lease.ttl)


def a_millisecond_longer(entry: Entry, clock: int) -> bool:
    return entry.token is not None and entry.expires >= clock


def keeps_its_wake(entry: Entry, token: str, wake_at: int | None) -> Entry | None:
    return replace(entry, token=None, expires=0) if entry.token == token else None


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        ("_refusal", no_fence),
        ("_is_repeat", no_repeat),
        ("_wake_after_save", unseen_ignored),
        ("posted", wakes_nobody),
        ("taken", taken_from_anybody),
        ("released", keeps_its_wake),
    ],
)
def test_a_broken_rule_is_seen(rule: str, broken: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, rule, broken)
    fails(memory)


def test_a_lease_that_is_live_too_long_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Entry, "live", a_millisecond_longer)
    fails(memory)


def test_an_index_write_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    move = Line.move

    def forgetful(line: Line, run_id: str, to: tuple[str, int] | None) -> None:
        if to is None or to[1] != 2500:
            move(line, run_id, to)

    monkeypatch.setattr(Line, "move", forgetful)
    fails(memory)


def test_a_hint_left_out_of_the_files_index_is_seen(file: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Hints.add

    def forgetful(hints: Hints, key: str, pair: tuple[int, str]) -> None:
        if pair[0] != 2500:
            add(hints, key, pair)

    monkeypatch.setattr(Hints, "add", forgetful)
    fails(file)


class Broken:
    """A store of which one call is another."""

    def __init__(self, store: Store, name: str, call: Callable[..., Any]) -> None:
        self._store = store
        self._name = name
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, self._store) if name == self._name else getattr(self._store, name)


def drop_a_post(store: Store, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
    run = store.load(run_id, log=False)
    return run is not None and not run.status.over


def store_half(store: Store, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
    return store.save(run, new[:1], lease)


def renew_all(store: Store, tokens: Mapping[str, str], ttl: int) -> set[str]:
    store.renew(tokens, ttl)
    return set(tokens)


@pytest.mark.parametrize(("name", "call"), [("post", drop_a_post), ("save", store_half), ("renew", renew_all)])
def test_a_broken_call_is_seen_on_every_store(ground: Make, name: str, call: Callable[..., Any]) -> None:
    fails(ground, lambda store: Broken(store, name, call))
