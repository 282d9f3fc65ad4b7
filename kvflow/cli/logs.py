"""What the logger ``kvflow`` and the application log while a command runs: on stderr, a line each, and harmless.

Where the application has configured logging itself, its handlers are the ones.
"""

import logging
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.logging import RichHandler

from kvflow.cli.output import moment, safe

log = logging.getLogger("kvflow")


class Lines(logging.Formatter):
    """Times in UTC; what a message is made of may be anybody's text."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return moment(datetime.fromtimestamp(record.created, UTC))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = safe(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return "\n".join(safe(line) for line in super().formatException(ei).split("\n"))


@contextmanager
def logs() -> Generator[None]:
    """Warnings of kvflow are seen; afterwards the logging of this process is as it was."""
    handler, level = _handler(), log.level
    handler.addFilter(lambda record: log.handlers == [handler] and not logging.getLogger().handlers)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def log_from(level: int) -> None:
    """Show the lines of kvflow from this level on."""
    log.setLevel(level)


def _handler() -> logging.Handler:
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True, emoji=False), markup=False, show_path=False, log_time_format="%X"
        )
        handler.setFormatter(Lines("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Lines("%(asctime)s %(levelname)s %(message)s"))
    return handler
