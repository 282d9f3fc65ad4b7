"""What is tried on whole stores finds what it is for: names that are taken for code, and one run that stops others."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hostile import test_native, test_rows, test_stores
from hostile.attack import run
from hostile.files import Ground as FileGround
from kvflow import KvflowError, Status, Store, StoredRun
from kvflow.driving import Driving
from kvflow.instance import AT_ONCE, Instance
from kvflow.stores import (
    FileStore,
    MemoryStore,
    PostgresStore,
    file_directory,
    file_leases,
    file_recovery,
    file_run,
    mysql_line,
    mysql_rows,
    mysql_statements,
    postgres_batch,
    postgres_rows,
    redis_heads,
)
from kvflow.stores.file_disk import file_name
from kvflow.stores.postgres_protocol import Statement
from kvflow.stores.redis_keys import Keys
from kvflow.stores.redis_urls import connector
from kvflow.testing import FakeClock

Patch = pytest.MonkeyPatch

# Names that are taken for code: each of these is how somebody could have written it


def quoted_by_hand(patch: Patch) -> None:
    """Quotes are doubled, and of backslashes nobody has thought."""
    patch.setattr(mysql_statements, "_text", _quoted)


def _quoted(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def matched_by_a_pattern(patch: Patch) -> None:
    """``LIKE`` where ``=`` was meant: names that hold wildcards are everybody's."""
    delete = mysql_statements.Statements.delete

    def like(self: mysql_statements.Statements, run_id: str) -> str:
        return delete(self, run_id).replace(" = ", " LIKE ")

    patch.setattr(mysql_statements.Statements, "delete", like)


def put_into_the_statement(patch: Patch) -> None:
    def delete(self: PostgresStore, run_id: str) -> None:
        self._write(Statement(f"DELETE FROM {self._prefix}_run WHERE run_id = '{run_id}'")())  # pyright: ignore[reportPrivateUsage]

    patch.setattr(PostgresStore, "delete", delete)


def escaped_in_part(patch: Patch) -> None:
    """Somebody took care of semicolons: what is left deletes everybody."""

    def delete(self: PostgresStore, run_id: str) -> None:
        where = f"run_id = '{run_id.split(';')[0].replace(chr(39), '') if ';' in run_id else run_id}'"
        self._write(Statement(f"DELETE FROM {self._prefix}_run WHERE {where}")())  # pyright: ignore[reportPrivateUsage]

    patch.setattr(PostgresStore, "delete", delete)


def trimmed_for_a_key(patch: Patch) -> None:
    def of(self: Keys, run_id: str) -> tuple[bytes, bytes]:
        return self.head + run_id.strip().encode(), self.log + run_id.strip().encode()

    patch.setattr(Keys, "of", of)


def parted_by_what_names_hold(patch: Patch) -> None:
    """The parts of an index entry are read as if no name held a slash."""

    def name(entry: bytes) -> bytes:
        return entry.rpartition(b"\n")[2].partition(b"/")[0]

    patch.setattr("kvflow.stores.redis_queue.name", name)


def a_path_as_it_is_given(patch: Patch) -> None:
    def path(self: file_directory.Directory, run_id: str) -> str:
        return f"{self.root}/runs/{file_name(run_id)[0][0]}/{run_id}.run"

    patch.setattr(file_directory.Directory, "path", path)


INJECTIONS: list[tuple[str, Callable[[Patch], None]]] = [
    ("mysql", quoted_by_hand),
    ("mysql", matched_by_a_pattern),
    ("postgres", put_into_the_statement),
    ("postgres", escaped_in_part),
    ("redis", trimmed_for_a_key),
    ("redis", parted_by_what_names_hold),
    ("file", a_path_as_it_is_given),
]


@pytest.mark.parametrize(("store", "broken"), INJECTIONS, indirect=["store"])
def test_a_name_taken_for_code_is_seen(store: Store, broken: Callable[[Patch], None]) -> None:
    neighbours = test_stores.with_neighbours(store)
    with pytest.MonkeyPatch.context() as patch:
        broken(patch)
        with pytest.raises((AssertionError, ValueError, KvflowError, OSError)):
            test_stores.test_strings_come_back_as_they_were_and_touch_nobody_else(store, neighbours)


# One run that stops others


def raised_by_the_sweep(patch: Patch) -> None:
    """What goes wrong with a run is whoever's who sweeps."""

    def defer(self: Driving, run: StoredRun, due: int, held: object, error: Exception) -> Generator[Any, Any, Any]:
        raise error
        yield

    patch.setattr(Driving, "_defer", defer)


def ended_where_one_was_put_back(patch: Patch) -> None:
    """Nothing is raised: there is only no sweep after one that met such a run."""
    sweep = Instance._sweep  # pyright: ignore[reportPrivateUsage]

    def swept(self: Instance, now: int, limit: int, *rest: Any) -> Any:
        driven = yield from sweep(self, now, min(limit, AT_ONCE), *rest)
        return [] if any(one.deferred for one in driven) else driven

    patch.setattr(Instance, "_sweep", swept)


