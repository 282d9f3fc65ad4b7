"""A FileStore's run files that were torn, cut, or garbled: what is missing at the end is cut, what is wrong is kept."""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvflow.errors import Corrupt, StoreUnavailable
from kvflow.stores import FileStore, file_directory
from kvflow.stores.file_run import RunFile
from kvflow.testing.runs import MINUTE, birth, expire, get, lease, refused, running, waiting


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    with FileStore(root) as opened:
        yield opened


def the_file(root: Path, name: str = "a") -> Path:
    (path,) = (root / "runs").glob(f"*/{name}-*.run")
    return path


def written(store: FileStore, root: Path, *steps: Callable[[], object]) -> tuple[Path, list[bytes]]:
    """The run's file, and its bytes after each step."""
    states = list[bytes]()
    for step in steps:
        step()
        states.append(the_file(root).read_bytes())
    return the_file(root), states


# A torn last append


def test_a_torn_append_is_cut_at_every_length(store: FileStore, root: Path) -> None:
    path, (_, whole, torn) = written(
        store,
        root,
        lambda: store.save(birth()),
        lambda: store.save(birth(version=2, wake_at=700), [b"kept"]),
        lambda: store.save(birth(version=3), [b"torn", b"off"]),
    )
    for length in range(len(whole), len(torn)):
        path.write_bytes(torn[:length])
        assert store.due(700, 10) == ["a"]
        run = get(store)
        assert (run.version, run.log) == (2, (b"kept",))
        assert path.stat().st_size == length, "a reader cut the tail"
        store.save(birth(version=3, seen=1), [b"again"])
        assert get(FileStore(root)).log == (b"kept", b"again")
        path.write_bytes(torn)
        assert get(store).version == 3


def test_sectors_that_never_reached_the_disk_are_a_torn_append(store: FileStore, root: Path) -> None:
    path, (whole, torn) = written(
        store,
        root,
        lambda: store.save(birth()),
        lambda: store.save(birth(version=2), [b"x" * 3000]),
    )
    for start in range(len(whole) - len(whole) % 512, len(torn), 512):
        lost = bytearray(torn)
        lost[max(start, len(whole)) : start + 512] = bytes(len(torn[max(start, len(whole)) : start + 512]))
        path.write_bytes(lost)
        with RunFile(str(path), os.open(path, os.O_RDWR)) as file:
            assert file.recover().entry.run.version == 1
        assert path.read_bytes()[28:] == whole[28:]
        assert get(store).version == 1


def test_a_longer_torn_tail_leaves_nothing_behind_a_shorter_append(store: FileStore, root: Path) -> None:
    path, (_, torn) = written(
        store,
        root,
        lambda: store.save(birth()),
        lambda: store.save(birth(version=2), [b"x" * 100_000]),
    )
    path.write_bytes(torn[:-1])
    store.save(birth(version=2), [b"short"])
    assert get(store).log == (b"short",)
    assert path.stat().st_size < 2000


def test_a_writer_that_died_is_settled_by_the_next(store: FileStore, root: Path) -> None:
    """As after a kill between append and sync: the note in the stripe names the run."""
    path, (whole, torn) = written(
        store,
        root,
        lambda: store.save(birth()),
        lambda: store.save(birth(version=2), [b"record"]),
    )
    directory = file_directory.Directory(str(root))
    stripe = root / "locks" / f"stripe-{path.parent.name}"
    for tail, version in ((torn, 2), (torn[:-7], 1), (whole, 1)):
        path.write_bytes(tail)
        beside = path.with_name(path.name + ".new")
        beside.write_bytes(b"half a birth")
        stripe.write_bytes(b"1" + directory.note("a").encode() + b"\n\n")
        assert get(FileStore(root)).version == version
        assert path.read_bytes()[28:] == (torn if version == 2 else whole)[28:]
        assert not beside.exists()
        assert stripe.read_bytes()[:1] == b"0"


