"""What the outside saw: a file to which each real call adds a line as it begins and another as it ends.

It knows nothing of kvflow or of a store, so an account can be worked out from it that takes nobody's word. A line
is one write to the end of the file: it stands there whole or not at all, whoever is killed.
"""

import os
import time
import uuid
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

What = Literal["begun", "ended", "failed", "sent"]


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that begins, ends or fails, or an event that was sent (then ``call`` is the event's name).

    ``said`` is what was answered. ``shown`` is what the caller had to show: the approvals of an order.
    """

    what: What
    call: str
    order: str
    step: str
    key: str = ""
    pid: int
    at: float
    said: str = ""
    shown: tuple[str, ...] = ()


class Call(Struct):
    """One call, as its lines tell it; one that was cut off has no end."""

    begun: Line
    end: Line | None = None

    @property
    def done(self) -> bool:
        """Whether the outside did what it was asked."""
        return self.end is not None and self.end.what == "ended"

    @property
    def failed(self) -> bool:
        """Whether it refused."""
        return self.end is not None and self.end.what == "failed"


class Journal:
    """The file, to add to and to read from where one stopped reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: dict[str, Call] = {}
        self.approvals: list[Line] = []
        self._read = 0

    def add(self, line: Line) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, msgspec.json.encode(line) + b"\n")
        finally:
            os.close(file)

    def begin(self, order: str, step: str, key: str, shown: tuple[str, ...] = ()) -> Line:
        """Note that a call begins; the answer names it."""
        call = uuid.uuid4().hex[:12]
        line = Line(
            what="begun", call=call, order=order, step=step, key=key, pid=os.getpid(), at=time.time(), shown=shown
        )
        self.add(line)
        return line

    def end(self, begun: Line, what: What, said: str) -> None:
        self.add(msgspec.structs.replace(begun, what=what, at=time.time(), said=said, shown=()))

    def sent(self, order: str, approval: str) -> None:
        """Note that an approval was sent."""
        self.add(Line(what="sent", call=approval, order=order, step="approval", pid=os.getpid(), at=time.time()))

    def read(self) -> list[Line]:
        """The lines since the last time, which are in ``calls`` and ``approvals`` from now on."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = [msgspec.json.decode(line, type=Line) for line in whole.splitlines()]
        for line in lines:
            self._take(line)
        return lines

    def _take(self, line: Line) -> None:
        if line.what == "sent":
            self.approvals.append(line)
        elif line.what == "begun":
            self.calls[line.call] = Call(line)
        else:
            self.calls[line.call].end = line

    def under_way(self, pid: int) -> list[Line]:
        """The calls that this process has begun and not ended."""
        return [call.begun for call in self.calls.values() if call.end is None and call.begun.pid == pid]
