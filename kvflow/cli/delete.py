"""``kvflow delete``: runs that are to be forgotten, with all that is stored of them."""

import sys
from typing import Annotated

import msgspec
import typer

from kvflow.checks import check_run_id
from kvflow.cli.output import complain, safe, say, say_json_array
from kvflow.cli.stores import AsJson, Prefix, opened, store_and_rest
from kvflow.errors import Corrupt, InvalidArgument
from kvflow.store import Store
from kvflow.stores.schemes import redacted


class Deletion(msgspec.Struct, frozen=True):
    """Whether a run was there to be deleted."""

    run_id: str
    deleted: bool


def delete(
    arguments: Annotated[list[str], typer.Argument(metavar="[STORE] ID...", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    prefix: Prefix = "kvflow",
    json: AsJson = False,
) -> int:
    """Delete runs and all that is stored of them.

    On a terminal it asks first. Runs that are not there are told of, and make the exit code 1; the others are deleted.
    """
    url, ids = store_and_rest(arguments)
    if not ids:
        raise InvalidArgument("which runs? give one ID or more after STORE")
    for run_id in ids:
        check_run_id(run_id)
    with opened(url, prefix) as store:
        states = {run_id: _state(store, run_id) for run_id in ids}
        there = [run_id for run_id, state in states.items() if state is not None]
        if there and not yes and sys.stdin.isatty() and not _sure(url, states):
            complain("nothing was deleted")
            return 1
        for run_id in there:
            store.delete(run_id)
    if json:
        say_json_array(Deletion(run_id, state is not None) for run_id, state in states.items())
    for run_id, state in states.items():
        if state is None:
            complain(f"there is no run {run_id!r}")
        elif not json:
            say("deleted", run_id)
    return int(len(there) < len(states))


def _state(store: Store, run_id: str) -> str | None:
    """What a person should know before a run is deleted; None where there is none."""
    try:
        run = store.load(run_id, log=False)
    except Corrupt:
        return "cannot be read"
    return None if run is None else f"{run.workflow}, {run.status}"


def _sure(url: str, states: dict[str, str | None]) -> bool:
    """Ask whoever sits there; no answer is no."""
    for run_id, state in states.items():
        if state is not None:
            sys.stderr.write(f"{safe(run_id)} ({safe(state)})\n")
    sys.stderr.write(f"delete from {safe(redacted(url))}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