def test_a_writer_that_died_over_a_bad_file_stops_nobody(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, (whole,) = written(store, root, lambda: store.save(birth()))
    path.write_bytes(whole[:-3])
    stripe = root / "locks" / f"stripe-{path.parent.name}"
    stripe.write_bytes(b"1" + file_directory.Directory(str(root)).note("a").encode() + b"\n\n")
    with refused(Corrupt, saying=str(path)):
        store.load("a")
    assert path.read_bytes() == whole[:-3]
    assert str(path) in caplog.text
    assert stripe.read_bytes()[:1] == b"0"


# Truncated and garbled files


def test_a_file_that_ends_before_the_last_append_is_corrupt(store: FileStore, root: Path) -> None:
    path, (_, whole, last) = written(
        store,
        root,
        lambda: store.save(birth(), [b"one"]),
        lambda: store.save(birth(version=2), [b"two"]),
        lambda: store.save(birth(version=3), [b"three"]),
    )
    for length in range(len(whole)):
        path.write_bytes(last[:length])
        is_corrupt(store, path)


def test_a_birth_is_whole_or_not_there(store: FileStore, root: Path) -> None:
    path, (whole,) = written(store, root, lambda: store.save(birth(), [b"one"]))
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        is_corrupt(store, path)


def test_a_flipped_byte_anywhere_is_corrupt(store: FileStore, root: Path) -> None:
    path, (*_, whole) = written(
        store,
        root,
        lambda: store.save(birth(), [b"one"]),
        lambda: store.post("a", b"event", 5),
        lambda: store.save(birth(version=2, snapshot=bytes(600)), [b"two" * 100]),
    )
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with refused(Corrupt, saying=str(path)):
            store.load("a")
        with refused(Corrupt, saying=str(path)):
            store.acquire("a", lease())


def test_bytes_behind_the_last_append_are_corrupt(store: FileStore, root: Path) -> None:
    path, (*_, whole) = written(
        store, root, lambda: store.save(birth()), lambda: store.save(birth(version=2), [b"two"])
    )
    for more in (b"x", b"garbage" * 100):
        path.write_bytes(whole + more)
        is_corrupt(store, path)


def test_a_copy_of_a_frame_within_a_record_is_no_end(store: FileStore, root: Path) -> None:
    """A torn append whose record holds a copy of the file itself must not be read up to that copy."""
    path, (_, whole) = written(
        store, root, lambda: store.save(birth()), lambda: store.save(birth(version=2, snapshot=b"old"))
    )
    store.save(birth(version=3, snapshot=b"new"), [whole])
    torn = path.read_bytes()
    path.write_bytes(torn[: torn.index(whole[28:], len(whole)) + len(whole) - 28])
    assert get(store).snapshot == b"old"


def test_another_runs_file_is_corrupt(store: FileStore, root: Path) -> None:
    store.save(birth("a"))
    store.save(birth("b"))
    the_file(root, "b").write_bytes(the_file(root, "a").read_bytes())
    is_corrupt(store, the_file(root, "b"), "b")


def is_corrupt(store: FileStore, path: Path, run_id: str = "a") -> None:
    """Everything that needs the run says so, with its path, and leaves its bytes as they are."""
    before = path.read_bytes()
    for call in (
        lambda: store.load(run_id),
        lambda: store.load(run_id, log=False),
        lambda: store.acquire(run_id, lease()),
        lambda: store.save(birth(run_id, version=4)),
        lambda: store.save(birth(run_id)),
        lambda: store.post(run_id, b"event", 5),
        lambda: store.release(run_id, lease()),
    ):
        with refused(Corrupt, saying=str(path)):
            call()
    assert isinstance(store.save_many([(birth(run_id), (), None)])[0], Corrupt)
    assert path.read_bytes() == before


def test_a_bad_file_is_in_nobodys_way(store: FileStore, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        store.save(birth(f"bad {number}", wake_at=number))
        store.save(birth(f"good {number}", wake_at=100 + number))
    store.save(birth("bad 5"))
    expire(store, "bad 5")
    garbled = dict[Path, bytes]()
    for path in (root / "runs").glob("*/bad-*.run"):
        path.write_bytes(path.read_bytes()[:-20] + b"?" * 20)
        garbled[path] = path.read_bytes()
    assert len(garbled) == 6
    assert store.due(1000, 2) == ["good 0", "good 1"]
    assert store.next_wake() == 100
    assert sorted(run.run_id for run in store.list(100)) == [f"good {number}" for number in range(5)]
    assert [run.run_id for run in store.claim(1000, 100, lease())] == [f"good {number}" for number in range(5)]
    for path, before in garbled.items():
        assert str(path) in caplog.text
        assert path.read_bytes() == before
    caplog.clear()
    assert store.claim(1000, 100, lease()) == []
    assert store.renew({"bad 0": "token"}, MINUTE) == set()
    again = FileStore(root)
    assert again.claim(1000, 100, lease()) == []
    caplog.clear()
    assert again.due(2**53, 100) == []
    assert all(str(path) in caplog.text for path in garbled), "one of them would never be looked at again"


def test_a_file_that_is_put_right_is_found_again(store: FileStore, root: Path) -> None:
    store.save(birth())
    whole = the_file(root).read_bytes()
    the_file(root).write_bytes(b"?" * 100)
    assert store.claim(1000, 10, lease()) == []
    the_file(root).write_bytes(whole)
    assert [run.run_id for run in store.claim(2**53, 10, lease())] == ["a"]


def test_a_bad_file_can_be_deleted(store: FileStore, root: Path) -> None:
    store.save(birth())
    the_file(root).write_bytes(b"?")
    store.delete("a")
    assert store.load("a") is None
    store.save(birth())
    assert store.list(10) == [birth()]


def a_directory(path: Path) -> None:
    path.mkdir()


def a_loop(path: Path) -> None:
    path.symlink_to(path.name)


def a_link_through_a_file(path: Path) -> None:
    (path.parent / "file").touch()
    path.symlink_to("file/below")


def a_socket(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFSOCK)


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("put", [a_directory, a_loop, a_link_through_a_file, a_socket, a_pipe])
def test_what_is_no_file_is_in_nobodys_way(
    store: FileStore, root: Path, caplog: pytest.LogCaptureFixture, put: Callable[[Path], None]
) -> None:
    mine = lease()
    store.save(waiting())
    store.save(running("held"), lease=mine)
    store.save(birth("good"))
    path = the_file(root)
    path.unlink()
    put(path)
    for call in (
        lambda: store.load("a"),
        lambda: store.acquire("a", lease()),
        lambda: store.post("a", b"event", 5),
        lambda: store.save(birth()),
    ):
        with refused(Corrupt, saying=str(path)):
            call()
    stripe = root / "locks" / f"stripe-{path.parent.name}"
    stripe.write_bytes(b"1" + file_directory.Directory(str(root)).note("a").encode() + b"\n\n")
    assert [run.run_id for run in store.list(10)] == ["held", "good"]
    assert store.renew({"a": "token", "held": mine.token}, MINUTE) == {"held"}
    assert store.next_wake() == 1000
    shutil.rmtree(root / "index")
    again = FileStore(root)
    assert again.due(1000, 10) == ["good"]
    assert [run.run_id for run in again.claim(1000, 10, lease())] == ["good"]
    assert str(path) in caplog.text
    if put is a_directory:
        with refused(Corrupt, saying=str(path)):
            store.delete("a")
        path.rmdir()
    store.delete("a")
    assert store.load("a") is None
    store.save(birth())
    assert get(store) == birth()


def test_a_disk_that_fails_under_one_file_is_in_nobodys_way(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(birth())
    store.save(birth("good"))
    bad, read = the_file(root).stat().st_ino, os.pread

    def fail(fd: int, length: int, start: int) -> bytes:
        if os.fstat(fd).st_ino == bad:
            raise OSError(errno.EIO, "the disk failed")
        return read(fd, length, start)

    monkeypatch.setattr(os, "pread", fail)
    with refused(Corrupt, saying=str(the_file(root))):
        store.load("a")
    assert store.due(1000, 10) == ["good"]
    monkeypatch.undo()
    assert get(store) == birth()


def test_a_directory_that_may_not_be_read_is_unavailable(store: FileStore, root: Path) -> None:
    store.save(birth())
    part = the_file(root).parent
    part.rename(root / "away")
    part.touch()
    for call in (lambda: store.load("a"), lambda: store.due(1000, 10), lambda: store.list(10)):
        with refused(StoreUnavailable, saying=str(part)):
            call()
    part.unlink()
    (root / "away").rename(part)
    assert store.due(1000, 10) == ["a"]


def test_too_many_open_files_blame_no_run(store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save(birth())
    path, opened = str(the_file(root)), os.open

    def fail(file: str, flags: int, mode: int = 0o777) -> int:
        if file == path:
            raise OSError(errno.EMFILE, "too many", file)
        return opened(file, flags, mode)

    monkeypatch.setattr(os, "open", fail)
    with refused(StoreUnavailable, saying="ulimit"):
        store.due(1000, 10)
    monkeypatch.undo()
    assert store.due(1000, 10) == ["a"]
