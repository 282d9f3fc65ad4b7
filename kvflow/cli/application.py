"""APP: the runtime that a command acts through, found by ``module:name`` and called alike in both colours.

What is wrong with APP, or with the module that it names, is told in one line that says what and where.
"""

import asyncio
import importlib
import os
import sys
import traceback
from collections.abc import Coroutine
from inspect import iscoroutine
from operator import attrgetter
from types import ModuleType, TracebackType
from typing import Annotated, Any, Self, TypeVar, cast, overload

import typer

from kvflow.errors import InvalidArgument, KvflowError, UnknownWorkflow
from kvflow.runtime import AsyncRuntime, Runtime

Outcome = TypeVar("Outcome")

App = Annotated[str, typer.Argument(metavar="APP", help="module:runtime", show_default=False)]


class NoApplication(KvflowError):
    """APP names nothing that could be imported, or nothing that is a runtime."""


class Application:
    """A runtime of either colour. All calls of an async one run in one event loop, as in its own process."""

    def __init__(self, app: str) -> None:
        self.app, self.runtime = app, found(app)
        self._loop = asyncio.Runner()

    @overload
    def do(self, called: "Coroutine[Any, Any, Outcome]") -> Outcome: ...
    @overload
    def do(self, called: "Outcome | Coroutine[Any, Any, Outcome]") -> Outcome: ...
    def do(self, called: "Outcome | Coroutine[Any, Any, Outcome]") -> Outcome:
        """The outcome of a call on the runtime: ``do(runtime.retry("o-1"))``."""
        return self._loop.run(called) if iscoroutine(called) else cast("Outcome", called)

    def workflows(self) -> tuple[str, ...]:
        """The names of what it can drive; that it can drive nothing is an error."""
        names = tuple(self.runtime.instance.workflows)
        if not names:
            raise NoApplication(f"{self.app!r} has no workflows: give it some, Runtime(store, workflows=[...])")
        return names

    def check_workflow(self, name: str) -> None:
        """Refuse a name that is not among its workflows."""
        if name not in (names := self.workflows()):
            raise UnknownWorkflow(f"{self.app!r} has no workflow {name!r}; it has {', '.join(names)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.do(self.runtime.close())
        self.runtime.store.close()  # the application opened it, and this is the end of its process
        self._loop.close()


def found(app: str) -> Runtime | AsyncRuntime:
    """The runtime that APP names."""
    name, colon, attribute = app.partition(":")
    if not colon or not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        raise InvalidArgument(f"APP is {app!r}: it must be module:runtime, such as shop:runtime")
    module = _imported(name)
    try:
        runtime = attrgetter(attribute)(module)
    except AttributeError as error:
        raise NoApplication(f"module {name!r} has no {attribute!r}: {_runtimes_of(module)}") from error
    if not isinstance(runtime, (Runtime, AsyncRuntime)):
        kind = type(runtime).__name__
        raise NoApplication(f"{app!r} is a {kind}, no Runtime or AsyncRuntime: {_runtimes_of(module)}")
    return runtime


def _imported(name: str) -> ModuleType:
    """The module, looked for in the current directory first, as uvicorn and celery do."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(name, error) from error
        hint = f"; write {name.removesuffix('.py')!r}, without .py" if name.endswith(".py") else ""
        raise NoApplication(
            f"there is no module {error.name!r} in {here} or elsewhere on Python's path{hint}"
        ) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> NoApplication:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return NoApplication(f"importing {name!r} failed{_place(error)}: {what}")


def _place(error: BaseException) -> str:
    """Where in the user's own code it was, as near to the error as that comes."""
    if isinstance(error, SyntaxError):
        return ""  # its message has the place
    here = os.path.join(os.getcwd(), "")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<frozen ")][1:]
    frames = [one for one in frames if not one.filename.startswith(os.path.dirname(importlib.__file__))] or frames
    own = [one for one in frames if one.filename.startswith(here) and "site-packages" not in one.filename] or frames
    return f" at {own[-1].filename.removeprefix(here)}:{own[-1].lineno}" if own else ""


def _runtimes_of(module: ModuleType) -> str:
    names = [name for name, value in vars(module).items() if isinstance(value, (Runtime, AsyncRuntime))]
    if names:
        return f"its runtimes are {', '.join(f'{module.__name__}:{name}' for name in names)}"
    return "it has no runtime; make one with Runtime(store, workflows=[...])"
