"""Times as people write them, and as the contract keeps them.

The public API speaks in aware ``datetime``s and ``timedelta``s (a number where a duration is expected is
seconds); the contract in epoch milliseconds. Naive datetimes are refused: nobody could say when they are.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kvflow.checks import LATEST
from kvflow.errors import InvalidArgument, MissingDriver

if TYPE_CHECKING:
    from croniter import croniter

Duration = timedelta | int | float
Now = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(when: datetime, what: str = "time") -> int:
    """Epoch milliseconds of an aware datetime, rounded down."""
    if not isinstance(when, datetime):
        raise InvalidArgument(f"{what} is {when!r}: it must be an aware datetime")
    if when.tzinfo is None or when.utcoffset() is None:
        raise InvalidArgument(f"{what} is {when!r}, without a time zone: say which, such as datetime.now(timezone.utc)")
    return (when - _EPOCH) // _MILLISECOND


def from_ms(milliseconds: int) -> datetime:
    """The datetime of epoch milliseconds; what is past the last year of ``datetime`` is that year's end."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def duration_ms(duration: Duration, what: str = "duration") -> int:
    """Milliseconds of a timedelta or of a number of seconds, rounded up; never negative."""
    if isinstance(duration, bool) or not isinstance(duration, (timedelta, int, float)):
        raise InvalidArgument(f"{what} is {duration!r}: it must be a timedelta, or a number of seconds")
    if not isinstance(duration, timedelta):
        try:
            duration = timedelta(seconds=duration)
        except (OverflowError, ValueError) as error:
            raise InvalidArgument(f"{what} is {duration!r} seconds: {error}") from error
    if duration < timedelta(0):
        raise InvalidArgument(f"{what} is {duration}: it must not be negative")
    return duration // _MILLISECOND + (duration % _MILLISECOND > timedelta(0))


class Cron:
    """Times by a cron expression in a time zone; ``after`` gives the next."""

    def __init__(self, expression: str, tz: str = "UTC") -> None:
        self.expression, self.tz = expression, tz
        try:
            self._zone = ZoneInfo(tz)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidArgument(f"cron time zone {tz!r} is not known here: {error}") from error
        self.after(0)

    def __repr__(self) -> str:
        return f"cron({self.expression!r}, tz={self.tz!r})"

    def after(self, now: int) -> int:
        """The first time after ``now``, both in epoch milliseconds."""
        library = _croniter()
        try:
            times = library(self.expression, from_ms(now).astimezone(self._zone))
            found: datetime = times.get_next(datetime)
        except (ValueError, KeyError, OverflowError) as error:
            raise InvalidArgument(f"{self!r} never comes, or is no cron expression: {error}") from error
        return min(to_ms(found), LATEST)


def cron(expression: str, tz: str = "UTC") -> Cron:
    """When to wake by a cron expression: ``ctx.sleep("daily", cron("0 9 * * *", tz="Europe/Berlin"))``."""
    return Cron(expression, tz)


def _croniter() -> "type[croniter]":
    try:
        from croniter import croniter
    except ImportError as error:
        raise MissingDriver("cron needs croniter: pip install 'kvflow[cron]'") from error
    return croniter
