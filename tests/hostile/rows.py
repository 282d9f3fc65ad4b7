"""Rows that no kvflow wrote, in the tables of a SQL store, beside a neighbour's: whatever the columns can hold.

The tables' own checks are taken away first, for whoever writes rows by hand may have taken them away too.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import hypothesis.strategies as st
import psycopg
from hypothesis.strategies import SearchStrategy

from hostile.decoders import Attack, good, order
from hostile.inputs import EVIL, HEADS, RECORDS, SPECIAL
from kvflow import Corrupt, KvflowError, Lease, Runtime, Status, Store, StoredRun, StoreUnavailable
from kvflow.checks import check_run_id, check_stored
from kvflow.records import encode_head, encode_record
from kvflow.stores import open_store
from kvflow.stores.mysql_url import dialler
from kvflow.testing import FakeClock
from kvflow.testing.runs import birth, get, lease
from servers.tables import drop

ENDS = (-(2**63), 2**63 - 1)
NUMBERS = st.sampled_from([0, 1, 2, 3, -1, -2, *ENDS, ENDS[1] - 1, 2**53, 2**53 + 1])
TEXTS = st.sampled_from([*EVIL, "", "\n", "a\nb", "\t", "\x1b[2J", "x" * 300])
STATUSES = st.sampled_from([*Status, "done", "", "RUNNING", "-"])
SNAPSHOTS = HEADS.map(encode_head) | st.sampled_from(SPECIAL) | st.binary(max_size=20)

BAD: dict[str, Any] = {
    "run_id": "bad",
    "workflow": "w",
    "status": "suspended",
    "version": 1,
    "wake_at": 0,
    "event": None,
    "attempt": 0,
    "created_at": 20,
    "updated_at": 20,
    "snapshot": b"\x80",
    "records": 2,
    "log_size": 6,
    "token": None,
    "expires_at": None,
    "writer": None,
}
"""A row that is right, but for what is changed in it."""

LEFT = ("run_id", "workflow", "status", "version", "event", "created_at", "updated_at", "snapshot")
"""What no call changes of a run that cannot be read; its lease and its wake say when it is tried again."""


class Row(NamedTuple):
    """What is changed of a run's row, and where in its log which records are."""

    changes: Mapping[str, Any]
    log: Sequence[tuple[int, bytes]]


def rows(texts: SearchStrategy[Any], first: int) -> SearchStrategy[Row]:
    """Rows of a table whose names are such texts, and whose logs begin with this position."""
    numbers: dict[str, SearchStrategy[Any]] = dict.fromkeys(
        ("version", "attempt", "created_at", "updated_at", "records", "log_size"), NUMBERS
    )
    values = numbers | {
        "run_id": texts,
        "workflow": texts,
        "status": STATUSES,
        "wake_at": st.none() | NUMBERS,
        "event": texts,
        "snapshot": SNAPSHOTS,
        "token": st.none() | texts,
        "expires_at": st.none() | NUMBERS,
        "writer": st.none() | texts,
    }
    change = st.sampled_from(sorted(values)).flatmap(lambda name: st.tuples(st.just(name), values[name]))
    record = RECORDS.map(encode_record) | st.binary(max_size=5)
    whole = st.tuples(record, record).map(lambda log: [*enumerate(log, first)])
    holed = st.lists(
        st.tuples(NUMBERS if first else NUMBERS.filter(lambda at: at >= 0), record),
        max_size=4,
        unique_by=lambda one: one[0],
    )
    return st.builds(Row, st.lists(change, max_size=3).map(dict), whole | whole | holed)


def answer(call: Callable[[], object]) -> object:
    """What the call gives, or the ``KvflowError`` that it raises; the server is there, so it is not to be blamed."""
    try:
        return call()
    except StoreUnavailable:
        raise
    except KvflowError as error:
        return error


