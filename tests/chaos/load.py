"""What is asked for in a course: orders are submitted, approved, given a bonus, cancelled, when a seed says so.

Whatever is refused because the store is away is asked again. A repeated submit is one run; of an event nobody knows
then whether it was stored, so it is noted as doubtful.
"""

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count
from random import Random

from chaos.checker import Asked
from chaos.flows import Job, order, order_async
from kvflow import AsyncRuntime, Runtime, Store, StoreUnavailable

SOON = 0.5
"""Seconds until what was refused is asked again."""

PATIENCE = 30.0

Action = Callable[[], None]


class Load:
    """The orders of one course, and what was asked of each."""

    def __init__(self, store: Store, chance: Random, lease_ttl: float) -> None:
        self.asked: list[Asked] = []
        self._chance = chance
        self._runtime = Runtime(store, [order], lease_ttl)
        self._office = Runtime(store)  # knows no workflow, so it drives none
        self._asyncio = asyncio.Runner()
        self._async_runtime = AsyncRuntime(store, [order_async], lease_ttl)
        self._agenda: list[tuple[float, int, Action]] = []
        self._number = count()

    def plan(self, seconds: float, rate: float, think: float) -> None:
        """So many orders a second, for so many seconds, whose bodies think for up to so long between two steps."""
        at = 0.0
        while at < seconds:
            self._plan(at, think)
            at += self._chance.expovariate(rate)

    def _plan(self, at: float, think: float) -> None:
        chance, number = self._chance, len(self.asked)
        job = Job(
            rest=round(chance.uniform(0, 0.6), 3),
            think=round(chance.uniform(0, think), 3),
            approvals=chance.choice([0, 1, 1, 2, 3]),
            bonus_within=round(chance.uniform(0, 0.6), 3),
            children=chance.choice([0, 0, 1, 2]),
            fails=chance.random() < 0.15,
        )
        asked = Asked(f"order-{number}", job, [])
        self.asked.append(asked)
        self._then(at, lambda: self.submit(asked))
        when = at
        for _ in range(job.approvals):
            when += chance.uniform(0.05, 1.0)
            self._then(when, lambda: self._approve(asked))
        if chance.random() < 0.5:
            self._then(at + chance.uniform(0.1, 2.0), lambda: self._give_bonus(asked))
        if chance.random() < 0.1:
            self._then(at + chance.uniform(0.1, 3.0), lambda: self._cancel(asked))

    def _then(self, at: float, action: Action) -> None:
        heapq.heappush(self._agenda, (at, next(self._number), action))

    @property
    def lasts(self) -> float:
        """Seconds until the last of it."""
        return max(at for at, _, _ in self._agenda)

    def run(self, meanwhile: Action) -> None:
        """Do all at its time; ``meanwhile`` is called now and then."""
        begun, overtime = time.monotonic(), self.lasts + 10 * PATIENCE
        while self._agenda:
            at, _, action = self._agenda[0]
            now = time.monotonic() - begun
            assert now < overtime, "the store never came back"
            if at > now:
                meanwhile()
                time.sleep(min(at - now, 0.05))
                continue
            heapq.heappop(self._agenda)
            try:
                action()
            except StoreUnavailable:
                self._then(now + SOON, action)

    def close(self) -> None:
        self._asyncio.run(self._async_runtime.close())
        self._asyncio.close()
        self._runtime.close()
        self._office.close()

    def submit(self, asked: Asked) -> None:
        """As often as one likes: every other one is of the async workflow."""
        if self.asked.index(asked) % 2:
            self._asyncio.run(self._async_runtime.submit(order_async, asked.job, run_id=asked.run))
        else:
            self._runtime.submit(order, asked.job, run_id=asked.run)
        asked.submitted = True

    def _approve(self, asked: Asked) -> None:
        event = f"{asked.run} approval {len(asked.approvals)}"
        self._send(asked, "approved", event)
        asked.approvals.append(event)

    def _give_bonus(self, asked: Asked) -> None:
        asked.bonus = f"{asked.run} bonus"
        self._send(asked, "bonus", asked.bonus)

    def _send(self, asked: Asked, name: str, event: str) -> None:
        _see_that_it_is_there(asked)
        try:
            self._office.signal(asked.run, name, event)
        except StoreUnavailable:
            asked.doubtful.add(event)
            raise

    def _cancel(self, asked: Asked) -> None:
        _see_that_it_is_there(asked)
        asked.cancelled = True
        self._office.cancel(asked.run, "the customer thought again")


def _see_that_it_is_there(asked: Asked) -> None:
    if not asked.submitted:
        raise StoreUnavailable(f"{asked.run} is yet to be submitted")