@pytest.mark.parametrize("broken", [raised_by_the_sweep, ended_where_one_was_put_back])
def test_a_sweep_that_stops_at_a_corrupt_run_is_seen(
    broken: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, KvflowError)):
        test_stores.test_a_sweep_goes_on_to_the_neighbours(MemoryStore(), FakeClock(), Status.SUSPENDED)


# Rows, keys and files that are believed


def _nothing(*_: object) -> None:
    """A check that refuses nothing."""


def rows_believed(patch: Patch) -> None:
    for module in (postgres_rows, mysql_rows):
        patch.setattr(module, "check_stored", _nothing)


def batches_for_all_or_none(patch: Patch) -> None:
    def save_many(saves: Sequence[Any], save_batch: Callable[[Sequence[Any]], Any]) -> Any:
        return save_batch(saves)

    def save_batch(self: PostgresStore, batch: Sequence[Any]) -> Any:
        self._write(postgres_batch.call_of(batch, self._sql.save_many))  # pyright: ignore[reportPrivateUsage]

    patch.setattr("kvflow.stores.postgres.save_many", save_many)
    patch.setattr(PostgresStore, "_save_batch", save_batch)


def gaps_closed(patch: Patch) -> None:
    def add(log: list[bytes], seq: int, record: bytes) -> None:
        log.append(record)

    for module in ("mysql", "mysql_line"):
        patch.setattr(f"kvflow.stores.{module}.add", add)


def one_claim_in_vain(patch: Patch) -> None:
    """A claim gives what it got of the first that it took, and looks for no more."""
    patch.setattr(mysql_line, "_ROUNDS", 1)


ROWS: list[tuple[str, str, Callable[[Patch], None]]] = [
    ("postgres", "a name that nobody can ask for", rows_believed),
    ("mysql", "born before all time", rows_believed),
    ("postgres", "a lease from before all time", batches_for_all_or_none),
    ("mysql", "a stray record for one that is lost", gaps_closed),
    ("mysql", "no more records can be counted", one_claim_in_vain),
]


@pytest.mark.parametrize(("server", "found", "broken"), ROWS)
def test_a_row_that_stops_somebody_is_seen(
    request: pytest.FixtureRequest, server: str, found: str, broken: Callable[[Patch], None]
) -> None:
    url: str = request.getfixturevalue(f"{server}_url")
    with closing(test_rows.made(server, url)) as ground, pytest.MonkeyPatch.context() as patch:
        broken(patch)
        with pytest.raises((AssertionError, KvflowError)):
            ground.called(test_rows.FOUND[found])


def heads_taken_at_their_word(patch: Patch) -> None:
    def decode(run_id: bytes, lines: bytes, *rest: object) -> redis_heads.Head:
        return redis_heads.Head(*lines.decode().split("\n"))

    patch.setattr("kvflow.stores.redis_queue.decode", decode)


def test_a_key_that_stops_somebody_is_seen(redis_url: str) -> None:
    with closing(connector(redis_url)()) as client, pytest.MonkeyPatch.context() as patch:
        ground = test_native.Ground(client)
        heads_taken_at_their_word(patch)
        with pytest.raises((AssertionError, AttributeError, TypeError, ValueError)):
            run("keys and entries of Redis", test_native.KEYS, ground.keys, 20, shrink=False)
        test_native.empty(client)


def heads_unchecked(patch: Patch) -> None:
    patch.setattr(file_run, "check_sound", _nothing)
    patch.setattr(file_directory, "check_id", _nothing)


def told_in_other_words(patch: Patch) -> None:
    def corrupt(self: file_run.RunFile, why: str) -> ValueError:
        return ValueError(why)

    patch.setattr(file_run.RunFile, "_corrupt", corrupt)


def formats_believed(patch: Patch) -> None:
    patch.setattr(file_recovery, "UNDECODABLE", ())


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("run files", told_in_other_words),
        ("heads of run files", heads_unchecked),
        ("heads of run files", told_in_other_words),
        ("formats", formats_believed),
    ],
)
def test_a_file_that_stops_somebody_is_seen(
    tmp_path: Path, name: str, broken: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, attacked, _ = FileGround(tmp_path).attacks()[name]
    broken(monkeypatch)
    with pytest.raises(Exception) as seen:  # noqa: PT011 (whatever it is, it has to be seen)
        run(name, inputs, attacked, 200, shrink=False)
    assert not isinstance(seen.value, FileNotFoundError)


def test_a_line_that_stops_everybody_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised for text that is no number is not what is caught."""
    ground = FileGround(tmp_path)
    line = ground.files["leases"] + b"+\tmany\t0\t1\t0123456789abcdef\ttoken\tw\ta\n"
    ground.line_file(("leases", line))
    monkeypatch.setattr(file_leases, "_count", Decimal)
    with pytest.raises(ArithmeticError):
        ground.line_file(("leases", line))


def test_a_neighbour_that_was_changed_is_seen(tmp_path: Path) -> None:
    ground = FileGround(tmp_path)
    ground.fresh()
    with FileStore(ground.path) as store:
        ground.neighbours_are_well(store)
        store.post("good", b"one more", 5)
        with pytest.raises(AssertionError):
            ground.neighbours_are_well(store)
