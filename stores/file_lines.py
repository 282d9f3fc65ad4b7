"""Text files that only grow, which every process reads further from where it left off.

The index is made of them: a line appended costs a tenth of an empty file made, a reader in memory
costs nothing but a look at the file's size, and a person can read them. All of it happens under the
index lock. A line is complete by its newline; one that a killed writer left without is closed by
the next writer and passed over, for nobody was told that it is there.

A file that is mostly dead lines is written anew and renamed. Each reader keeps its file open, so that no
other file can get the same inode number, and a change of that number says to read from the beginning.
"""

import os
from collections.abc import Iterable

from kvflow.stores.file_disk import open_private, replace_file, write_whole

_REWRITE = 1000


class Lines:
    """One such file, and what its lines amount to. Subclasses hold that and say how a line changes it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.garbled = False
        self._fd = -1
        self._inode = 0
        self._at = 0
        self._count = 0

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def reset(self) -> None:
        """Forget all lines."""
        raise NotImplementedError

    def take(self, lines: list[list[str]]) -> None:
        """Apply lines, each as its fields; one that does not fit raises ValueError."""
        raise NotImplementedError

    def living(self) -> list[str]:
        """The least lines that amount to the same."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many those are."""
        raise NotImplementedError

    def read(self) -> None:
        """Read what was appended since, by whomever."""
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self.close()
            return
        if self._fd < 0 or found.st_ino != self._inode or found.st_size < self._at:
            self.close()
            self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW)
            self._inode = os.fstat(self._fd).st_ino
        if found.st_size > self._at:
            self._feed(os.pread(self._fd, found.st_size - self._at, self._at))

    def append(self, lines: Iterable[str]) -> None:
        """Add lines, which ``read`` has just brought us to the end of; not synced."""
        text = "".join(f"{line}\n" for line in lines).encode()
        if not text:
            return
        if self._fd < 0:
            self._fd = open_private(self.path)
            self._inode = os.fstat(self._fd).st_ino
        size = os.fstat(self._fd).st_size
        _append(self._fd, text if size == self._at else b"\n" + text, size, self.path)
        self._feed(os.pread(self._fd, size + len(text) + 1 - self._at, self._at))

    def tidy(self, durable: bool = False) -> None:
        """Write the file anew if most of its lines are dead; ``read`` has just brought us to its end."""
        if self._count > _REWRITE + 4 * len(self):
            self.rewrite(self.living(), durable)

    def rewrite(self, lines: Iterable[str], durable: bool) -> None:
        """Put these lines in the place of all."""
        replace_file(self.path, "".join(f"{line}\n" for line in lines).encode(), durable)
        self.read()

    @property
    def fd(self) -> int:
        """The open file, for a sync."""
        return self._fd

    def close(self) -> None:
        """Forget the file and all its lines."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._inode, self._at, self._count = -1, 0, 0, 0
        self.reset()

    def _feed(self, data: bytes) -> None:
        complete = data.rfind(b"\n") + 1
        lines = list[list[str]]()
        for line in data[:complete].split(b"\n"):
            if line:
                try:
                    lines.append(line.decode().split("\t"))
                except UnicodeDecodeError:
                    self.garbled = True
        try:
            self.take(lines)
        except ValueError:
            self._one_by_one(lines)
        self._count += len(lines)
        self._at += complete

    def _one_by_one(self, lines: list[list[str]]) -> None:
        """Apply the lines that can be read; whoever owns the index mends the rest."""
        for line in lines:
            try:
                self.take([line])
            except ValueError:
                self.garbled = True


def append_blindly(path: str, line: str) -> None:
    """Add a line to a file of which nobody here has read the rest."""
    fd = open_private(path)
    try:
        size = os.fstat(fd).st_size
        whole = size == 0 or os.pread(fd, 1, size - 1) == b"\n"
        _append(fd, f"{line}\n".encode() if whole else f"\n{line}\n".encode(), size, path)
    finally:
        os.close(fd)


def _append(fd: int, text: bytes, size: int, path: str) -> None:
    try:
        write_whole(fd, text, size)
    except OSError as error:
        os.ftruncate(fd, size)
        error.filename = path
        raise
