"""``kvflow sweep``: what is due, driven once; for cron, where no worker runs."""

from logging import DEBUG
from typing import Annotated

import typer

from kvflow.cli.application import App, Application
from kvflow.cli.logs import log_from
from kvflow.cli.output import moment, say, say_json
from kvflow.cli.stores import AsJson
from kvflow.cli.worker import Verbose


def sweep(
    app: App,
    budget: Annotated[
        float, typer.Option(metavar="SECONDS", help="When it stops beginning anything; a step is never cut short.")
    ] = 60.0,
    verbose: Verbose = False,
    json: AsJson = False,
) -> None:
    """Drive what is due, once, for cron.

    Until nothing is due or the budget is used up. Says how many runs were driven, how many could not be driven by this
    application and were put back, and when the next is due; with --verbose what happened, to stderr, a line each.
    """
    with Application(app) as application:
        if verbose:
            log_from(DEBUG)
        application.workflows()
        tick = application.do(application.runtime.tick(budget))
    if json:
        say_json(tick)
    else:
        say(f"driven {tick.driven}, deferred {tick.deferred}, next wake {moment(tick.next_wake)}")
