"""FileStore keeps the contract; its directory, its clock, its index and its limits."""

import errno
import gc
import os
import shutil
import stat
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kvflow.errors import Corrupt, InvalidArgument, NotSupported, SchemaTooNew, StoreUnavailable, TooLarge
from kvflow.run import Lease, Status
from kvflow.stores import FileStore, file_disk, file_hints, file_lines, file_recovery, file_run, open_store
from kvflow.testing import FakeClock, Open, StoreContract
from kvflow.testing.runs import MINUTE, after, birth, get, hold, lease, refused, running, waiting


class TestFileStore(StoreContract):
    @pytest.fixture
    def open(self, tmp_path: Path) -> Open:
        return partial(FileStore, tmp_path / "store")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    with FileStore(tmp_path / "store") as opened:
        yield opened


def files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in (store / "runs").glob("*/*")}


# The directory


def test_only_the_owner_may_read_it(tmp_path: Path, store: FileStore) -> None:
    store.save(birth())
    hold(store)
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_names_are_readable_and_fit_any_file_system(tmp_path: Path, store: FileStore) -> None:
    ids = ["Order 17", "order 17", "../x", "\U0001f600" * 200, "e\u0301", "\u00e9", "a/b", "CON"]
    for run_id in ids:
        store.save(birth(run_id))
    names = [path.name for path in (tmp_path / "store" / "runs").glob("*/*")]
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(len(name) < 100 and name.isascii() and name == name.lower() for name in names)
    assert sum(name.startswith("order-17-") for name in names) == 2


def test_urls_name_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, url in enumerate((f"file:{tmp_path}/a", f"file://{tmp_path}/a", "file:a")):
        with open_store(url) as store:
            store.save(birth(f"run {number}"))
            assert len(store.list(10)) == number + 1
    with open_store("file:a", prefix="shop") as store:
        assert store.list(10) == []
    with refused(InvalidArgument, saying="file:rel"):
        open_store("file://host/a")


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FileStore("here")
    monkeypatch.chdir("/")
    store.save(birth())
    assert get(FileStore(tmp_path / "here")).run_id == "a"


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bad: Any
    for bad in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(InvalidArgument, saying=str(bad)):
            FileStore(bad)
    for bad in ("", None, 7, b"bytes", "a\0b"):
        with refused(InvalidArgument, saying="path"):
            FileStore(bad)
    for bad in (0, -1, float("inf"), "5", True):
        with refused(InvalidArgument, saying="timeout"):
            FileStore(tmp_path, timeout=bad)


def test_a_platform_without_flock_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_disk, "fcntl", None)
    with refused(NotSupported, saying="Linux and macOS"):
        FileStore(tmp_path)


def test_a_newer_layout_is_refused(tmp_path: Path, store: FileStore) -> None:
    (tmp_path / "store" / "format").write_text('{"kvflow": 2, "more": true}')
    with refused(SchemaTooNew, saying="schema 2"):
        FileStore(tmp_path / "store")
    (tmp_path / "store" / "format").write_text("?")
    with refused(Corrupt, saying="format"):
        FileStore(tmp_path / "store")


def test_a_directory_that_went_away_is_unavailable(tmp_path: Path, store: FileStore) -> None:
    store.save(birth())
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    for call in (
        lambda: store.save(birth("b")),
        lambda: store.load("a"),
        lambda: store.claim(1000, 10, lease()),
        lambda: store.due(1000, 10),
        lambda: store.list(10),
    ):
        with refused(StoreUnavailable, saying=str(tmp_path / "store")):
            call()
    (tmp_path / "elsewhere").rename(tmp_path / "store")
    store.save(birth("b"))
    assert store.due(1000, 10) == ["a", "b"]


def test_it_works_again_after_close(store: FileStore) -> None:
    store.save(birth())
    before = len(os.listdir("/dev/fd"))
    store.due(1000, 10)
    store.close()
    assert len(os.listdir("/dev/fd")) < before
    assert store.due(1000, 10) == ["a"]


