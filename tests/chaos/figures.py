"""How much a long run went through: a JSON file for each part, in a folder that git does not know, written after each
course so that a run that is broken off has its figures too. ``python -m chaos.figures`` (in ``tests/``) puts them
into ``docs/reliability.md``.
"""

import os
import platform
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct, field

import chaos

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures of the last long run -->", "<!-- end of the figures -->"
FOLDER = Path(os.environ.get("KVFLOW_CHAOS_FIGURES", Path(__file__).parents[2] / ".chaos"))


class Figures(Struct):
    """Of one part, which may count whatever it likes; ``on`` is the server that it ran on."""

    kind: str
    part: str
    on: str = ""
    python: str = field(default_factory=platform.python_version)
    began: float = field(default_factory=time.time)
    seconds: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    failed: list[str] = field(default_factory=list[str])

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def add(self, counts: Mapping[str, int]) -> None:
        """Count all of these."""
        self.counts = dict(Counter(self.counts) + Counter(counts))

    @contextmanager
    def noted(self) -> Generator[None]:
        """What was counted is written when this is over, and also what went wrong in it."""
        try:
            yield
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.failed.append("\n".join([str(error), *getattr(error, "__notes__", ())]))
            raise
        finally:
            self.write()

    def write(self) -> None:
        """A seed that is replayed is no long run, and leaves the figures of the last one."""
        self.seconds = round(time.time() - self.began)
        if chaos.SEED is None:
            FOLDER.mkdir(parents=True, exist_ok=True)
            file = FOLDER / f"{_plain(self.kind)}.{_plain(self.part)}.json"
            file.with_suffix(".new").write_bytes(msgspec.json.format(msgspec.json.encode(self)))
            file.with_suffix(".new").replace(file)


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]+", "-", name.lower())


def read() -> list[Figures]:
    """All parts, by their names."""
    return [msgspec.json.decode(file.read_bytes(), type=Figures) for file in sorted(FOLDER.glob("*.json"))]


class Section(Struct, frozen=True):
    """How the parts of a kind are shown: what is counted in each, in people's words, and whether the parts stand beside
    each other or below."""

    kind: str
    title: str
    part: str
    labels: dict[str, str]
    beside: bool = False


STORES = {
    "memory": "Memory",
    "derived": "Derived, on four primitives",
    "file": "File",
    "postgres": "Postgres",
    "mysql": "MySQL",
    "redis": "Redis",
}
"""Names of parts that are stores, in this order; a server goes by what it says that it is."""

SECTIONS = [
    Section(
        "processes",
        "Real processes on real servers",
        "store",
        {
            "courses": "courses that went well",
            "kill": "workers killed",
            "stop": "workers stopped for longer than a lease",
            "cuts": "connections cut",
            "server killed": "servers killed",
            "server frozen": "servers frozen",
            "disk full": "disks filled",
            "orders": "orders placed",
            "runs": "runs, with their children",
            "runs with events": "runs that got events",
            "calls": "calls of steps",
            "recorded": "steps recorded",
            "tried again": "calls that failed and were made again",
            "run again": "calls made again for want of a record",
            "held up before a call": "calls held up until the lease was over",
        },
        beside=True,
    ),
    Section(
        "failovers",
        "Failovers of Redis",
        "store",
        {
            "failovers": "failovers",
            "runs": "runs, with their children",
            "calls": "calls of steps",
            "runs lost": "runs lost, and submitted again",
            "events lost": "events lost, and sent again",
            "steps lost and run again": "steps whose record was lost, run again",
            "parents told of what was lost": "parents told what a child came out as before the child lost it",
            "children of what was lost": "children left behind by runs that were lost",
        },
        beside=True,
    ),
    Section(
        "model",
        "Stores beside the model of the contract",
        "store",
        {"courses": "courses", "calls": "calls of the store"},
    ),
    Section(
        "simulation",
        "Random courses of the simulation",
        "",
        {
            "courses": "courses that went well",
            "operations": "calls of the store; the checker looks after each that changes something",
            "runs": "runs that were over",
            "calls": "calls of steps",
            "calls cut short": "of them cut short by a death",
            "deaths": "instances that died",
        },
        beside=True,
    ),
    Section("schedules", "Every schedule of a scene, with a turn more", "scene", {"schedules": "schedules"}),
    Section("hostile", "Hostile bytes", "attack", {"inputs": "inputs"}),
]

LEFT_OUT = {"seconds", "go on", "server started", "server thawed", "disk freed"}
"""What is told by another line."""


def tables(parts: list[Figures]) -> str:
    """All that the parts went through."""
    return "\n\n".join([_first_line(parts), *(each for section in SECTIONS for each in _section(section, parts))])


def _first_line(parts: list[Figures]) -> str:
    """When, for how long, and on what."""
    if not parts:
        return "There has been none."
    began, ended = min(part.began for part in parts), max(part.began + part.seconds for part in parts)
    pythons = {f"Python {part.python}" for part in parts}
    servers = {part.on for part in parts if part.on}
    when = f"on {datetime.fromtimestamp(began, UTC):%Y-%m-%d at %H:%M} UTC"
    on = ", ".join([*sorted(pythons), *sorted(servers)])
    return f"It began {when} and was over {_minutes(ended - began)} minutes later: {on}."


def _section(section: Section, all: list[Figures]) -> Iterator[str]:
    yield f"### {section.title}"
    order = list(STORES)
    parts = sorted(
        (part for part in all if part.kind == section.kind),
        key=lambda part: order.index(part.part) if part.part in order else len(order),
    )
    yield table(section, parts) if parts else "Not in this run."


def table(section: Section, parts: list[Figures]) -> str:
    """What was counted of each part, and where there are some, of all; what has no label goes by its own name."""
    counted = {name for part in parts for name, count in part.counts.items() if count} - LEFT_OUT
    names = [*(name for name in section.labels if name in counted), *sorted(counted - section.labels.keys())]
    rows = [[section.part, *(section.labels.get(name, name) for name in names), "went wrong", "minutes"]]
    rows += [_row(part.on or STORES.get(part.part, part.part), [part], names) for part in parts]
    if len(parts) > 1:
        rows.append(_row("in all", parts, names))
    if section.beside:
        rows = [list(column) for column in zip(*rows, strict=True)]
    ruler = ["---", *("---:" for _ in rows[0][1:])]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (rows[0], ruler, *rows[1:]))


def _row(title: str, parts: Iterable[Figures], names: list[str]) -> list[str]:
    counts, failed, seconds = Counter[str](), 0, 0
    for part in parts:
        counts.update(part.counts)
        failed += len(part.failed)
        seconds += part.seconds
    return [title, *(f"{counts[name]:,}" for name in names), f"{failed:,}", _minutes(seconds)]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:,.0f}" if seconds >= 600 else f"{seconds / 60:.1f}"


def fill(page: str, parts: list[Figures]) -> str:
    """The page, with the tables in the place that is marked for them."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert end, f"the page has no place for figures, between {BEGIN} and {END}"
    return f"{before}{BEGIN}\n\n{tables(parts)}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(), read()))
