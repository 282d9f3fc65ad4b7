"""The Lua of the Redis store, as the server is to get it.

Each operation is one file of ``kvflow.lua``; what several of them know is in files of its own, put before
them here. A script is called by its SHA1, and sent whole only to a server that does not know it (yet, or
any more: after a restart, a failover or a SCRIPT FLUSH).
"""

from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple


class Script(NamedTuple):
    """A script, and the name by which a server that has seen it knows it."""

    name: str
    source: bytes
    sha: bytes


def _script(name: str, *parts: str) -> Script:
    folder = files("kvflow.lua")
    source = b"\n".join((folder / f"{part}.lua").read_bytes() for part in (*parts, name))
    return Script(name, source, sha1(source, usedforsecurity=False).hexdigest().encode())


OPEN = _script("open")
SAVE = _script("save", "run", "saving")
SAVE_MANY = _script("save_many", "run", "saving")
LOAD = _script("load")
DELETE = _script("delete", "run", "head")
CANDIDATES = _script("candidates", "run", "workflows")
DUE = _script("due", "run", "line")
CLAIM = _script("claim", "run", "line")
ACQUIRE = _script("acquire", "run", "head")
RENEW = _script("renew", "run", "head")
RELEASE = _script("release", "run", "head")
POST = _script("post", "run", "head")
HEADS = _script("heads", "run", "head")
NEXT_WAKE = _script("next_wake", "run", "workflows")

SCRIPTS = (
    OPEN,
    SAVE,
    SAVE_MANY,
    LOAD,
    DELETE,
    CANDIDATES,
    DUE,
    CLAIM,
    ACQUIRE,
    RENEW,
    RELEASE,
    POST,
    HEADS,
    NEXT_WAKE,
)