def test_a_store_that_is_dropped_gives_its_files_back(tmp_path: Path) -> None:
    gc.collect()  # what tests before this one dropped is none of its business
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        store = FileStore(tmp_path)
        store.claim(2**53, 10, lease())
        store.save_many([(birth(f"run {number}"), (), None) for number in range(20)])
        del store
    gc.collect()
    assert len(os.listdir("/dev/fd")) <= before


def test_few_files_are_kept_open(store: FileStore) -> None:
    store.save_many([(birth(f"run {n}", workflow=f"w{n}", wake_at=n * file_hints.WIDTH), (), None) for n in range(300)])
    assert len(store.claim(2**53, 300, lease())) == 300
    assert len(os.listdir("/dev/fd")) < 200


# Clocks


def test_leases_run_out_by_the_clock_given(tmp_path: Path) -> None:
    clock = FakeClock()
    store = FileStore(tmp_path, clock)
    store.save(birth())
    assert store.acquire("a", Lease("mine", 1000)) is not None
    clock.advance(timedelta(seconds=0.999))
    assert store.acquire("a", lease()) is None
    clock.advance(timedelta(seconds=0.001))
    assert store.due(0, 1) == ["a"]
    assert store.next_wake() == round(clock().timestamp() * 1000)


def test_a_lease_that_ran_out_and_that_nobody_has_seen_yet_hides_no_earlier_wake(tmp_path: Path) -> None:
    clock = FakeClock()
    store = FileStore(tmp_path, clock)
    for run_id in ("a", "b"):
        store.save(birth(run_id, wake_at=0))
    hold(store, "a", ttl=1)
    clock.advance(timedelta(seconds=1))
    assert store.next_wake() == 0


def test_a_lease_cut_short_by_a_save_runs_out_earlier(tmp_path: Path) -> None:
    clock = FakeClock()
    store = FileStore(tmp_path, clock)
    store.save(birth())
    for version, token in ((2, "claimed"), (3, "claimed")):
        store.acquire("a", Lease(token, MINUTE))
        store.save(running(version=version), lease=Lease(token, 10))
        assert store.due(0, 1) == []
        clock.advance(timedelta(seconds=0.01))
        assert store.due(0, 1) == ["a"]


# The index


