"""The leases that one runtime holds, renewed from one daemon thread so that no body starves it.

A lease is believed alive until its ttl after the moment *before* the call that took or renewed it was sent,
less a margin for what lies between this clock and the store's. Believing less long than the store
does is safe; believing longer would let a step run beside its successor's.
"""

import os
import threading
import time
from typing import Final

from kvflow.errors import StoreUnavailable
from kvflow.log import WARNING, say
from kvflow.run import Lease
from kvflow.store import Store

MARGIN: Final = 0.1
"""The part of a ttl by which a lease is believed dead before it is."""

LOST: Final = float("-inf")
NEVER: Final = float("inf")


class Trouble:
    """The store's absence, as an instance meets it in any of its threads: told when it begins and when it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def begins(self, error: StoreUnavailable) -> None:
        """The store did not answer."""
        with self._lock:
            if self._since is not None:
                return
            self._since = time.monotonic()
        say(WARNING, "the store is away, and will be asked again: %s", error)

    def ends(self) -> None:
        """The store has answered."""
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            say(WARNING, "the store is back after %.1f s", time.monotonic() - since)


class Held:
    """One lease, as its holder believes in it."""

    def __init__(self, leases: "Leases", run_id: str, lease: Lease) -> None:
        self._leases = leases
        self._until = NEVER
        self._back_at = NEVER
        self.run_id = run_id
        self.lease = lease

    def alive(self) -> bool:
        """Whether a step may begin; before the birth is saved there is nothing that could be lost."""
        return time.monotonic() < self._until

    def asked_back(self) -> bool:
        """Whether whoever drives is to leave before the next step."""
        return time.monotonic() >= self._back_at

    def ask_back(self, at: float = LOST) -> None:
        """Have the run back at its next step boundary, at once or from a time of ``time.monotonic`` on."""
        self._back_at = min(self._back_at, at)

    def taken(self, sent: float) -> None:
        """The store has given the lease, by a call that was sent then."""
        self.renewed(sent)
        self._leases.add(self)

    def renewed(self, sent: float) -> None:
        """It lasts from then; but what was lost stays lost."""
        if self._until != LOST:
            self._until = sent + self.lease.ttl / 1000 * (1 - MARGIN)

    def lost(self) -> None:
        """Somebody else has the run, or nobody; no step may begin."""
        self._until = LOST

    @property
    def gone(self) -> bool:
        """Whether it is known to be lost."""
        return self._until == LOST

    def drop(self) -> None:
        """Nobody needs it any more."""
        self._leases.remove(self)


class Leases:
    """All that a runtime holds: renewed three times in a ttl, in one call for all."""

    def __init__(self, store: Store, ttl: int) -> None:
        self.ttl = ttl
        self.trouble = Trouble()
        self._store = store
        self._held: dict[str, Held] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    def hold(self, run_id: str, token: str) -> Held:
        """A lease that is not yet taken."""
        return Held(self, run_id, Lease(token, self.ttl))

    def add(self, held: Held) -> None:
        """Renew this one; who held the run before, by another token, holds it no more."""
        self._begin_anew_after_a_fork()
        with self._changed:
            before = self._held.get(held.run_id)
            if before is not None and before is not held:
                before.lost()
            self._held[held.run_id] = held
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew_while_held, name="kvflow-leases", daemon=True)
                self._thread.start()

    def remove(self, held: Held) -> None:
        self._begin_anew_after_a_fork()
        with self._changed:
            if self._held.get(held.run_id) is held:
                del self._held[held.run_id]

    def close(self) -> None:
        """End the thread; what is still held runs out."""
        self._begin_anew_after_a_fork()
        with self._changed:
            self._held.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5)

    def _begin_anew_after_a_fork(self) -> None:
        """In a forked child nothing is held, and no thread came along."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._held, self._changed, self._thread = {}, threading.Condition(), None

    def _renew_while_held(self) -> None:
        """Renew in turns; the thread ends after a turn in which nothing was held."""
        while True:
            with self._changed:
                if not self._held:
                    self._thread = None
                    return
                self._changed.wait(self.ttl / 3000)
                held = list(self._held.values())
            if held:
                self._renew(held)

    def _renew(self, held: list[Held]) -> None:
        sent = time.monotonic()
        try:
            ours = self._store.renew({one.run_id: one.lease.token for one in held}, self.ttl)
        except StoreUnavailable as error:
            self.trouble.begins(error)
            return
        except Exception as error:  # noqa: BLE001 (this thread must live; what is not renewed is believed lost in time)
            say(WARNING, "leases of %d runs could not be renewed: %s", len(held), repr(error))
            return
        self.trouble.ends()
        for one in held:
            if one.run_id in ours:
                one.renewed(sent)
            elif self._held.get(one.run_id) is one:  # else it came to rest meanwhile, and nothing was lost
                one.lost()
