"""Finding due runs in Redis, and taking them, in two calls.

The first looks up the earliest entries of the index; the second is given their runs' keys, looks at each run
again and leases what still is due. Between the two anybody may have been faster: then for a moment candidates
are taken from a little further behind, lest all who lost meet again at the same place. Long logs are read last,
by plain commands a few at a time: a script that returned them would hold up everybody else on the server.
"""

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate, islice, pairwise
from operator import itemgetter
from time import monotonic
from typing import NamedTuple

from msgspec import Struct

from kvflow.errors import Corrupt, StoreUnavailable
from kvflow.run import Lease, StoredRun
from kvflow.store import Ids, Runs
from kvflow.stores.redis_channels import Argument, Call
from kvflow.stores.redis_heads import decode, extent
from kvflow.stores.redis_keys import Keys, name, place
from kvflow.stores.redis_scripts import CANDIDATES, CLAIM, DUE, RELEASE
from kvflow.stores.redis_server import Server

BATCH = 500
"""Runs that one script may deal with: it holds up everybody else on the server for a few milliseconds."""

CHUNK = 50
"""Runs of one claim's script: while the server takes these, those before are read."""

BUDGET = 4 * 1024 * 1024
"""Bytes that one call for several runs may bring or fetch."""

_SPREAD = 4
_CROWDED = 0.02  # seconds after a lost race in which others are taken to be at work still

_RECORD = 100  # what a record costs beside its bytes

_logger = logging.getLogger("kvflow.stores")

LATER = 60_000
"""Milliseconds until a run that cannot be read comes up again."""

Names = tuple[str, ...] | None
Place = tuple[bool, bytes]
"""Where a run stood in line: whether that was by its wake, and the time and id."""


_Claimed = dict[str, tuple[Place, StoredRun]]
"""Runs of a claim by their ids, and where they stood."""


class _Taken(Struct):
    """A run as claim.lua gives it; one whose log is long is without it."""

    run_id: bytes
    place: Place
    lines: bytes
    snapshot: bytes
    log: list[bytes] | None
    run: StoredRun | None = None


class Line(NamedTuple):
    """Index entries of due runs in the order of the contract: leases that ran out, then wakes."""

    expired: list[bytes]
    woken: list[bytes]

    @property
    def entries(self) -> list[bytes]:
        return self.expired + self.woken

    def window(self, start: int, size: int) -> "Line":
        """So many neighbours."""
        end, split = start + size, len(self.expired)
        return Line(self.expired[start:end], self.woken[max(start - split, 0) : max(end - split, 0)])


class Queue:
    """The due runs of a store."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server = server
        self._keys = keys
        self._crowded_until = 0.0

    def due(self, now: int, limit: int) -> Ids:
        """The first so many, as they stand."""
        due: Ids = []
        past, behind = b"", b""
        while len(due) < limit:
            wanted = min(limit - len(due), BATCH)
            line = self._line(now, wanted, None, past, behind)
            due += self._sound(line, now)
            if len(line.entries) < wanted:
                break
            past = place(line.expired[-1]) if line.expired else past
            behind = place(line.woken[-1]) if line.woken else behind
        return due

    def claim(self, now: int, limit: int, lease: Lease, names: Names) -> Runs:
        """As many as are due, up to the limit, and now ours, each once."""
        claimed: _Claimed = {}
        try:
            self._gather(now, limit, lease, names, claimed)
        except StoreUnavailable:
            if not claimed:  # better some of what was asked for than leases that nobody knows of
                raise
        runs = sorted(claimed.values(), key=itemgetter(0))  # a later window may have been an earlier one
        return [run for _, run in runs]

    def _gather(self, now: int, limit: int, lease: Lease, names: Names, claimed: _Claimed) -> None:
        """Take the runs of one window after the other."""
        while len(claimed) < limit:
            wanted = min(limit - len(claimed), BATCH)
            skip = random.randint(0, _SPREAD * wanted) if monotonic() < self._crowded_until else 0
            line = self._line(now, wanted, names, skip=skip)
            if not (line.entries or skip):
                break
            if not line.entries:
                self._crowded_until = 0.0
                continue
            if self._take(line, now, lease, claimed):
                self._crowded_until = monotonic() + _CROWDED
            elif not skip and len(line.entries) < wanted:
                break

    def _line(self, now: int, limit: int, names: Names, past: bytes = b"", behind: bytes = b"", skip: int = 0) -> Line:
        """The first due entries of these workflows; they may be anybody's by the time they are looked at."""
        arguments: tuple[Argument, ...] = (now, limit, skip, past, behind, *(names or ()))
        expired, woken = map(_split, self._server.run(CANDIDATES, self._keys.index, arguments))
        first = sorted(expired, key=place)[:limit]
        return Line(first, sorted(woken, key=place)[: limit - len(first)])

    def _sound(self, line: Line, now: int) -> Ids:
        """The runs of a line that are there and due."""
        entries = line.entries
        if not entries:
            return []
        due: list[int]
        due, bad = self._server.run(DUE, keys_of(self._keys, entries), (now, len(line.expired), b"\t".join(entries)))
        sound: Ids = []
        for at in due:
            try:
                sound.append(name(entries[at - 1]).decode())
            except UnicodeDecodeError:
                bad.append((at, b"its id is no text"))
        report(entries, bad)
        return sound

    def _take(self, line: Line, now: int, lease: Lease, claimed: _Claimed) -> int:
        """Take the runs of a line that become ours. Gives how many went to others or were not looked at."""
        taking = _Taking(self._keys, line, now, lease)
        try:
            self._server.run_each(CLAIM, taking)
            self._fetch([one for one in taking.taken.values() if one.log is None])
        except StoreUnavailable:
            _keep(taking, claimed)
            raise
        for run_id in _keep(taking, claimed):
            self._put_off(run_id, now, lease)
        return taking.lost

    def _put_off(self, run_id: bytes, now: int, lease: Lease) -> None:
        """Let a run that nobody can read come up again later."""
        self._server.run(RELEASE, (self._keys.head + run_id, *self._keys.index), (lease.token, now + LATER))

    def _fetch(self, taken: Sequence[_Taken]) -> None:
        """Read the logs that were too long to come with the claim: a few a call, but at least one."""
        batch: list[_Taken] = []
        budget = BUDGET
        for one in taken:
            records, size = extent(one.lines)
            cost = size + _RECORD * records
            if batch and cost > budget:
                self._read(batch)
                batch, budget = [], BUDGET
            batch.append(one)
            budget -= cost
        if batch:
            self._read(batch)

    def _read(self, batch: Sequence[_Taken]) -> None:
        """Records that came after the take are left for later: they are not of this version."""
        ends = [extent(one.lines)[0] - 1 for one in batch]
        commands = [("LRANGE", self._keys.log + one.run_id, 0, end) for one, end in zip(batch, ends, strict=True)]
        for one, log in zip(batch, self._server.read(commands), strict=True):
            one.log = log


