"""What happened outside: which step was called, by which instance, when, under which key, and what each body saw."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from kvflow import AsyncContext
from simulation.strands import Awaited

Ctx = AsyncContext | Awaited


class Called(Struct):
    """One call of a step's function; ``ended`` is when, or None while it lasts or when its process died in it."""

    number: int
    run_id: str
    name: str
    key: str
    tries: int
    instance: str
    begun: float
    ended: float | None = None
    value: str | None = None


class Watching(Protocol):
    """Who is told at once, while the store is as it is."""

    def step_begins(self, call: Called, seen: dict[str, Any]) -> None: ...

    def is_seen(self, run_id: str, key: str, name: str, value: Any) -> None: ...

    def is_undone(self, run_id: str, name: str, result: Any) -> None: ...


class Journal:
    """Written by steps and bodies; kvflow does not know of it."""

    def __init__(self, now: Callable[[], float], turn: Callable[[], str], slowness: Callable[[], int]) -> None:
        self.calls: list[Called] = []
        self.watching: Watching | None = None
        self.broken: Exception | None = None
        self.slowness = slowness
        self.heals: set[str] = set()
        self._now = now
        self._turn = turn
        self._tries: Counter[str] = Counter()
        self._passes: dict[int, tuple[Ctx, dict[str, Any]]] = {}
        self.keys: dict[tuple[str, str], set[str]] = defaultdict(set)

    def healed(self, run_id: str) -> bool:
        """Whether what was broken for good has been mended."""
        return run_id in self.heals

    def begun(self, ctx: Ctx, name: str) -> Called:
        key = ctx.key(name)
        self._tries[key] += 1
        call = Called(len(self.calls), ctx.run_id, name, key, self._tries[key], self._turn(), self._now())
        self.calls.append(call)
        self._tell(lambda watching: watching.step_begins(call, self._pass(ctx)))
        return call

    def ended(self, call: Called, value: str | None) -> str:
        call.ended, call.value = self._now(), value
        return value or ""

    def seen(self, ctx: Ctx, name: str, value: Any) -> None:
        """The body was given this."""
        self._pass(ctx)[name] = value
        self._tell(lambda watching: watching.is_seen(ctx.run_id, ctx.key(name), name, value))

    def all_seen(self, ctx: Ctx) -> dict[str, Any]:
        """All that this pass was given."""
        return dict(self._pass(ctx))

    def undoing(self, ctx: Ctx, name: str, result: Any) -> None:
        self._tell(lambda watching: watching.is_undone(ctx.run_id, name, result))

    def _tell(self, what: Callable[[Watching], None]) -> None:
        """What is found broken is kept: raised in here, the engine would take it for a failure of the step."""
        if self.watching is not None and self.broken is None:
            try:
                what(self.watching)
            except Exception as error:  # noqa: BLE001 (whatever it is)
                self.broken = error

    def _pass(self, ctx: Ctx) -> dict[str, Any]:
        return self._passes.setdefault(id(ctx), (ctx, {}))[1]
