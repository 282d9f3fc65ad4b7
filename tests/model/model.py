"""The contract once more, as ``docs/contract.md`` tells it: one dict, no index, every question a scan.

It was written from that page and shares nothing with ``kvflow.rules``, so that a rule misunderstood there
is not misunderstood here alike. What is refused is raised as the very error that the page names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from kvflow import Conflict, InvalidArgument, KvflowError, Lease, Status, StoredRun

Save = tuple[StoredRun, Sequence[bytes], Lease | None]

RESTS = (Status.SUSPENDED, Status.WAITING)
OVER = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)


@dataclass
class Kept:
    """One run: its head without the log, its records, who holds it until when, and who saved it last."""

    head: StoredRun
    log: list[bytes] = field(default_factory=list[bytes])
    token: str | None = None
    until: int = 0
    writer: str | None = None


class Model:
    """Every call of the contract over a dict of runs."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self.runs: dict[str, Kept] = {}
        self._clock = clock

    # Writing

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        if run.wake_at is None and (run.status is Status.SUSPENDED or (run.status is Status.RUNNING and not lease)):
            raise InvalidArgument("nothing would ever wake it")
        kept = self.runs.get(run.run_id)
        if kept is not None and lease is not None and (kept.head.version, kept.writer) == (run.version, lease.token):
            return len(kept.log) - len(new) - run.seen
        self._refuse(run, kept, lease)
        stored = [] if kept is None else kept.log
        unseen = len(stored) - run.seen
        wake_at = run.wake_at
        if unseen and run.status not in OVER:
            wake_at = run.updated_at if wake_at is None else min(wake_at, run.updated_at)
        progress = kept is None or bool(new) or run.status is not Status.RUNNING
        attempt = 0 if kept is None or progress else kept.head.attempt
        held = lease is not None and run.status is Status.RUNNING
        self.runs[run.run_id] = Kept(
            head=replace(run, wake_at=wake_at, attempt=attempt, seen=0, log=()),
            log=[*stored, *new],
            token=lease.token if held and lease else None,
            until=self._clock() + lease.ttl if held and lease else 0,
            writer=lease.token if lease else None,
        )
        return unseen

    def _refuse(self, run: StoredRun, kept: Kept | None, lease: Lease | None) -> None:
        if kept is None:
            if run.version != 1 or run.seen:
                raise Conflict("there is no such run")
            return
        if run.version != kept.head.version + 1 or run.seen > len(kept.log):
            raise Conflict("another version is stored")
        if lease is None and self._live(kept):
            raise Conflict("somebody holds it")
        if lease is not None and kept.token != lease.token:
            raise Conflict("the lease is not held")

    def save_many(self, saves: Sequence[Save]) -> list[int | KvflowError]:
        answers: list[int | KvflowError] = []
        for save in saves:
            try:
                answers.append(self.save(*save))
            except KvflowError as error:
                answers.append(error)
        return answers

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        kept = self.runs.get(run_id)
        if kept is None or kept.head.status in OVER:
            return False
        kept.log.append(record)
        if wake or kept.head.status is Status.WAITING or kept.token is not None:
            at = max(0, min(now, self._clock()))
            own = kept.head.wake_at
            kept.head = replace(kept.head, wake_at=at if own is None else min(own, at))
        return True

    def delete(self, run_id: str) -> None:
        self.runs.pop(run_id, None)

    # Leases

    def _live(self, kept: Kept) -> bool:
        return kept.token is not None and kept.until > self._clock()

    def _take(self, kept: Kept, lease: Lease) -> StoredRun:
        if kept.token not in (None, lease.token):
            kept.head = replace(kept.head, attempt=kept.head.attempt + 1)
        kept.token, kept.until = lease.token, self._clock() + lease.ttl
        return self._read(kept)

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        kept = self.runs.get(run_id)
        if kept is None or (self._live(kept) and kept.token != lease.token):
            return None
        return self._take(kept, lease)

    def claim(self, now: int, limit: int, lease: Lease, workflows: Sequence[str] | None = None) -> list[StoredRun]:
        return [self._take(self.runs[run_id], lease) for run_id in self._line(now, workflows)[:limit]]

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        ours = {run_id for run_id, token in tokens.items() if run_id in self.runs and self.runs[run_id].token == token}
        for run_id in ours:
            self.runs[run_id].until = self._clock() + ttl
        return ours

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        kept = self.runs.get(run_id)
        if kept is None or kept.token != lease.token:
            return
        kept.token = None
        if wake_at is not None:
            kept.head = replace(kept.head, wake_at=wake_at)
        elif kept.head.wake_at is None and kept.head.status is Status.RUNNING:
            kept.head = replace(kept.head, wake_at=kept.head.updated_at)

    # Reading

    def _read(self, kept: Kept) -> StoredRun:
        return replace(kept.head, log=tuple(kept.log), seen=len(kept.log))

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        kept = self.runs.get(run_id)
        if kept is None:
            return None
        return self._read(kept) if log else kept.head

    def _line(self, now: int, workflows: Sequence[str] | None = None) -> list[str]:
        """Who is due, in order: leases that ran out, then wakes; ties by the id's bytes."""
        places: list[tuple[bool, int, bytes, str]] = []
        for run_id, kept in self.runs.items():
            if workflows is not None and kept.head.workflow not in workflows:
                continue
            if kept.token is not None:
                if not self._live(kept):
                    places.append((False, kept.until, run_id.encode(), run_id))
            elif kept.head.wake_at is not None and kept.head.wake_at <= now:
                places.append((True, kept.head.wake_at, run_id.encode(), run_id))
        return [place[-1] for place in sorted(places)]

    def due(self, now: int, limit: int) -> list[str]:
        return self._line(now)[:limit]

    def next_wake(self, workflows: Sequence[str] | None = None) -> int | None:
        wakes: list[int] = []
        for kept in self.runs.values():
            if (workflows is not None and kept.head.workflow not in workflows) or self._live(kept):
                continue
            wake_at = kept.head.wake_at if kept.token is None else kept.until
            if wake_at is not None:
                wakes.append(wake_at)
        return min(wakes, default=None)

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | None = None) -> "list[StoredRun]":
        def place(head: StoredRun) -> tuple[int, bytes]:
            return head.created_at, head.run_id.encode()

        heads = [kept.head for kept in self.runs.values() if status in (None, kept.head.status)]
        if after is not None:
            heads = [head for head in heads if place(head) < (after[0], after[1].encode())]
        return sorted(heads, key=place, reverse=True)[:limit]
