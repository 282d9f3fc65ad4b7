"""``kvflow runs``: what is in a store, newest first; live with ``--watch``."""

import sys
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.live import Live
from rich.table import Table

from kvflow.checks import check_limit, check_status
from kvflow.cli.output import (
    complain,
    console,
    distance,
    moment,
    on_terminal,
    say,
    say_json,
    say_json_array,
    status_words,
    words,
)
from kvflow.cli.stores import AsJson, Prefix, opened, store_named
from kvflow.errors import StoreUnavailable
from kvflow.info import RunInfo
from kvflow.run import Status
from kvflow.runtime import Runtime

PAGE = 500
"""How many runs are asked of a store at once."""

LOOK = 1.0
"""How many seconds pass between two looks of ``--watch``."""

LEFT_OUT = {"payload", "output", "history"}
"""What a listing does not read of a run."""


def runs(
    store: Annotated[
        str | None, typer.Argument(metavar="STORE", show_default=False, help="A URL; else KVFLOW_STORE.")
    ] = None,
    status: Annotated[str | None, typer.Option(metavar="STATUS", help=f"One of {', '.join(Status)}.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", help="How many at most.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking, until Ctrl-C.")] = False,
    prefix: Prefix = "kvflow",
    json: AsJson = False,
) -> None:
    """List runs, newest first.

    On a terminal a table, live with --watch. Elsewhere a line a run, with tabs between id, workflow, status, what it
    waits for, attempt (how many of its holders died), wake, and last update, and no heading; with --watch a line for
    each run that has changed. With --json an array, whose entries have the fields of RunInfo but payload, output and
    history; with --watch an object a line.
    """
    check_limit(limit)
    wanted = check_status(status)
    with opened(store_named(store), prefix) as open_, Runtime(open_) as runtime:
        if watch:
            _watch(runtime, limit, wanted, json)
        elif json:
            say_json_array(_object(run) for run in _listed(runtime, limit, wanted))
        elif on_terminal():
            found = list(_listed(runtime, limit + 1, wanted))
            console().print(_table(found[:limit], "there are more: see --limit" if len(found) > limit else ""))
        else:
            _lines(_listed(runtime, limit, wanted))


def _listed(runtime: Runtime, limit: int, status: Status | None) -> Iterator[RunInfo]:
    """As many runs as wanted, a page at a time."""
    after: RunInfo | None = None
    while limit > 0:
        page = runtime.list_runs(min(limit, PAGE), after, status)
        yield from page
        if len(page) < min(limit, PAGE):
            return
        limit, after = limit - len(page), page[-1]


def _watch(runtime: Runtime, limit: int, status: Status | None, json: bool) -> None:
    """Look again and again. Ctrl-C is how it ends, and no failure; a store that is away is waited for."""
    try:
        if on_terminal() and not json:
            with Live(console=console(), auto_refresh=False) as live:
                for found, trouble in _looks(runtime, limit, status):
                    live.update(_table(found, trouble), refresh=True)
        else:
            _watch_lines(runtime, limit, status, json)
    except KeyboardInterrupt:
        return


def _watch_lines(runtime: Runtime, limit: int, status: Status | None, json: bool) -> None:
    known: dict[str, RunInfo] = {}
    for found, trouble in _looks(runtime, limit, status):
        if trouble:
            complain(trouble)
        changed = [run for run in found if known.get(run.run_id) != run]
        known = {run.run_id: run for run in found}
        for run in changed:
            if json:
                say_json(_object(run))
        if not json:
            _lines(changed)
        sys.stdout.flush()


def _looks(runtime: Runtime, limit: int, status: Status | None) -> Iterator[tuple[list[RunInfo], str]]:
    """What is found, as often as it is looked; with it what is wrong, when the last that was found is all there is."""
    found = list(_listed(runtime, limit, status))
    trouble = ""
    while True:
        yield found, trouble
        time.sleep(LOOK)
        try:
            found, trouble = list(_listed(runtime, limit, status)), ""
        except StoreUnavailable as error:
            trouble = f"{error}; looking again"


def _object(run: RunInfo) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(run).items() if name not in LEFT_OUT}


def _waits(run: RunInfo) -> str:
    """What a run waits for, or why that cannot be said."""
    if run.deferred is not None:
        return run.deferred
    return "; ".join(f"{one.kind} {one.event or one.id}" for one in run.pending) or "-"


def _lines(found: Iterable[RunInfo]) -> None:
    for run in found:
        say(
            run.run_id,
            run.workflow,
            run.status,
            _waits(run),
            str(run.attempt),
            moment(run.wake_at),
            moment(run.updated_at),
        )


def _table(found: Iterable[RunInfo], caption: str = "") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", caption=words(caption), caption_justify="left")
    for heading in ("id", "workflow", "status", "waits for", "attempt", "wakes", "updated"):
        table.add_column(heading, overflow="fold")
    now = datetime.now(UTC)
    for run in found:
        table.add_row(
            words(run.run_id, "bold"),
            words(run.workflow),
            status_words(run.status),
            words(_waits(run)),
            words(str(run.attempt)),
            distance(run.wake_at, now),
            distance(run.updated_at, now),
        )
    if not table.rows:
        table.caption = words(caption or "no runs")
    return table
