"""What is found out: a row for each comparison, that says by itself what was compared, on what, and how it came out."""

from collections.abc import Iterable, Sequence
from statistics import median, quantiles

import msgspec
from msgspec import Struct

from bench import tables
from bench.figures import Goal


class Side(Struct, frozen=True, kw_only=True):
    """One side of a comparison: its samples are seconds of one unit of work, a run, a wake or a job."""

    name: str
    version: str
    way: str = ""
    settings: str = ""
    """Of durability, where the side has its own."""

    samples: list[float] = []
    median: float | None = None
    spread: tuple[float, float] | None = None
    commits: float | None = None
    """Transactions that one unit committed, reading ones too, without those of the start."""

    measures: dict[str, float] = {}
    """Whatever else was measured; each name says its unit."""


class Row(Struct, frozen=True, kw_only=True):
    """One comparison. ``ratio`` is how many times what kvflow takes the peer takes, the median of the rounds'."""

    work: str
    unit: str
    at_once: int | None = None
    number: int | None = None
    """How many, where the work is one of so many."""

    server: str
    durability: str
    peer: str
    sides: list[Side] = []
    """kvflow's first, then the peer's."""

    rounds: int = 0
    ratio: float | None = None
    ratio_spread: tuple[float, float] | None = None
    goal: Goal | None = None
    checked: str = ""
    wrong: str = ""
    """What a side gave that is not what the work must give."""

    missing: str = ""
    """Why there is no comparison."""

    @property
    def verdict(self) -> str:
        if self.wrong:
            return "wrong"
        if self.goal is None or self.ratio is None:
            return "–"
        return "ok" if self.goal.met(self.ratio) else "below"


def spread(samples: Sequence[float]) -> tuple[float, float]:
    """Where the middle half of them lies."""
    if len(samples) < 2:
        return samples[0], samples[0]
    low, _, high = quantiles(samples, method="inclusive")
    return low, high


def side(one: Side, samples: list[float]) -> Side:
    """The side with what was sampled of it."""
    return msgspec.structs.replace(one, samples=samples, median=median(samples), spread=spread(samples))


def compared(row: Row, kvflow: Side, peer: Side) -> Row:
    """The row with what rounds, in which the sides took turns, have given."""
    ratios = [theirs / ours for ours, theirs in zip(kvflow.samples, peer.samples, strict=True)]
    return msgspec.structs.replace(
        row, sides=[kvflow, peer], rounds=len(ratios), ratio=median(ratios), ratio_spread=spread(ratios)
    )


HEAD = ("work", "on", "peer", "times", "spread", "goal", "", "kvflow ms", "peer ms", "commits", "theirs", "rounds")


def table(rows: Iterable[Row]) -> str:
    """How many times as long the peer takes, and what one unit takes on either side."""
    return tables.table(HEAD, [_line(row) for row in rows])


def _line(row: Row) -> tuple[str, ...]:
    work = row.work if row.number is None else f"{row.number:,} {row.work}"
    begin = (work if row.at_once is None else f"{work}, {row.at_once} at once", _short(row.server), row.peer)
    if not row.sides:
        return (*begin, "", "", "", row.verdict, *[""] * 4, "")
    ours, theirs = row.sides
    assert row.ratio is not None
    assert row.ratio_spread is not None
    return (
        *begin,
        f"{row.ratio:.2f}",
        f"{row.ratio_spread[0]:.2f}–{row.ratio_spread[1]:.2f}",
        "" if row.goal is None else str(row.goal),
        row.verdict,
        _ms(ours.median),
        _ms(theirs.median),
        _number(ours.commits),
        _number(theirs.commits),
        str(row.rounds),
    )


def measures(rows: Iterable[Row]) -> str:
    """What else was measured, a line for each side."""
    sides = [(row, one) for row in rows for one in row.sides]
    names = list(dict.fromkeys(name for _, one in sides for name in one.measures))
    return tables.table(
        ("on", "side", *names),
        [(_short(row.server), one.name, *(_number(one.measures.get(name)) for name in names)) for row, one in sides],
    )


def _short(server: str) -> str:
    """Without what a distribution adds to the version."""
    return server.split(" (")[0]


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.2f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"
