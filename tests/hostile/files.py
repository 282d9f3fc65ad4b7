"""Hostile bytes in the files of a FileStore, with right checksums and wrong, under a store that is used."""

import shutil
import struct
from pathlib import Path

import hypothesis.strategies as st
from hypothesis.strategies import SearchStrategy

from hostile.decoders import ENTRY, NOW, OF_A, Attack, answered_within
from hostile.inputs import GARBAGE, NAMES, NUMBERS, mutated
from hostile.watch import answered
from kvflow import Corrupt, Store
from kvflow.checks import check_stored
from kvflow.stores import FileStore
from kvflow.stores.file_run import Head, write_birth
from kvflow.testing.runs import MINUTE, birth, get, lease, running

HEADS = st.builds(
    Head,
    ENTRY | OF_A | OF_A,
    NUMBERS,
    st.sampled_from(["0" * 16, "a" * 16, "b" * 16, "", "x", "0" * 15 + "\n", "é" * 16]),
    NUMBERS,
)


def used(store: Store) -> None:
    """All calls, about the bad run ``a`` and about everybody."""
    mine = lease()
    for call in (
        lambda: read_soundly(store),
        lambda: store.load("a", log=False),
        lambda: store.due(NOW, 10),
        lambda: store.next_wake(),
        lambda: store.list(10),
        lambda: store.renew({"a": "a"}, 1000),
        lambda: store.post("a", b"x", 5, True),
        lambda: store.save(birth("a", version=2)),
        lambda: store.save(birth("a", version=3), [b"x"]),
        lambda: store.acquire("a", mine),
        lambda: store.release("a", mine),
        lambda: store.save_many([(birth("a"), (), None), (birth("a", version=2), [b"x"], None)]),
    ):
        answered_within(call)


def read_soundly(store: Store) -> None:
    """What is given as a run is one: nobody who drives it or writes over it is misled."""
    if (run := store.load("a")) is not None:
        assert run.run_id == "a"
        try:
            check_stored(run, run.seen)
        except Corrupt as error:
            raise AssertionError(f"{run} was given as a run: {error}") from error


class Ground:
    """A directory with a good store, which each input finds as it was."""

    def __init__(self, path: Path) -> None:
        self.good, self.path = path / "good", path / "store"
        with FileStore(self.good, lambda: NOW) as store:
            store.save(birth("a", wake_at=0), [b"one"])
            store.save(birth("a", version=2, wake_at=0, seen=1), [b"two"])
            store.save(birth("good", wake_at=5), [b"record"])
            store.save(running("held"), lease=lease(MINUTE))
            self.before, self.held = get(store, "good"), get(store, "held")
        self.files = {
            str(file.relative_to(self.good)): file.read_bytes() for file in self.good.rglob("*") if file.is_file()
        }
        (self.run,) = (name for name in self.files if "/a-" in name)

    def fresh(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.good, self.path)

    def neighbours_are_well(self, store: FileStore) -> None:
        """The neighbours are there and due, and are as they were."""
        assert (get(store, "good"), get(store, "held")) == (self.before, self.held)
        mine = lease()
        claimed = {run.run_id for run in store.claim(NOW, 10, mine)}
        assert "good" in claimed
        assert "held" not in claimed

    def run_file(self, data: bytes) -> None:
        """Bytes in the place of a run."""
        self.fresh()
        (self.path / self.run).write_bytes(data)
        self._try()

    def run_head(self, given: tuple[Head, list[bytes]]) -> None:
        """A run file with all checksums right, whose head is nonsense, of this run or another's."""
        head, log = given
        self.fresh()
        path = self.path / self.run
        path.unlink()
        try:
            write_birth(str(path), head, log).close()
        except (ValueError, struct.error):  # not every birth can be written into a header
            return
        path.with_name(path.name + ".new").rename(path)
        self._try()

    def line_file(self, given: tuple[str, bytes]) -> None:
        """Bytes among, or in the place of, the lines of the index, the leases and the notes of locks."""
        name, data = given
        self.fresh()
        (self.path / name).write_bytes(data)

        def everything() -> None:
            with FileStore(self.path, lambda: NOW) as store:
                used(store)
                used(store)
                assert get(store, "good").log == self.before.log

        answered(everything, self.path)

    def format_file(self, data: bytes) -> None:
        self.fresh()
        (self.path / "format").write_bytes(data)
        answered(lambda: FileStore(self.path, lambda: NOW).close(), self.path)

    def _try(self) -> None:
        def everything() -> None:
            for anew in (False, True):
                if anew:
                    shutil.rmtree(self.path / "index")
                with FileStore(self.path, lambda: NOW) as store:
                    used(store)
            with FileStore(self.path, lambda: NOW) as store:
                self.neighbours_are_well(store)

        answered(everything, self.path)

    def attacks(self) -> dict[str, Attack]:
        lines = [name for name in self.files if not name.endswith((".run", "format", "boot"))]
        tabbed = st.lists(
            st.lists(
                NAMES | st.sampled_from(["+", "-", "0", "5", "2000000000", "-1", "9" * 30, "9" * 5000]), max_size=8
            ).map("\t".join),
            max_size=4,
        ).map(lambda rows: ("\n".join(rows) + "\n").encode())

        def of(name: str) -> SearchStrategy[tuple[str, bytes]]:
            valid = st.just(self.files[name])
            data = st.one_of(mutated(valid), GARBAGE, tabbed, tabbed.map(lambda more: self.files[name] + more))
            return st.tuples(st.just(name), data)

        whole = self.files[self.run]
        return {
            "run files": Attack(
                st.one_of(mutated(st.just(whole)), GARBAGE, GARBAGE.map(lambda data: whole + data)), self.run_file, 40
            ),
            "heads of run files": Attack(
                st.tuples(HEADS, st.lists(st.binary(max_size=5), max_size=2)), self.run_head, 40
            ),
            "lines of index, leases and locks": Attack(st.sampled_from(lines).flatmap(of), self.line_file, 60),
            "formats": Attack(GARBAGE | mutated(st.just(self.files["format"])), self.format_file, 30),
        }
