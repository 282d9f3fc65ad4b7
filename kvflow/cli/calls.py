"""What acts on one run through the application's runtime: trigger, signal, cancel, retry."""

from typing import Annotated, Any

import msgspec
import typer

from kvflow.cli.application import App, Application
from kvflow.cli.output import complain
from kvflow.cli.show import display
from kvflow.cli.stores import AsJson
from kvflow.errors import UNDECODABLE, InvalidArgument, KvflowError
from kvflow.info import RunInfo
from kvflow.run import Status

Id = Annotated[str, typer.Argument(metavar="ID", show_default=False, help="The id of the run.")]
Json = Annotated[str, typer.Argument(metavar="JSON", show_default=False, help="As JSON; null if left out.")]


class TooLate(KvflowError):
    """The run was over before it could be told."""


def trigger(
    app: App,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", show_default=False, help="Its name.")],
    payload: Json = "null",
    run_id: Annotated[str | None, typer.Option("--id", metavar="ID", help="Of the run; else a new one.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Only store it: a worker is to drive it.")] = False,
    json: AsJson = False,
) -> int:
    """Begin a run, and drive it until it rests.

    Shows the run; the exit code is 1 if it has failed. The same id again, with the same payload, is the same run.
    """
    value = _value(payload)
    with Application(app) as application:
        begin = application.runtime.submit if submit else application.runtime.trigger
        application.check_workflow(workflow)
        run = application.do(begin(workflow, value, run_id=run_id))
    display(run, json)
    return _code(run)


def signal(
    app: App,
    run_id: Id,
    event: Annotated[str, typer.Argument(metavar="EVENT", show_default=False, help="Its name.")],
    payload: Json = "null",
    json: AsJson = False,
) -> None:
    """Send an event to a run.

    Shows the run, which is driven as far as it goes; one that is over takes no events, and makes the exit code 1.
    """
    value = _value(payload)
    with Application(app) as application:
        before = application.do(application.runtime.get_run(run_id))
        run = application.do(application.runtime.signal(run_id, event, value))
    if run.over and before is not None and _heard(run, event) == _heard(before, event):
        raise TooLate(f"run {run_id!r} is {run.status}: no event reaches it any more")
    display(run, json)


def cancel(
    app: App,
    run_id: Id,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Kept with the run.")] = None,
    json: AsJson = False,
) -> None:
    """Ask a run to end, at its next step boundary.

    Shows the run; one that has ended otherwise cannot be cancelled, and makes the exit code 1.
    """
    with Application(app) as application:
        run = application.do(application.runtime.cancel(run_id, reason))
    if run.over and run.status is not Status.CANCELLED:
        raise TooLate(f"run {run_id!r} is {run.status}: there is nothing to cancel any more")
    display(run, json)


def retry(app: App, run_id: Id, json: AsJson = False) -> int:
    """Drive a failed run again from where it failed.

    Shows the run; the exit code is 1 if it has failed again.
    """
    with Application(app) as application:
        run = application.do(application.runtime.retry(run_id))
    display(run, json)
    return _code(run)


def _heard(run: RunInfo, event: str) -> int:
    """How many events of this name have reached a run."""
    return sum(one.kind == "signal" and one.id == event for one in run.history)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text.encode("utf-8", "surrogateescape"))
    except (*UNDECODABLE, UnicodeEncodeError) as error:
        raise InvalidArgument(
            f"{text[:40]!r} is not JSON ({error}): write '{{\"amount\": 40}}', or '\"text\"' for a string"
        ) from error


def _code(run: RunInfo) -> int:
    """0, or 1 of a run that has failed, which is said."""
    if run.status is not Status.FAILED:
        return 0
    why = "" if run.error is None else f": {run.error.type}: {run.error.message}"
    complain(f"run {run.run_id!r} has failed{why}")
    return 1
