"""What ``kvflow check`` says, and how: plain lines, tables on a terminal that fill as it goes on, or JSON at the end.

A plain line begins with what it is about (``setting``, ``promise``, ``broken``, ``verdict``), for grep and cut.
"""

import sys
from types import TracebackType
from typing import Self

from msgspec import Struct
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kvflow.cli.output import console, on_terminal, safe, say, say_json, words
from kvflow.cli.promises import Outcome
from kvflow.findings import Finding, Level

GOOD = "good enough"
LIMITS = "good enough with these limits"
NOT = "not good enough"

_STYLES = {Level.GOOD: "green", Level.NOTE: "", Level.LIMIT: "yellow", Level.UNKNOWN: "yellow", Level.BAD: "red"}
_STYLES_OF_STATES = {"kept": "green", "broken": "bold red", "left out": "yellow"}
_STYLES_OF_VERDICTS = {GOOD: "bold green", LIMITS: "bold yellow", NOT: "bold red"}


class Report(Struct, frozen=True):
    """All that a check found."""

    store: str
    verdict: str
    settings: list[Finding]
    promises: list[Outcome]
    seconds: float


class View:
    """Shows nothing until the end, and then JSON."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def settings(self, found: list[Finding]) -> None:
        """What the server's settings mean."""

    def trying(self, promise: str, done: int, of: int) -> None:
        """How far a promise has been tried."""

    def outcome(self, outcome: Outcome) -> None:
        """How a promise fared."""

    def report(self, report: Report) -> None:
        """All of it, at the end."""
        say_json(report)


class Lines(View):
    """A line as soon as it is known: so whoever waits sees that it goes on."""

    def settings(self, found: list[Finding]) -> None:
        for one in found:
            say("setting", one.level, one.about, one.says, *([one.remedy] if one.remedy else []))
        sys.stdout.flush()

    def outcome(self, outcome: Outcome) -> None:
        say("promise", outcome.state, outcome.promise, outcome.count)
        for broken in outcome.broken:
            say("broken", outcome.promise, broken.test, broken.why)
        for why in outcome.left_out:
            say("left out", outcome.promise, why)
        sys.stdout.flush()

    def report(self, report: Report) -> None:
        say("verdict", report.verdict, f"{report.seconds:.0f} s")


class Tables(View):
    """Two tables, of which the second fills as the promises are tried."""

    def __init__(self) -> None:
        self._live = Live(console=console(), auto_refresh=False)  # a thread of its own would be there at each fork
        self._rows: list[tuple[Text, Text, str]] = []

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.update(self._table(), refresh=True)
        self._live.stop()

    def settings(self, found: list[Finding]) -> None:
        table = _plain("setting", "", "what it means")
        for one in found:
            says = words(one.says)
            if one.remedy:
                says.append(f"\n{safe(one.remedy)}", "bold")
            table.add_row(words(one.about), words(one.level, _STYLES[one.level]), says)
        self._live.console.print(table)
        self._live.console.print()

    def trying(self, promise: str, done: int, of: int) -> None:
        self._live.update(self._table((words(promise), words("trying"), f"{done} of {of}")), refresh=True)

    def outcome(self, outcome: Outcome) -> None:
        says = words(outcome.promise)
        for broken in outcome.broken:
            says.append(f"\n{safe(broken.test)}: {safe(broken.why)}", "red")
        for why in outcome.left_out:
            says.append(f"\n{safe(why)}", "yellow")
        self._rows.append((says, words(outcome.state, _STYLES_OF_STATES[outcome.state]), outcome.count))
        self._live.update(self._table(), refresh=True)

    def _table(self, *last: tuple[Text, Text, str]) -> Table:
        table = _plain("promise", "", "tests")
        for row in (*self._rows, *last):
            table.add_row(*row)
        return table if table.rows else _plain()

    def report(self, report: Report) -> None:
        self._live.update(self._table(), refresh=True)
        self._live.console.print()
        self._live.console.print(words(report.verdict, _STYLES_OF_VERDICTS[report.verdict]))


def view(json: bool) -> View:
    """The one for whoever reads."""
    return View() if json else Tables() if on_terminal() else Lines()


def _plain(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
