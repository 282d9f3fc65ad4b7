"""One server process: started, stopped as by a power cut, frozen, and started again where it was.

A server is ready when a real client got a real answer, not when its port is open. `stop` and `pause` reach its child
processes too, for a PostgreSQL whose postmaster alone is stopped goes on answering.
"""

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import psutil

from servers.guardian import Guardian

PATIENCE = 60.0
"""Seconds for a server to answer or to end; a loaded machine needs some, a broken server all of them."""


class Missing(Exception):
    """This machine has no such server; the message is one line that says how to get it."""


def free_port() -> int:
    """A free loopback port below the ephemeral range: there, while the server is stopped, no client's own end can take
    its port, and no client that retries can meet itself."""
    while True:
        port = random.randrange(18000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def account() -> str | None:
    """Who runs the servers that refuse to run as root: None is ourselves."""
    return "nobody" if os.geteuid() == 0 else None


def own_directory(path: Path, user: str | None) -> Path:
    path.mkdir(mode=0o700)
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


def popen(
    command: Sequence[str | Path],
    *,
    cwd: Path,
    user: str | None,
    stdout: int | IO[bytes],
    start_new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Popen as ``user``, who gets our groups taken away too."""
    group = None if user is None else pwd.getpwnam(user).pw_gid
    return subprocess.Popen(
        command,
        cwd=cwd,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        start_new_session=start_new_session,
    )


def run(command: Sequence[str | Path], *, cwd: Path, user: str | None) -> None:
    """Run a preparing command to its end; what it said is in the error if it failed."""
    with popen(command, cwd=cwd, user=user, stdout=subprocess.PIPE) as process:
        said, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}:\n{said.decode(errors='replace')}")


class Server:
    """A server process in the directory `home`; `probe` raises until the server answers."""

    def __init__(
        self,
        url: str,
        command: Sequence[str | Path],
        probe: Callable[[], object],
        *,
        home: Path,
        guardian: Guardian,
        user: str | None = None,
        farewell: signal.Signals = signal.SIGKILL,
    ) -> None:
        self.url = url
        self._command = list(command)
        self._probe = probe
        self._home = home
        self._guardian = guardian
        self._user = user
        self._farewell = farewell
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start on the same port and the same data, and return when it answers."""
        if self._process is None or self._process.poll() is not None:
            self.launch()
        self.wait()

    def stop(self) -> None:
        """Kill it, children and all, as a power cut would, and return when nothing of it is left."""
        if self._process is not None:
            family = self._freeze(self._process)
            for process in family:
                _send(process, signal.SIGKILL)
            self._bury(self._process, family)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        if self._process is not None:
            self._freeze(self._process)

    def resume(self) -> None:
        if self._process is not None:
            for process in _family(self._process):
                _send(process, signal.SIGCONT)

    def close(self) -> None:
        """End it for good, in the way that leaves nothing behind."""
        if self._farewell == signal.SIGKILL:
            self.stop()
        elif self._process is not None:
            self.resume()
            family = _family(self._process)
            self._process.send_signal(self._farewell)
            self._bury(self._process, family)

    def launch(self) -> None:
        """Start it without waiting: several that are launched together get ready together."""
        if self._process is not None:
            self._bury(self._process, [])
        with (self._home / "log").open("ab") as log:
            self._process = popen(
                self._command,
                cwd=self._home,
                user=self._user,
                stdout=log,
                start_new_session=True,  # Ctrl-C is for the session, which then ends the servers in order
            )
        self._guardian.watch(self._process.pid, self._farewell)

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._probe()
            except Exception as error:  # noqa: BLE001 - each driver has errors of its own for "not yet"
                self._check_alive(error, late=time.monotonic() > deadline)
                time.sleep(0.05)
            else:
                return

    def _check_alive(self, error: Exception, late: bool) -> None:
        assert self._process is not None
        if late or self._process.poll() is not None:
            said = (self._home / "log").read_text(errors="replace")[-4000:]
            raise RuntimeError(f"{self._command[0]} does not answer at {self.url}; its log ends:\n{said}") from error

    def _freeze(self, process: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """Stop the parent first, so that the children found then are all there are."""
        process.send_signal(signal.SIGSTOP)
        family = _family(process)
        for child in family[1:]:
            _send(child, signal.SIGSTOP)
        return family

    def _bury(self, process: subprocess.Popen[bytes], family: list[psutil.Process]) -> None:
        process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while any(_alive(member) for member in family):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of {self._command[0]} do not end: {family}")
            time.sleep(0.01)
        self._guardian.forget(process.pid)
        self._process = None


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The process and its descendants, itself first; empty when it has ended."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _send(process: psutil.Process, what: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(what)


def _alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that waits for an init to collect it holds nothing any more."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