def _keep(taking: "_Taking", claimed: _Claimed) -> list[bytes]:
    """Add what came whole of the runs taken; one met before is the same. Gives those that nobody can read."""
    unreadable: list[bytes] = []
    for one in taking.taken.values():
        if one.log is None:
            continue  # the server was away before it could be fetched
        try:
            run = one.run or decode(one.run_id, one.lines, one.snapshot, one.log)
            claimed.setdefault(run.run_id, (one.place, run))
        except Corrupt as error:
            _logger.warning("%s; it was passed over", error)
            unreadable.append(one.run_id)
    for entries, bad in taking.bad:
        report(entries, bad)
    return unreadable


def _split(entries: bytes) -> list[bytes]:
    return entries.split(b"\t") if entries else []


class _Taking:
    """A claim of the runs of a line, some in each call."""

    def __init__(self, keys: Keys, line: Line, now: int, lease: Lease) -> None:
        self._keys = keys
        self._line = line
        self._now = now
        self._lease = lease
        self.taken: dict[bytes, _Taken] = {}
        """By id. What was taken stays taken when the round is made again."""
        self._begin()

    def _begin(self) -> None:
        self._asked: list[tuple[list[bytes], int]] = []
        self._answered = 0
        self.bad: list[tuple[list[bytes], list[tuple[int, bytes]]]] = []
        self.lost = 0

    def calls(self) -> Iterator[Call]:
        self._begin()
        for start in range(0, len(self._line.entries), CHUNK):
            part = self._line.window(start, CHUNK)
            entries = part.entries
            self._asked.append((entries, len(part.expired)))
            fixed = (self._now, self._lease.token, self._lease.ttl, len(part.expired))
            yield keys_of(self._keys, entries), (*fixed, b"\t".join(entries))

    def take(self, answer: tuple[bytes, list[bytes], list[tuple[int, bytes]], int]) -> None:
        numbers, texts, bad, lost = answer
        entries, expired = self._asked[self._answered]
        self._answered += 1
        for one in _unpacked(entries, expired, numbers, b"".join(texts)):
            if one.log is not None:
                with suppress(Corrupt):  # it is reported when all is done
                    one.run = decode(one.run_id, one.lines, one.snapshot, one.log)
            self.taken[one.run_id] = one
        self.bad.append((entries, bad))
        self.lost += lost


def keys_of(keys: Keys, entries: Iterable[bytes]) -> list[bytes]:
    """The indexes, and head and log of each entry's run."""
    found = [*keys.index]
    for run_id in map(name, entries):
        found += (keys.head + run_id, keys.log + run_id)
    return found


def _unpacked(entries: Sequence[bytes], expired: int, numbers: bytes, text: bytes) -> Iterator[_Taken]:
    """The runs of an answer of claim.lua, which says how it is packed."""
    following = map(int, numbers.split())
    start = 0
    for at in following:
        ends = [*accumulate((next(following), next(following)), initial=start)]
        count = next(following)
        if count > 0:
            ends += accumulate(islice(following, count), initial=ends.pop())
        lines, snapshot, *log = [text[begin:end] for begin, end in pairwise(ends)]
        start = ends[-1]
        entry = entries[at - 1]
        yield _Taken(name(entry), (at > expired, place(entry)), lines, snapshot, None if count < 0 else log)


def report(entries: Sequence[bytes], bad: Iterable[tuple[int, bytes]]) -> None:
    """Log the runs that were passed over because they cannot be read."""
    for at, reason in bad:
        run_id, why = name(entries[at - 1]).decode(errors="replace"), reason.decode(errors="replace")
        _logger.warning("run %r is garbled and was passed over: %s; it is left as it is", run_id, why)
