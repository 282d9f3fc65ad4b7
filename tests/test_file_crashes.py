"""FileStore under kills, power cuts, forks, stopped processes and full disks: what was acknowledged is there."""

import errno
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from kvflow.errors import KvflowError, StoreUnavailable
from kvflow.run import Lease, Status, StoredRun
from kvflow.stores import FileStore, MemoryStore, file_disk, file_recovery, file_run
from kvflow.testing import FakeClock
from kvflow.testing.runs import MINUTE, after, birth, get, hold, lease, refused, running, until

IDS = ("a", "b", "c")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[FileStore]:
    with FileStore(root) as opened:
        yield opened


@contextmanager
def child(target: Callable[..., None], *args: object) -> Generator[tuple[BaseProcess, Connection]]:
    """Another process, and the pipe on which it says how far it is; killed in the end."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=True)
    process = context.Process(target=target, args=(*args, there), daemon=True)
    process.start()
    there.close()
    try:
        yield process, here
    finally:
        process.kill()
        process.join(20)
        here.close()


# Kill -9


def work(root: Path, seed: int, say: Connection) -> None:
    """Save, post, claim, release, delete and give birth as fast as it goes; tell of each before and after."""
    file_run._DEAD = 2000  # pyright: ignore[reportPrivateUsage] # so that files are written anew too
    chosen, store = random.Random(seed), FileStore(root)
    say.send(("ready", "", 0, 0))
    for step in range(1, 10**9):
        run_id = chosen.choice(IDS)
        run = store.load(run_id)
        if run is None:
            say.send(("birth", run_id, 1, 1))
            store.save(birth(run_id, created_at=step, snapshot=b"s" * 100), [b"%d" % step])
        elif step % 50 == 0:
            say.send(("delete", run_id, 0, 0))
            store.delete(run_id)
        elif step % 3 == 0:
            say.send(("post", run_id, run.version, run.seen + 1))
            store.post(run_id, b"%d" % step, 5)
        elif step % 5 == 0:
            say.send(("claim", run_id, run.version, run.seen))
            mine = lease()
            for held in store.claim(1000, 10, mine):
                store.release(held.run_id, mine)
        else:
            say.send(("save", run_id, run.version + 1, run.seen + 1))
            store.save(after(run, wake_at=step % 1000), [b"%d" % step])
        say.send(("done", run_id, 0, 0))


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_process_loses_nothing_it_was_told_and_leaves_nothing_half_done(root: Path, seed: int) -> None:
    known: dict[str, tuple[int, int]] = dict.fromkeys(IDS, (0, 0))
    for part in range(3):
        doing: tuple[str, str, int, int] = ("nothing", "", 0, 0)
        with child(work, root, seed * 10 + part) as (process, said):
            assert said.poll(30)
            said.recv()
            process.join(random.Random(seed * 10 + part).uniform(0.005, 0.15))
            process.kill()
            process.join(20)
            try:
                while True:
                    told = said.recv()
                    if told[0] == "done":
                        if doing[0] != "claim":
                            known[doing[1]] = doing[2:]
                        doing = ("nothing", "", 0, 0)
                    else:
                        doing = told
            except EOFError:
                pass
        store = FileStore(root)
        for run_id in IDS:
            run = store.load(run_id)
            found = (0, 0) if run is None else (run.version, run.seen)
            expected = [known[run_id]] + ([doing[2:]] if doing[1] == run_id else [])
            assert found in expected, f"{run_id} is at {found}, it was left at {expected} by {doing}"
            known[run_id] = found
        there = [run_id for run_id in IDS if known[run_id] != (0, 0)]
        assert sorted(run.run_id for run in store.list(10)) == there
        mine = lease()
        free = {run.run_id for run in store.claim(1000, 10, mine)}
        held = {run_id for run_id in there if run_id not in free}
        assert not held or doing[0] == "claim"
        for run_id in free:
            store.release(run_id, mine)
        for run_id in held:  # by a claim that died; its lease runs out in a minute
            store.delete(run_id)
            known[run_id] = (0, 0)
        store.close()


# Power cuts


class Disk:
    """What is on the disk: files as they were when they were synced, names as when their directory was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._files: dict[int, bytes] = {}
        self._names: dict[int, dict[str, tuple[int, bool]]] = {}
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._syncing(getattr(os, name)))

    def _syncing(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def synced(fd: int) -> None:
            sync(fd)
            at, inode = f"/proc/self/fd/{fd}", os.fstat(fd).st_ino
            if os.path.isdir(at):
                self._names[inode] = {entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(at)}
            else:
                self._files[inode] = Path(at).read_bytes()

        return synced

    def restore(self, root: Path, to: Path) -> None:
        """Lay out what a power cut would leave of a directory."""
        self._restore(root.stat().st_ino, to)

    def _restore(self, inode: int, to: Path) -> None:
        to.mkdir(mode=0o700)
        for name, (entry, directory) in self._names.get(inode, {}).items():
            if directory:
                self._restore(entry, to / name)
            else:
                (to / name).write_bytes(self._files.get(entry, b""))


def a_call(chosen: random.Random, held: dict[str, Lease], stores: tuple[FileStore, MemoryStore]) -> None:
    """The same call on both stores, which must answer alike."""
    run_id = chosen.choice(IDS)
    mine = held.get(run_id) or lease()
    run = stores[1].load(run_id)
    kind = chosen.randrange(8)
    calls: dict[int, Callable[[FileStore | MemoryStore], object]] = {
        0: lambda store: store.save(next_of(run, run_id, chosen.random()), [b"r" * 500], mine),
        1: lambda store: store.save(next_of(run, run_id, 0.9), [b"record"]),
        2: lambda store: store.post(run_id, b"event" * 100, 900, wake=run_id == "a"),
        3: lambda store: store.claim(1000, 2, mine),
        4: lambda store: store.acquire(run_id, mine),
        5: lambda store: store.release(run_id, mine, wake_at=700),
        6: lambda store: store.delete(run_id),
        7: lambda store: store.save_many([(next_of(run, run_id, 0.9), [b"many"], mine), (birth("d"), (), None)]),
    }
    state = chosen.getstate()
    answers: list[object] = []
    for store in stores:
        chosen.setstate(state)
        try:
            answer = calls[kind](store)
        except KvflowError as error:
            answer = type(error)
        answers.append(str(answer) if kind == 7 else answer)
    assert answers[0] == answers[1]
    if kind in (3, 4):
        held.update((each, mine) for each in IDS)


def next_of(run: StoredRun | None, run_id: str, chance: float) -> StoredRun:
    status = Status.RUNNING if chance < 0.3 else Status.WAITING if chance < 0.5 else Status.SUSPENDED
    version = 1 if run is None else run.version + 1
    return birth(
        run_id, status=status, version=version, wake_at=int(chance * 1000), seen=0 if run is None else run.seen
    )


@pytest.mark.skipif(sys.platform != "linux", reason="the test finds files in /proc")
@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_takes_back_nothing_that_was_acknowledged(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(file_run, "_DEAD", 3000)
    disk = Disk(monkeypatch)
    chosen, held = random.Random(seed), dict[str, Lease]()
    clock = FakeClock()
    stores = (FileStore(root, clock), MemoryStore(clock))
    for step in range(60):
        a_call(chosen, held, stores)
        clock.advance(timedelta(milliseconds=chosen.choice((1, 1, 1, MINUTE + 1))))
        if step % 4 == 0:
            after_cut = tmp_path / f"after {step}"
            with monkeypatch.context() as booted:
                disk.restore(root, after_cut)
                booted.setattr(file_recovery, "boot", lambda: "after the power cut")
                again = FileStore(after_cut, clock)
            memory = stores[1]
            for run_id in (*IDS, "d"):
                assert again.load(run_id) == memory.load(run_id)
            assert again.list(10) == memory.list(10)
            assert again.due(1000, 10) == memory.due(1000, 10)
            assert again.next_wake() == memory.next_wake()
            assert again.renew({run_id: mine.token for run_id, mine in held.items()}, MINUTE) == {
                run_id for run_id, mine in held.items() if memory_holds(memory, run_id, mine)
            }
            again.close()
            shutil.rmtree(after_cut)
    stores[0].close()


def memory_holds(memory: MemoryStore, run_id: str, mine: Lease) -> bool:
    """Whether the lease is the run's, without beginning it anew."""
    return memory._entries[run_id].token == mine.token if run_id in memory._entries else False  # pyright: ignore[reportPrivateUsage]


# Locks


def stop_in_a_save(root: Path, say: Connection) -> None:
    """Hold the locks of run a, and stop there until told to go on."""
    store = FileStore(root)

    def stop() -> int:
        say.send("holds")
        say.recv()
        return 5

    store._clock = stop  # pyright: ignore[reportPrivateUsage] # it is read while both locks are held
    store.save(birth(version=2))
    say.send("done")


def test_a_stopped_process_keeps_nobody_waiting_for_ever(root: Path) -> None:
    store = FileStore(root, timeout=0.3)
    store.save(birth())
    with child(stop_in_a_save, root) as (process, said):
        assert said.recv() == "holds"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        for call in (
            lambda: store.load("a"),
            lambda: store.save(birth("b")),
            lambda: store.claim(1000, 1, lease()),
            lambda: store.renew({"a": "token"}, 5),
            lambda: FileStore(root, timeout=0.3),
        ):
            began = time.monotonic()
            with refused(StoreUnavailable, saying="held by another process"):
                call()
            assert 0.25 < time.monotonic() - began < 2
        os.kill(process.pid, signal.SIGCONT)
        said.send("go on")
        assert said.recv() == "done"
    assert get(store).version == 2
    assert store.load("b") is None


def test_a_save_that_is_kept_from_its_second_half_says_nothing_false(
    root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = lease()
    store.save(running(), lease=mine)
    impatient, sync = FileStore(root, timeout=0.2), file_run.RunFile.sync
    taken = list[int]()

    def sync_and_lose_the_lock(file: file_run.RunFile) -> None:
        sync(file)
        taken.append(os.open(root / "locks" / "index", os.O_RDWR))
        file_disk.lock(taken[0])

    monkeypatch.setattr(file_run.RunFile, "sync", sync_and_lose_the_lock)
    with pytest.raises(StoreUnavailable) as told:
        impatient.save(birth(version=2), lease=mine)
    monkeypatch.undo()
    os.close(taken[0])
    assert "nothing was written" not in str(told.value)
    assert "call again" in str(told.value)
    assert get(store).version == 2
    impatient.save(birth(version=2), lease=mine)


def test_a_thread_that_hangs_keeps_the_others_waiting_no_longer_than_the_timeout(root: Path) -> None:
    holds, go_on = threading.Event(), threading.Event()

    def clock() -> int:
        if threading.current_thread() is not threading.main_thread():
            holds.set()
            go_on.wait(20)
        return 5

    store = FileStore(root, clock, timeout=0.2)
    store.save(birth())
    thread = threading.Thread(target=lambda: store.save(birth(version=2)))
    thread.start()
    assert holds.wait(20)
    with refused(StoreUnavailable, saying="another thread"):
        store.load("a")
    go_on.set()
    thread.join(20)
    assert get(store).version == 2


def test_who_dies_with_the_lock_gives_it_back(root: Path, store: FileStore) -> None:
    store.save(birth())
    with child(stop_in_a_save, root) as (process, said):
        assert said.recv() == "holds"
        process.kill()
        process.join(20)
        store.save(birth(version=2))
    assert get(store).version == 2


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_locks(root: Path) -> None:
    """The child must neither wait for a mutex that nobody gives back nor share the parent's flock."""
    holds, go_on = threading.Event(), threading.Event()

    def clock() -> int:
        if threading.current_thread() is not threading.main_thread():
            holds.set()
            assert go_on.wait(20)
        return 5

    store = FileStore(root, clock, timeout=1)
    store.save(birth())
    thread = threading.Thread(target=lambda: store.save(birth(version=2)))
    thread.start()
    assert holds.wait(20)
    here, there = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                store.load("a")  # the parent's thread has the lock
            except StoreUnavailable as error:
                assert "another process" in str(error)  # noqa: PT017
                os.write(there, b"waited")
                code = 0 if until(lambda: _version(store) == 2) and store.post("a", b"from the child", 5) else 2
        finally:
            os._exit(code)
    assert os.read(here, 100) == b"waited"
    go_on.set()
    thread.join(20)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert get(store).log == (b"from the child",)


def _version(store: FileStore) -> int:
    try:
        return get(store).version
    except StoreUnavailable:
        return 0


# Disks


def test_a_failed_sync_is_found_out_about(root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = lease()
    store.save(running(), lease=mine)

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk failed")

    with monkeypatch.context() as broken:
        broken.setattr(file_run, "sync", fail)
        with refused(StoreUnavailable, saying="not known"):
            store.save(running(version=2), [b"record"], mine)
        with refused(StoreUnavailable):
            store.load("a")
        with refused(StoreUnavailable):
            store.save_many([(running(version=2), [b"record"], mine)])
    assert store.save(running(version=2), [b"record"], mine) == 0
    assert get(FileStore(root)).log == (b"record",)


def fill(root: Path, say: Connection) -> None:
    """Save under a limit on file sizes, which fails a write in the middle as a full disk does."""
    store = FileStore(root)
    store.save(birth(), [b"x" * 20_000])
    resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, resource.RLIM_INFINITY))
    answers: list[str] = []
    calls: list[Callable[[], object]] = [
        lambda: store.save(birth(version=2), [b"y" * 10_000]),
        partial(store.post, "a", b"z" * 10_000, 5),
        lambda: store.save(birth("b"), [b"x" * 30_000]),
    ]
    for call in calls:
        try:
            call()
        except StoreUnavailable as error:
            answers.append(str(error))
    size = max(path.stat().st_size for path in (root / "runs").glob("*/a-*"))
    store.save(birth(version=2), [b"fits"])
    say.send((answers, size, os.listdir(root / "runs")))


def test_a_write_that_does_not_fit_leaves_nothing_behind(root: Path) -> None:
    with child(fill, root) as (_, said):
        answers, size, _ = said.recv()
    assert len(answers) == 3
    assert all("free some space" in answer and str(root) in answer for answer in answers)
    assert size < 21_000
    store = FileStore(root)
    assert [record[:5] for record in get(store).log] == [b"xxxxx", b"fits"]
    assert store.load("b") is None
    assert not list((root / "runs").glob("*/*.new"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "disk"
    at.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(at)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("only root can mount a disk that is soon full")
    yield at
    subprocess.run(["umount", "-l", str(at)], check=True)


def test_a_full_disk_is_unavailable_and_then_works_again(small_disk: Path) -> None:
    store = FileStore(small_disk / "store")
    memory = MemoryStore()
    full = False
    for number in range(300):
        run = birth(f"run {number % 40}", version=number // 40 + 1, wake_at=number, snapshot=b"s" * 300)
        try:
            store.save(run, [b"r" * 2000])
        except StoreUnavailable as error:
            assert "free some space" in str(error)  # noqa: PT017
            full = True
            break
        memory.save(run, [b"r" * 2000])
    assert full
    with refused(StoreUnavailable, saying="free some space"):
        store.save(birth("late", snapshot=b"s" * 9000))
    with refused(StoreUnavailable, saying="free some space"):
        store.post("run 1", b"x" * 9000, 5)
    for reader in (store, FileStore(small_disk / "store")):
        assert reader.due(10_000, 100) == memory.due(10_000, 100)
        for number in range(40):
            assert reader.load(f"run {number}") == memory.load(f"run {number}")
    for number in range(20):
        store.delete(f"run {number}")
        memory.delete(f"run {number}")
    mine = lease()
    assert store.claim(10_000, 100, mine) == memory.claim(10_000, 100, mine)
    store.save(birth("late"))
    assert hold(store, "late")[1].version == 1
