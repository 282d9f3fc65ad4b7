"""When a worker claims and how long it waits, written once for both colours.

A turn looks at the wake index only as often as needed: it claims when something is due by what was last seen, or
when a drive has ended and may have left something due; an idle worker asks for the next wake alone. Runs that
killed those who held them are put aside, to be driven when nothing else is.
"""

import random
from typing import Final

from msgspec import Struct

from kvflow.checks import LATEST
from kvflow.driving import Claimed, is_suspect
from kvflow.effects import Ask, Work
from kvflow.errors import KvflowError, StoreUnavailable
from kvflow.instance import Instance
from kvflow.log import WARNING, say

LOOKS: Final = 0.6, 0.8
"""Between which parts of ``poll`` an idle worker looks again: under 1, so that the bound has room for the claim."""

VAIN: Final = 0.02
"""How long to wait, in seconds, when what was due went to somebody else; doubled each time, up to the next look."""

AWAY: Final = 0.1, 5.0
"""How long to wait before a store that is away is asked again: at first, and at most."""


class Turn(Struct, frozen=True):
    """What a turn gave: runs to drive, suspects to drive alone, how long to wait unless a drive ends."""

    claimed: list[Claimed] = []
    suspects: list[str] = []
    wait: float | None = 0.0


class Turns:
    """The turns of one worker."""

    def __init__(self, instance: Instance, poll: float) -> None:
        self._instance = instance
        self._poll = poll
        self._due = 0
        self._vain = 0
        self._away = 0

    def may_be_due(self) -> None:
        """A drive has ended: it may have made something due that was not when we looked."""
        self._due = 0

    def turn(self, free: int) -> Work[Turn]:
        """Claim for the free places, if anything seems due."""
        try:
            turn = yield from self._turn(free)
        except StoreUnavailable as error:
            self._instance.leases.trouble.begins(error)
            self._away += 1
            first, longest = AWAY
            return Turn(wait=random.uniform(0.5, 1) * min(longest, first * 2 ** min(self._away, 10)))
        self._instance.leases.trouble.ends()
        self._away = 0
        return turn

    def _turn(self, free: int) -> Work[Turn]:
        now = self._instance.now()
        seemed_due = self._due <= now
        if seemed_due and (claimed := (yield from self._instance.claim(now, free))):
            # To ask for the next wake is the next turn's: what is claimed here must not depend on its answer.
            self._due = 0 if len(claimed) == free else LATEST
            return (yield from self._sorted(claimed))
        wake: int | None = yield Ask("next_wake", (sorted(self._instance.workflows),))
        self._due = LATEST if wake is None else wake
        look = random.uniform(*LOOKS) * self._poll
        wait = min(look, max(0.0, (self._due - self._instance.now()) / 1000))
        self._vain = self._vain + 1 if seemed_due and not wait else 0
        if self._vain:
            wait = min(look, VAIN * 2 ** min(self._vain, 10))
        return Turn(wait=wait)

    def _sorted(self, claimed: list[Claimed]) -> Work[Turn]:
        """Put suspects aside: let go until a lease has passed, lest they take with them what is driven beside them."""
        suspects = [one for one in claimed if is_suspect(one[0])]
        for _, held in suspects:
            yield from self._instance.let_go(held, self._instance.now() + held.lease.ttl)
        others = [one for one in claimed if not is_suspect(one[0])]
        return Turn(others, [run.run_id for run, _ in suspects])

    # Suspects

    def take(self, run_id: str) -> Work[Claimed | None]:
        """Take a suspect that was put aside; where that cannot be, it is due again later."""
        try:
            held, run = yield from self._instance.acquire(run_id)
        except StoreUnavailable as error:
            self._instance.leases.trouble.begins(error)
            return None
        except KvflowError as error:
            say(WARNING, "run %r cannot be taken: %s", run_id, error, run_id=run_id)
            return None
        return None if run is None else (run, held)

    def hand_over(self, run_id: str) -> Work[None]:
        """Have a suspect that was put aside due at once, for whoever goes on."""
        if (taken := (yield from self.take(run_id))) is not None:
            yield from self._instance.let_go(taken[1], self._instance.now())
