"""Everything in kvflow that reads bytes which somebody else may have written, and what is done with each."""

import contextlib
import dataclasses
import datetime
import decimal
import enum
import io
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import hypothesis.strategies as st
import msgspec
import pydantic
from hypothesis.strategies import SearchStrategy
from msgspec.structs import replace

from hostile.inputs import GOOD_LOGS, HEADS, LOGS, NAMES, NUMBERS, PACKED, SNAPSHOTS, hostile
from hostile.watch import answered, check_harmless
from kvflow import Context, KvflowError, Runtime, Status, StoredRun, workflow
from kvflow.cli.output import as_json
from kvflow.cli.show import display
from kvflow.driving import read_run
from kvflow.info import described
from kvflow.records import Born, Posted, StepDone, decode_head, decode_log, encode_head, encode_record
from kvflow.rules import Entry
from kvflow.store import Derived
from kvflow.stores import MemoryStore
from kvflow.testing import FakeClock
from kvflow.testing.runs import birth, get, lease

NOW = 2_000_000_000_000


class Colour(enum.Enum):
    RED = "red"
    BLUE = "a"


class Line(msgspec.Struct):
    name: str
    count: int = 1
    rest: "list[Line]" = []


@dataclasses.dataclass
class Address:
    street: str
    when: datetime.datetime
    colour: Colour = Colour.RED


@attrs.define
class Customer:
    name: str
    address: Address | None = None


class Tree(pydantic.BaseModel):
    name: str
    below: "list[Tree]" = []
    when: datetime.datetime | None = None
    price: decimal.Decimal | None = None


TYPES: tuple[Any, ...] = (
    *(Any, int, str, bytes, float, bool, None, Line, Address, Customer, Tree, Colour, datetime.datetime),
    *(datetime.timedelta, decimal.Decimal, uuid.UUID, dict[str, Tree], list[Line], tuple[int, str], set[int]),
    *(dict[int, Line], frozenset[str], Line | None, dict[tuple[int, ...], str], list[Colour], msgspec.Raw),
)


def _made(wanted: type, value: Any) -> Any:
    return value


for wanted in TYPES:
    msgspec.msgpack.Decoder(wanted, dec_hook=_made)  # annotations that are text are looked up once


def head(snapshot: bytes) -> None:
    answered(lambda: decode_head("a", snapshot))


def log(records: tuple[bytes, ...]) -> None:
    answered(lambda: decode_log("a", records))


class Stored(NamedTuple):
    """What is stored of a run."""

    snapshot: bytes
    log: tuple[bytes, ...]
    status: Status = Status.SUSPENDED
    times: tuple[int, int] = (10, 10)

    def run(self) -> StoredRun:
        created_at, updated_at = self.times
        return birth(
            snapshot=self.snapshot, log=self.log, status=self.status, created_at=created_at, updated_at=updated_at
        )


STORED = st.builds(
    Stored,
    SNAPSHOTS | HEADS.map(encode_head),
    LOGS | GOOD_LOGS,
    st.sampled_from(Status),
    st.tuples(NUMBERS, NUMBERS),
)


def shown(stored: Stored) -> None:
    """As ``get_run``, ``kvflow show`` and its ``--json`` do."""

    def show() -> None:
        run = stored.run()
        info = described(run, *read_run(run))
        as_json(info)
        with contextlib.redirect_stdout(io.StringIO()) as said:
            display(info, json=False, traceback=True)
        check_harmless(said.getvalue())

    answered(show)


@workflow
def good(ctx: Context, payload: int) -> int:
    return payload


@workflow
def order(ctx: Context, payload: Line | int | str | None) -> Tree:
    """Reads all that a record can hold, as types of several kinds."""

    def make() -> Customer:
        return Customer("x")

    def tree() -> Tree:
        return Tree(name="x")

    ctx.step("a", make, compensate=lambda customer: None)
    ctx.wait_for_event("b", "m", timeout=60, type=Tree, default=None)
    ctx.parallel("p", {"a": make, "b": tree})
    ctx.child("c", "good", 1)
    ctx.sleep("m", 60)
    return ctx.step("order", tree)


def born(raw: bytes) -> bytes:
    return encode_record(Born(at=1, payload=msgspec.Raw(raw), nonce="n"))


def done(step_id: str, raw: bytes) -> bytes:
    return encode_record(StepDone(at=1, id=step_id, result=msgspec.Raw(raw)))


def posted(raw: bytes) -> bytes:
    return encode_record(Posted(at=1, message="x", event="m", payload=msgspec.Raw(raw)))


GOOD_RECORDS = st.one_of(
    PACKED.map(born), st.builds(done, st.sampled_from(["a", "p/a", "order"]), PACKED), PACKED.map(posted)
)
PLAYABLE = st.lists(GOOD_RECORDS, max_size=3).map(tuple)


