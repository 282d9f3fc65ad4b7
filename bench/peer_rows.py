"""The file of the bench of peers, as plots and pages read it."""

from pathlib import Path

import msgspec
from msgspec import Struct

from bench.peers.rows import Row


class Peers(Struct, frozen=True, kw_only=True):
    """All rows of a run."""

    quick: bool
    rows: list[Row]


def read(directory: Path) -> Peers | None:
    """The file, where there is one."""
    path = directory / "peers.json"
    return msgspec.json.decode(path.read_bytes(), type=Peers) if path.exists() else None


def name(row: Row) -> str:
    """What was done, how many of it, how many at once."""
    work = row.work if row.number is None else f"{row.number:,} {row.work}"
    return work if row.at_once is None else f"{work}, {row.at_once} at once"
