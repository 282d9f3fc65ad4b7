"""``kvflow`` as a process of its own, with pipes or with a terminal."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE = 60.0
"""How many seconds a process may take to say what is waited for."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "kvflow", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Ours, with nothing in it that says how a terminal is."""
    ours = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TERM", "PYTHONPATH"}
    kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("KVFLOW_")}
    return {**kept, **more}


def run(*arguments: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )


class Terminal:
    """A process on a terminal of 100 columns, and what stands on it."""

    def __init__(self, arguments: Sequence[str], cwd: Path, **more: str) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            command(*arguments),
            cwd=cwd,
            env=environment(**{"TERM": "xterm-256color", **more}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.raw = ""

    @property
    def text(self) -> str:
        """What was written, without colours and cursors."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def wait_for(self, words: str) -> None:
        """Read until it has written this."""
        deadline = time.monotonic() + PATIENCE
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            assert self._read(0.1), f"it ended without {words!r}: {self.text!r}"

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def end(self) -> int:
        """Read to its end; its exit code."""
        while self._read(PATIENCE):
            pass
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        os.close(self._ours)

    def _read(self, seconds: float) -> bool:
        """Take what is there within so many seconds; False at the end."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.raw += data.decode()
        return bool(data)
