"""What hostile input may not bring about, watched while a call is made."""

import codecs
import sys
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvflow import KvflowError

MOST = 16 * 2**20
"""Bytes that a call may hold at once; no input has more than a few thousand."""

LONGEST = 5.0
"""Seconds of this thread's own work, whatever else the machine does."""

CODE = {"exec", "import", "marshal.loads", "pickle.find_class", "ctypes.dlopen", "code.__new__"}
PROCESSES = {"subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate"}


for codec in ("unicode_escape", "idna", "punycode", "latin-1", "utf-16"):
    codecs.lookup(codec)  # Python imports each when it is first asked for


class Deed(AssertionError):
    """Hostile input made something happen."""


class _Watch:
    """The one hook of this process: an audit hook cannot be taken away, so it rests between calls."""

    def __init__(self) -> None:
        self.active = False
        self.allowed: tuple[str, ...] = ()
        self.deeds: list[str] = []
        self.added = False

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in CODE or event in PROCESSES:
            self.deeds.append(f"{event} {arguments[:1]!r:.100}")
        elif event == "open" or event in CHANGES:
            where = arguments[0]
            if isinstance(where, (str, bytes, Path)) and not self._ours(
                where if isinstance(where, bytes) else str(where)
            ):
                self.deeds.append(f"{event} {where!r:.100}")

    def _ours(self, path: str | bytes) -> bool:
        text = path.decode(errors="replace") if isinstance(path, bytes) else path
        below = "/" not in text  # as rmtree has it, of an open directory: kvflow itself gives whole paths
        return below or text.startswith(self.allowed) or text.endswith(".py")  # a traceback shows lines of source


_watch = _Watch()


@contextmanager
def watched(*directories: Path | str) -> Generator[None]:
    """Fail if the block runs code, opens a file outside these directories, or takes much memory or long."""
    if not _watch.added:
        sys.addaudithook(_watch.heard)
        _watch.added = True
    _watch.deeds, _watch.allowed = [], ("/proc/sys/kernel/random/", *map(str, directories))
    tracemalloc.start(1)
    began = time.thread_time()
    _watch.active = True
    try:
        yield
    finally:
        _watch.active = False
        took, (_, most) = time.thread_time() - began, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    if _watch.deeds:
        raise Deed(f"hostile input made this happen: {_watch.deeds}")
    if most > MOST:
        raise Deed(f"hostile input took {most} bytes of memory")
    if took > LONGEST:
        raise Deed(f"hostile input took {took:.1f} s")


def answered(call: Callable[[], object], *directories: Path | str) -> object:
    """What the call gives under watch, or the ``KvflowError`` that it raises; any other error is a fault."""
    with watched(*directories):
        try:
            return call()
        except KvflowError as error:
            str(error).encode()  # what is said can be written down
            return error


TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def check_harmless(said: str) -> None:
    """Fail if a terminal would act upon this text, beside its tabs and line ends."""
    for char in set(said) - {"\t", "\n"}:
        if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(char) in TURNING:
            raise Deed(f"{char!r} would have reached the terminal")
