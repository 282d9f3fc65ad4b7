"""The state machine: every call of the contract, made to a store and to the model, must be answered alike.

Callers are of every kind that there is: who holds a run, who held it once, who never did; who is told the wrong
version; who got no answer and asks again; whose old packet comes late; whose clock is wrong. Two handles of the
same data take turns and are closed and opened anew.
"""

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from msgspec.structs import replace

from kvflow import KvflowError, Lease, Status, Store, StoredRun
from model.model import Model, Save
from model.times import HOUR, Serving, Time

FLOWS = {"a": "w", "B": "w", "é\U0001f600": "v"}
"""The ids that are used, and the workflow of each."""

FAR = 2**53
IDS = st.sampled_from(list(FLOWS))
WAKES = st.sampled_from([None, 0, 1000, 1001, 2500, 5000, 2**45, FAR])
NOWS = st.sampled_from([0, 1000, 1001, 4000, 2**44, 2**45, FAR])
WHO = st.sampled_from(["holder"] * 6 + ["former", "former", "nobody", "new"])
STATUSES = st.sampled_from([Status.RUNNING, Status.RUNNING, Status.SUSPENDED, Status.WAITING, *list(Status)])
MOVES = st.sampled_from([1, 5, 10, 999, 1000, HOUR, -1, -2000])
LIMITS = st.sampled_from([1, 2, 10])
ASKED = st.sampled_from([None, ["w"], ["v", "w"], ["unknown"], []])
LOST = st.sampled_from([False, False, False, True])
TIMES = st.sampled_from([0, 10, 1000, 2000])


class Ground:
    """A store to be tried: two handles of the same data, empty at the start and at the end."""

    def __init__(self, open: Callable[[], Store], time: Time, handles: list[Store] | None = None) -> None:
        self.time = time
        self._open = open
        self._kept = handles is not None
        self.handles = [open(), open()] if handles is None else handles

    def reopen(self, handle: int) -> None:
        """End one handle and begin another."""
        self.handles[handle].close()
        self.handles[handle] = self._open()

    def close(self) -> None:
        for run_id in FLOWS:
            self.handles[0].delete(run_id)
        if not self._kept:
            for handle in self.handles:
                handle.close()


