"""Errors as strings that can be kept, whatever an error is, says, or fails to say of itself."""

import traceback
from collections.abc import Callable

from kvflow.errors import KvflowError
from kvflow.records import RunError

TRACEBACK, MESSAGE = 8000, 4000
"""How many characters of a traceback are kept, whose end says most, and of a message, whose beginning does."""


class Unkeepable(KvflowError):
    """A step's result that cannot be recorded."""


def described(error: BaseException) -> RunError:
    """An error as strings that can be kept, whatever it is; one that came from a record as it was recorded."""
    name = "TypeError" if isinstance(error, Unkeepable) else type(error).__name__
    recorded = getattr(error, "error", None)
    if isinstance(recorded, RunError):
        return RunError(name, _kept(str(error))[:MESSAGE], recorded.traceback)
    return RunError(name, _kept(_said(str, error))[:MESSAGE], _kept(_said(_traceback, error))[-TRACEBACK:])


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _said(how: Callable[[BaseException], str], error: BaseException) -> str:
    """What an error says of itself; some fail even at that."""
    try:
        return how(error)
    except Exception as another:  # noqa: BLE001
        return f"<{type(another).__name__} when it was asked what it says>"


def _kept(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
