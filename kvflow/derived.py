"""The whole contract over any object with the four primitives, so that the smallest store is right.

Everything that the contract keeps beside the head (version, wake, lease, writer, counts) is an
``Entry`` inside the wrapped snapshot. Each call loads the head, asks the rule, and saves over
exactly the version it read; where somebody was faster it starts over, so one of all who try always
gets on. The wrapped version counts these saves and is nobody else's business.

In the wrapped index a held run stands at 0, before all wakes: that is where an expired lease belongs,
whatever the caller's clock. So a scan costs what is due and what is held, and one head loaded for each.

Two things only a native store does better: expiry is by this machine's clock, and a writer that was
stopped between its read and its write, while the run was deleted and made anew up to the very same
version, cannot be told from the new one's.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec.structs import replace

from kvflow import checks, rules
from kvflow.errors import (
    UNDECODABLE,
    Conflict,
    Corrupt,
    InvalidArgument,
    KvflowError,
    NotSupported,
    StoreUnavailable,
)
from kvflow.rules import Clock, Entry
from kvflow.run import Lease, Status, StoredRun

if TYPE_CHECKING:
    from kvflow.store import Ids, Outcomes, Primitives, Runs

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(Entry)

_HELD, _FIRST = 0, 1
"""Where held runs stand in the wrapped index, and how much later the others do, so that they come after."""

_SCAN = 64
_Place = tuple[bool, int, str]

log = logging.getLogger("kvflow.stores")


class Derived:
    """A whole store made from ``save``, ``load``, ``delete`` and ``due``."""

    def __init__(self, primitives: "Primitives", clock: Clock | None = None) -> None:
        self._inner = primitives
        self._clock = rules.reader(clock)

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        """As ``Store.save``: read, judged, and saved over exactly what was read."""
        checks.check_save(run, new, lease)
        while True:
            wrapped, entry = self._read(run.run_id)
            after, unseen = rules.saved(entry, run, len(new), lease, self._clock())
            if after is entry or self._write(wrapped, after, new):
                return unseen

    def load(self, run_id: str, log: bool = True) -> StoredRun | None:
        """As ``Store.load``."""
        checks.check_run_id(run_id)
        wrapped = self._inner.load(run_id, log=log)
        return None if wrapped is None else _open(wrapped).read(wrapped.log)

    def delete(self, run_id: str) -> None:
        """As ``Store.delete``."""
        checks.check_run_id(run_id)
        self._inner.delete(run_id)

    def due(self, now: int, limit: int) -> "Ids":
        """As ``Store.due``."""
        checks.check_limit(limit)
        return [run_id for _, _, run_id in islice(self._line(checks.clamp(now), None), limit)]

    def claim(self, now: int, limit: int, lease: Lease, workflows: Iterable[str] | None = None) -> "Runs":
        """As ``Store.claim``: one run after the other, each by its own save."""
        checks.check_limit(limit)
        checks.check_lease(lease)
        now, names = checks.clamp(now), checks.check_workflows(workflows)
        claimed: Runs = []
        for _, _, run_id in self._line(now, names):
            try:
                run = self._take(run_id, lease, lambda entry: self._due(entry, now, names, lease))
            except StoreUnavailable:
                if claimed:  # better some of what was asked for than leases that nobody knows of
                    return claimed
                raise
            except Corrupt as error:
                log.warning("claim passes over a run: %s", error)
                continue
            if run is not None:
                claimed.append(run)
            if len(claimed) == limit:
                break
        return claimed

    def acquire(self, run_id: str, lease: Lease) -> StoredRun | None:
        """As ``Store.acquire``."""
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        return self._take(run_id, lease, lambda _: True)

    def renew(self, tokens: Mapping[str, str], ttl: int) -> set[str]:
        """As ``Store.renew``: one save for each run."""
        checks.check_tokens(tokens, ttl)
        return {run_id for run_id, token in tokens.items() if self._renew(run_id, token, ttl)}

    def release(self, run_id: str, lease: Lease, wake_at: int | None = None) -> None:
        """As ``Store.release``."""
        checks.check_run_id(run_id)
        checks.check_lease(lease)
        checks.check_wake_at(wake_at)
        self._change(run_id, lambda entry: rules.released(entry, lease.token, wake_at))

    def post(self, run_id: str, record: bytes, now: int, wake: bool = False) -> bool:
        """As ``Store.post``."""
        checks.check_run_id(run_id)
        checks.check_records([record])
        now = checks.clamp(now)
        return self._change(run_id, lambda entry: rules.posted(entry, now, wake, self._clock()), [record]) is not None

    def save_many(self, saves: Iterable[checks.Save]) -> "Outcomes":
        """As ``Store.save_many``: one after the other."""
        outcomes: Outcomes = []
        for save in saves:
            try:
                checks.check_entry(save)
                outcomes.append(self.save(*save))
            except KvflowError as error:
                outcomes.append(error)
        return outcomes

    def list(self, limit: int, after: tuple[int, str] | None = None, status: Status | str | None = None) -> "Runs":
        """As ``Store.list``, where the object has it; otherwise ``NotSupported``."""
        checks.check_limit(limit)
        checks.check_after(after)
        wrapped: Any = getattr(self._inner, "list", None)
        if wrapped is None:
            raise NotSupported(
                f"{type(self._inner).__name__} has no list of its own, and the four primitives give none"
            )
        rows: Runs = wrapped(limit, after=after, status=checks.check_status(status))
        return [entry.read() for row in rows if (entry := _readable(row)) is not None]

    def next_wake(self, workflows: Iterable[str] | None = None) -> int | None:
        """As ``Store.next_wake``."""
        names = checks.check_workflows(workflows)
        clock, earliest = self._clock(), None
        for entry in self._scan(checks.LATEST):
            if names is not None and entry.run.workflow not in names:
                continue
            if (wake := rules.next_due(entry, clock)) is not None and (earliest is None or wake < earliest):
                earliest = wake
            if entry.token is None:
                break
        return earliest

    def close(self) -> None:
        """Nothing: what was wrapped is its owner's."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self, run_id: str) -> tuple[StoredRun | None, Entry | None]:
        wrapped = self._inner.load(run_id, log=False)
        return wrapped, None if wrapped is None else _open(wrapped)

    def _write(self, wrapped: StoredRun | None, entry: Entry, new: Sequence[bytes] = ()) -> bool:
        """Whether the entry was saved over the version that was read; False where somebody was faster."""
        version = 0 if wrapped is None else wrapped.version
        try:
            self._inner.save(_close(entry, version + 1, len(new)), new)
        except Conflict:
            there = self._inner.load(entry.run.run_id, log=False)
            if version == (0 if there is None else there.version):
                raise  # not for being slower: trying again would be trying for ever
            return False
        return True

    def _change(self, run_id: str, rule: Callable[[Entry], Entry | None], new: Sequence[bytes] = ()) -> Entry | None:
        """What the rule made of the run, saved; None where there is no run or the rule had no answer."""
        while True:
            wrapped, entry = self._read(run_id)
            if entry is None or (after := rule(entry)) is None:
                return None
            if self._write(wrapped, after, new):
                return after

    def _take(self, run_id: str, lease: Lease, wanted: Callable[[Entry], bool]) -> StoredRun | None:
        def rule(entry: Entry) -> Entry | None:
            return rules.taken(entry, lease, self._clock()) if wanted(entry) else None

        if self._change(run_id, rule) is None:
            return None
        try:
            return self.load(run_id)
        except StoreUnavailable:  # it is ours now, so it is worth asking once more
            return self.load(run_id)

    def _renew(self, run_id: str, token: str, ttl: int) -> bool:
        try:
            return self._change(run_id, lambda entry: rules.renewed(entry, token, ttl, self._clock())) is not None
        except Corrupt as error:  # the others' leases are not to run out for it
            log.warning("a run is not renewed: %s", error)
            return False

    def _due(self, entry: Entry, now: int, names: tuple[str, ...] | None, lease: Lease) -> bool:
        known = names is None or entry.run.workflow in names
        return known and (entry.token == lease.token or rules.place_due(entry, now, self._clock()) is not None)

    def _line(self, now: int, names: tuple[str, ...] | None) -> Iterator[_Place]:
        """Due runs of these workflows in the order of the contract: held ones, which come first, are few."""
        clock = self._clock()
        expired: list[_Place] = []
        for entry in self._scan(now):
            place = rules.place_due(entry, now, clock) if names is None or entry.run.workflow in names else None
            if entry.token is not None:
                expired += [place] if place is not None else []
                continue
            yield from sorted(expired)
            expired.clear()
            if place is not None:
                yield place
        yield from sorted(expired)

    def _scan(self, now: int) -> Iterator[Entry]:
        """Every readable entry of the wrapped index up to ``now``, held ones first, then by wake and id."""
        limit, known = _SCAN, set[str]()
        while True:
            ids = self._inner.due(min(now + _FIRST, checks.LATEST), limit)
            for run_id in ids:
                if run_id not in known:
                    known.add(run_id)
                    try:
                        entry = self._read(run_id)[1]
                    except Corrupt as error:  # whoever loads that run is told
                        log.warning("a run is passed over: %s", error)
                        continue
                    if entry is not None:
                        yield entry
            if len(ids) < limit:
                return
            limit *= 2


def _close(entry: Entry, version: int, added: int) -> StoredRun:
    """The head to save in the wrapped store: what people may read there, and the entry as its snapshot."""
    wake_at = entry.run.wake_at
    return replace(
        entry.run,
        version=version,
        wake_at=_HELD if entry.token else None if wake_at is None else min(wake_at + _FIRST, checks.LATEST),
        seen=entry.records - added,
        snapshot=_encode(entry),
    )


def _open(wrapped: StoredRun) -> Entry:
    try:
        entry = _decoder.decode(wrapped.snapshot)
        rules.check_sound(entry, wrapped.run_id)
    except (*UNDECODABLE, InvalidArgument) as error:
        raise Corrupt(f"run {wrapped.run_id!r} holds a snapshot that Derived did not write: {error}") from error
    return entry


def _readable(wrapped: StoredRun) -> Entry | None:
    try:
        return _open(wrapped)
    except Corrupt as error:
        log.warning("list passes over a run: %s", error)
        return None
