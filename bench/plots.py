"""Pictures of what was found out: ``python -m bench.plots [--results DIR]``, as PNG and SVG beside the results."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import estimate, peer_rows
from bench.drawing import Dot, Line, Picture, Point, bars, dots, lines, save
from bench.figures import Figure
from bench.kept import RESULTS, Kept, read

COLOURS = {"memory": "#8f7fd6", "file": "#c58510", "postgres": "#3d8be0", "mysql": "#1b9e77", "redis": "#e0524d"}


class Results(NamedTuple):
    """All files of one directory, as far as they are there."""

    stores: Kept | None
    engine: Kept | None
    growth: Kept | None
    speed: Kept | None
    scale: Kept | None
    peers: peer_rows.Peers | None


def results(directory: Path) -> Results:
    stores, engine, growth, speed, scale = (
        read(name, directory) for name in ("stores", "engine", "growth", "speed", "scale")
    )
    return Results(stores, engine, growth, speed, scale, peer_rows.read(directory))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description="Pictures of what was found out.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the directory of what was kept (%(default)s)")
    directory: Path = parser.parse_args().results
    for path in draw(results(directory), directory):
        print(f"drawn in {path}")
    return 0


def draw(found: Results, directory: Path) -> list[Path]:
    """All pictures that there is something for."""
    directory.mkdir(parents=True, exist_ok=True)
    pictures = {name: make(found) for name, make in PICTURES.items()}
    return [
        path
        for name, picture in pictures.items()
        if picture is not None
        for path in save(picture, directory / f"{PREFIX}{name}")
    ]


PREFIX = "bench-"

FLOORS = {
    "save beside the bare write": "save / write",
    "post beside the bare write": "post / write",
    "load of": "load / read",
    "claim(1), for each run": "claim of 1 / write and read",
    "claim(100), for each run": "claim of 100, each run / write and read",
    "a run of 5 steps beside 7 bare writes": "run of 5 steps / 7 writes",
}


def floors(found: Results) -> Picture | None:
    """Each call beside the least that its driver could do."""
    return _dots(
        "How many times the driver's own cheapest call",
        [
            _dot(row, store, figure)
            for start, row in FLOORS.items()
            for store, figure in (*figures(found.stores), *figures(found.engine))
            if figure.name.startswith(start)
        ],
    )


def steps(found: Results) -> Picture | None:
    title = "How many times as long a step takes as at the shortest log"
    return _lines(found.growth, "step", title, "records in the log", log=True)


def sleepers(found: Results) -> Picture | None:
    named = {figure.series for _, figure in figures(found.growth)}
    claims = [name for name in sorted(named) if name.startswith("claim(") and "workflows" in name]
    if not claims:
        return None
    title = f"How many times as long {claims[0].split(',')[0]} takes as beside the fewest sleepers"
    return _lines(found.growth, claims[0], title, "sleepers", log=True)


def processes(found: Results) -> Picture | None:
    title = "How many times as many runs are swept a second as by one process"
    return _lines(found.growth, "processes", title, "processes that sweep one backlog", log=False)


TOGETHER = {
    "at once beside alone": "beside a run alone",
    "at once beside bare writes": "beside bare writes",
    "at once beside threads": "beside its saves from 10 threads",
}


def together(found: Results) -> Picture | None:
    """What many runs at once gain, as commits are and where they are slow."""
    return _dots(
        "How many times faster a run of 5 steps is among 100",
        [
            _dot(f"{row}{', commits of 5 ms' if slow else ''}", store, figure)
            for series, row in TOGETHER.items()
            for slow in (False, True)
            for store, figure in figures(found.speed)
            if figure.series == series and ("commits of" in figure.name) is slow
        ],
    )


def room(found: Results) -> Picture | None:
    """What a sleeping run takes on each server, by part."""
    if found.scale is None:
        return None
    kind = estimate.LIVES[0].kind
    taken = {
        what.server: estimate.by_subject(estimate.parts(what.store, kind, found.scale)) for what in found.scale.results
    }
    return bars(f"Bytes of a run {kind}", taken) if taken else None


def peers(found: Results) -> Picture | None:
    """How many times what kvflow takes each peer takes."""
    rows = [] if found.peers is None else found.peers.rows
    return _dots(
        "How many times what kvflow takes the peer takes",
        [
            Dot(
                f"{row.peer}: {peer_rows.name(row)}",
                COLOURS[_store(row.server)],
                _short(row.server),
                row.ratio,
                row.ratio_spread,
            )
            for row in rows
            if row.ratio is not None and row.ratio_spread is not None
        ],
    )


def _short(server: str) -> str:
    """Without what a distribution adds to the version."""
    return server.split(" (")[0].split("-")[0]


def _store(server: str) -> str:
    kinds = {"PostgreSQL": "postgres", "MariaDB": "mysql", "MySQL": "mysql", "Redis": "redis", "Valkey": "redis"}
    return kinds.get(server.split()[0], "file")


PICTURES: dict[str, Callable[[Results], Picture | None]] = {
    "floors": floors,
    "steps": steps,
    "sleepers": sleepers,
    "processes": processes,
    "together": together,
    "room": room,
    "peers": peers,
}


def figures(kept: Kept | None) -> list[tuple[str, Figure]]:
    """All figures of a bench, each with its store."""
    return [] if kept is None else [(what.store, figure) for what in kept.results for figure in what.figures]


def _dot(row: str, store: str, figure: Figure) -> Dot:
    always = " always" if "appendfsync=always" in figure.durability else ""
    return Dot(row, COLOURS[store], figure.server + always, figure.ratio, figure.spread)


def _dots(title: str, some: Sequence[Dot]) -> Picture | None:
    return dots(title, some) if some else None


def _lines(kept: Kept | None, series: str, title: str, across: str, *, log: bool) -> Picture | None:
    """A line for each server, through the figures of a series; it begins at what all of them are held against."""
    found = [(store, figure) for store, figure in figures(kept) if figure.series == series]
    if not found:
        return None
    some: dict[str, Line] = {}
    for store, figure in found:
        first = Point(figure.beside, 1, (1, 1))
        line = some.setdefault(store, Line(COLOURS[store], figure.server, [first]))
        some[store] = line._replace(points=[*line.points, Point(figure.at, figure.ratio, figure.spread)])
    return lines(title, across, [*some.values()], log=log)


if __name__ == "__main__":
    raise SystemExit(main())