class Ground:
    """The tables of one prefix, by the store and by plain SQL beside it."""

    size = "log_size"

    def __init__(self, url: str) -> None:
        self.url, self.prefix = url, f"hostile_{uuid.uuid4().hex[:12]}"
        self.store: Store = open_store(url, prefix=self.prefix, timeout=5.0)
        self.store.next_wake()
        self.open()

    def close(self) -> None:
        self.store.close()
        self.admin.close()
        drop(self.url, self.prefix)

    # In words of the server's own

    texts: SearchStrategy[Any]
    first: int
    runs: str
    admin: Any

    def open(self) -> None:
        """Connect, and take the tables' checks away."""
        raise NotImplementedError

    def records(self, run_id: Any, log: Sequence[tuple[int, bytes]]) -> None:
        """Put records where they are said to be."""
        raise NotImplementedError

    def unborn(self) -> None:
        """Put a record where the log of the next run of the id ``unborn`` would begin."""
        raise NotImplementedError

    def ask(self, sql: str, *values: object) -> Any:
        with self.admin.cursor() as cursor:
            cursor.execute(sql.replace("{p}", self.prefix), values)
            return cursor.fetchall() if cursor.description else ()

    # What is done with a row

    def place(self, row: Row, **right: Any) -> Any:
        """Put the row there; gives its id."""
        columns = {**BAD, **right, **row.changes}
        columns[self.size] = columns.pop("log_size")
        names = ", ".join(columns)
        self.ask(f"INSERT INTO {self.runs} ({names}) VALUES ({', '.join(['%s'] * len(columns))})", *columns.values())
        self.records(columns["run_id"], row.log)
        return columns["run_id"]

    def left(self, run_id: Any) -> Any:
        """What is stored that is to be left as it is where it cannot be read."""
        return self.ask(f"SELECT {', '.join(LEFT)} FROM {self.runs} WHERE run_id = %s", run_id)

    def empty(self) -> None:
        self.ask("DELETE FROM {p}_log")
        self.ask(f"DELETE FROM {self.runs}")

    def called(self, row: Row) -> None:
        """Every call of the contract answers, about the bad run too, and the neighbour is as it should be."""
        store, mine = self.store, lease()
        self.empty()
        store.save(birth("good", wake_at=500), [b"one"])
        stored = self.place(row)
        self.unborn()
        name = name_of(stored)
        before, read = self.left(stored), answer(lambda: store.load(name))
        if isinstance(read, StoredRun):
            assert answer(lambda: check_stored(read, read.seen)) is None
            places = dict(row.log)
            assert read.log == tuple(places.get(self.first + at) for at in range(len(read.log)))
        assert "good" in {run.run_id for run in paged(store)}
        assert "good" in store.due(1000, 10)
        for status in Status:
            answer(lambda status=status: store.list(10, None, status))  # type: ignore[misc]
        for call in (
            lambda: store.load(name, log=False),
            store.next_wake,
            lambda: store.next_wake([name, "w"]),
            lambda: store.renew({name: name, "good": name, "unborn": name}, 1000),
            lambda: store.save(birth(name)),
            lambda: store.save(birth(name), [b"one"], mine),
        ):
            answer(call)
        taken = set[str]()
        while "good" not in taken:
            claimed = store.claim(1000, 1, mine)
            assert claimed, "nothing was claimed, and the neighbour is due"
            taken |= {run.run_id for run in claimed}
        assert not isinstance(read, Corrupt) or self.left(stored) == before
        assert self.saved_beside(name, mine) == 0
        for call in (
            lambda: store.acquire(name, mine),
            lambda: store.renew({name: mine.token, "good": mine.token}, 60_000),
            lambda: store.post(name, b"x", 5, True),
            lambda: store.save(birth(name, version=2, seen=3), [b"x"]),
            lambda: store.save(birth(name, version=2), (), mine),
            lambda: store.release(name, mine),
            lambda: store.acquire(name, Lease(name, 1)),
            lambda: store.save(birth("unborn"), [b"x"]),
        ):
            answer(call)
        found = get(store, "good")
        assert (found.version, found.status, found.log) == (2, Status.SUSPENDED, (b"one", b"two"))
        store.delete(name)
        assert store.load(name) is None
        assert store.save(birth(name), [b"anew"]) == 0

    def saved_beside(self, name: str, mine: Lease) -> object:
        """What became of the neighbour's save, in a batch with some that cannot be."""
        outcomes = self.store.save_many(
            [
                (birth(name, version=2, seen=2), [b"x"], mine),
                (birth("unborn"), [b"x"], None),
                (birth("good", version=2, seen=1), [b"two"], mine),
                (birth(name, version=3, seen=3), [b"x"], None),
            ]
        )
        assert not any(isinstance(outcome, StoreUnavailable) for outcome in outcomes), outcomes
        return outcomes[2]

    def swept(self, given: Sequence[Row]) -> None:
        """One tick drives all neighbours, however many stand before them that cannot be driven."""
        self.empty()
        clock = FakeClock()
        with Runtime(self.store, workflows=[order, good], clock=clock) as runtime:
            for number in range(2):
                runtime.submit(good, number, run_id=f"good {number}")
            bad = [self.place(row, run_id=f"bad {at}", workflow="order") for at, row in enumerate(given)]
            before = {at: self.left(at) for at in bad if isinstance(answer(lambda at=at: self.load(at)), Corrupt)}  # type: ignore[misc]
            runtime.tick(60)
            listed = {run.run_id: run for run in runtime.list_runs(1000)}
            assert {listed[f"good {number}"].status for number in range(2)} == {Status.COMPLETED}
            assert {at: self.left(at) for at in before} == before

    def load(self, stored: Any) -> object:
        return self.store.load(name_of(stored))

    def attacks(self) -> dict[str, Attack]:
        row = rows(self.texts, self.first)
        several = st.lists(row, min_size=1, max_size=12, unique_by=lambda one: one.changes.get("run_id", id(one)))
        return {"rows": Attack(row, self.called, 15), "rows swept": Attack(several, self.swept, 4)}


