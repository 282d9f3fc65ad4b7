"""``kvflow show``: one run as a timeline, read from the store without the application's code."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, NamedTuple

import typer
from rich.table import Table

from kvflow.cli.output import (
    as_json,
    console,
    moment,
    moment_words,
    on_terminal,
    say,
    say_json,
    status_words,
    words,
)
from kvflow.cli.stores import AsJson, Prefix, opened, store_and_rest
from kvflow.errors import InvalidArgument, RunNotFound
from kvflow.info import Pending, RunInfo
from kvflow.records import RunError
from kvflow.runtime import Runtime

LONGEST = 1000
"""How many characters of one value are shown in a table; plain lines and JSON have all."""


def show(
    arguments: Annotated[list[str], typer.Argument(metavar="[STORE] ID", show_default=False)],
    traceback: Annotated[bool, typer.Option("--traceback", help="Show the tracebacks that were recorded.")] = False,
    prefix: Prefix = "kvflow",
    json: AsJson = False,
) -> None:
    """Show one run as a timeline.

    Steps, attempts, times, outputs, errors, and what it waits for. Without a terminal a line each, with tabs between
    the fields; of the timeline these are time, kind, id, attempt and outcome. With --json one object, a RunInfo.
    """
    url, rest = store_and_rest(arguments)
    if len(rest) != 1:
        raise InvalidArgument(f"which run? give one ID after STORE: there are {len(rest)}")
    with opened(url, prefix) as store, Runtime(store) as runtime:
        run = runtime.get_run(rest[0])
    if run is None:
        raise RunNotFound(f"there is no run {rest[0]!r} in this store under the prefix {prefix!r}")
    display(run, json, traceback)


def display(run: RunInfo, json: bool, traceback: bool = False) -> None:
    """Show a run: as JSON, as tables on a terminal, as plain lines elsewhere."""
    if json:
        say_json(run)
    elif on_terminal():
        _tables(run)
    else:
        _lines(run)
    if traceback and not json:
        _tracebacks(run)


class Row(NamedTuple):
    """One line of a timeline."""

    at: datetime | None
    kind: str
    id: str
    attempt: int | None
    outcome: str


def _facts(run: RunInfo) -> Iterator[tuple[str, str]]:
    """What holds of the whole run; what there is nothing to say about is left out."""
    if run.payload is not None:
        yield "payload", as_json(run.payload)
    if run.output is not None:
        yield "output", as_json(run.output)
    if run.error is not None:
        yield "error", _error(run.error)
        for one in run.error.undo:
            yield "not undone", f"{one.id}: {one.type}: {one.message}"
    if run.deferred is not None:
        yield "deferred", run.deferred
    if run.attempt:
        yield "died", f"{run.attempt} holders since it last made progress"


def _rows(run: RunInfo) -> Iterator[Row]:
    """What has happened, then what the run waits for."""
    for one in run.history:
        outcome = "" if one.result is None else as_json(one.result)
        if one.error is not None:
            outcome = _error(one.error)
        tried = one.attempt if one.kind in {"step", "undo"} else None
        yield Row(one.at, one.kind, one.id, tried, outcome)
    for pending in run.pending:
        yield Row(None, "waits", pending.id, None, waits_for(pending))


def waits_for(pending: Pending) -> str:
    """What a run rests for, in a few words."""
    until = "" if pending.wake_at is None else f" until {moment(pending.wake_at)}"
    return f"{pending.kind}{'' if pending.event is None else ' ' + pending.event}{until}"


def _error(error: RunError) -> str:
    return f"{error.type}: {error.message}"


def _lines(run: RunInfo) -> None:
    """A name and a value a line, then the timeline: time, kind, id, attempt, outcome."""
    say("run", run.run_id)
    say("workflow", run.workflow)
    say("status", run.status)
    for name, when in _times(run):
        say(name, moment(when))
    for name, value in _facts(run):
        say(name, value)
    for row in _rows(run):
        say(moment(row.at), row.kind, row.id or "-", str(row.attempt or "-"), row.outcome or "-")


def _tables(run: RunInfo) -> None:
    facts = Table.grid(padding=(0, 2))
    facts.add_row("run", words(run.run_id, "bold"))
    facts.add_row("workflow", words(run.workflow))
    facts.add_row("status", status_words(run.status))
    for name, when in _times(run):
        facts.add_row(name, moment_words(when))
    for name, value in _facts(run):
        facts.add_row(name, words(_shortened(value)))
    timeline = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("at (UTC)", "what", "id", "attempt", "outcome"):
        timeline.add_column(heading, overflow="fold", no_wrap=heading in {"at (UTC)", "what"})
    for row in _rows(run):
        timeline.add_row(
            moment_words(row.at),
            words(row.kind),
            words(row.id),
            words(str(row.attempt or "")),
            words(_shortened(row.outcome)),
        )
    screen = console()
    screen.print(facts)
    if timeline.rows:
        screen.print()
        screen.print(timeline)


def _times(run: RunInfo) -> Iterator[tuple[str, datetime]]:
    yield "created", run.created_at
    yield "updated", run.updated_at
    if run.wake_at is not None:
        yield "wakes", run.wake_at


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters; --json has all)"


def _tracebacks(run: RunInfo) -> None:
    """Each traceback that was recorded, once, below what it was first recorded of."""
    errors = [(f"{one.kind} {one.id}".strip(), one.error) for one in run.history if one.error is not None]
    if run.error is not None:
        errors.append(("run", run.error))
    for traceback, what in {error.traceback: what for what, error in reversed(errors) if error.traceback}.items():
        say("")
        say(f"{what}:")
        for line in traceback.rstrip("\n").split("\n"):
            say(line)
