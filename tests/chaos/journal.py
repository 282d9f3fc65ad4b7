"""What the outside saw: a file to which each real call adds a line as it begins and another as it ends.

It knows nothing of kvflow or of a store, so the checker takes nobody's word. A line is one write to the end of the
file: it stands there whole or not at all, whoever is killed.
"""

import os
import time
import uuid
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

What = Literal["begun", "ended", "failed"]


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that begins, ends or fails. ``asked`` is when the body asked for its step, ``shown`` what it was given."""

    what: What
    call: str
    run: str
    step: str
    key: str = ""
    pid: int
    asked: float = 0.0
    at: float
    shown: str = ""


class Call(Struct):
    """One call, as its lines tell it; one that was cut off has no end."""

    begun: Line
    end: Line | None = None

    @property
    def done(self) -> bool:
        return self.end is not None and self.end.what == "ended"

    @property
    def failed(self) -> bool:
        return self.end is not None and self.end.what == "failed"


class Journal:
    """The file, written by many processes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, run: str, step: str, key: str, asked: float, shown: str = "") -> Line:
        line = Line(
            what="begun",
            call=uuid.uuid4().hex[:12],
            run=run,
            step=step,
            key=key,
            pid=os.getpid(),
            asked=asked,
            at=time.time(),
            shown=shown,
        )
        self._add(line)
        return line

    def end(self, begun: Line, what: What) -> None:
        self._add(Line(what=what, call=begun.call, run=begun.run, step=begun.step, pid=begun.pid, at=time.time()))

    def _add(self, line: Line) -> None:
        os.write(_opened(self.path), msgspec.json.encode(line) + b"\n")

    def calls(self) -> list[Call]:
        """In the order in which they began."""
        calls: dict[str, Call] = {}
        for text in self.path.read_bytes().splitlines() if self.path.exists() else ():
            line = msgspec.json.decode(text, type=Line)
            if line.what == "begun":
                calls[line.call] = Call(line)
            else:
                calls[line.call].end = line
        return list(calls.values())


@cache
def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
