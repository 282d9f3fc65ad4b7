"""The commands, and the one place where what goes wrong becomes a line and an exit code.

A command returns its exit code, or None for 0, and raises ``KvflowError`` for what it cannot do. An
``InvalidArgument`` is usage, 2; all else is a failure, 1. Nobody sees a traceback, unless KVFLOW_TRACEBACK is set.
"""

import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from inspect import getdoc
from io import TextIOWrapper
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand

from kvflow.cli.calls import cancel, retry, signal, trigger
from kvflow.cli.check import check
from kvflow.cli.delete import delete
from kvflow.cli.demo import demo
from kvflow.cli.logs import logs
from kvflow.cli.output import complain, one_line
from kvflow.cli.runs import runs
from kvflow.cli.schema import schema
from kvflow.cli.show import show
from kvflow.cli.sweep import sweep
from kvflow.cli.worker import worker
from kvflow.errors import InvalidArgument, KvflowError

COMMANDS: list[tuple[Callable[..., int | None], str, str]] = [
    (demo, "", "kvflow demo --store redis://localhost"),
    (worker, "APP", "kvflow worker shop:runtime --concurrency 16"),
    (sweep, "APP", "kvflow sweep shop:runtime --budget 50"),
    (trigger, "APP WORKFLOW [JSON]", """kvflow trigger shop:runtime order '{"id": "o-1", "amount": 40}' --id o-1"""),
    (signal, "APP ID EVENT [JSON]", """kvflow signal shop:runtime o-1 approved '{"by": "ann"}'"""),
    (cancel, "APP ID", "kvflow cancel shop:runtime o-1 --reason 'sold out'"),
    (retry, "APP ID", "kvflow retry shop:runtime o-1"),
    (runs, "[STORE]", "kvflow runs redis://localhost --status waiting --watch"),
    (show, "[STORE] ID", "kvflow show redis://localhost o-1"),
    (delete, "[STORE] ID...", "kvflow delete redis://localhost o-1 o-2"),
    (check, "[STORE]", "kvflow check postgresql://localhost/app"),
    (schema, "[STORE]", "kvflow schema postgresql://localhost/app --prefix shop | psql app"),
]
"""Each command, with its arguments as its help shows them, and the example there."""

ABOUT = """
Durable workflows on the storage that you already run.

APP is module:runtime, a Runtime or an AsyncRuntime; the current directory can be imported from. STORE is a URL, and
may be left out where KVFLOW_STORE is set. An id or a number that begins with a dash is given after --.
"""

ClickException = cast("type[Exception]", typer.BadParameter.__mro__[2])
"""What is wrong with the options and arguments: of click, or of the click that newer versions of typer bring."""


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an id that this terminal's encoding lacks is shown all the same
            stream.reconfigure(errors="backslashreplace")
    try:
        with logs():
            code = typer.main.get_command(_app()).main(list(arguments), "kvflow", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _unread()
    except Exception as error:
        if os.environ.get("KVFLOW_TRACEBACK"):
            raise
        return _failed(error)
    return code or 0


def _app() -> typer.Typer:
    app = typer.Typer(help=ABOUT, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.callback(invoke_without_command=True)(_first)
    for command, arguments, example in COMMANDS:
        about = f"{getdoc(command)}\n\n\b\nExample:\n  {example}"
        app.command(cls=_Command, options_metavar=f"{arguments} [OPTIONS]".lstrip(), help=about)(command)
    return app


class _Command(TyperCommand):
    """A command whose arguments are shown as we wrote them: STORE may be left out before what may not."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [self.options_metavar or ""]

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # typer would make an exit of it, as if the application had asked for one
            return _unread()


def _first(
    context: typer.Context,
    shows_version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if shows_version:
        typer.echo(f"kvflow {version('kvflow')}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def _failed(error: Exception) -> int:
    """Say in one line what went wrong; the exit code for it."""
    if isinstance(error, ClickException):
        said = cast("Any", error)  # click's or typer's own
        command = said.ctx.command_path if getattr(said, "ctx", None) else "kvflow"
        complain(f"{said.format_message().rstrip('.')} (see {command} --help)")
        return 2
    if isinstance(error, KvflowError):
        complain(str(error))
        return 2 if isinstance(error, InvalidArgument) else 1
    complain(f"{type(error).__name__}: {one_line(str(error))} (KVFLOW_TRACEBACK=1 shows where)")
    return 1


def _unread() -> int:
    """Nobody reads what we write, as after ``| head``: the rest, and what Python flushes at its end, goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return 1
