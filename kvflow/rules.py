"""What each call of the contract does to one run, as pure functions over what is stored of it.

The stores that decide in Python (Memory, File, Derived) read an entry, ask the rule, and write what
it answers while nobody else can write; the SQL and the Lua say the same in their own words, and
the contract suite holds them all to it. A rule never looks at a clock and never does I/O.

A lease is live while its expiry is after the store's clock. One that ran out still belongs to
its holder until somebody takes the run: it may be saved under, renewed and released.
"""

from collections.abc import Callable
from datetime import datetime
from time import time_ns

from msgspec import Struct
from msgspec.structs import replace

from kvflow import checks
from kvflow.errors import Conflict, InvalidArgument
from kvflow.run import Lease, Status, StoredRun

Clock = Callable[[], int | datetime]
"""Epoch milliseconds, or an aware datetime, so that one test clock serves store and runtime."""


def reader(clock: Clock | None) -> Callable[[], int]:
    """A clock that gives epoch milliseconds; without one, this machine's."""
    if clock is None:
        return lambda: time_ns() // 1_000_000

    def read() -> int:
        now = clock()
        if isinstance(now, datetime) and now.tzinfo is not None:
            return round(now.timestamp() * 1000)
        if isinstance(now, int):
            return now
        raise InvalidArgument(
            f"the clock gave {now!r}: it must give an aware datetime, or an int of epoch milliseconds"
        )

    return read


class Entry(Struct, frozen=True, kw_only=True):
    """All that is stored of one run but its records: the head, who holds it, who wrote it last."""

    run: StoredRun
    records: int = 0
    token: str | None = None
    expires: int = 0
    writer: str | None = None

    def live(self, clock: int) -> bool:
        """Whether somebody holds the run by a lease that has not run out."""
        return self.token is not None and self.expires > clock

    def read(self, log: tuple[bytes, ...] = ()) -> StoredRun:
        """The run as ``load`` gives it, with the records that were read."""
        return replace(self.run, log=log, seen=len(log))


def check_sound(entry: Entry, run_id: str) -> None:
    """Refuse an entry that was read for this id and that no rule has made, before anything is built upon it."""
    if entry.run.run_id != run_id:
        raise InvalidArgument(f"it is run {entry.run.run_id!r}")
    checks.check_save(entry.run, (), None if entry.token is None else Lease(entry.token, 1))
    if entry.writer is not None:
        checks.check_name("writer", entry.writer, InvalidArgument)
    for what, count in (("attempt", entry.run.attempt), ("records", entry.records), ("expiry", entry.expires)):
        checks.check_count(what, count)


def saved(entry: Entry | None, run: StoredRun, added: int, lease: Lease | None, clock: int) -> tuple[Entry, int]:
    """The entry after a save that brings ``added`` records, and how many records its writer has not seen.

    A repeat of a save that has happened gives the very same entry: there is nothing to write.
    """
    if entry is not None and _is_repeat(entry, run, lease):
        return entry, entry.records - run.seen - added
    records = 0 if entry is None else entry.records
    if (reason := _refusal(entry, run, lease, clock)) is not None:
        raise Conflict(f"run {run.run_id!r}, version {run.version}: {reason}; nothing was written")
    held = lease if run.status is Status.RUNNING else None
    return Entry(
        run=replace(
            run,
            wake_at=_wake_after_save(run, records),
            attempt=0 if entry is None or added or run.status is not Status.RUNNING else entry.run.attempt,
            seen=0,
            log=(),
        ),
        records=records + added,
        token=held.token if held else None,
        expires=clock + held.ttl if held else 0,
        writer=lease.token if lease else None,
    ), records - run.seen


def _is_repeat(entry: Entry, run: StoredRun, lease: Lease | None) -> bool:
    return lease is not None and entry.writer == lease.token and entry.run.version == run.version


def _refusal(entry: Entry | None, run: StoredRun, lease: Lease | None, clock: int) -> str | None:
    """Why the save cannot be taken, or None."""
    version, records = (0, 0) if entry is None else (entry.run.version, entry.records)
    if run.version != version + 1:
        return f"version {version} is stored" if entry else "no such run is stored"
    if run.seen > records:
        return f"it has seen {run.seen} records of {records}"
    if entry is None:
        return None
    if lease is None:
        return "somebody holds it by a live lease" if entry.live(clock) else None
    return None if entry.token == lease.token else "the lease is no longer held"


def _wake_after_save(run: StoredRun, records: int) -> int | None:
    """A run that is not over and has records unseen is due now, lest it sleep through an event."""
    if run.seen == records or run.status.over:
        return run.wake_at
    return _earlier(run.wake_at, run.updated_at)


def _earlier(wake_at: int | None, now: int) -> int:
    return now if wake_at is None else min(wake_at, now)


def taken(entry: Entry, lease: Lease, clock: int) -> Entry | None:
    """The entry under this lease; None where somebody else holds it. Taking twice is taking once."""
    if entry.token == lease.token:
        return replace(entry, expires=clock + lease.ttl)
    if entry.live(clock):
        return None
    died = entry.token is not None
    run = replace(entry.run, attempt=entry.run.attempt + 1) if died else entry.run
    return replace(entry, run=run, token=lease.token, expires=clock + lease.ttl)


def renewed(entry: Entry, token: str, ttl: int, clock: int) -> Entry | None:
    """The entry with its lease begun anew; None where the token no longer holds it."""
    return replace(entry, expires=clock + ttl) if entry.token == token else None


def released(entry: Entry, token: str, wake_at: int | None) -> Entry | None:
    """The entry without its lease, due at the wake given or else its own; None where it is not ours."""
    if entry.token != token:
        return None
    run = entry.run
    own = run.updated_at if run.wake_at is None and run.status is Status.RUNNING else run.wake_at
    return replace(entry, run=replace(run, wake_at=own if wake_at is None else wake_at), token=None, expires=0)


def posted(entry: Entry, now: int, wake: bool, clock: int) -> Entry | None:
    """The entry with one record more; None where the run is over.

    It wakes a run that waits or is held; a suspended one will read its log when it wakes.
    """
    run = entry.run
    if run.status.over:
        return None
    if wake or run.status is Status.WAITING or entry.token is not None:
        run = replace(run, wake_at=_earlier(run.wake_at, max(0, min(now, clock))))
    return replace(entry, run=run, records=entry.records + 1)


def place_due(entry: Entry, now: int, clock: int) -> tuple[bool, int, str] | None:
    """Where a due run stands in line: leases that ran out before all wakes, then by time, then by id."""
    run = entry.run
    if entry.token is not None:
        return None if entry.live(clock) else (False, entry.expires, run.run_id)
    if run.wake_at is None or run.wake_at > now:
        return None
    return (True, run.wake_at, run.run_id)


def next_due(entry: Entry, clock: int) -> int | None:
    """When the run is next due; None where it is held or nothing but an event will wake it."""
    if entry.token is None:
        return entry.run.wake_at
    return None if entry.live(clock) else entry.expires
