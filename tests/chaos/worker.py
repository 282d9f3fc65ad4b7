"""A worker of the course: what ``python -m chaos.worker`` runs, in a process of its own.

What it is to do it reads from its input, which stays open for as long as the course lives: at its end the worker
stops. It may be told to break kvflow on purpose, so that the checker is seen to catch it.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Struct

from chaos.breaks import break_kvflow
from chaos.flows import ASYNC, SYNC
from kvflow import AsyncRuntime, AsyncWorker, Runtime, Worker
from kvflow.store import Store
from kvflow.stores import open_store

PLACES = 6
POLL = timedelta(milliseconds=150)
MANY_DEATHS = 1000
"""How many holders of a run may die: here none is to be given up."""

BREAK = "KVFLOW_CHAOS_BREAK"


class Work(Struct, frozen=True):
    """Where the runs are, how long a silent worker is believed alive, and how wrong this one's clock is, in seconds."""

    url: str
    prefix: str
    is_async: bool
    lease_ttl: float
    clock_off: float
    timeout: float


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    work = msgspec.json.decode(sys.stdin.readline(), type=Work)
    if broken := os.environ.get(BREAK):
        break_kvflow(broken)
    with open_store(work.url, prefix=work.prefix, timeout=work.timeout) as store:
        if work.is_async:
            asyncio.run(_drive_async(store, work))
        else:
            _drive(store, work)


def _drive(store: Store, work: Work) -> None:
    with Runtime(store, SYNC, work.lease_ttl, _clock(work), MANY_DEATHS) as runtime:
        worker = Worker(runtime, PLACES, POLL)
        _stop_at_the_end_of_input(worker.stop)
        worker.run()


async def _drive_async(store: Store, work: Work) -> None:
    async with AsyncRuntime(store, ASYNC, work.lease_ttl, _clock(work), MANY_DEATHS) as runtime:
        worker = AsyncWorker(runtime, PLACES, POLL)
        _stop_at_the_end_of_input(worker.stop)
        await worker.run()


def _clock(work: Work) -> Callable[[], datetime]:
    off = timedelta(seconds=work.clock_off)
    return lambda: datetime.now(UTC) + off


def _stop_at_the_end_of_input(stop: Callable[[], None]) -> None:
    def listen() -> None:
        sys.stdin.read()
        stop()

    threading.Thread(target=listen, daemon=True).start()


if __name__ == "__main__":
    main()
