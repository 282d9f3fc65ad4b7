"""What FileStore asks of the operating system: durable writes, names, and errors that say which path.

Nothing here knows of runs. A write is durable when ``sync`` of its file has returned and, for a name
that was made or removed, ``sync_directory`` of the directory that holds it.
"""

import errno
import os
import re
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache, wraps
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

from kvflow.errors import InvalidArgument, NotSupported, StoreUnavailable

FILE_MODE, DIRECTORY_MODE = 0o600, 0o700
BESIDE = ".new"
_SMALL = 4096

Params = ParamSpec("Params")
Result = TypeVar("Result")

# Windows has none; FileStore says so when it is made, not when it is imported.
fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MISPLACED = (FileExistsError, NotADirectoryError, PermissionError, IsADirectoryError)


def check_platform() -> None:
    """Refuse where a lock could not be shared between processes."""
    if fcntl is None:
        raise NotSupported(f"FileStore needs flock, which {sys.platform} lacks: it runs on Linux and macOS")


def at_the_edge(call: Callable[Params, Result]) -> Callable[Params, Result]:
    """No OSError leaves a method of the store: each becomes ``StoreUnavailable`` with the path and what would do."""

    @wraps(call)
    def wrapped(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return call(*args, **kwargs)
        except OSError as error:
            raise unavailable(error) from error

    return wrapped


def unavailable(error: OSError) -> StoreUnavailable:
    """What the caller is told of an OSError."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _FULL:
        advice = "nothing was written; free some space and call again"
    elif error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "raise the limit of open files (ulimit -n)"
    elif isinstance(error, PermissionError):
        advice = "the directory and all in it must belong to the user who runs kvflow"
    elif error.errno == errno.EIO:
        advice = "the disk failed, and whether the write is on it is not known; call again to find out"
    else:
        advice = "call again once the directory can be read and written"
    return StoreUnavailable(f"{where}{os.strerror(error.errno or 0)}: {advice}")


def make_root(path: str) -> None:
    """Make the store's directory, and those above it, where they are missing."""
    try:
        _make_with_parents(path)
        os.listdir(path)
    except _MISPLACED as error:
        raise InvalidArgument(
            f"{path} cannot hold a FileStore ({os.strerror(error.errno or 0)}): "
            "give a directory, or a path for one, that this user may read and write"
        ) from error


def _make_with_parents(path: str) -> None:
    parent, name = os.path.split(path)
    if name:
        if not os.path.lexists(parent):
            _make_with_parents(parent)
        make_directories(parent, [name])


def make_directory(path: str) -> None:
    """Make a directory that its owner alone may enter, whatever the umask; not yet synced."""
    os.mkdir(path, DIRECTORY_MODE)
    os.chmod(path, DIRECTORY_MODE)


def make_directories(parent: str, names: Iterable[str]) -> None:
    """Make directories in another, durably; nothing of what is there."""
    made = False
    for name in names:
        try:
            make_directory(f"{parent}/{name}")
        except FileExistsError:
            if not os.path.isdir(f"{parent}/{name}"):
                raise
        else:
            made = True
    if made:
        sync_directory(parent)


def open_private(path: str, flags: int = 0) -> int:
    """Open a file, made where it is missing: its owner's alone whatever the umask, and none that a link leads to."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags, FILE_MODE)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != FILE_MODE:
            os.fchmod(fd, FILE_MODE)
    except OSError as error:
        os.close(fd)
        error.filename = path
        raise
    return fd


def sync(fd: int) -> None:
    """Wait until what was written to the file is on the disk; macOS alone needs more than a plain sync for that."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_directory(path: str) -> None:
    """Wait until the names in a directory are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(fd: int) -> None:
    """Lock an open file against all other open files; BlockingIOError where one of them has the lock."""
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(fd: int) -> None:
    """Give a lock back."""
    fcntl.flock(fd, fcntl.LOCK_UN)


def write_whole(fd: int, data: bytes, at: int) -> None:
    """Write all of ``data`` at an offset, however little the kernel takes at a time."""
    written = os.pwrite(fd, data, at)
    while written < len(data):
        data, at = data[written:], at + written
        written = os.pwrite(fd, data, at)


def write_beside(path: str, data: bytes) -> int:
    """Write a whole file beside the one whose place it is to take; gives it open, not yet synced."""
    beside = f"{path}{BESIDE}"
    with suppress(FileNotFoundError):  # of a write that was not finished, or a link to what is not ours
        os.unlink(beside)
    fd = open_private(beside, os.O_EXCL)
    try:
        write_whole(fd, data, 0)
    except OSError as error:
        os.close(fd)
        with suppress(OSError):  # what is left beside is taken away by the next one
            os.unlink(beside)
        error.filename = path
        raise
    return fd


def put(path: str) -> None:
    """Put what was written beside in its place: readers see the one file or the other."""
    os.replace(f"{path}{BESIDE}", path)


def replace_file(path: str, data: bytes, durable: bool = True) -> None:
    """Write a whole file and put it in its place."""
    fd = write_beside(path, data)
    try:
        if durable:
            sync(fd)
    finally:
        os.close(fd)
    put(path)
    if durable:
        sync_directory(os.path.dirname(path))


def read_file(path: str) -> bytes | None:
    """A small file of which nobody waits for more; None where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, _SMALL)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


@lru_cache(4096)
def file_name(name: str) -> tuple[str, str]:
    """A name's digest, and a file name from it that begins with what of the name any file system can hold.

    Only the digest parts one name from another: ids are longer than file names may be, and file systems
    take ``A`` for ``a`` or one form of é for the other.
    """
    digest = sha256(name.encode()).hexdigest()[:32]
    readable = re.sub(r"[^a-z0-9_]+", "-", name[:40].lower()).strip("-")
    return digest, f"{readable}-{digest}" if readable else digest


def boot() -> str:
    """What names this machine's present boot; where nothing does, a name that is never met again."""
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        )
        found = asked.stdout.strip()
    else:
        found = (read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip()
    return found or str(uuid.uuid4())
