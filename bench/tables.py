"""How figures and expenses are shown to people: one table of each for every store."""

from collections.abc import Iterable, Sequence

from bench.expenses import Expense
from bench.figures import Figure

FIGURES = ("figure", "measured", "spread", "goal", "", "one µs", "other µs", "rounds")
EXPENSES = ("one call of", "takes µs", "client CPU µs", "server CPU µs", "round trips")


def figures(found: Iterable[Figure]) -> str:
    return _table(
        FIGURES,
        [
            (
                each.name,
                f"{each.ratio:.2f}",
                f"{each.spread[0]:.2f}–{each.spread[1]:.2f}",
                "" if each.goal is None else str(each.goal),
                each.verdict,
                _micros(each.one),
                _micros(each.other),
                str(each.rounds),
            )
            for each in found
        ],
    )


def expenses(found: Iterable[Expense], counts: str | None) -> str:
    return _table(
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


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}" if seconds >= 1e-5 else f"{seconds * 1e6:,.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[at]) for line in (head, *rows)) for at in range(len(head))]

    def show(line: Sequence[str]) -> str:
        first, *rest = zip(line, widths, strict=True)
        return "  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]).rstrip()

    return "\n".join([show(head), "  ".join("-" * width for width in widths), *map(show, rows)])
