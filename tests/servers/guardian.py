"""The servers of a test session never outlive it.

A guardian is a small process beside the session. It is told of every server that starts and ends, and when the session
is gone, in whatever way, it ends what is left and removes the session's directory. In an orderly end nothing is left
for it to do.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


class Guardian:
    """Owns the session's directory `home`, and the process that cleans up after a session that was killed."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kvflow-test-")).resolve()
        self.home.chmod(0o711)  # a server that runs as another user enters its own directory below
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(self.home)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the session
        )

    def watch(self, pid: int, farewell: signal.Signals) -> None:
        self._tell(f"{pid} {int(farewell)}")

    def forget(self, pid: int) -> None:
        self._tell(f"{pid} 0")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()


def main(home: str) -> None:
    servers = _listen(os.getppid())
    for pid, farewell in servers.items():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, farewell)
            os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in servers) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(home, ignore_errors=True)


def _listen(session: int) -> dict[int, int]:
    """Follow the session's messages until it is gone: its end of the pipe closed, or (when a forked child of a test
    still has that open) another parent."""
    servers: dict[int, int] = {}
    unread = b""
    while os.getppid() == session:
        if not select.select([0], [], [], 0.5)[0]:
            continue
        received = os.read(0, 65536)
        if not received:
            break
        *lines, unread = (unread + received).split(b"\n")
        for line in lines:
            pid, farewell = map(int, line.split())
            servers.pop(pid, None)
            if farewell:
                servers[pid] = farewell
    return servers


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1])
