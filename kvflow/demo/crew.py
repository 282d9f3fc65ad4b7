"""The workers of the demo: real processes, of which any may be killed, and none outlives the demo.

They are in sessions of their own, so that Ctrl-C reaches the demo alone, which then ends them. They import what this
process imports, and nothing that happens to lie in the current directory.
"""

import os
import signal
import subprocess
import sys
from datetime import timedelta

import msgspec

from kvflow.demo.scratch import Scratch
from kvflow.demo.shop import JOURNAL
from kvflow.demo.worker import Work

LEASE_TTL = timedelta(seconds=2)
"""Half a minute is usual; here nobody wants to wait as long for the killed worker's runs."""

PATIENCE = 10
"""Seconds that a worker has to end what it does."""

LEFT_WELL = "it had nothing more to do"


class Member:
    """One worker."""

    def __init__(self, name: str, scratch: Scratch) -> None:
        self.name = name
        self.killed = False
        self._asked = False
        self._said = scratch.folder / f"{name.replace(' ', '-')}.log"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "kvflow.demo.worker"],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), JOURNAL: str(scratch.journal)},
                start_new_session=True,
            )
        self.pid = self._process.pid
        self._tell(Work(scratch.url, scratch.prefix, LEASE_TTL))

    def _tell(self, work: Work) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(work) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone already, and ``left`` will say so

    def kill(self) -> None:
        """SIGKILL: it has no chance to say or write anything."""
        self.killed = True
        self._process.kill()
        self._process.wait()

    def left(self) -> str | None:
        """Why it has ended though nobody killed it; None while it works."""
        if self.killed or self._process.poll() is None:
            return None
        last = self._said.read_text(errors="replace").splitlines()[-1:]
        if self._process.returncode == 0 or (self._asked and self._process.returncode == -signal.SIGTERM):
            return LEFT_WELL  # by SIGTERM itself, where it had not even begun
        return f"exit code {self._process.returncode}{''.join(f': {line}' for line in last)}"

    def ask_to_stop(self) -> None:
        self._asked = True
        if not self.killed:
            self._process.send_signal(signal.SIGTERM)

    def end(self, patience: float) -> None:
        """Wait until it has ended, and kill it if it does not."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
