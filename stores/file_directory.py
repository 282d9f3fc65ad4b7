"""A store's directory: where each run's file lies, its locks, and its index as this process has read it."""

import errno
import logging
import os
import stat
import weakref
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from kvflow.errors import Corrupt, KvflowError
from kvflow.rules import Entry
from kvflow.stores.file_disk import BESIDE, file_name, make_directories, make_root, sync_directory
from kvflow.stores.file_index import Index
from kvflow.stores.file_lock import STRIPES, Locks, Stripes
from kvflow.stores.file_recovery import SUFFIX, check_format, is_current, rebuild, write_format
from kvflow.stores.file_run import Head, RunFile

_OTHERS, _WRITING_OTHERS = 0o077, 0o022

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
        self.locks = Locks(f"{root}/locks", partial(_settle, f"{root}/runs"))
        self.index = Index(f"{root}/leases", f"{root}/index")
        _opened.add(self)

    def open(self, deadline: float) -> None:
        """Lay out what is missing, and make the index anew where it is not of this boot."""
        make_root(self.root)
        make_directories(self.root, ["locks"])
        with self.locks.index.held(deadline):
            if not check_format(self.root):
                make_directories(self.root, ["runs"])
                make_directories(f"{self.root}/runs", STRIPES)
                write_format(self.root)
            if not is_current(self.root):
                rebuild(self.root, self.index)
        _tell_who_else(self.root)

    def indexed(self, deadline: float) -> "Indexed":
        """Hold the index lock, to be given back by ``with``."""
        return Indexed(self, deadline)

    def refresh(self) -> None:
        """Read what others wrote to the leases, and make the index anew where it cannot be read."""
        self.index.leases.read()
        if self.index.leases.fd < 0:  # or every run of a disk that is not mounted would seem never to have been
            raise FileNotFoundError(errno.ENOENT, "it went away", f"{self.root}/leases")
        if self.index.garbled:
            _log.warning("%s holds lines that nobody wrote so: it is made anew", self.index.directory)
            rebuild(self.root, self.index)

    def stripe(self, run_id: str) -> Stripes:
        """The stripe of one run."""
        return self.locks.stripes([file_name(run_id)[0]])

    def path(self, run_id: str) -> str:
        """Where a run's file lies, or would."""
        digest, name = file_name(run_id)
        return f"{self.root}/runs/{digest[0]}/{name}{SUFFIX}"

    def note(self, run_id: str) -> str:
        """What a stripe's note calls the run."""
        digest, name = file_name(run_id)
        return f"{digest[0]}/{name}{SUFFIX}"

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


class Indexed:
    """The index while its lock is held; what goes wrong meanwhile is forgotten and read again."""

    def __init__(self, directory: Directory, deadline: float) -> None:
        self._directory = directory
        self._deadline = deadline

    def __enter__(self) -> Index:
        directory = self._directory
        directory.locks.index.held(self._deadline)
        try:
            directory.refresh()
        except BaseException:
            directory.index.close()
            directory.locks.index.give_back()
            raise
        return directory.index

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None and not issubclass(kind, KvflowError):
                self._directory.index.close()
        finally:
            self._directory.locks.index.give_back()


def _tell_who_else(root: str) -> None:
    """Say who else may read or change what lies here: only what we make ourselves is its owner's alone."""
    if (mode := stat.S_IMODE(os.stat(root).st_mode)) & _WRITING_OTHERS:
        _log.warning("%s has mode %o: others may take runs away, or put other ones there; chmod go-w it", root, mode)
    for path in (f"{root}/runs", f"{root}/index", f"{root}/locks", f"{root}/leases"):
        if (mode := stat.S_IMODE(os.stat(path).st_mode)) & _OTHERS:
            _log.warning("%s has mode %o: others than its owner may use it; chmod -R go-rwx %s", path, mode, root)


def check_id(file: RunFile, head: Head, run_id: str) -> None:
    """Refuse a file that somebody put in the place of another's."""
    if head.entry.run.run_id != run_id:
        raise Corrupt(f"{file.path} holds run {head.entry.run.run_id!r} in the place of {run_id!r}: put it back")


def _settle(runs: str, note: str) -> None:
    """Finish, under its stripe, the write of somebody who did not: cut it, or see that it is on the disk."""
    path = f"{runs}/{note}"
    with suppress(FileNotFoundError):
        os.unlink(f"{path}{BESIDE}")
    try:
        file = RunFile.open(path)
        if file is not None:
            with file:
                file.settle()
    except Corrupt as error:
        _log.warning("a write that was not finished is left as it is: %s", error)
    sync_directory(os.path.dirname(path))


def _forget() -> None:
    for directory in tuple(_opened):
        directory.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
