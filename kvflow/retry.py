"""How often a step is tried, and how long it rests between tries."""

import random

from msgspec import Struct

from kvflow.errors import InvalidArgument
from kvflow.times import Duration, duration_ms


class Retry(Struct, frozen=True):
    """A policy of retries. ``attempts`` counts the first.

    The wait before try n is ``delay * factor**(n - 2)``, at most ``max_delay``, and with ``jitter`` a random
    part of it between a half and the whole. Only errors that are instances of ``on`` are tried again.
    Waiting rests in the store: it holds no thread and no lease, and survives a crash.
    """

    attempts: int = 3
    delay: Duration = 1
    factor: float = 2
    max_delay: Duration = 60
    jitter: bool = True
    on: tuple[type[BaseException], ...] | type[BaseException] = (Exception,)

    def __post_init__(self) -> None:
        if isinstance(self.attempts, bool) or not isinstance(self.attempts, int) or self.attempts < 1:
            raise InvalidArgument(
                f"Retry attempts is {self.attempts!r}: it must be an int of 1 or more, the first counted"
            )
        if not self.factor >= 1:
            raise InvalidArgument(f"Retry factor is {self.factor!r}: it must be 1 or more")
        on = self.on if isinstance(self.on, tuple) else (self.on,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in on):
            raise InvalidArgument(f"Retry on is {self.on!r}: it must be an exception class, or a tuple of them")
        duration_ms(self.delay, "Retry delay")
        duration_ms(self.max_delay, "Retry max_delay")

    def again(self, attempt: int, error: BaseException) -> bool:
        """Whether a step that failed at this attempt is to be tried once more."""
        on = self.on if isinstance(self.on, tuple) else (self.on,)
        return attempt < self.attempts and isinstance(error, on)

    def wait_ms(self, attempt: int) -> int:
        """How long to wait after this attempt, in milliseconds."""
        longest = duration_ms(self.max_delay)
        try:
            wait = min(duration_ms(self.delay) * self.factor ** (attempt - 1), longest)
        except OverflowError:
            wait = longest
        return round(wait * random.uniform(0.5, 1)) if self.jitter else round(wait)


ONCE = Retry(attempts=1)
