"""A worker of the demo: what ``python -m kvflow.demo.worker`` runs, in a process of its own.

Where its store is it reads from its input, for a URL may hold a password and arguments are everybody's to
see. The input stays open for as long as the demo lives: at its end the worker stops.
"""

import sys
import threading
from datetime import timedelta

import msgspec
from msgspec import Struct

from kvflow import Runtime, Worker
from kvflow.demo.orders import order
from kvflow.stores import open_store

PLACES = 4
"""How many runs one worker drives at once."""

POLL = timedelta(milliseconds=200)


class Work(Struct, frozen=True):
    """Where the runs are, and how long a worker that says nothing is believed alive."""

    url: str
    prefix: str
    lease_ttl: timedelta


def main() -> None:
    work = msgspec.json.decode(sys.stdin.readline(), type=Work)
    with (
        open_store(work.url, prefix=work.prefix) as store,
        Runtime(store, workflows=[order], lease_ttl=work.lease_ttl) as runtime,
    ):
        worker = Worker(runtime, concurrency=PLACES, poll=POLL)
        threading.Thread(target=stop_at_the_end_of_input, args=(worker,), daemon=True).start()
        worker.run()


def stop_at_the_end_of_input(worker: Worker) -> None:
    sys.stdin.read()
    worker.stop()


if __name__ == "__main__":
    main()