def driven(stored: Stored) -> None:
    """Whatever a run's bytes are, a sweep drives its neighbours, and every call about it gives an answer."""
    clock = FakeClock()
    store = MemoryStore(clock)
    with Runtime(store, workflows=[order, good], clock=clock) as runtime:
        store.save(birth("bad", workflow="order", snapshot=stored.snapshot, status=stored.status), stored.log)
        for number in range(2):
            runtime.submit(good, number, run_id=f"good {number}")

        def everything() -> None:
            for call in (
                runtime.sweep,
                lambda: runtime.signal("bad", "m", 1),
                lambda: runtime.cancel("bad"),
                lambda: runtime.retry("bad"),
                lambda: runtime.resume("bad"),
                lambda: runtime.get_run("bad"),
                lambda: runtime.trigger(order, None, run_id="bad"),
                lambda: runtime.tick(0.1),
            ):
                answered_within(call)

        answered(everything)
        listed = {run.run_id: run for run in runtime.list_runs()}
        for number in range(2):
            assert listed[f"good {number}"].status is Status.COMPLETED


def answered_within(call: Callable[[], object]) -> None:
    """A call that is watched already: only its error is judged."""
    with contextlib.suppress(KvflowError):
        call()


ENTRY = st.builds(
    Entry,
    run=st.builds(
        StoredRun,
        run_id=NAMES,
        workflow=NAMES,
        status=st.sampled_from(Status),
        version=NUMBERS,
        wake_at=st.none() | NUMBERS,
        event=st.none() | NAMES,
        attempt=NUMBERS,
        created_at=NUMBERS,
        updated_at=NUMBERS,
        snapshot=st.binary(max_size=5),
        seen=NUMBERS,
    ),
    records=NUMBERS,
    token=st.none() | NAMES,
    expires=NUMBERS,
    writer=st.none() | NAMES,
)


def _of_a(entry: Entry) -> Entry:
    return replace(entry, run=replace(entry.run, run_id="a"))


OF_A = ENTRY.map(_of_a)
"""Entries that say to be of the run in whose place they are."""

ENTRIES = hostile((ENTRY | OF_A).map(msgspec.msgpack.encode))


def derived(snapshot: bytes) -> None:
    """A run whose wrapped snapshot is none: every call about it answers, and its neighbour is as it was."""
    inner = MemoryStore(lambda: NOW)
    store = Derived(inner, lambda: NOW)
    store.save(birth("good", wake_at=5), [b"record"])
    inner.save(birth("a", wake_at=0, snapshot=snapshot))
    before = get(store, "good")

    def everything() -> None:
        mine = lease()
        for call in (
            lambda: store.load("a"),
            lambda: store.due(NOW, 10),
            lambda: store.next_wake(),
            lambda: store.list(10),
            lambda: store.renew({"a": "a"}, 1000),
            lambda: store.post("a", b"x", 5, True),
            lambda: store.save(birth("a", version=2)),
            lambda: store.release("a", mine),
            lambda: store.acquire("a", mine),
            lambda: store.save_many([(birth("a"), (), None)]),
        ):
            answered_within(call)
        claimed = {run.run_id for run in store.claim(NOW, 10, mine)}
        assert "good" in claimed
        assert claimed <= {"good", "a"}
        store.release("good", mine, wake_at=5)

    answered(everything)
    assert get(store, "good") == before


def value(given: tuple[Any, bytes]) -> None:
    """A payload's bytes as some type, as a body is given it, in a run that is driven."""
    wanted, raw = given

    def body(ctx: Context, payload: Any) -> None:
        ctx.step("a", nothing)
        ctx.wait_for_event("b", "m", type=wanted)

    def nothing() -> Any:
        return None

    body.__annotations__["payload"] = nothing.__annotations__["return"] = wanted
    typed = workflow(body)
    clock = FakeClock()
    store = MemoryStore(clock)
    store.save(birth("bad", workflow="body", snapshot=b"\x80"), [born(raw), done("a", raw), posted(raw)])
    with Runtime(store, workflows=[typed, good], clock=clock) as runtime:
        answered(runtime.sweep)
        answered(lambda: runtime.get_run("bad"))


_JSON_ABLE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


def given_payload(given: tuple[Any, Any]) -> None:
    """A payload as a caller gives it."""
    wanted, payload = given

    def body(ctx: Context, payload: Any) -> None:
        return None

    body.__annotations__["payload"] = wanted
    typed = workflow(body)
    with Runtime(MemoryStore(), workflows=[typed]) as runtime:
        answered(lambda: runtime.trigger(typed, payload))
        answered(lambda: runtime.submit(typed, payload))
        runtime.submit(typed, None, run_id="there") if wanted is Any else None
        answered(lambda: runtime.signal("there", "m", payload))


class Attack(NamedTuple):
    """What is tried, what is done with it, and how often in ``make test``."""

    inputs: SearchStrategy[Any]
    attacked: Callable[[Any], None]
    examples: int


ATTACKS = {
    "heads": Attack(SNAPSHOTS, head, 400),
    "logs": Attack(LOGS, log, 400),
    "runs shown": Attack(STORED, shown, 300),
    "runs driven": Attack(STORED, driven, 200),
    "runs replayed": Attack(st.builds(Stored, HEADS.map(encode_head), PLAYABLE), driven, 100),
    "Derived's snapshots": Attack(ENTRIES, derived, 200),
    "values as types": Attack(st.tuples(st.sampled_from(TYPES), hostile(PACKED)), value, 150),
    "payloads as types": Attack(st.tuples(st.sampled_from(TYPES), _JSON_ABLE), given_payload, 150),
}
