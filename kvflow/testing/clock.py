"""A clock that stands until it is told to go, so that a year passes in a line."""

from datetime import UTC, datetime, timedelta

from kvflow.errors import InvalidArgument


class FakeClock:
    """Called for its time, an aware ``datetime``, and moved by ``advance``."""

    def __init__(self, start: datetime = datetime(2030, 1, 1, tzinfo=UTC)) -> None:
        if start.tzinfo is None:
            raise InvalidArgument(f"start is {start!r}, without a time zone: give an aware datetime")
        self._now = start

    def __call__(self) -> datetime:
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let time pass; a negative ``by`` sets the clock back."""
        self._now += by
