"""A FileStore's files: whatever is in them stops nobody, and nobody but their owner may read them."""

import logging
import os
import shutil
import stat
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

import pytest

from hostile.attack import run, run_long
from hostile.files import Ground
from kvflow import Corrupt, KvflowError, Store, StoreUnavailable
from kvflow.stores import FileStore, open_store
from kvflow.testing.runs import birth, get, lease, refused, running

NAMES = ("run files", "heads of run files", "lines of index, leases and locks", "formats")


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_files_that_nobody_wrote_stop_nobody(ground: Ground, name: str) -> None:
    inputs, attacked, examples = ground.attacks()[name]
    run(name, inputs, attacked, examples)


@pytest.mark.chaos
@pytest.mark.parametrize("name", NAMES)
def test_files_that_nobody_wrote_stop_nobody_for_long(ground: Ground, name: str) -> None:
    run_long(name, *ground.attacks()[name])


# Who may read them


@pytest.fixture(params=[0o000, 0o022, 0o277, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Generator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def everything_once(store: FileStore) -> None:
    """Have every kind of file made, and those that are written anew be written anew."""
    store.save(birth("a"), [b"record"])
    for version in range(2, 60):
        store.save(birth("a", version=version, wake_at=version, seen=1, snapshot=b"x" * 4000))
    store.save(birth("b", wake_at=2**50))
    mine = lease()
    store.save(running("held"), lease=mine)
    for _ in range(1100):
        store.renew({"held": mine.token}, 60_000)
    store.claim(1000, 1, lease())
    store.post("b", b"event", 5, True)
    store.delete("b")


@pytest.mark.usefixtures("umask")
def test_every_file_is_its_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    root = tmp_path / "above" / "store"
    with FileStore(root) as store:
        leases = (root / "leases").stat().st_ino
        everything_once(store)
        assert (root / "leases").stat().st_ino != leases, "it should have been written anew"
    (root / "index" / "boot").write_text("another boot")
    with FileStore(root) as store:
        assert get(store).version == 59
    places = [root.parent, root, *root.rglob("*")]
    wrong = {
        str(place): oct(mode) for place in places if (mode := mode_of(place)) != (0o700 if place.is_dir() else 0o600)
    }
    assert wrong == {}
    assert len(places) > 30


def mode_of(place: Path) -> int:
    return stat.S_IMODE(place.lstat().st_mode)


def test_a_prefix_is_a_directory_of_its_owners_too(tmp_path: Path) -> None:
    with open_store(f"file:{tmp_path}/runs", prefix="shop") as store:
        store.save(birth())
    assert {mode_of(path) for path in tmp_path.rglob("*") if path.is_dir()} == {0o700}


def test_a_directory_that_others_may_write_to_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "store"
    root.mkdir()
    for mode, told in ((0o755, False), (0o700, False), (0o775, True), (0o777, True)):
        root.chmod(mode)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "kvflow.stores"), FileStore(root) as store:
            store.due(1000, 10)
        assert ("others may take runs away" in caplog.text) is told
        assert mode_of(root) == mode
        assert {mode_of(path) for path in root.rglob("*") if path.is_dir()} == {0o700}


def test_a_backup_restored_with_loose_modes_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "store"
    FileStore(root).save(birth())
    (root / "runs").chmod(0o755)
    (root / "leases").chmod(0o644)
    with caplog.at_level(logging.WARNING, "kvflow.stores"), FileStore(root) as store:
        assert get(store) == birth()
    assert f"{root}/runs has mode 755" in caplog.text
    assert f"{root}/leases has mode 644" in caplog.text


# Links that somebody has put there


def test_no_link_leads_a_write_elsewhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"not ours")
    secret.chmod(0o644)
    model, root = tmp_path / "model", tmp_path / "store"
    with FileStore(model) as store:
        store.save(birth("a"))
        store.save(birth("good"))
    places = [str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()]
    assert len(places) > 8
    for place in (*places, *(f"{place}.new" for place in places)):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(model, root)
        (root / place).unlink(missing_ok=True)
        (root / place).symlink_to(secret)
        for call in CALLS:
            with suppress(KvflowError), FileStore(root) as store:
                call(store)
        assert (secret.read_bytes(), mode_of(secret)) == (b"not ours", 0o644), place


CALLS: tuple[Callable[[Store], object], ...] = (
    lambda store: store.save(birth("a", version=2)),
    lambda store: store.save(birth("new")),
    lambda store: store.claim(1000, 10, lease()),
    lambda store: store.post("a", b"x", 5, True),
    lambda store: store.delete("new"),
)


def test_a_hard_link_beside_is_not_written_through(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"not ours")
    with FileStore(tmp_path / "store") as store:
        store.save(birth("a"))
        (path,) = (tmp_path / "store" / "runs").glob("*/a-*.run")
        store.delete("a")
        os.link(secret, path.with_name(path.name + ".new"))
        store.save(birth("a"))
        assert get(store) == birth("a")
    assert secret.read_bytes() == b"not ours"


def test_a_run_behind_a_link_is_corrupt_and_alone(tmp_path: Path) -> None:
    with FileStore(tmp_path / "other") as other:
        other.save(birth("a", snapshot=b"another store's"))
    with FileStore(tmp_path / "store") as store:
        store.save(birth("a"))
        store.save(birth("good"))
        (theirs,) = (tmp_path / "other" / "runs").glob("*/a-*.run")
        (mine,) = (tmp_path / "store" / "runs").glob("*/a-*.run")
        mine.unlink()
        mine.symlink_to(theirs)
        before = theirs.read_bytes()
        with refused(Corrupt, saying=str(mine)):
            store.load("a")
        with refused(Corrupt, saying=str(mine)):
            store.save(birth("a", version=2))
        assert [run.run_id for run in store.claim(1000, 10, lease())] == ["good"]
        store.delete("a")
        assert store.load("a") is None
    assert theirs.read_bytes() == before


@pytest.mark.parametrize("name", ["format", "index/boot", "leases", "index/wakes/buckets"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    root = tmp_path / "store"
    with FileStore(root) as store:
        store.save(birth())
    (root / name).unlink()
    os.mkfifo(root / name)
    with suppress(Corrupt, StoreUnavailable), FileStore(root, timeout=1) as store:
        store.due(1000, 10)


@pytest.mark.parametrize(
    "run_id", ["../../evil", "..", ".", "/etc/passwd", "a/b/c", "format", "leases", "\u2044", "~root", "$HOME"]
)
def test_an_id_that_is_a_path_stays_in_the_directory(tmp_path: Path, run_id: str) -> None:
    root = tmp_path / "deep" / "er" / "store"
    with FileStore(root) as store:
        store.save(birth(run_id, workflow=run_id, event=run_id), [b"record"])
        (claimed,) = store.claim(1000, 10, lease(), [run_id])
        assert claimed.run_id == run_id
        store.delete(run_id)
    outside = [path for path in tmp_path.rglob("*") if root not in path.parents and path not in (root, *root.parents)]
    assert outside == []
