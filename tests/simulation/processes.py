"""One instance as the simulation has it: a runtime, its clocks, its leases, its gate, and the tasks that run in it.

The runtimes are kvflow's own, with all that they are made of but threads: an ``AsyncRuntime`` on a simulated loop,
where an ``AsyncWorker`` may be at work too, or a ``Runtime`` whose callers are strands.
"""

import threading
from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from kvflow import AsyncRuntime, AsyncWorker, Runtime, Workflow
from kvflow.errors import KvflowError, StoreUnavailable
from kvflow.gate import Gate
from kvflow.instance import Instance
from kvflow.leases import Held, Leases
from kvflow.stores import MemoryStore
from kvflow.testing import Killed
from kvflow.times import from_ms
from simulation.clocks import Clock
from simulation.loop import Loop
from simulation.strands import Strand
from simulation.tasks import Doing, Operation, Task, Wish
from simulation.way import Way, WayOfStrands

TTL = 10_000
GRACE, POLL = 2.0, 5.0


class World(Protocol):
    """Who decides when a task goes on."""

    def begin(self, process: "Process", doing: Doing) -> Task: ...

    def end(self, task: Task) -> None: ...


class QuietLeases(Leases):
    """The leases of a process whose renewals are the scheduler's to make, by the very code of the thread."""

    def __init__(self, clock: Clock, way: Way, ttl: int) -> None:
        super().__init__(MemoryStore(), ttl)
        self._thread = threading.Thread()  # is there, and never begins
        self._clock = clock
        self._way = way

    def renewal(self) -> Generator[Wish, Any, None]:
        """Send one call for all that is held; what it answers is believed as of when it was sent."""
        held: list[Held] = list(self._held.values())
        outcome = error = None
        sent = self._clock.monotonic()
        try:
            outcome = yield Operation(self._way.renew, ({one.run_id: one.lease.token for one in held}, self.ttl))
        except StoreUnavailable as away:
            error = away
        self._store = Answering(self._clock, outcome, error)  # type: ignore[assignment]
        self._clock.read_as = sent
        try:
            self._renew(held)
        finally:
            self._clock.read_as = None

    @property
    def any(self) -> bool:
        return bool(self._held)

    def ask_back(self) -> None:
        for held in list(self._held.values()):
            held.ask_back()


class Answering:
    """A store that has been asked already: time has passed when it answers."""

    def __init__(self, clock: Clock, answer: Any, error: StoreUnavailable | None) -> None:
        self._clock = clock
        self._answer = answer
        self._error = error

    def renew(self, tokens: dict[str, str], ttl: int) -> Any:
        self._clock.read_as = None
        if self._error is not None:
            raise self._error
        return self._answer


class Terms(Struct, frozen=True):
    """What the runtime of an instance is made with, beside its store and its clock."""

    flows: list[Workflow]
    retention: int | None
    attempts: int


Made = TypeVar("Made", AsyncRuntime, Runtime)


class Process:
    """One instance; its methods are called when it has its turn."""

    def __init__(self, world: World, name: str, clock: Clock, way: Way) -> None:
        self.world = world
        self.name = name
        self.clock = clock
        self.gate = Gate()
        self.leases = QuietLeases(clock, way, TTL)
        self.dead = False
        self.frozen_until = 0.0
        self._unexpected: BaseException | None = None

    def do(self, what: Callable[[Any], Any], expected: tuple[type[KvflowError], ...] = ()) -> None:
        """Call the runtime; who called may be told of these, and of a store that is away."""
        raise NotImplementedError

    def begin(self, doing: Doing) -> Task:
        """Have the scheduler decide when this goes on."""
        return self.world.begin(self, doing)

    def unwind(self) -> None:
        """Dead, and its tasks are gone: end what else there is."""

    def instance(self) -> Instance:
        """What its runtime makes its calls to."""
        raise NotImplementedError

    def _made(self, kind: type[Made], store: Any, terms: Terms) -> Made:
        """A runtime of this instance, by its clock and with its leases."""
        retention = None if terms.retention is None else terms.retention / 1000
        runtime = kind(store, terms.flows, TTL / 1000, lambda: from_ms(self.clock.wall()), terms.attempts, retention)
        runtime.leases = runtime.instance.leases = self.leases
        return runtime

    def unexpected(self) -> BaseException | None:
        """What has come of its calls that nobody should be told."""
        return self._unexpected

    def at_work(self) -> bool:
        """Whether it has a worker."""
        return False

    def left(self) -> list[object]:
        """What has begun and has not come to an end."""
        return []

    def _told(self, error: BaseException, expected: tuple[type[KvflowError], ...]) -> None:
        if not isinstance(error, (StoreUnavailable, Killed, *expected)) and not self.dead:
            self._unexpected = error


class AsyncProcess(Process):
    """With an ``AsyncRuntime``, its group commit, and perhaps a worker."""

    def __init__(self, world: World, name: str, clock: Clock, way: Way, terms: Terms) -> None:
        super().__init__(world, name, clock, way)
        self.worker: AsyncWorker | None = None
        self._loop = Loop(self)
        self.runtime = self._made(AsyncRuntime, way, terms)

    def instance(self) -> Instance:
        return self.runtime.instance

    def do(self, what: Callable[[Any], Any], expected: tuple[type[KvflowError], ...] = ()) -> None:
        self._loop.create_task(self._called(what, expected))
        self._loop.go_on()

    async def _called(self, what: Callable[[Any], Any], expected: tuple[type[KvflowError], ...]) -> None:
        try:
            await what(self.runtime)
        except BaseException as error:  # noqa: BLE001 (raised by the scheduler, unless it was to be expected)
            self._told(error, expected)

    def work(self, concurrency: int) -> None:
        """Begin a worker."""
        self.worker = AsyncWorker(self.runtime, concurrency, poll=POLL, grace=GRACE)
        self.do(self._works)

    async def _works(self, runtime: AsyncRuntime) -> None:
        assert self.worker is not None
        await self.worker.run()
        self.worker = None

    def stop(self) -> None:
        """Tell the worker to stop."""
        if self.worker is not None:
            self.worker.stop()
            self._loop.go_on()

    def unwind(self) -> None:
        self._loop.unwind()

    def unexpected(self) -> BaseException | None:
        return self._unexpected or self._loop.unseen

    def at_work(self) -> bool:
        return self.worker is not None

    def left(self) -> list[object]:
        return [*self._loop.left()]


class SyncProcess(Process):
    """With a ``Runtime``, and as many callers as there are."""

    def __init__(self, world: World, name: str, clock: Clock, way: Way, terms: Terms) -> None:
        super().__init__(world, name, clock, way)
        self.runtime = self._made(Runtime, WayOfStrands(way), terms)

    def instance(self) -> Instance:
        return self.runtime.instance

    def do(self, what: Callable[[Any], Any], expected: tuple[type[KvflowError], ...] = ()) -> None:
        def call() -> None:
            try:
                what(self.runtime)
            except BaseException as error:  # noqa: BLE001 (raised by the scheduler, unless it was to be expected)
                self._told(error, expected)

        self.begin(Strand(call))
