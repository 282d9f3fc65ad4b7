"""Ctrl-C, SIGTERM and a closed terminal as a wish: what is under way is finished and cleaned up. A second insists."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Wish:
    """Whether to stop, and the exit code for it."""

    def __init__(self) -> None:
        self.code = 0

    def heard(self, number: int, frame: FrameType | None) -> None:
        if self.code:
            raise KeyboardInterrupt
        self.code = 128 + number


@contextmanager
def stopping() -> Generator[Wish]:
    """Outside the main thread, where nobody may listen for signals, the wish never comes."""
    wish = Wish()
    before = {}
    if threading.current_thread() is threading.main_thread():
        heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup's is not
        before = {number: signal.signal(number, wish.heard) for number in heeded}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
