"""What is written, and that it is harmless: ids, results and errors are other people's text.

On a terminal a command shows a table; elsewhere plain lines, one a run or an event, with tabs between the fields, never
wrapped and never cut off, for grep and cut. In neither does a control character reach whoever reads, and in
neither is anything taken for markup. JSON is the same everywhere.
"""

import os
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from kvflow.run import Status

_UNSAFE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, what turns the direction of text, and what is no character."""

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}

COLOURS = {
    Status.RUNNING: "cyan",
    Status.SUSPENDED: "blue",
    Status.WAITING: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "magenta",
}


def safe(text: str) -> str:
    """The text with what a terminal would act upon written as an escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def one_line(text: str) -> str:
    """The text in one harmless line."""
    return safe("; ".join(line.strip() for line in text.splitlines() if line.strip()))


def say(*fields: str) -> None:
    """Write a line, with tabs between the fields."""
    sys.stdout.write("\t".join(safe(field) for field in fields) + "\n")


def complain(text: str) -> None:
    """Write to stderr what went wrong."""
    sys.stderr.write(f"kvflow: {one_line(text)}\n")


def on_terminal() -> bool:
    """Whether a person looks at what we write, on something that can show a table."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def console() -> Console:
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=False)


def words(text: str, style: str = "") -> Text:
    """Text for a table: harmless, and no markup."""
    return Text(safe(text), style, overflow="fold")


def status_words(status: Status) -> Text:
    return words(status.value, COLOURS[status])


def moment(when: datetime | None) -> str:
    """A time to the millisecond, in UTC."""
    return "-" if when is None else when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment_words(when: datetime | None) -> Text:
    """A time as people read it in a table."""
    return words("-" if when is None else when.astimezone(UTC).isoformat(" ", timespec="seconds")[:19])


def distance(when: datetime | None, now: datetime) -> Text:
    """How far a time is from now, as people read it in a narrow table: ``in 59m``, ``3s ago``."""
    if when is None:
        return words("-")
    seconds = int((when - now).total_seconds())
    far, unit = next(
        (abs(seconds) // length, unit) for unit, length in _UNITS.items() if abs(seconds) >= length or unit == "s"
    )
    return words(f"in {far}{unit}" if seconds > 0 else f"{far}{unit} ago")


def as_json(value: Any) -> str:
    """A value in one line of JSON; what JSON has no word for is given as Python would write it."""
    try:
        text = msgspec.json.encode(value, enc_hook=repr)
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError):
        text = msgspec.json.encode(repr(value))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text.decode())


def say_json(value: Any) -> None:
    sys.stdout.write(as_json(value) + "\n")


def say_json_array(values: Iterable[Any]) -> None:
    """Write an array with a line for each entry."""
    sys.stdout.write("[" + ",\n ".join(as_json(value) for value in values) + "]\n")
