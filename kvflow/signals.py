"""What SIGTERM and SIGINT tell a worker, and who may be interrupted by a signal at all."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

STOP: Final = "stop"
AT_ONCE: Final = "at once"

_told: list[Callable[[str], object]] = []
"""Whom the signals of this process are told to."""


@contextmanager
def signals_told(tell: Callable[[str], object]) -> Generator[None]:
    """In the main thread, have the first signal tell ``STOP`` and every one after it ``AT_ONCE``.

    A forked child is no worker: there a signal does what it did before.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    words, process = [AT_ONCE, STOP], os.getpid()

    def told(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            tell(words.pop() if len(words) > 1 else AT_ONCE)
        else:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, told)
    _told.append(tell)
    try:
        yield
    finally:
        _told.remove(tell)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_interrupts() -> Generator[None]:
    """Who raises an interrupt where no signal can have come from has failed like anybody else.

    Signals come to the main thread alone, and raise nothing there while they are told to a worker.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as error:
        if threading.current_thread() is threading.main_thread() and not _told:
            raise
        raise RuntimeError(f"{type(error).__name__}({error}) was raised, though nobody interrupts this run") from error