class Machine(RuleBasedStateMachine):
    """Both sides, and what callers remember."""

    def __init__(self, ground: Ground, wrap: Callable[[Store], Any]) -> None:
        super().__init__()
        self._ground = ground
        self._wrap = wrap
        self._time = ground.time
        self._model = Model(self._time.now)
        self._leases: dict[str, list[Lease]] = {run_id: [] for run_id in FLOWS}
        self._sent: list[Save] = []
        self._count = 0
        self._turn = 0

    def teardown(self) -> None:
        try:
            self._compare_all()
        finally:
            self._ground.close()

    @initialize(births=st.lists(st.tuples(STATUSES, WAKES, st.integers(0, 2)), min_size=2, max_size=len(FLOWS)))
    def some_are_born(self, births: list[tuple[Status, int | None, int]]) -> None:
        for id, (status, wake_at, new) in zip(FLOWS, births, strict=False):
            save = self._built(id, "new", status, wake_at, 10, new, 0, 1)
            self._save(save)

    # Saves

    @rule(id=IDS, who=WHO, status=STATUSES, wake_at=WAKES, at=TIMES, new=st.integers(0, 2), unseen=LIMITS, lost=LOST)
    def save(
        self, id: str, who: str, status: Status, wake_at: int | None, at: int, new: int, unseen: int, lost: bool
    ) -> None:
        save = self._built(id, who, status, wake_at, at, new, 0 if unseen == 10 else unseen - 1, 1)
        self._save(save, lost)

    @rule(id=IDS, who=WHO, off=st.sampled_from([-1, 0, 2]), seen=st.sampled_from([-1, 0, 1]))
    def save_a_wrong_version(self, id: str, who: str, off: int, seen: int) -> None:
        save = self._built(id, who, Status.SUSPENDED, 1000, 10, 1, -seen, off)
        self._save(save)

    @precondition(lambda self: self._sent)
    @rule(which=st.integers(0, 1000))
    def an_old_save_comes_late(self, which: int) -> None:
        save = self._sent[-1 - which % min(len(self._sent), 6)]
        self._save(save)

    def _save(self, save: Save, again: bool = False) -> None:
        self._both(lambda store: store.save(*save), [save[0].run_id], save[2], again)

    @rule(entries=st.lists(st.tuples(IDS, WHO, STATUSES, WAKES, st.integers(0, 2)), max_size=4), lost=LOST)
    def save_many(self, entries: list[tuple[str, str, Status, int | None, int]], lost: bool) -> None:
        saves: list[Save] = []
        for id, who, status, wake_at, new in entries:
            run, records, lease = self._built(id, who, status, wake_at, 10, new, 0, 1)
            saves.append((run, records, None if lease is None else Lease(lease.token, HOUR)))
        self._both(lambda store: store.save_many(saves), list(FLOWS), None, lost)

    # Leases

    @rule(id=IDS, ttl=st.integers(0, 3), lost=LOST)
    def acquire(self, id: str, ttl: int, lost: bool) -> None:
        lease = self._lease(id, ttl)
        self._both(lambda store: store.acquire(id, lease), [id], lease, lost)

    @rule(id=IDS, who=WHO)
    def acquire_again(self, id: str, who: str) -> None:
        lease = self._who(id, who) or self._lease(id, 0)
        self._both(lambda store: store.acquire(id, lease), [id], lease)

    @rule(now=NOWS, limit=LIMITS, ttl=st.integers(0, 3), asked=ASKED, lost=LOST)
    def claim(self, now: int, limit: int, ttl: int, asked: list[str] | None, lost: bool) -> None:
        for _ in range(1 + lost):  # who got no answer claims again, under a new token
            self._claim(now, limit, self._new_lease(ttl), asked)

    def _claim(self, now: int, limit: int, lease: Lease, asked: list[str] | None) -> None:
        if lease.ttl == 1 and not self._time.exact():
            limit = 1  # which of two leases of one call runs out first is the server's affair
        for run_id in self._model.due(FAR, 10):
            self._leases[run_id].append(lease)
        self._both(lambda store: store.claim(now, limit, lease, asked), list(FLOWS), lease)

    @rule(ids=st.sets(IDS), who=WHO, ttl=st.integers(0, 3), lost=LOST)
    def renew(self, ids: set[str], who: str, ttl: int, lost: bool) -> None:
        leases = {id: lease for id in sorted(ids) if (lease := self._who(id, who)) is not None}
        if not self._time.exact():  # there, only who holds shortly is renewed shortly, and one at a time
            leases = dict(list(leases.items())[:1])
            ttl = next((self._time.ttls.index(lease.ttl) for lease in leases.values()), 0)
        length = self._time.ttls[ttl % len(self._time.ttls)]
        tokens = {id: lease.token for id, lease in leases.items()}
        self._both(lambda store: store.renew(tokens, length), sorted(ids), Lease("any", length), lost)

    @rule(id=IDS, who=WHO, wake_at=WAKES, lost=LOST)
    def release(self, id: str, who: str, wake_at: int | None, lost: bool) -> None:
        lease = self._who(id, who) or self._lease(id, 0)
        self._both(lambda store: store.release(id, lease, wake_at), [id], None, lost)

    # Anybody

    @rule(id=IDS, now=NOWS, wake=st.booleans(), lost=LOST)
    def post(self, id: str, now: int, wake: bool, lost: bool) -> None:
        record = self._bytes()
        self._both(lambda store: store.post(id, record, now, wake), [id], None, lost)

    @rule(id=IDS, lost=LOST, really=st.sampled_from([False, False, True]))
    def delete(self, id: str, lost: bool, really: bool) -> None:
        if really:  # else hardly any run would grow old
            self._both(lambda store: store.delete(id), [id], None, lost)

    @rule(now=NOWS, limit=LIMITS)
    def due(self, now: int, limit: int) -> None:
        self._both(lambda store: store.due(now, limit), [])

    @rule(limit=LIMITS, status=st.sampled_from([None, *list(Status)]), after=st.tuples(st.sampled_from([0, 10]), IDS))
    def listing(self, limit: int, status: Status | None, after: tuple[int, str]) -> None:
        self._both(lambda store: store.list(limit, after if after[0] else None, status), [])

    @rule(asked=ASKED)
    def next_wake(self, asked: list[str] | None) -> None:
        self._both(lambda store: store.next_wake(asked), [])

    @rule(by=MOVES)
    def time_passes(self, by: int) -> None:
        self._time.move(by)

    @rule(handle=st.integers(0, 1))
    def reconnect(self, handle: int) -> None:
        self._ground.reopen(handle)

    # What callers know

    def _bytes(self) -> bytes:
        self._count += 1
        return b"%d" % self._count

    def _new_lease(self, ttl: int) -> Lease:
        self._count += 1
        return Lease(f"token {self._count}", self._time.ttls[ttl % len(self._time.ttls)])

    def _lease(self, id: str, ttl: int) -> Lease:
        lease = self._new_lease(ttl)
        self._leases[id].append(lease)
        return lease

    def _who(self, id: str, who: str) -> Lease | None:
        """The lease of a caller of this kind, where there is one."""
        kept = self._model.runs.get(id)
        token = None if kept is None else kept.token
        known = self._leases[id]
        if who == "holder":
            return next((lease for lease in known if lease.token == token), None)
        if who == "former":
            return next((lease for lease in reversed(known) if lease.token != token), None)
        return self._lease(id, 1) if who == "new" else None

    def _built(
        self, id: str, who: str, status: Status, wake_at: int | None, at: int, new: int, unseen: int, off: int
    ) -> Save:
        """A save as such a caller would build it, off by so many versions from the stored one."""
        kept = self._model.runs.get(id)
        version, records = (0, 0) if kept is None else (kept.head.version, len(kept.log))
        run = StoredRun(
            run_id=id,
            workflow=FLOWS[id],
            status=status,
            version=max(1, version + off),
            wake_at=wake_at,
            event="go" if status is Status.WAITING else None,
            attempt=7,  # the store keeps its own
            created_at=10,
            updated_at=at,
            snapshot=self._bytes(),
            seen=max(0, records - unseen),
            log=(b"ignored",),
        )
        save = (run, [self._bytes() for _ in range(new)], self._who(id, who))
        self._sent.append(save)
        return save

    # Both sides

    def _both(
        self, call: Callable[[Any], Any], touched: Sequence[str], lease: Lease | None = None, again: bool = False
    ) -> None:
        """Call the store and the model, twice for who got no answer; compare what they say and what is stored."""
        for _ in range(1 + again):
            answer, wanted = _answer(call, self._store()), _answer(call, self._model)
            self._learn(touched)
            if lease is not None:
                self._time.settle(lease.ttl)
            assert self._same(answer, wanted), f"the store answered {answer!r}, the model {wanted!r}"
        for run_id in touched:
            self._compare(run_id)

    def _store(self) -> Store:
        self._turn += 1
        wrapped: Store = self._wrap(self._ground.handles[self._turn % 2])
        return wrapped

    def _compare(self, run_id: str) -> None:
        for log in (True, False):
            stored, wanted = self._store().load(run_id, log), self._model.load(run_id, log)
            assert stored == wanted, f"stored is {stored!r}, and should be {wanted!r}"

    def _compare_all(self) -> None:
        for run_id in FLOWS:
            self._compare(run_id)
        for now in (0, 2000, FAR):
            assert self._store().due(now, 10) == self._model.due(now, 10)
        assert self._store().list(10) == self._model.list(10)
        assert self._same(self._store().next_wake(), self._model.next_wake())

    def _learn(self, touched: Sequence[str]) -> None:
        """A wake that a server set by its own clock is taken over into the model, if it is about now."""
        if not isinstance(self._time, Serving):
            return
        for run_id in touched:
            stored, kept = self._store().load(run_id, False), self._model.runs.get(run_id)
            if stored is not None and kept is not None and self._time.about_now(kept.head.wake_at):
                assert self._time.about_now(stored.wake_at), f"{stored!r} should wake about now"
                kept.head = replace(kept.head, wake_at=stored.wake_at)

    def _same(self, answer: Any, wanted: Any) -> bool:
        if isinstance(self._time, Serving) and isinstance(wanted, int) and self._time.about_now(wanted):
            return self._time.about_now(answer)
        return bool(answer == wanted)


def _answer(call: Callable[[Any], Any], side: Any) -> Any:
    """What a side says; of an error only which it is."""
    try:
        answer = call(side)
    except KvflowError as error:
        return type(error)
    if isinstance(answer, list):
        return [type(one) if isinstance(one, KvflowError) else one for one in answer]  # pyright: ignore[reportUnknownVariableType]
    return answer


def itself(store: Store) -> Store:
    return store


def machine(make: Callable[[], Ground], wrap: Callable[[Store], Any] = itself) -> type[Machine]:
    """The machine on such a ground, each handle wrapped so."""

    class Tried(Machine):
        def __init__(self) -> None:
            super().__init__(make(), wrap)

    return Tried
