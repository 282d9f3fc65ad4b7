"""A store's directory: where each run's file lies, its locks, and its index as this process has read it."""

import logging
import os
import weakref
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from kvflow.errors import Corrupt, KvflowError
from kvflow.rules import Entry
from kvflow.stores.file_disk import BESIDE, file_name, make_directory, make_root, sync_directory
from kvflow.stores.file_index import Index
from kvflow.stores.file_lock import Locks
from kvflow.stores.file_recovery import SUFFIX, check_format, is_current, rebuild
from kvflow.stores.file_run import Head, RunFile

_log = logging.getLogger("kvflow.stores")
_opened = weakref.WeakSet["Directory"]()


class Look(NamedTuple):
    """What is stored of a run: its last head, the entry with its lease, and the log if it was read."""

    head: Head
    entry: Entry
    log: tuple[bytes, ...]


class Directory:
    """The files of one store."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.locks = Locks(f"{root}/locks", self._settle)
        self.index = Index(f"{root}/leases", f"{root}/index")
        _opened.add(self)

    def open(self, deadline: float) -> None:
        """Lay out what is missing, and make the index anew where it is not of this boot."""
        make_root(self.root)
        make_directory(f"{self.root}/locks")
        with self.locks.index.held(deadline):
            check_format(self.root)
            make_directory(f"{self.root}/runs")
            if not is_current(self.root):
                rebuild(self.root, self.index)

    @contextmanager
    def indexed(self, deadline: float) -> Generator[Index]:
        """Hold the index lock, with the leases read; what goes wrong on the way is forgotten and read again."""
        with self.locks.index.held(deadline):
            try:
                self.index.leases.read()
                if self.index.garbled:
                    _log.warning("%s holds lines that nobody wrote so: it is made anew", self.index.directory)
                    rebuild(self.root, self.index)
                yield self.index
            except KvflowError:
                raise
            except BaseException:
                self.index.close()
                raise

    def path(self, run_id: str) -> str:
        """Where a run's file lies, or would."""
        digest, name = file_name(run_id)
        return f"{self.root}/runs/{digest[:2]}/{name}{SUFFIX}"

    def note(self, run_id: str) -> str:
        """What a stripe's note calls the run."""
        digest, name = file_name(run_id)
        return f"{digest[:2]}/{name}{SUFFIX}"

    def look(self, run_id: str, log: bool = False) -> Look | None:
        """What is stored of a run, under the index lock; None where there is none."""
        file = RunFile.open(self.path(run_id))
        if file is None:
            return None
        with file:
            head, records = file.whole() if log else (file.head(), ())
            check_id(file, head, run_id)
            return Look(head, self.index.current(head), records)

    def forget(self) -> None:
        """Let go of what a forked child inherited."""
        self.locks.forget()
        self.index.close()

    def close(self, deadline: float) -> None:
        with self.locks.index.held(deadline):
            self.index.close()
        self.locks.close(deadline)

    def _settle(self, note: str) -> None:
        """Finish, under its stripe, the write of somebody who did not: cut it, or see that it is on the disk."""
        path = f"{self.root}/runs/{note}"
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{BESIDE}")
        file = RunFile.open(path)
        if file is not None:
            with file:
                try:
                    file.settle()
                except Corrupt as error:
                    _log.warning("a write that was not finished is left as it is: %s", error)
        if os.path.isdir(os.path.dirname(path)):
            sync_directory(os.path.dirname(path))


def check_id(file: RunFile, head: Head, run_id: str) -> None:
    """Refuse a file that somebody put in the place of another's."""
    if head.entry.run.run_id != run_id:
        raise Corrupt(f"{file.path} holds run {head.entry.run.run_id!r} in the place of {run_id!r}: put it back")


def _forget() -> None:
    for directory in tuple(_opened):
        directory.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
