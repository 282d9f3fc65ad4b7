"""How figures and expenses are shown to people: one table of each for every store."""

from collections.abc import Iterable, Sequence

from bench.expenses import Expense
from bench.figures import Figure, Measure

FIGURES = ("figure", "measured", "spread", "goal", "", "one", "other", "rounds")
MEASURES = ("counted", "", "goal", "")
EXPENSES = ("one call of", "takes µs", "client CPU µs", "server CPU µs", "round trips")


def figures(found: Iterable[Figure]) -> str:
    return table(
        FIGURES,
        [
            (
                each.name,
                f"{each.ratio:.2f}",
                f"{each.spread[0]:.2f}–{each.spread[1]:.2f}",
                "" if each.goal is None else str(each.goal),
                each.verdict,
                amount(each.one, each.unit),
                amount(each.other, each.unit),
                str(each.rounds),
            )
            for each in found
        ],
    )


def measures(found: Iterable[Measure]) -> str:
    return table(
        MEASURES,
        [
            (each.name, amount(each.value, each.unit), "" if each.goal is None else str(each.goal), each.verdict)
            for each in found
        ],
    )


def amount(value: float, unit: str) -> str:
    """Seconds as µs or ms, bytes as kB or MB, and anything else as it is."""
    if unit == "s":
        return f"{_micros(value)} µs" if value < 0.01 else f"{value * 1e3:,.0f} ms"
    if unit == "bytes":
        return _bytes(value)
    return f"{value:,.0f} {unit}".rstrip() if value >= 100 or value == int(value) else f"{value:,.2f} {unit}".rstrip()


def expenses(found: Iterable[Expense], counts: str | None) -> str:
    return table(
        (*EXPENSES, counts or "syncs"),
        [
            (
                each.name,
                _micros(each.wall),
                f"{_micros(each.client)} ({each.client / each.wall:.0%})",
                "–" if each.server is None else f"{_micros(each.server)} ({each.server / each.wall:.0%})",
                "–" if each.turns is None else f"{each.turns:.1f}",
                "–" if each.counted is None else f"{each.counted:.1f}",
            )
            for each in found
        ],
    )


def _bytes(value: float) -> str:
    if value < 1e4:
        return f"{value:,.0f} B"
    return f"{value / 1e3:,.0f} kB" if value < 1e6 else f"{value / 1e6:,.1f} MB"


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-5 else f"{seconds * 1e6:,.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(len(line[at]) for line in (head, *rows)) for at in range(len(head))]

    def show(line: Sequence[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]).rstrip()

    return "\n".join([show(head), "  ".join("-" * width for width in widths), *map(show, rows)])
