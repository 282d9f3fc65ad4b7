"""Who is driven beside whom: a suspect alone in its process, everybody else side by side.

A run whose holders died twice may be what kills them. Driven alone, it cannot take neighbours down with it. While
it waits for the others to rest nobody new is let in, so it waits no longer than the longest of them, or gives up.
"""

import threading


class Gate:
    """One for a process. Nobody waits in here: whoever is not let in asks again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._side_by_side = 0
        self._suspect: object | None = None

    def enter(self, run: object, alone: bool) -> bool:
        """Whether this run may be driven now."""
        with self._lock:
            if alone:
                self._suspect = self._suspect or run
                return self._suspect is run and not self._side_by_side
            if self._suspect is not None:
                return False
            self._side_by_side += 1
            return True

    def leave(self, run: object) -> None:
        """It has been driven."""
        with self._lock:
            if self._suspect is run:
                self._suspect = None
            else:
                self._side_by_side -= 1

    def refuse(self, run: object) -> None:
        """It no longer asks to be."""
        with self._lock:
            if self._suspect is run:
                self._suspect = None


gate = Gate()
