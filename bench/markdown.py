"""What a page is made of: figures as tables, and prose, which stands in files of its own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bench import tables
from bench.figures import Figure, Goal, Measure
from bench.kept import Found, Kept
from bench.peer_rows import name
from bench.peers.rows import Row

PROSE = Path(__file__).parent / "prose"

FIGURES = ("figure", "measured", "spread", "goal", "", "one", "other", "rounds", "on")
EXPENSES = ("one call of", "takes", "client CPU", "server CPU", "round trips")
PEERS = ("work", "peer", "times", "spread", "goal", "", "kvflow", "peer", "commits", "theirs", "rounds", "on")


def figures(some: Iterable[Figure]) -> str:
    """``one`` and ``other`` are what the two sides of a ratio took."""
    return table(
        FIGURES,
        [
            (
                each.name,
                f"**{each.ratio:.2f}**",
                f"{each.spread[0]:.2f}–{each.spread[1]:.2f}",
                goal(each.goal),
                met(each.goal, each.ratio),
                tables.amount(each.one, each.unit),
                tables.amount(each.other, each.unit),
                str(each.rounds),
                f"{each.server}, {each.durability}",
            )
            for each in some
        ],
    )


def measures(some: Iterable[Measure]) -> str:
    return table(
        ("counted", "", "goal", "", "on"),
        [
            (
                each.name,
                f"**{tables.amount(each.value, each.unit)}**",
                goal(each.goal),
                met(each.goal, each.value),
                f"{each.server}, {each.durability}",
            )
            for each in some
        ],
    )


def expenses(found: Found) -> str:
    """What each call of one store spends."""
    return table(
        (*EXPENSES, found.counts or "syncs"),
        [
            (
                each.name,
                tables.amount(each.wall, "s"),
                f"{each.client / each.wall:.0%}",
                "–" if each.server is None else f"{each.server / each.wall:.0%}",
                "–" if each.turns is None else f"{each.turns:.1f}",
                "–" if each.counted is None else f"{each.counted:.1f}",
            )
            for each in found.expenses
        ],
    )


def peers(rows: Iterable[Row]) -> str:
    """How many times what kvflow takes the peer takes."""
    return table(
        PEERS,
        [
            (
                name(row),
                f"{row.peer} {row.sides[1].version}",
                f"**{row.ratio:.2f}**",
                "–" if row.ratio_spread is None else f"{row.ratio_spread[0]:.2f}–{row.ratio_spread[1]:.2f}",
                goal(row.goal),
                met(row.goal, row.ratio),
                tables.amount(row.sides[0].median or 0, "s"),
                tables.amount(row.sides[1].median or 0, "s"),
                _number(row.sides[0].commits),
                _number(row.sides[1].commits),
                str(row.rounds),
                f"{row.server.split(' (')[0]}, {row.durability}",
            )
            for row in rows
            if row.ratio is not None and len(row.sides) == 2
        ],
    )


def peer_measures(rows: Iterable[Row]) -> str:
    """What else was measured of each side."""
    sides = [(row, side) for row in rows for side in row.sides if side.measures]
    names = list(dict.fromkeys(name for _, side in sides for name in side.measures))
    return table(
        ("side", "way", *names, "on"),
        [
            (
                f"{side.name} {side.version}" + ("" if side is row.sides[-1] else f", beside {row.peer}"),
                side.way,
                *(_number(side.measures.get(each)) for each in names),
                row.server.split(" (")[0],
            )
            for row, side in sides
        ],
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def goal(wanted: Goal | None) -> str:
    return "" if wanted is None else str(wanted)


def met(wanted: Goal | None, value: float) -> str:
    return "" if wanted is None else "met" if wanted.met(value) else "**missed**"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Nothing where there are no rows."""
    if not rows:
        return ""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    if head[-1] == "on":
        ruler[-1] = "---"
    lines = (head, ruler, *([cell.replace("|", "\\|") for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def prose(name: str, **values: str) -> str:
    """A part of a page that says the same whatever was found out, but for these values."""
    text = (PROSE / f"{name}.md").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def servers(kept: Iterable[Kept]) -> str:
    """Every server that something was measured on, with all of its settings."""
    named = {found.server: found.about[1:] for each in kept for found in each.results}
    return "\n".join(
        f"- {server}" + (f": {'; '.join(about)}" if about else "") for server, about in sorted(named.items())
    )
