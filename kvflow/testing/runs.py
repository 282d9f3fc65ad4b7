"""What the contract's tests are written with: runs, leases, handles, and waiting with a deadline."""

import time
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from msgspec.structs import replace

from kvflow.errors import KvflowError
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Primitives, Store

Open = Callable[[], Store]
OpenPrimitives = Callable[[], Primitives]

Outcome = TypeVar("Outcome")
Handle = TypeVar("Handle", bound=Primitives)

MINUTE = 60_000
HOUR = 60 * MINUTE
MONTH = 30 * 24 * HOUR


def birth(run_id: str = "a", **head: Any) -> StoredRun:
    """A run's first version: suspended until 1,000 unless told otherwise."""
    defaults: dict[str, Any] = {
        "workflow": "w",
        "status": Status.SUSPENDED,
        "version": 1,
        "wake_at": 1000,
        "created_at": 10,
        "updated_at": 10,
        "snapshot": b"snapshot",
    }
    return StoredRun(run_id=run_id, **(defaults | head))


def after(run: StoredRun, **head: Any) -> StoredRun:
    """The version to save over ``run``, by a writer who knows what ``run`` was read with."""
    return replace(run, **{"version": run.version + 1, **head})


def running(run_id: str = "a", **head: Any) -> StoredRun:
    """A run being driven, which has no wake."""
    return birth(run_id, **{"status": Status.RUNNING, "wake_at": None, **head})


def waiting(run_id: str = "a", **head: Any) -> StoredRun:
    """A run that waits for an event and nothing else."""
    return birth(run_id, **{"status": Status.WAITING, "wake_at": None, "event": "go", **head})


def lease(ttl: int = MINUTE) -> Lease:
    """A lease under a new token."""
    return Lease(uuid.uuid4().hex, ttl)


@contextmanager
def opened(open: Callable[[], Handle]) -> Generator[Handle]:
    """A handle, closed afterwards where it can be."""
    handle = open()
    try:
        yield handle
    finally:
        close = getattr(handle, "close", None)
        if close is not None:
            close()


@contextmanager
def refused(*errors: type[KvflowError], saying: str = "") -> Generator[None]:
    """Fail unless the block raises one of these errors, with its code and these words in the message."""
    raised: KvflowError | None = None
    try:
        yield
    except errors as error:
        raised = error
    assert raised is not None, f"{' or '.join(error.__name__ for error in errors)} was expected, and nothing was raised"
    assert raised.code, f"{raised!r} has no code"
    assert saying in str(raised), f"{raised} does not say {saying!r}"


def until(happened: Callable[[], Outcome], seconds: float = 20.0) -> Outcome:
    """What ``happened`` gives as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (outcome := happened()):
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.002)
    return outcome


def hold(store: Store, run_id: str = "a", ttl: int = MINUTE) -> tuple[Lease, StoredRun]:
    """Acquire a run that is free."""
    mine = lease(ttl)
    run = store.acquire(run_id, mine)
    assert run is not None, f"{run_id!r} is not there or held"
    return mine, run


def expire(store: Store, run_id: str = "a") -> tuple[Lease, StoredRun]:
    """Hold a run and let the lease run out; at time 0 no wake is due, only leases that ran out are."""
    mine, run = hold(store, run_id, ttl=1)
    until(lambda: run_id in store.due(0, 1000))
    return mine, run


def get(store: Primitives, run_id: str = "a") -> StoredRun:
    """The run, which must be there."""
    run = store.load(run_id)
    assert run is not None, f"{run_id!r} is not there"
    return run