def name_of(stored: str | bytes) -> str:
    """The id as a caller can give it; where it is none, another's, of whom nothing is stored."""
    with suppress(KvflowError, UnicodeDecodeError):
        name = stored.decode() if isinstance(stored, bytes) else stored
        check_run_id(name)
        return name
    return "nobody"


def paged(store: Store) -> list[StoredRun]:
    """All runs, as an operator turns the pages of a listing."""
    found: list[StoredRun] = []
    after: tuple[int, str] | None = None
    while page := store.list(1, after):
        found += page
        after = page[-1].created_at, page[-1].run_id
        assert len(found) < 10, "the pages have no end"
    return found


class PostgresGround(Ground):
    runs, first, texts = "{p}_run", 1, TEXTS

    def open(self) -> None:
        self.admin = psycopg.connect(self.url, autocommit=True)
        checks = "SELECT conname FROM pg_constraint WHERE conrelid = '{p}_run'::regclass AND contype = 'c'"
        for (check,) in self.ask(checks):
            self.ask(f"ALTER TABLE {self.runs} DROP CONSTRAINT {check}")

    def records(self, run_id: Any, log: Sequence[tuple[int, bytes]]) -> None:
        for seq, record in log:
            self.ask("INSERT INTO {p}_log (run_id, seq, record) VALUES (%s, %s, %s)", run_id, seq, record)

    def unborn(self) -> None:
        self.records("unborn", [(1, b"stray"), (2**63 - 1, b"stray")])


class MySQLGround(Ground):
    runs, first, size = "{p}_runs", 0, "log_bytes"
    texts = TEXTS.map(str.encode) | st.sampled_from([b"\xff", b"\0", b"\xed\xa0\x80", b"a\xff"])

    def open(self) -> None:
        self.admin = dialler(self.url)(5.0)
        for check in ("named", "counted", "timed", "leased", "wakes"):
            self.ask("ALTER TABLE {p}_runs DROP CONSTRAINT {p}_" + check)
        self.ask("ALTER TABLE {p}_log DROP CONSTRAINT {p}_in_order")
        self.ask("SET SESSION foreign_key_checks = 0")

    def records(self, run_id: Any, log: Sequence[tuple[int, bytes]]) -> None:
        for seq, record in log:
            into = "INSERT INTO {p}_log (id, seq, record) SELECT id, %s, %s FROM {p}_runs WHERE run_id = %s"
            self.ask(into, seq, record, run_id)

    def unborn(self) -> None:
        """Keys are given in turn: this is the next."""
        into = "INSERT INTO {p}_log (id, seq, record) SELECT MAX(id) + 1, 0, 'stray' FROM {p}_runs"
        self.ask(into)
