"""The way from an instance to the store, on which calls and answers get lost; and what the checker is told of it."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from kvflow.errors import KvflowError, StoreUnavailable
from kvflow.store import Store
from kvflow.stores import MemoryStore
from simulation.choices import Choices
from simulation.strands import wished
from simulation.tasks import Operation

if TYPE_CHECKING:
    from simulation.checker import Checker
    from simulation.simulation import Weather

METHODS = {name for name in dir(Store) if not name.startswith("_")}

READING = ("load", "list", "due", "next_wake")


class Way:
    """As a ``Store``: each call happens or does not, and is answered or is not."""

    def __init__(self, name: str, far: "Far") -> None:
        self._name = name
        self._far = far

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if method not in METHODS:
            raise AttributeError(method)
        return partial(self._far.asked, self._name, method)


class WayOfStrands:
    """The same for strands, which give way to the scheduler at each call."""

    def __init__(self, way: Way) -> None:
        self._way = way

    def __getattr__(self, method: str) -> Callable[..., Any]:
        function = getattr(self._way, method)
        return lambda *args: wished(Operation(function, args))


class Far:
    """The store, who looks at it after each change, and the weather between here and there."""

    def __init__(self, store: MemoryStore, checker: "Checker", choices: Choices, weather: "Weather") -> None:
        self._store = store
        self._checker = checker
        self.choices = choices
        self.weather = weather
        self.late: list[Callable[[], Any]] = []
        self.done: Counter[str] = Counter()
        self.broken: Exception | None = None

    def asked(self, name: str, method: str, *args: Any) -> Any:
        """The answer to a call; there may be none, and then the call may have happened, or may happen yet."""
        away = StoreUnavailable(f"{method} is not answered")
        if self.choices.chance(self.weather.away):
            raise away
        if self.choices.chance(self.weather.late):
            self.late.append(partial(self._do, name, method, args))
            raise away
        answer = self._do(name, method, args)
        if self.choices.chance(self.weather.lost):
            raise away
        return answer

    def something_comes_late(self) -> None:
        """What was sent long ago happens now, and nobody waits for the answer."""
        call = self.late.pop(self.choices.below(len(self.late)))
        try:
            call()
        except KvflowError:
            """As for any other call; who made it is gone."""

    def _do(self, name: str, method: str, args: tuple[Any, ...]) -> Any:
        accounts = self._checker.accounts
        saves = list(args[0]) if method == "save_many" else [args] if method == "save" else []
        before = [self._store.load(save[0].run_id, log=False) for save in saves]
        try:
            answer = getattr(self._store, method)(*args)
        except Exception as error:
            if not isinstance(error, KvflowError):
                self._found(error)
            raise
        outcomes = answer if method == "save_many" else [answer]
        for save, stored, outcome in zip(saves, before, outcomes, strict=False):
            if not isinstance(outcome, KvflowError):
                accounts.saved(name, save[0], save[2] if len(save) > 2 else None, stored)
        accounts.note(name, method, args, answer)
        self.done[method] += 1
        if method not in READING:
            try:
                self._checker.look()
            except Exception as error:  # noqa: BLE001 (raised in here, it would be taken for the store's trouble)
                self._found(error)
        return answer

    def _found(self, error: Exception) -> None:
        """Keep the first that is wrong, for the scheduler to raise."""
        self.broken = self.broken or error
