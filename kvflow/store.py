"""The contract: all that kvflow asks of the storage that a team already has.

Four primitives make a store right; what many instances live on makes it fast. Whoever brings
an object with the four, its ``save`` a compare-and-set on ``version``, gets the rest from
``Derived``. What holds in every store:

- One write. Head, new records, wake index and lease change together or not at all.
- Nothing gets stuck. A run that is not over has a wake, or a lease whose expiry is a wake, or waits.
- Times are epoch milliseconds. The caller's ``now`` is compared with wakes only, leases only with
  the store's own clock. An expired lease makes its run due at once, before all wakes.
- A call that raises ``StoreUnavailable`` may have happened. Making it again, with the same lease, is safe: a
  save, an acquire, a renewal or a release repeated changes nothing, and a claim repeated may give the same runs
  again; a post repeated is for its reader to ignore. A save without a lease is never taken for a repeat.
- Stores are context managers, safe to share between threads, and close only what they opened.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self

from kvflow.checks import Save
from kvflow.derived import Derived
from kvflow.errors import KvflowError
from kvflow.run import OVER, Lease, Status, StoredRun

__all__ = ["OVER", "Derived", "Ids", "Lease", "Outcomes", "Primitives", "Runs", "Save", "Status", "Store", "StoredRun"]

# Outside the class below, ``list`` is still the builtin.
Runs = list[StoredRun]
Ids = list[str]
Outcomes = list[int | KvflowError]


class Primitives(Protocol):
    """The least that a store must bring."""

    @abstractmethod
    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        """Write the head over exactly the version before it and append ``new`` to the log.

        Gives how many stored records the writer has not seen. ``version`` is 1 for a run that must not
        exist, else one more than what is stored. With a lease the run must be held under its token,
        run out or not; without one nobody may hold it by a live lease. Anything else is ``Conflict``.
        A save that has already happened under this token succeeds and changes nothing.
        A ``running`` run stays leased; any other status drops the lease.
        """
        ...

    @abstractmethod
    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        """The run with its log, or with ``log=False`` its head alone; None where there is none."""
        ...

    @abstractmethod
    def delete(self, run_id: str) -> None:
        """Remove the run, its log, its index entries and its lease; nothing where there is none."""
        ...

    @abstractmethod
    def due(self, now: int, limit: int) -> Ids:
        """The runs that ``claim`` would give, earliest first, ties by id."""
        ...


class Store(Primitives, Protocol):
    """The whole contract."""

    @abstractmethod
    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        """Find due runs and lease them, in one step: earliest first, only of ``workflows`` where given."""
        ...

    @abstractmethod
    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        """Lease any existing run, due or not; None where somebody else holds it or there is none."""
        ...

    @abstractmethod
    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        """Begin the leases ``{run_id: token}`` anew, in one round trip; gives those that still are ours."""
        ...

    @abstractmethod
    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        """Give a lease back; nothing unless it is ours.

        The run is due at ``wake_at``, else at its own wake, else, if it is running, at its ``updated_at``.
        """
        ...

    @abstractmethod
    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        """Append a record to somebody's log, without a lease. False where there is no such run, or it is over.

        It wakes a run that is waiting or held, at the earlier of ``now`` and the store's clock, and leaves a
        suspended one asleep; ``wake=True`` wakes any.
        """
        ...

    @abstractmethod
    def save_many(self, saves: Iterable[Save]) -> Outcomes:
        """Many saves ``(run, new, lease)`` at the price of few; each succeeds or fails by itself, in order."""
        ...

    @abstractmethod
    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        """Heads, newest first by ``(created_at, run_id)``, from behind the row ``after``."""
        ...

    @abstractmethod
    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        """The earliest wake of runs that nobody holds; a lease that ran out counts as of its expiry."""
        ...

    @abstractmethod
    def close(self) -> None:
        """Give back what this store opened, and nothing else."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
