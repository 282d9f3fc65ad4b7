"""Who is due in MySQL: found without a lock, locked, leased, read.

A claim looks at the index without a lock, locks of what it found what nobody else has locked, leases that in the same
short transaction, and reads the logs after it. What cannot be read is put aside for a while, in nobody's way.
"""

import itertools
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from kvflow.errors import Corrupt
from kvflow.run import Lease, StoredRun
from kvflow.store import Ids, Runs
from kvflow.stores.mysql_parts import BATCH, in_parts
from kvflow.stores.mysql_rows import Place, add, key_of, whole_run_of
from kvflow.stores.mysql_session import Row, Session, rows_of
from kvflow.stores.mysql_statements import BEGIN, COMMIT, EXPIRED, WOKEN, Statements

_log = logging.getLogger("kvflow.stores")

_TRIES = 5
"""How often to look again where others were faster."""

_ASIDE = 60_000
"""Milliseconds for which a run that cannot be read is out of the way."""

_ROUNDS = 50
"""In which a claim gets past runs that cannot be read; who stands further behind is for the next claim."""


class Line:
    """The due runs of a store, as a session finds them."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._names: Sequence[bytes] = ()

    def due(self, session: Session, now: int, limit: int) -> Ids:
        """The ids of the first so many; nothing is locked."""
        places = self._places(session, self._workflows(session, None), now, limit)
        return list(_texts(place.run_id for place in places))

    def claim(
        self, session: Session, now: int, limit: int, lease: Lease, names: Sequence[str] | None, again: bool
    ) -> Runs:
        """Due runs, now leased; ``again``: it may have been done before, and the answer have been lost."""
        workflows = self._workflows(session, names)
        if again and (before := self._taken_before(session, workflows, limit, lease)):
            return self._take(session, before, now, lease)[0]
        for _ in range(_ROUNDS):  # who stands behind what is put aside has its turn
            locked = self._locked(session, workflows, now, limit)
            runs, aside = self._take(session, locked, now, lease)
            if runs or not aside:
                return runs
        return []

    def next_wake(self, session: Session, names: Sequence[str] | None) -> int | None:
        """When somebody is due next; None for never."""
        workflows = self._workflows(session, names)
        answers = session.run(itertools.chain.from_iterable(map(self._sql.next_wake, workflows)))
        return min((wake for (wake,) in rows_of(answers) if wake is not None), default=None)

    def _workflows(self, session: Session, names: Sequence[str] | None) -> Sequence[bytes]:
        """The names asked for, or all there are: those of the last time, if each is still followed by the next."""
        if names is not None:
            return [name.encode() for name in names]
        asked = [b"", *self._names]
        answers = rows_of(session.run(self._sql.workflow_after(name) for name in asked))
        following: dict[bytes, bytes | None] = {name: row[0] for name, row in zip(asked, answers, strict=True)}
        found = list[bytes]()
        last: bytes | None = b""
        while last is not None:
            if last not in following:
                following[last] = session.ask(self._sql.workflow_after(last))[0][0]
            if (last := following[last]) is not None:
                found.append(last)
        self._names = found
        return found

    def _places(self, session: Session, workflows: Sequence[bytes], now: int, limit: int) -> Sequence[Place]:
        """The first places in line, as the index has them; nothing is locked."""
        asked = list(itertools.product((EXPIRED, WOKEN), workflows))
        answers = session.run(self._sql.places(kind, workflow, now, limit) for kind, workflow in asked)
        places = [
            Place(kind, at, run_id, workflow)
            for (kind, workflow), answer in zip(asked, answers, strict=True)
            for at, run_id in answer.rows
        ]
        return sorted(places)[:limit]

    def _locked(self, session: Session, workflows: Sequence[bytes], now: int, limit: int) -> Sequence[Place]:
        """The first that are due and in nobody's hands."""
        for _ in range(_TRIES):
            due = self._places(session, workflows, now, limit)
            if not due:
                break
            if locked := self._lock(session, due, now):
                return locked
        return []

    def _lock(self, session: Session, due: Sequence[Place], now: int) -> Sequence[Place]:
        """As many runs of each workflow as are due, those that are in nobody's hands; the transaction stays open."""
        shares = Counter((place.kind, place.workflow) for place in due)
        locks = (self._sql.lock(kind, workflow, now, share) for (kind, workflow), share in shares.items())
        _, *answers = session.run([BEGIN, *locks])
        locked = [
            Place(kind, at, run_id, workflow, key, log_bytes)
            for (kind, workflow), answer in zip(shares, answers, strict=True)
            for at, run_id, key, log_bytes in answer.rows
        ]
        if not locked:
            session.run([COMMIT])
        return sorted(locked)

    def _taken_before(self, session: Session, workflows: Sequence[bytes], limit: int, lease: Lease) -> Sequence[Place]:
        """What a first try has leased whose answer was lost; else these runs would be held by nobody who knows it."""
        answers = session.run(self._sql.taken_before(workflow, lease.token, limit) for workflow in workflows)
        return sorted(
            Place(WOKEN, at, run_id, workflow, key, log_bytes)
            for workflow, answer in zip(workflows, answers, strict=True)
            for at, run_id, key, log_bytes in answer.rows
        )[:limit]

    def _take(self, session: Session, places: Sequence[Place], now: int, lease: Lease) -> tuple[Runs, int]:
        """Lease these runs, end the transaction, and read them, a few at a time; and how many were put aside."""
        first = [*self._sql.lease([place.key for place in places], lease, session.room), COMMIT]
        runs: Runs = []
        aside = 0
        for part in in_parts(places, lambda place: place.log_bytes, BATCH):
            keys = [place.key for place in part]
            *_, heads, logs = session.run([*first, self._sql.heads(keys, lease.token), self._sql.logs(keys)])
            for key, run in _each(keys, heads.rows, logs.rows):
                if isinstance(run, StoredRun):
                    runs.append(run)
                elif session.run([self._sql.set_aside(key, lease.token, now, _ASIDE)])[0].changed:
                    _log.warning("not claimed, and not tried for %d s: %s", _ASIDE // 1000, run)
                    aside += 1
            first = []
        return runs, aside


def _each(keys: Sequence[int], heads: Sequence[Row], logs: Sequence[Row]) -> Iterator[tuple[int, StoredRun | Corrupt]]:
    """The runs in the order of the keys, or what is wrong with them; without those lost to somebody since."""
    head_of = {key_of(head): head for head in heads}
    log_of = defaultdict[int, list[bytes]](list)
    for key, seq, record in logs:
        add(log_of[key], seq, record)
    for key in keys:
        if key in head_of:
            try:
                yield key, whole_run_of(head_of[key], log_of[key])
            except Corrupt as error:
                yield key, error


def _texts(run_ids: Iterable[bytes]) -> Iterator[str]:
    """These ids as text; one that is none stops no other."""
    for run_id in run_ids:
        try:
            yield run_id.decode()
        except UnicodeDecodeError as error:
            _log.warning("not given as due: run %r: %s", run_id, error)
