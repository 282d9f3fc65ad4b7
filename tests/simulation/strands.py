"""Threads that the scheduler has in hand, for kvflow's own driver that calls: greenlets, one at a time."""

from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

from kvflow import Context
from simulation.tasks import When, Wish

Outcome = TypeVar("Outcome")
Functions = dict[str, Callable[..., Any]]


class Strand:
    """A call that is made as in a thread of its own; a generator to whoever sends to it."""

    def __init__(self, call: Callable[[], Any]) -> None:
        def begun(_: Any) -> Any:
            return call()

        self._greenlet = greenlet(begun)

    def send(self, value: Any) -> Wish:
        return self._wish(self._greenlet.switch(value))

    def throw(self, error: BaseException) -> Wish:
        return self._wish(self._greenlet.throw(error))

    def _wish(self, given: Any) -> Wish:
        if self._greenlet.dead:
            raise StopIteration(given)
        wish: Wish = given
        return wish


def wished(wish: Wish) -> Any:
    """In a strand: give way to the scheduler until it has what is wanted."""
    scheduler = getcurrent().parent
    assert scheduler is not None
    return scheduler.switch(wish)


def in_a_strand() -> bool:
    return getcurrent().parent is not None


def at_once(doing: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run what awaits nothing that is not there."""
    try:
        doing.send(None)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
    raise AssertionError("it awaits something")


class Lock:
    """Stands for ``threading.Lock``: who waits for it gives way to the scheduler."""

    def __init__(self) -> None:
        self._held = False

    def acquire(self) -> None:
        if self._held:
            wished(When(lambda: not self._held))
        self._held = True

    def release(self) -> None:
        self._held = False

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class OneByOne:
    """Stands for ``kvflow.places.Places``: what is begun is done before the next is."""

    def __init__(self, most: int) -> None:
        assert most

    def begin(self, call: Callable[..., Outcome], *args: object) -> "Future[Outcome]":
        future: Future[Outcome] = Future()
        future.set_result(call(*args))
        return future

    def close(self) -> None:
        """Nothing is left."""


class Awaited:
    """A ``Context`` as a body has it that awaits: each call is done when it has been made."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.run_id = ctx.run_id

    def key(self, name: str) -> str:
        return self._ctx.key(name)

    async def step(self, name: str, function: Any, *args: Any, compensate: Any = None, **options: Any) -> Any:
        return self._ctx.step(name, sync(function), *args, compensate=compensate and sync(compensate), **options)

    async def parallel(self, name: str, branches: Functions, compensate: Functions, **options: Any) -> Any:
        return self._ctx.parallel(name, all_sync(branches), compensate=all_sync(compensate), **options)

    async def sleep(self, *args: Any) -> None:
        self._ctx.sleep(*args)

    async def wait_for_event(self, *args: Any, **options: Any) -> Any:
        return self._ctx.wait_for_event(*args, **options)

    async def child(self, *args: Any) -> Any:
        return self._ctx.child(*args)


def sync(function: Callable[..., Coroutine[Any, Any, Outcome]]) -> Callable[..., Outcome]:
    """The same to call."""

    def call(*args: Any) -> Outcome:
        return at_once(function(*args))

    return call


def all_sync(functions: Functions) -> Functions:
    return {name: sync(function) for name, function in functions.items()}
