"""Several processes that live through a whole bench and keep their connections, and do as told in each trial."""

import multiprocessing
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from msgspec import Struct

PATIENCE = 60.0


class Failed(Struct, frozen=True):
    """What a process answers when it cannot go on."""

    trace: str


@contextmanager
def crew(number: int, work: Callable[..., None], *args: Any) -> Generator[list[Connection]]:
    """Processes that run ``work(orders, *args)``, by the ends of their pipes; ``None`` tells each to end."""
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes: list[SpawnProcess] = []
    try:
        for _ in range(number):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(work, there, args), daemon=True)
            process.start()
            there.close()
            ends.append(here)
            processes.append(process)
        yield ends
        for end in ends:
            end.send(None)
        for process in processes:
            process.join(PATIENCE)
    finally:
        for end in ends:
            end.close()
        for process in processes:
            process.kill()
            process.join()


def tell(ends: Sequence[Connection], order: Any) -> list[Any]:
    """Give all of them an order, then wait for what each answers."""
    for end in ends:
        end.send(order)
    return [_answer(end) for end in ends]


def _answer(end: Connection) -> Any:
    if not end.poll(PATIENCE):
        raise TimeoutError(f"a process of the bench has not answered for {PATIENCE:.0f} seconds")
    answer = end.recv()
    if isinstance(answer, Failed):
        raise RuntimeError(f"a process of the bench failed:\n{answer.trace}")  # noqa: TRY004 (no type is wrong)
    return answer


def _work(work: Callable[..., None], orders: Connection, args: Sequence[Any]) -> None:
    try:
        work(orders, *args)
    except (EOFError, ConnectionError):
        pass  # the bench is gone, or another process has failed
    except Exception:  # noqa: BLE001 (whatever it was, the bench reports it)
        orders.send(Failed(traceback.format_exc()))
