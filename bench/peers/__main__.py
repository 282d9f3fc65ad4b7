"""kvflow beside its peers: ``python -m bench.peers [--quick] [--json PATH] [PEER ...]``.

A peer that cannot be installed, or a server that is not there, is said in the table and fails nothing. A side that
gives a wrong answer, or none, fails the bench.
"""

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import msgspec
from msgspec.structs import replace

from bench.command import end
from bench.grounds import Ground
from bench.peers import jobs, rows, runs, sleepers
from bench.peers.contest import Wrong, contestants
from bench.peers.environments import PINS, NotInstalled, install
from bench.peers.program import Failed
from bench.peers.rows import Row
from bench.peers.sizes import FULL, QUICK, Sizes
from bench.places import PLACES, Missing

RESULTS = Path(__file__).parent.parent / "results" / "peers.json"
SHOWN = (runs, sleepers, jobs)
WORKS = (sleepers, runs, jobs)
"""As they are held: sleepers first, for they take longest where contests are held side by side."""

GROUNDS = ("postgres", "mysql", "file", "redis")
NAMES = {
    "dbos": "DBOS",
    "absurd": "Absurd",
    "edda": "Edda",
    "langgraph": "LangGraph",
    "procrastinate": "Procrastinate",
    "saq": "SAQ",
}

Contest = tuple[ModuleType, str]
"""A work, and a peer that does it too."""


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, end)  # so that what was made on servers is removed
    begin = time.monotonic()
    machine = f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    print(f"{machine}; kvflow {version('kvflow')}")
    missing = _installed(options.peers or list(PINS))
    found: list[Row] = []
    for name in GROUNDS:
        wanted = [(work, peer) for work in WORKS for peer in work.PEERS.get(name, ()) if peer in missing]
        found += _ground(name, wanted, missing, QUICK if options.quick else FULL)
    print(_shown(found))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine, "kvflow": version("kvflow"), "quick": options.quick, "rows": found}
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    print(f"\nkept in {options.json}; it took {time.monotonic() - begin:.0f} s")
    return 1 if any(row.wrong for row in found) else 0


def _installed(peers: Sequence[str]) -> dict[str, str]:
    """Why each peer cannot take part; nothing where it can."""
    missing = dict.fromkeys(peers, "")
    for peer in peers:
        try:
            install(peer)
        except NotInstalled as error:
            missing[peer] = str(error)
    return missing


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="kvflow beside its peers, as ratios.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PINS)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="sizes so small that the figures mean nothing")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the rows are kept (%(default)s)")
    options = parser.parse_args()
    for name in options.peers:
        if name not in PINS:
            parser.error(f"no peer {name!r}: it must be one of {', '.join(PINS)}")
    return options


def _ground(name: str, wanted: Sequence[Contest], missing: Mapping[str, str], sizes: Sizes) -> list[Row]:
    """The rows of a kind of server, of all contests that are held there and of those that cannot be."""
    if not wanted:
        return []
    try:
        with PLACES[name]() as ground, ThreadPoolExecutor(sizes.side_by_side) as threads:
            print(f"\n== {name}: " + "\n   ".join(ground.about), flush=True)
            server, durability = _server(ground)
            empty = [_empty(work, NAMES[peer], server, durability, missing[peer]) for work, peer in wanted]
            hold = partial(_held, ground=ground, sizes=sizes)
            held: Iterable[list[Row]] = (
                map(hold, wanted, empty) if sizes.side_by_side == 1 else threads.map(hold, wanted, empty)
            )
            return [row for some in held for row in some] + [
                _empty(work, NAMES[peer], server, durability, why)
                for work in WORKS
                for peer, why in work.CANNOT.get(name, {}).items()
                if peer in missing
            ]
    except Missing as error:
        print(f"\n== {name}: left out, {error}")
        return [_empty(work, NAMES[peer], name, "", str(error)) for work, peer in wanted]


def _server(ground: Ground) -> tuple[str, str]:
    """Its name and version, and the settings that say how durable a write is."""
    if not ground.served:
        return "files, SQLite", ground.about[0].split(",")[0]
    return ground.server, ground.durability


def _empty(work: ModuleType, peer: str, server: str, durability: str, missing: str) -> Row:
    return Row(work=work.WORK, unit=work.UNIT, server=server, durability=durability, peer=peer, missing=missing)


def _held(contest: Contest, empty: Row, ground: Ground, sizes: Sizes) -> list[Row]:
    """The rows of one contest; where it ends badly, the last of them says why."""
    if empty.missing:
        return [empty]
    work, peer = contest
    print(f"   {empty.work}: {empty.peer}", flush=True)
    found: list[Row] = []
    try:
        with contestants(ground, peer) as pair:
            for row in work.rows(empty, ground, pair, sizes):
                found.append(row)  # noqa: PERF402 (what was found before a failure is shown)
    except (Wrong, Failed) as error:
        found.append(replace(empty, wrong=str(error)))
    except Exception as error:  # noqa: BLE001 - the others are compared all the same
        traceback.print_exc()
        found.append(replace(empty, wrong=f"{type(error).__name__}: {error}"))
    return found


def _shown(found: Sequence[Row]) -> str:
    """For each work a table of ratios, and one of what else was measured; then what could not be compared."""
    parts: list[str] = []
    for work in SHOWN:
        compared = [row for row in found if row.work == work.WORK and row.sides]
        if compared:
            parts.append(rows.table(compared))
        if any(one.measures for row in compared for one in row.sides):
            parts.append(rows.measures(compared))
    parts += [f"{row.work}, {row.peer} on {row.server}: wrong, {row.wrong}" for row in found if row.wrong]
    left_out = [f"{row.work}, {row.peer} on {row.server}: left out, {row.missing}" for row in found if row.missing]
    return "\n" + "\n\n".join([*parts, *(["\n".join(left_out)] if left_out else [])])


if __name__ == "__main__":
    sys.exit(main())
