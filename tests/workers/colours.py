"""Workers of both colours, behind one face: what is asked of the one is asked of the other."""

import asyncio
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final

from kvflow import AsyncContext, AsyncRuntime, AsyncWorker, Context, Runtime, Store, Worker, Workflow, workflow
from kvflow.store import Primitives
from on_every_store import DEADLINE

COLOURS: Final = ("def", "async")

AnyWorker = Worker | AsyncWorker
Steps = Sequence[tuple[str, Callable[[str], Any]]]


def order(colour: str, steps: Steps, name: str = "order") -> Workflow:
    """A workflow of steps one after the other, each called with the run's id; in async they are in threads."""

    def plain(ctx: Context, payload: Any) -> None:
        for step_id, step in steps:
            ctx.step(step_id, step, ctx.run_id)

    async def coloured(ctx: AsyncContext, payload: Any) -> None:
        for step_id, step in steps:
            await ctx.step(step_id, step, ctx.run_id)

    return workflow(name=name)(plain) if colour == "def" else workflow(name=name)(coloured)


def made(
    store: Store, flows: Sequence[Workflow], options: dict[str, Any] | None = None, **of_runtime: Any
) -> AnyWorker:
    """A worker with a runtime of its own, of the colour of these workflows."""
    if flows[0].is_async:
        return AsyncWorker(AsyncRuntime(store, workflows=flows, **of_runtime), **(options or {}))
    return Worker(Runtime(store, workflows=flows, **of_runtime), **(options or {}))


def run(worker: AnyWorker) -> None:
    """As a program would."""
    if isinstance(worker, AsyncWorker):
        asyncio.run(worker.run())
    else:
        worker.run()


class Working(threading.Thread):
    """A worker that runs in a thread of its own."""

    def __init__(self, worker: AnyWorker) -> None:
        super().__init__(daemon=True)
        self.worker = worker
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            run(self.worker)
        except BaseException as error:  # noqa: BLE001 (raised where the test looks)
            self.error = error

    def ended(self) -> None:
        """It returns, or the test fails; what it raised is raised here."""
        self.join(DEADLINE)
        assert not self.is_alive(), "the worker does not return"
        if self.error is not None:
            raise self.error


@contextmanager
def working(
    store: Store, flows: Sequence[Workflow], options: dict[str, Any] | None = None, **of_runtime: Any
) -> Generator[Working]:
    """A worker at work, told to stop in the end."""
    at_work = Working(made(store, flows, options, **of_runtime))
    try:
        yield at_work
    finally:
        at_work.worker.stop()
        at_work.ended()


def submitted(store: Store | Primitives, *run_ids: str, name: str = "order", payload: Any = None) -> None:
    """Runs that are due at once, from a handle that drives nothing."""

    def body(ctx: Context, payload: Any) -> None:
        raise AssertionError("nobody drives it here")

    with closing(Runtime(store, workflows=[workflow(name=name)(body)])) as runtime:
        for run_id in run_ids:
            runtime.submit(name, payload, run_id=run_id)


def statuses(store: Store) -> dict[str, str]:
    return {run.run_id: run.status for run in store.list(1000)}
