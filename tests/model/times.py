"""When it is, for a model and for the store beside it.

Memory and File take a clock, so the model can say every time to the millisecond. A server's clock is its own. There,
a lease is either so long that it outlasts any test or a single millisecond, which is really waited for after the call
that gave it; so whether it is live is never a matter of luck. What the server's clock wrote is compared as "about now".
"""

import time
from typing import Protocol

HOUR = 3_600_000


class Time(Protocol):
    """What a machine asks about time."""

    @property
    def ttls(self) -> tuple[int, ...]:
        """How long leases are."""
        ...

    def now(self) -> int:
        """The time for the model."""
        ...

    def exact(self) -> bool:
        """Whether the store reads the same clock."""
        ...

    def move(self, by: int) -> None:
        """Let time pass, or set the clock back."""
        ...

    def settle(self, ttl: int) -> None:
        """A call that gave a lease of this ttl has returned."""
        ...


class Moving:
    """A clock that store and model read alike."""

    ttls: tuple[int, ...] = (1, 10, 1000, HOUR)

    def __init__(self) -> None:
        self._now = 3000

    def now(self) -> int:
        return self._now

    def exact(self) -> bool:
        return True

    def move(self, by: int) -> None:
        self._now = max(0, self._now + by)

    def settle(self, ttl: int) -> None:
        """Nothing: time passes when it is told to."""


class Serving:
    """The model's idea of a server's clock: it stands, but for what was really waited."""

    ttls: tuple[int, ...] = (1, HOUR)

    def __init__(self) -> None:
        self._now = time.time_ns() // 1_000_000

    def now(self) -> int:
        return self._now

    def exact(self) -> bool:
        return False

    def move(self, by: int) -> None:
        """Nothing: nobody sets a server's clock."""

    def settle(self, ttl: int) -> None:
        if ttl == min(self.ttls):
            time.sleep(0.004)  # more than the ttl, whatever millisecond it began in
            self._now += 2

    def about_now(self, when: int | None) -> bool:
        return when is not None and abs(when - self._now) < HOUR // 2
