"""One instance as the simulation has it: its clocks, its leases, its gate, and the tasks that run in it."""

import threading
from collections.abc import Callable, Coroutine
from typing import Any

from kvflow import Workflow
from kvflow.errors import StoreUnavailable
from kvflow.gate import Gate
from kvflow.instance import Instance
from kvflow.leases import Held, Leases
from kvflow.stores import MemoryStore
from kvflow.testing import Killed
from simulation.clocks import Clock
from simulation.tasks import Operation, Wish, wish

TTL = 10_000


class Task:
    """A coroutine, what it wishes for, and the answer on its way to it."""

    def __init__(self, process: "Process", doing: Coroutine[Any, Any, Any]) -> None:
        self.process = process
        self.doing = doing
        self.wish: Wish | None = None
        self.answer: Callable[[], Any] | None = None
        self.sent = 0.0
        self.done = False

    def kill(self) -> None:
        """Unwind, whatever it catches; what it still wants to do does not happen."""
        while not self.done:
            try:
                self.doing.throw(Killed())
            except (StopIteration, Killed):
                self.done = True
        self.wish = None


class QuietLeases(Leases):
    """The leases of a process whose renewals are the scheduler's to make, by the very code of the thread."""

    def __init__(self, process: "Process", ttl: int) -> None:
        super().__init__(MemoryStore(), ttl)
        self._thread = threading.Thread()  # is there, and never begins
        self._process_ = process

    async def renewal(self) -> None:
        """Send one call for all that is held; what it answers is believed as of when it was sent."""
        held: list[Held] = list(self._held.values())
        clock, outcome = self._process_.clock, None
        sent, error = clock.monotonic(), None
        try:
            outcome = await wish(Operation("renew", ({one.run_id: one.lease.token for one in held}, self.ttl)))
        except StoreUnavailable as away:
            error = away
        self._store = Answering(clock, outcome, error)  # type: ignore[assignment]
        clock.read_as = sent
        try:
            self._renew(held)
        finally:
            clock.read_as = None

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


class Process:
    """One instance with its clocks, its leases and its gate."""

    def __init__(self, name: str, clock: Clock, flows: list[Workflow], retention: int | None, attempts: int) -> None:
        self.name = name
        self.clock = clock
        self.gate = Gate()
        self.dead = False
        self.frozen_until = 0.0
        self.leases = QuietLeases(self, TTL)
        self.instance = Instance(
            leases=self.leases, now=clock.wall, is_async=True, max_attempts=attempts, retention=retention
        )
        for flow in flows:
            self.instance.register(flow)
