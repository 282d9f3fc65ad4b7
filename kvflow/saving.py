"""A run as one drive saves it: version upon version, one at a time.

What always holds here: what is new stays so until the save that carries it was answered; a save in doubt is sent
again, identically, until it is answered or the lease is gone; and then nothing more is written.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from msgspec.structs import replace

from kvflow.effects import Alone, Ask, Pause, Work
from kvflow.errors import Conflict, Corrupt, KvflowError, StoreUnavailable, TooLarge
from kvflow.history import History
from kvflow.records import AnyRecord, Head, decode_log, encode_head, encode_record
from kvflow.run import Lease, Status, StoredRun
from kvflow.workflow import Workflow

RESEND = 0.05, 1.0
"""How long to pause before a save in doubt is sent again: at first, and at most."""


class Hold(Protocol):
    """A lease as its holder believes in it."""

    @property
    def lease(self) -> Lease: ...

    def alive(self) -> bool:
        """Whether a step may begin."""
        ...

    def asked_back(self) -> bool:
        """Whether whoever drives is to leave before the next step."""
        ...

    def taken(self, sent: float) -> None:
        """The store took the lease by a call that was sent then, by ``time.monotonic``."""
        ...


class Leaving(BaseException):
    """Unwinds the body; the drive's ``leaving`` says why."""


@dataclass(frozen=True)
class Surroundings:
    """What a drive has to know of the instance it runs in."""

    now: Callable[[], int]
    known: Callable[[Workflow | str], tuple[str, Any]]
    retention: int | None


class Saving:
    """The state that a drive shares with its store, and how it gets there."""

    def __init__(
        self, run: StoredRun, head: Head, history: History, hold: Hold, around: Surroundings, new: list[AnyRecord]
    ) -> None:
        self.run = run
        self.head = head
        self.history = history
        self.leaving: str | None = None
        self.trouble: KvflowError | None = None
        self._hold = hold
        self._around = around
        self._new = new
        self._seen = run.seen
        for record in new:
            history.apply(record)

    @property
    def lost(self) -> bool:
        """Whether the lease is no longer believed alive."""
        return not self._hold.alive()

    def _note(self, record: AnyRecord) -> None:
        """Take a record that is stored with the next save."""
        self.history.apply(record)
        self._new.append(record)

    def _store_new(self) -> Work[None]:
        """Store the birth and every resolution so far, before the world is touched."""
        if self._new or self.run.version == 0:
            yield Alone(self._save_new())

    def _save_new(self) -> Work[None]:
        if self._new or self.run.version == 0:
            yield from self._save(Status.RUNNING)

    def _save(
        self, status: Status, *records: AnyRecord, wake_at: int | None = None, event: str | None = None
    ) -> Work[None]:
        """Build the next version, with all that is new and these records, and send it until it is answered.

        What is new stays so until then: a step of another branch that is to begin meanwhile waits for it too.
        """
        if self.leaving in ("lost", "stopped"):  # a save in doubt is never followed by another
            raise Leaving
        known = len(self._new)
        run = replace(
            self.run,
            status=status,
            version=self.run.version + 1,
            wake_at=wake_at,
            event=event,
            attempt=0,
            updated_at=self._now(),
            snapshot=encode_head(self.head),
            seen=self._seen,
            log=(),
        )
        new = [encode_record(record) for record in (*self._new, *records)]
        unseen = yield from self._send(run, new)
        self.run = run
        del self._new[:known]
        for record in records:
            self.history.apply(record)
        self._seen += len(new)
        if unseen and status is Status.RUNNING:
            yield from self._catch_up()

    def _send(self, run: StoredRun, new: list[bytes]) -> Work[int]:
        """Send one save until it is answered; the lease counts from before it was first sent."""
        sent, save = time.monotonic(), Ask("save", (run, new, self._hold.lease))
        try:
            try:
                unseen: int = yield save
            except StoreUnavailable as error:
                unseen = yield from self._insist(save, error)
        except Conflict as error:
            self._stop(error, "stopped" if run.version == 1 else "lost")
        except TooLarge as error:
            if run.version > 1:
                raise
            self._stop(error, "stopped")
        if run.version == 1 and run.status is Status.RUNNING:
            self._hold.taken(sent)
        return unseen

    def _bear(self, run: StoredRun, new: list[bytes]) -> Work[None]:
        """Save a child's birth; one that is there already was born by this very step before a crash."""
        self.leave_if_lost()  # a birth is no version of the run, so no conflict would stop it
        save = Ask("save", (run, new, None))
        try:
            yield save
        except StoreUnavailable as error:
            with contextlib.suppress(Conflict):
                yield from self._insist(save, error)
        except Conflict:
            return

    def _insist(self, save: Ask, away: StoreUnavailable) -> Work[Any]:
        """Ask the store again, identically, for as long as a lease lasts and is believed alive."""
        pause, longest = RESEND
        until = time.monotonic() + self._hold.lease.ttl / 1000
        while self._hold.alive() and time.monotonic() <= until:
            yield Pause(pause)
            pause = min(pause * 2, longest)
            try:
                return (yield save)
            except StoreUnavailable as error:
                away = error
        self._stop(away, "stopped")

    def leave_if_lost(self) -> None:
        """Nothing is begun for a run that may be somebody else's."""
        if self.leaving in ("lost", "stopped"):
            raise Leaving
        if not self._hold.alive():
            self._leave("lost")

    def _stop(self, trouble: KvflowError, why: str) -> NoReturn:
        self.trouble = trouble
        self._leave(why)

    def _catch_up(self) -> Work[None]:
        """Read what others posted meanwhile: an event, a child's word, a cancel."""
        try:
            stored: StoredRun | None = yield Ask("load", (self.run.run_id,))
        except StoreUnavailable:
            return  # what is unseen is found at the next save, and wakes the run at its rest
        if stored is None or stored.version != self.run.version:
            return
        try:
            self.history.apply_posted(decode_log(self.run.run_id, stored.log))
        except Corrupt as error:
            self._stop(error, "stopped")
        self._seen = stored.seen

    def _leave(self, why: str) -> NoReturn:
        self.leaving = why
        raise Leaving

    def _now(self) -> int:
        return self._around.now()
