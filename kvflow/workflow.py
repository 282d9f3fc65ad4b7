"""A workflow: a plain function with a name that outlives it.

The name is what stored runs know; the function may be changed, moved or renamed between deployments.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import Any, overload

import msgspec

from kvflow import values
from kvflow.checks import check_name
from kvflow.errors import InvalidArgument

Body = Callable[..., Any]


class Workflow:
    """A body under its name; calling it calls the body, so that it can be tested as the function that it is."""

    def __init__(self, body: Body, name: str | None = None) -> None:
        if not callable(body):
            raise InvalidArgument(f"@workflow takes a function, and was given {body!r}")
        self.name = body.__name__ if name is None else name
        check_name("workflow", self.name, InvalidArgument)
        self.body = body
        self.is_async = inspect.iscoroutinefunction(body)
        self._takes_payload = len(inspect.signature(body).parameters) > 1
        self.__doc__ = body.__doc__
        self.__wrapped__ = body

    @cached_property
    def payload_type(self) -> Any:
        """What the payload is annotated as, found when it is first needed, for it may be defined later."""
        return values.payload_type(self.body, self.name)

    def same(self, one: msgspec.Raw, other: msgspec.Raw) -> bool:
        """Whether two payloads are the same to the body."""
        return values.same(one, other, self.payload_type)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.body(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<workflow {self.name!r}>"

    def arguments(self, context: Any, payload: Any) -> tuple[Any, ...]:
        """What the body is called with: ``(ctx, payload)``, or ``(ctx,)`` where it takes no more."""
        return (context, payload) if self._takes_payload else (context,)


@overload
def workflow(body: Body, /) -> Workflow: ...
@overload
def workflow(*, name: str | None = None) -> Callable[[Body], Workflow]: ...
def workflow(body: Body | None = None, /, *, name: str | None = None) -> Workflow | Callable[[Body], Workflow]:
    """Make a workflow of a function: ``@workflow``, or ``@workflow(name="order")`` where the name should differ."""
    if body is not None:
        return Workflow(body, name)

    def named(given: Body) -> Workflow:
        return Workflow(given, name)

    return named