def test_the_index_is_made_anew_after_a_boot(tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        store.save(birth(f"run {number:02}", workflow=f"w{number % 3}", wake_at=number, created_at=number))
    store.save(running("born held"), lease=Lease("born", MINUTE))
    store.save(waiting("waits", created_at=100))
    mine = Lease("mine", 1)
    assert len(store.claim(0, 1, mine)) == 1
    while not store.due(0, 1):
        pass
    assert [run.attempt for run in store.claim(0, 1, Lease("second", MINUTE))] == [1]
    shutil.rmtree(tmp_path / "store" / "index")  # none of it was synced
    monkeypatch.setattr(file_recovery, "boot", lambda: "another boot")
    again = FileStore(tmp_path / "store")
    assert (tmp_path / "store" / "index" / "boot").read_text() == "another boot"
    assert get(again, "run 00").attempt == 1
    assert again.due(1000, 100) == [f"run {number:02}" for number in range(1, 20)]
    assert [run.run_id for run in again.list(2)] == ["waits", "run 19"]
    assert again.renew({"born held": "born", "run 00": "second"}, MINUTE) == {"born held", "run 00"}
    assert again.claim(1000, 1, lease(), ["w2"])[0].run_id == "run 02"


def test_a_boot_that_finds_a_bad_file_goes_on(
    tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for run_id in "abc":
        store.save(birth(run_id))
    bad = next((tmp_path / "store" / "runs").glob("*/b-*"))
    bad.write_bytes(bad.read_bytes()[:50])
    monkeypatch.setattr(file_recovery, "boot", lambda: "another boot")
    assert FileStore(tmp_path / "store").due(1000, 10) == ["a", "c"]
    assert str(bad) in caplog.text
    with refused(Corrupt, saying=str(bad)):
        store.load("b")


def test_garbled_lines_have_the_index_made_anew(tmp_path: Path, store: FileStore) -> None:
    for number in range(5):
        store.save(birth(f"run {number}"))
    mine, _ = hold(store, "run 4")
    for name in ("leases", "index/wakes/buckets", "index/births/buckets"):
        path = tmp_path / "store" / name
        path.write_bytes(path.read_bytes() + b"\xff garbage\n?\t?\n")
        other = FileStore(tmp_path / "store")
        other.list(10)
        assert other.due(1000, 10) == [f"run {number}" for number in range(4)]
        assert other.due(1000, 10) == store.due(1000, 10)
        assert b"garbage" not in path.read_bytes()
        assert other.renew({"run 4": mine.token}, MINUTE) == {"run 4"}


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path, store: FileStore) -> None:
    store.save(birth("a"))
    (bucket,) = (tmp_path / "store" / "index" / "wakes").glob("w-*/0")
    for torn in (b"+", b"+\t9", b"+\t900\tb"):
        with bucket.open("ab") as file:
            file.write(torn)
        name = f"after {torn.decode()[-1]}".strip()
        FileStore(tmp_path / "store").save(birth(name, wake_at=999))
        assert store.due(999, 10)[-1] == name
        store.delete(name)
    assert store.due(1000, 10) == ["a"]


def test_stale_hints_are_taken_away(tmp_path: Path, store: FileStore) -> None:
    for number in range(10):
        store.save(birth(f"run {number}", wake_at=5))
    for number in range(9):
        store.save(birth(f"run {number}", version=2, wake_at=1000 - number))
    store.delete("run 9")
    (bucket,) = (tmp_path / "store" / "index" / "wakes").glob("w-*/0")
    assert store.next_wake() == 992
    assert store.due(1000, 100) == [f"run {number}" for number in range(8, -1, -1)]
    assert bucket.read_text().count("-\t5\t") == 10


def test_a_run_that_changes_its_workflow_is_found_under_the_new_one(store: FileStore) -> None:
    store.save(birth(workflow="old"))
    store.save(birth(workflow="new", version=2, created_at=11))
    assert store.claim(1000, 10, lease(), ["old"]) == []
    mine, _ = hold(store)
    store.save(running(workflow="newest", version=3, created_at=12), lease=Lease(mine.token, 1))
    while not store.due(0, 1):
        pass
    assert store.claim(0, 10, lease(), ["new"]) == []
    assert [run.run_id for run in store.claim(0, 10, lease(), ["newest"])] == ["a"]
    assert [run.created_at for run in store.list(10)] == [12]


def test_files_of_lines_are_kept_short(tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_lines, "_REWRITE", 20)
    other = FileStore(tmp_path / "store")
    store.save(birth())
    for number in range(100):
        mine = lease()
        holder = (store, other)[number % 2]
        assert len(holder.claim(1000, 10, mine)) == 1
        holder.release("a", mine)
    for lines in (tmp_path / "store" / "leases", *(tmp_path / "store" / "index" / "wakes").glob("w-*/0")):
        assert lines.read_text().count("\n") < 50
    assert other.due(1000, 10) == store.due(1000, 10) == ["a"]


def test_buckets_of_the_past_are_removed_when_they_are_empty(tmp_path: Path, store: FileStore) -> None:
    for number in range(5):
        store.save(birth(f"run {number}", wake_at=number * file_hints.WIDTH))
    buckets = tmp_path / "store" / "index" / "wakes"
    assert len(list(buckets.glob("w-*/*"))) == 5
    assert len(store.claim(2 * file_hints.WIDTH, 10, lease())) == 3
    assert sorted(path.name for path in buckets.glob("w-*/*")) == ["3", "4"]
    store.save(birth("again", wake_at=7))
    assert FileStore(tmp_path / "store").due(2 * file_hints.WIDTH, 10) == ["again"]


def test_buckets_emptied_in_their_own_time_are_removed_later(tmp_path: Path) -> None:
    clock = FakeClock()
    store, other = FileStore(tmp_path, clock), FileStore(tmp_path, clock)

    def now() -> int:
        return round(clock().timestamp() * 1000)

    for number in range(20):
        first = now()
        store.save(birth("a", wake_at=first, created_at=first))
        store.save(birth("other", wake_at=first, created_at=first, workflow="never claimed"))
        mine = lease()
        assert [run.run_id for run in (store, other)[number % 2].claim(first, 10, mine, ["w"])] == ["a"]
        store.delete("a")
        store.delete("other")
        clock.advance(timedelta(milliseconds=2 * file_hints.WIDTH))
        assert other.claim(now(), 10, lease(), ["w"]) == []
        assert other.list(10) == []
        assert not list(tmp_path.glob("index/wakes/w-*/*"))
        assert not list(tmp_path.glob("index/births/all-*/*"))
        store.save(birth("late", wake_at=first, created_at=first))
        assert store.list(10) == other.list(10) != []
        assert other.due(now(), 10) == store.due(now(), 10) == ["late"]
        assert len(list(tmp_path.glob("index/wakes/w-*/*"))) == 1, "a bucket with a hint was removed"
        other.delete("late")
    assert store.due(now(), 10) == []
    assert not list(tmp_path.glob("index/wakes/*/*"))
    assert len((tmp_path / "index" / "wakes" / "buckets").read_text()) < 10_000


# Dead heads


def test_dead_heads_are_left_behind(tmp_path: Path, store: FileStore) -> None:
    mine = lease()
    store.save(running(snapshot=b"s" * 2000), [b"first"], mine)
    sizes = list[int]()
    for version in range(2, 200):
        store.save(running(version=version, seen=version - 1, snapshot=b"%d" % version * 700), [b"record"], mine)
        sizes.append(sum(map(len, files(tmp_path / "store").values())))
    assert max(sizes) < 90_000
    assert sum(late < early for early, late in pairwise(sizes)) >= 3
    run = get(store)
    assert (run.log, run.snapshot) == ((b"first", *[b"record"] * 198), b"199" * 700)
    assert store.renew({"a": mine.token}, MINUTE) == {"a"}
    store.save(after(run, seen=199, status=Status.COMPLETED), lease=mine)


def test_a_rewrite_keeps_a_lease_that_lies_beside(tmp_path: Path, store: FileStore) -> None:
    store.save(birth(), [b"x" * 5000 for _ in range(10)])
    mine, _ = hold(store)
    (path,) = (tmp_path / "store" / "runs").glob("*/*")
    opened = file_run.RunFile.open(str(path))
    assert opened is not None
    with opened:
        opened.rewrite()
    assert store.renew({"a": mine.token}, MINUTE) == {"a"}
    assert len(get(store).log) == 10


def test_long_logs_are_parted(store: FileStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file_run, "_CHUNK", 100)
    log = [b"%d" % number * 20 for number in range(50)]
    store.save(birth(), log)
    assert get(store).log == tuple(log)
    assert get(store) == get(FileStore(tmp_path / "store"))


def test_a_rewrite_that_fails_takes_nothing_back(
    tmp_path: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_run, "_DEAD", 1)

    def fail(path: str, data: bytes, durable: bool = True) -> None:
        raise OSError(errno.ENOSPC, "no space", path)

    monkeypatch.setattr(file_run, "replace_file", fail)
    store.save(birth())
    for version in range(2, 40):
        store.save(birth(version=version, snapshot=b"s" * 1000))
    assert "keeps its dead heads" in caplog.text
    assert get(FileStore(tmp_path / "store")).version == 39


# Limits


def test_what_no_append_may_hold_is_too_large(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_run, "LARGEST", 1000)
    store.save(birth(snapshot=b"x" * 1000))
    with refused(TooLarge, saying="1000"):
        store.save(birth("b", snapshot=b"x" * 1001))
    with refused(TooLarge, saying="1000"):
        store.save(birth("b"), [b"x" * 500] * 2)
    with refused(TooLarge, saying="1000"):
        store.post("a", b"x" * 1001, 5)
    assert [type(outcome) for outcome in store.save_many([(birth("b", snapshot=b"x" * 1001), (), None)])] == [TooLarge]
    assert store.load("b") is None
    assert get(store).log == ()


def test_a_long_listing_gives_others_their_turn(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvflow.stores.file._LISTED", 3)
    for number in range(10):
        store.save(birth(f"run {number}", status=Status.FAILED if number % 3 else Status.COMPLETED))
    assert [run.run_id for run in store.list(7)] == [f"run {number}" for number in range(9, 2, -1)]
    assert [run.run_id for run in store.list(10, status="completed")] == ["run 9", "run 6", "run 3", "run 0"]
    assert len(store.list(100)) == 10
