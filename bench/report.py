"""The pages of what was found out: ``python -m bench.report [--results DIR] [--docs DIR]``.

Writes ``performance.md``, ``scale.md`` and their pictures from the JSON files of the benches; what is missing there is
left out of the page. Nothing on these pages is written by hand.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench import markdown, peer_rows, plots, scale_page
from bench.figures import Figure, Measure
from bench.kept import RESULTS, Found, Kept
from bench.plots import PREFIX, Results

DOCS = Path(__file__).parent.parent / "docs"
WRITTEN = "<!-- Written by `python -m bench.report` from bench/results: change it there. -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="The pages of what was found out.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the directory of what was kept (%(default)s)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="where the pages go (%(default)s)")
    options = parser.parse_args()
    for path in write(plots.results(options.results), options.docs):
        print(f"written: {path}")
    return 0


def write(found: Results, docs: Path) -> list[Path]:
    """The pages and their pictures."""
    pictures = plots.draw(found, docs / "pictures")
    drawn = {path.stem.removeprefix(PREFIX) for path in pictures}
    pages = {
        docs / "performance.md": _page(performance(found, drawn)),
        docs / "scale.md": _page(scale_page.parts(found, drawn)),
    }
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return [*pages, *pictures]


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in (WRITTEN, *parts) if part) + "\n"


def performance(found: Results, drawn: set[str]) -> Iterator[str]:
    kept = [each for each in (found.stores, found.engine, found.growth, found.speed) if each is not None]
    yield markdown.prose("performance")
    yield from _warnings(found, kept)
    yield from _goals(kept)
    yield "## Where it was measured"
    yield from _machine(kept)
    yield markdown.prose("how-to-read")
    yield from _floors(found, drawn)
    yield from _growth(found, drawn)
    yield from _speed(found, drawn)
    yield from _engine(found)
    yield from _spent(found)
    yield from _peers(found, drawn)
    yield markdown.prose("not-shown")


def _warnings(found: Results, kept: list[Kept]) -> Iterator[str]:
    quick = [each.bench for each in kept if each.quick] + (["peers"] if found.peers and found.peers.quick else [])
    if quick:
        yield f"**These are of a quick run ({', '.join(quick)}): they show that the benches work, and nothing else.**"
    failed = [f"{each.bench} on {what.server}" for each in kept for what in each.results if what.failed]
    if failed:
        yield f"**Not all could be measured: {', '.join(failed)} failed.**"


def _goals(kept: list[Kept]) -> Iterator[str]:
    """Those that were missed, first of all."""
    figures = [each for bench in kept for each in _figures(bench) if each.goal is not None]
    measures = [each for bench in kept for each in _measures(bench) if each.goal is not None]
    missed = [each for each in figures if each.verdict != "ok"]
    missed_counts = [each for each in measures if each.verdict != "ok"]
    number, under = len(figures) + len(measures), len(missed) + len(missed_counts)
    yield "## Goals"
    yield f"Of {number} goals {number - under} are met." + (" These are missed:" if under else "")
    yield markdown.figures(missed)
    yield markdown.measures(missed_counts)


def _machine(kept: list[Kept]) -> Iterator[str]:
    if kept:
        yield f"{kept[0].machine}."
        yield markdown.servers(kept)


def _floors(found: Results, drawn: set[str]) -> Iterator[str]:
    figures = [figure for each in (found.stores, found.engine) for figure in _figures(each)]
    bare = [each for each in figures if "bare write" in each.name or "bare read" in each.name]
    others = [each for each in _figures(found.stores) if each not in bare]
    yield "## Beside what the driver can do at all"
    yield _picture("floors", "Save, post, load, claim and a run beside the driver's cheapest calls", drawn)
    yield markdown.figures(bare)
    if others:
        yield "### Calls together, long logs, several processes that claim"
        yield markdown.figures(others)


GROWTH = {
    "steps": (
        "step",
        "A step at long logs",
        "A save of head and one record of 200 bytes.",
    ),
    "sleepers": (
        "claim",
        "A claim beside sleepers",
        "They wake within a month; what is claimed has three records. Files and memory: to 100,000.",
    ),
    "processes": (
        "processes",
        "Processes that sweep one backlog",
        "Each process sweeps until nothing is left; each run has one step. The server is on the same cores.",
    ),
    "": ("idle worker", "A worker with nothing to do", "Its memory beside a million sleepers, and what it spends."),
}


def _growth(found: Results, drawn: set[str]) -> Iterator[str]:
    figures = _figures(found.growth)
    if not figures:
        return
    yield "## How cost grows"
    for picture, (series, title, about) in GROWTH.items():
        yield f"### {title}"
        yield about
        yield _picture(picture, title, drawn)
        yield markdown.figures([each for each in figures if each.series.startswith(series)])
    yield "### Bytes that a long run writes"
    yield markdown.prose("written")
    yield markdown.figures([each for each in figures if each.series == "written"])
    yield "### Counted"
    yield markdown.measures(_measures(found.growth))


def _speed(found: Results, drawn: set[str]) -> Iterator[str]:
    figures = _figures(found.speed)
    if not figures:
        return
    yield "## How fast runs go"
    wakes = [each for each in figures if each.name.startswith("a wake")]
    yield from _wakes(wakes)
    yield markdown.figures([each for each in figures if not each.series])
    yield "### Many runs at once"
    yield markdown.prose("together")
    yield _picture("together", "A run among a hundred beside a run alone, bare writes and threads", drawn)
    yield markdown.figures([each for each in figures if each.series])
    yield "### Commits of a run"
    yield markdown.measures(_measures(found.speed))


def _wakes(wakes: list[Figure]) -> Iterator[str]:
    if wakes:
        yield "Sleepers that are due, woken by one process in sweeps: claimed, replayed, ended."
        yield markdown.table(
            ("on", "runs a second", "bare writes a second"),
            [(each.server, f"{1 / each.one:,.0f}", f"{1 / each.other:,.0f}") for each in wakes],
        )


def _engine(found: Results) -> Iterator[str]:
    memory = [what for what in (found.engine.results if found.engine else []) if what.store == "memory"]
    if memory:
        yield "## The engine alone, in memory"
        yield markdown.figures(memory[0].figures)
        yield markdown.measures(memory[0].measures)


def _spent(found: Results) -> Iterator[str]:
    if found.stores is None:
        return
    yield "## What a call spends"
    yield markdown.prose("spent")
    for what in found.stores.results:
        if what.expenses:
            yield f"### {what.server}"
            yield markdown.expenses(what)


def _peers(found: Results, drawn: set[str]) -> Iterator[str]:
    if found.peers is None or not found.peers.rows:
        return
    yield "## Beside its peers"
    yield markdown.prose("peers")
    yield _picture("peers", "How many times what kvflow takes each peer takes", drawn)
    rows = found.peers.rows
    for work in dict.fromkeys(row.work for row in rows):
        yield f"### {work[0].upper()}{work[1:]}"
        yield markdown.peers([row for row in rows if row.work == work])
        yield markdown.peer_measures([row for row in rows if row.work == work])
    rest = [f"- {peer_rows.name(row)}, {row.peer} on {row.server}: {row.wrong or row.missing}" for row in rows]
    yield "\n".join(line for line, row in zip(rest, rows, strict=True) if row.wrong or row.missing)


def _picture(name: str, about: str, drawn: set[str]) -> str:
    return picture(name, about) if name in drawn else ""


def picture(name: str, about: str) -> str:
    return f"![{about}](pictures/{PREFIX}{name}.svg)"


def _found(kept: Kept | None) -> list[Found]:
    return [] if kept is None else kept.results


def _figures(kept: Kept | None) -> list[Figure]:
    return [figure for what in _found(kept) for figure in what.figures]


def _measures(kept: Kept | None) -> list[Measure]:
    return [measure for what in _found(kept) for measure in what.measures]


if __name__ == "__main__":
    raise SystemExit(main())
