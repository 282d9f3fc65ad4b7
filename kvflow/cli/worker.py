"""``kvflow worker``: a process that drives what is due, until it is told to stop."""

from logging import DEBUG, INFO
from typing import Annotated

import typer

from kvflow.cli.application import App, Application
from kvflow.cli.logs import log, log_from
from kvflow.runtime import AsyncRuntime
from kvflow.worker import AsyncWorker, Worker

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more, to stderr.")]


def worker(
    app: App,
    concurrency: Annotated[int, typer.Option(metavar="N", help="How many runs are driven at once.")] = 8,
    poll: Annotated[float, typer.Option(metavar="SECONDS", help="How often an idle worker looks.")] = 1.0,
    grace: Annotated[float, typer.Option(metavar="SECONDS", help="How long runs may go on after a stop.")] = 30.0,
    verbose: Verbose = False,
) -> None:
    """Drive what is due, until told to stop.

    Any number of workers may run. SIGTERM or Ctrl-C lets runs come to a rest within --grace; a second one leaves at
    once. What happens is logged to stderr, a line each, unless the application has configured logging itself.
    """
    with Application(app) as application:
        application.workflows()
        runtime = application.runtime
        log_from(DEBUG if verbose else INFO)
        log.info("a worker for %s, on a %s", app, type(runtime.store).__name__)
        if isinstance(runtime, AsyncRuntime):
            application.do(AsyncWorker(runtime, concurrency, poll, grace).run())
        else:
            Worker(runtime, concurrency, poll, grace).run()
