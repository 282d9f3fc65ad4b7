"""Locks between processes, each held by one thread of one process.

flock belongs to the open file, not to who opened it: the same descriptor excludes nobody, and a forked
child keeps it. So each lock is a flock with a mutex beside it, and a child forgets what it inherited
and opens its own. Lock files are never unlinked: whoever held an unlinked one would exclude nobody.
Nobody waits for ever behind a process that was stopped: past the deadline it is ``StoreUnavailable``.

There are two kinds. Runs are parted among stripes by the digest of their id: whoever holds a run's
stripe knows that all that is written of the run is also on the disk, for a stripe is kept until it
is. And the index lock, for the few microseconds in which anything is looked up or written but not
synced. Stripes are taken before the index lock and in their order, so nobody waits in a circle.

A stripe's file holds a note of the runs that are being written. A holder who finds one knows that the
last one died or failed before its write was on the disk, and settles those runs first.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from kvflow.errors import StoreUnavailable
from kvflow.stores.file_disk import lock, open_private, unlock

STRIPES = "0123456789abcdef"
"""The first digit of a run's digest names its stripe, and the directory that its file lies in."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.00002, 0.002
_NAME = re.compile(r"[0-9a-f]/[a-z0-9_-]+\.[a-z]+")
_WRITING, _SETTLED, _NOTE_END = b"1", b"0", b"\n\n"


class Lock:
    """One lock file, and the mutex that keeps this process's own threads apart."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._mutex = threading.Lock()

    def __del__(self) -> None:
        self._close()

    def held(self, deadline: float) -> Self:
        """Take the lock, to be given back by ``with``."""
        self._take_mutex(deadline)
        try:
            if self._fd < 0:
                self._fd = open_private(self._path)
            self._wait(deadline)
        except BaseException:
            self._mutex.release()
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Give the lock back."""
        try:
            unlock(self._fd)
        finally:
            self._mutex.release()

    def forget(self) -> None:
        """Let go of what a forked child inherited, which is its parent's."""
        self._mutex = threading.Lock()
        self._close()

    def close(self, deadline: float) -> None:
        """Close the file once nobody in this process holds the lock; it is opened again where needed."""
        self._take_mutex(deadline)
        try:
            self._close()
        finally:
            self._mutex.release()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take_mutex(self, deadline: float) -> None:
        if self._mutex.acquire(blocking=False):
            return
        if not self._mutex.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._late("another thread of this process")

    def _wait(self, deadline: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                lock(self._fd)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise self._late("another process") from None
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            else:
                return

    def _late(self, holder: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path} is held by {holder}: it may be stopped or very slow; call again")


class Stripe(Lock):
    """The lock of some runs, and the note of which of them are being written."""

    def __init__(self, path: str, digit: str) -> None:
        super().__init__(path)
        self.digit = digit

    def note(self, names: Iterable[str]) -> None:
        """Say that these runs' files are being written and are not yet on the disk."""
        os.pwrite(self._fd, _WRITING + "\n".join(names).encode() + _NOTE_END, 0)

    def writing(self) -> bool:
        """Whether whoever held the stripe before did not finish a write."""
        return os.pread(self._fd, 1, 0) == _WRITING

    def noted(self) -> list[str]:
        """The runs whose write was not finished."""
        note = os.pread(self._fd, os.fstat(self._fd).st_size, 1).partition(_NOTE_END)[0]
        return [name for name in note.decode(errors="replace").split("\n") if _NAME.fullmatch(name)]

    def clear(self) -> None:
        """Say that all is on the disk."""
        os.pwrite(self._fd, _SETTLED, 0)


class Stripes:
    """Some stripes, taken together in their order and settled before anything else is done under them."""

    def __init__(self, stripes: Sequence[Stripe], settle: Callable[[str], None]) -> None:
        self._of = {stripe.digit: stripe for stripe in stripes}
        self._settle = settle
        self._taken: list[Stripe] = []

    def of(self, digest: str) -> Stripe:
        """The stripe of one run, held among these."""
        return self._of[digest[0]]

    def held(self, deadline: float) -> Self:
        """Take them all, to be given back by ``with``."""
        try:
            for stripe in self._of.values():
                self._taken.append(stripe.held(deadline))
                if stripe.writing():
                    for name in stripe.noted():
                        self._settle(name)
                    stripe.clear()
        except BaseException:
            self.give_back()
            raise
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()

    def give_back(self) -> None:
        """Give every stripe back, the last one first."""
        while self._taken:
            self._taken.pop().give_back()


class Locks:
    """The index lock and the stripes of one store."""

    def __init__(self, directory: str, settle: Callable[[str], None]) -> None:
        self._settle = settle
        self.index = Lock(f"{directory}/index")
        self._stripes = {digit: Stripe(f"{directory}/stripe-{digit}", digit) for digit in STRIPES}

    def stripes(self, digests: Sequence[str]) -> Stripes:
        """The stripes of these runs."""
        return Stripes([self._stripes[digit] for digit in sorted({digest[0] for digest in digests})], self._settle)

    def all_stripes(self) -> Stripes:
        """The stripes of all runs."""
        return Stripes(list(self._stripes.values()), self._settle)

    def forget(self) -> None:
        """Let go of what a forked child inherited, which is its parent's."""
        for each in (self.index, *self._stripes.values()):
            each.forget()

    def close(self, deadline: float) -> None:
        """Close every file; they are opened again where needed."""
        for each in (self.index, *self._stripes.values()):
            each.close(deadline)
