"""A store that fails, or whose process dies, at the n-th operation: what a crash test is made of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from kvflow.errors import StoreUnavailable
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Ids, Outcomes, Runs, Save, Store

Outcome = TypeVar("Outcome")


class Killed(BaseException):
    """The process is dead: nothing catches it, and no further operation happens."""


class FaultyStore(Store):
    """Wraps a store and breaks its ``at``-th operation, the first being 1.

    ``kill`` ends the process there, as SIGKILL does: the operation and all after it raise ``Killed``. Otherwise
    the operation alone raises ``StoreUnavailable``. With ``after`` it happens first, and only the answer is lost.
    Without ``at`` nothing breaks, and ``operations`` says what was asked.
    """

    def __init__(self, store: Store, at: int | None = None, *, kill: bool = False, after: bool = False) -> None:
        self._store = store
        self._at = at
        self._kill = kill
        self._after = after
        self.operations: list[str] = []

    @property
    def broke(self) -> bool:
        """Whether the operation has come."""
        return self._at is not None and len(self.operations) >= self._at

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        return self._do("save", lambda: self._store.save(run, new, lease))

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        return self._do("load", lambda: self._store.load(run_id, log))

    def delete(self, run_id: str) -> None:
        return self._do("delete", lambda: self._store.delete(run_id))

    def due(self, now: int, limit: int) -> Ids:
        return self._do("due", lambda: self._store.due(now, limit))

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> Runs:
        return self._do("claim", lambda: self._store.claim(now, limit, lease, workflows))

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        return self._do("acquire", lambda: self._store.acquire(run_id, lease))

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        """Comes from a thread of its own, so it is not counted: that would make the count a matter of luck."""
        return set() if self._kill and self.broke else self._store.renew(tokens, ttl)

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        return self._do("release", lambda: self._store.release(run_id, lease, wake_at))

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        return self._do("post", lambda: self._store.post(run_id, record, now, wake))

    def save_many(self, saves: Iterable[Save]) -> Outcomes:
        return self._do("save_many", lambda: self._store.save_many(saves))

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> Runs:
        return self._do("list", lambda: self._store.list(limit, after, status))

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        return self._do("next_wake", lambda: self._store.next_wake(workflows))

    def close(self) -> None:
        """Nothing: the wrapped store is its owner's."""

    def _do(self, name: str, operation: Callable[[], Outcome]) -> Outcome:
        if self._kill and self.broke:
            raise Killed(name)
        self.operations.append(name)
        if len(self.operations) != self._at:
            return operation()
        if self._after:
            operation()
        raise Killed(name) if self._kill else StoreUnavailable(f"operation {self._at}, {name}, is broken on purpose")
