"""What a store keeps of one run.

A stored run is a small head, which each save rewrites, and a log, which only grows. The store
reads nothing of the snapshot: it is bytes to it. All times are epoch milliseconds.
"""

from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    """Where a run stands. ``waiting`` means that at least one wait is open, ``suspended`` that none is."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    # The same by the names that are stored and shown: Status.waiting is Status.WAITING.
    running = RUNNING
    suspended = SUSPENDED
    waiting = WAITING
    completed = COMPLETED
    failed = FAILED
    cancelled = CANCELLED

    @property
    def over(self) -> bool:
        """Whether its body has ended; it may still owe a message, and a failed run can be retried."""
        return self in OVER


OVER = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class StoredRun(Struct, frozen=True, kw_only=True):
    """One version of a run, as a store takes and gives it.

    ``version`` is 1 at birth and one more at each save. ``wake_at`` says when the run is next due,
    ``event`` is a label for people. ``attempt`` counts the holders that died since it last made
    progress; stores keep it themselves. ``seen`` is how many stored records the writer knows.
    """

    run_id: str
    workflow: str
    status: Status
    version: int
    wake_at: int | None = None
    event: str | None = None
    attempt: int = 0
    created_at: int
    updated_at: int
    snapshot: bytes
    seen: int = 0
    log: tuple[bytes, ...] = ()


class Lease(Struct, frozen=True):
    """A claim on a run for ``ttl`` milliseconds of the store's clock.

    The token is new for every take and every birth, never one for an instance: only so do
    (version, token) fence out a holder that was presumed dead and comes back.
    """

    token: str
    ttl: int
