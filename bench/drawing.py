"""Kinds of pictures: dots in rows, lines through points, bars of parts.

They have no ground of their own, and their ink is of a middle tone, so they can be read on a light page and on a dark
one. A ratio is a dot, and its spread a line through it or a band behind it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import matplotlib as mpl
from matplotlib.figure import Figure

Picture = Any
"""One of matplotlib's, of whose types strict checkers know only a part."""

INK = "#7a828e"
PARTS = ("#3d8be0", "#e0524d", "#1b9e77", "#c58510", "#8f7fd6", "#4fb3bf", "#b0567f", "#8c9a34")
ACROSS = 8.5
BELOW = 0.5
"""Inches from a picture's axis to what tells its colours."""

STYLE: dict[str, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "kvflow",
}


class Dot(NamedTuple):
    """A ratio in a row of a picture."""

    row: str
    colour: str
    label: str
    ratio: float
    spread: tuple[float, float]


class Point(NamedTuple):
    """A ratio on a line, at some place across."""

    at: float
    ratio: float
    spread: tuple[float, float]


class Line(NamedTuple):
    """Points of one server."""

    colour: str
    label: str
    points: Sequence[Point]


def dots(title: str, some: Sequence[Dot]) -> Picture:
    """A row for each kind, and in it a dot for each server; where the dashed line is, both sides take as long."""
    rows = list(dict.fromkeys(dot.row for dot in some))
    labels = list(dict.fromkeys(dot.label for dot in some))
    picture, axes = _axes(len(rows), title)
    axes.axvline(1, color=INK, linewidth=1.5, linestyle="--")
    for dot in some:
        at = rows.index(dot.row) + (labels.index(dot.label) + 0.5) / len(labels) * 0.7 - 0.35
        marker = "s" if dot.label.endswith("always") else "o"
        axes.plot(dot.spread, (at, at), color=dot.colour, linewidth=2.5, alpha=0.6)
        axes.plot(dot.ratio, at, marker, color=dot.colour, markersize=7, label=dot.label)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(_plain)
    axes.xaxis.set_minor_formatter(_two_and_five)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    _legend(picture, axes)
    return picture


def lines(title: str, across: str, some: Sequence[Line], *, log: bool) -> Picture:
    """A line for each server, from 1 on."""
    picture, axes = _axes(5, title)
    for line in some:
        at, ratio, spread = zip(*line.points, strict=True)
        low, high = zip(*spread, strict=True)
        axes.fill_between(at, low, high, color=line.colour, alpha=0.15, linewidth=0)
        axes.plot(at, ratio, "o-", color=line.colour, label=line.label, markersize=5)
    if log:
        axes.set_xscale("log")
    else:
        axes.set_xticks(sorted({point.at for line in some for point in line.points}))
    axes.xaxis.set_major_formatter(_whole)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    _legend(picture, axes, 1.6 * BELOW)
    return picture


def bars(title: str, some: Mapping[str, Mapping[str, float]]) -> Picture:
    """A bar for each server, of parts one after the other."""
    parts = list(dict.fromkeys(part for each in some.values() for part in each))
    picture, axes = _axes(len(some), title)
    for server, sizes in reversed([*some.items()]):
        left = 0.0
        for part, size in sizes.items():
            colour = PARTS[parts.index(part) % len(PARTS)]
            axes.barh(server, size, left=left, color=colour, height=0.6, label=part)
            left += size
    axes.xaxis.set_major_formatter(_whole)
    axes.grid(visible=False, axis="y")
    _legend(picture, axes)
    return picture


def save(picture: Picture, path: Path) -> list[Path]:
    """As SVG and as PNG; the same picture is the same SVG, to the byte."""
    paths = [path.with_suffix(".svg"), path.with_suffix(".png")]
    with _style():
        picture.savefig(paths[0], transparent=True, bbox_inches="tight", metadata={"Date": None})
        picture.savefig(paths[1], transparent=True, bbox_inches="tight", dpi=110)
    return paths


def _plain(value: float, _: object) -> str:
    return f"{value:g}"


def _two_and_five(value: float, _: object) -> str:
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _whole(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _style() -> Any:
    return cast(Any, mpl).rc_context(STYLE)


def _axes(rows: int, title: str) -> tuple[Picture, Any]:
    with _style():
        picture: Any = Figure(figsize=(ACROSS, 1.0 + 0.55 * rows))
        axes = picture.subplots()
        axes.set_title(title, loc="left")
        return picture, axes


def _legend(picture: Picture, axes: Any, below: float = BELOW) -> None:
    handles, labels = axes.get_legend_handles_labels()
    named = dict(zip(reversed(labels), reversed(handles), strict=True))
    tall = picture.get_figheight() * axes.get_position().height
    with _style():
        axes.legend(
            [named[label] for label in dict.fromkeys(labels)],
            dict.fromkeys(labels),
            loc="upper left",
            bbox_to_anchor=(0, -below / tall),
            ncols=3,
        )
