"""The bench's side of the talk with a program: what is asked is answered within a deadline, or there is an error.

A program that fails says why; what it has written to stderr is shown with it.
"""

import json
import os
import select
import subprocess
import tempfile
import time
from types import TracebackType
from typing import Any, Self

import psutil

from bench.peers.environments import ROOT, path_of, python_of

LONGEST = 180.0
"""Seconds that an answer may take."""

SHOWN = 1000
"""Characters of a failed program's traceback, and of its stderr, that are shown: the last ones."""


class Failed(Exception):
    """A program that cannot do what it is asked."""


class Program:
    """A side of a comparison: it runs until the ``with`` ends, or it is killed."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (it lives as long as the program)
        self._process = subprocess.Popen(
            [python_of(name), "-m", f"bench.peers.{name}", *arguments],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PATH": path_of(name)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._arrived = b""

    def __enter__(self) -> Self:
        try:
            self.about: dict[str, str] = self.ask("about")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._process.poll() is None:
                self.ask("close")
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process.wait(LONGEST)
        finally:
            self.kill()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        for end in (self._process.stdin, self._process.stdout):
            if end is not None:
                end.close()
        self._errors.close()

    def ask(self, do: str, longest: float = LONGEST, **what: object) -> Any:
        """The answer, or Failed when there is none within the longest time, in seconds."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
            self._process.stdin.flush()
            told = json.loads(self._line(longest))
        except BrokenPipeError as error:
            raise Failed(f"{self.name} has ended: {self._said()}") from error
        if "failed" in told:
            raise Failed(f"{self.name} cannot do {do!r}: {told['failed'][-SHOWN:]}{self._said()}")
        return told["answer"]

    def _line(self, longest: float) -> bytes:
        assert self._process.stdout is not None
        out, deadline = self._process.stdout.fileno(), time.monotonic() + longest
        while b"\n" not in self._arrived:
            if not select.select([out], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise Failed(f"{self.name} has not answered for {longest:.0f} seconds: {self._said()}")
            some = os.read(out, 2**20)
            if not some:
                raise Failed(f"{self.name} has ended: {self._said()}")
            self._arrived += some
        line, _, self._arrived = self._arrived.partition(b"\n")
        return line

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-SHOWN:]

    def memory(self) -> float:
        """Megabytes that it holds."""
        return psutil.Process(self._process.pid).memory_info().rss / 2**20

    def threads(self) -> int:
        return psutil.Process(self._process.pid).num_threads()
