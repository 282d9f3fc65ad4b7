"""How much a long run went through: a JSON file for each part, in a folder that git does not know, written after each
course so that a run that is broken off has its figures too. ``python -m chaos.figures`` (in ``tests/``) puts them
into ``docs/reliability.md``.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- figures of the last long run -->", "<!-- end of the figures -->"

LEFT_OUT = {"seconds", "go on", "server started", "server thawed", "disk freed"}
"""What is told by another line."""

FOLDER = Path(os.environ.get("KVFLOW_CHAOS_FIGURES", Path(__file__).parents[2] / ".chaos"))


class Figures(Struct):
    """Of one part, which may add whatever it counts."""

    part: str
    began: float = field(default_factory=time.time)
    seconds: int = 0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    failed: list[str] = field(default_factory=list[str])

    def add(self, counts: Mapping[str, int]) -> None:
        """One more course went well."""
        self.counts = dict(Counter(self.counts) + Counter(counts))
        self.write()

    def fail(self, error: BaseException) -> None:
        """One more course went wrong."""
        self.failed.append("\n".join([str(error), *getattr(error, "__notes__", ())]))
        self.write()

    def write(self) -> None:
        self.seconds = round(time.time() - self.began)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{self.part}.json").write_bytes(msgspec.json.format(msgspec.json.encode(self)))


def read() -> list[Figures]:
    """All parts, by their names."""
    return [msgspec.json.decode(file.read_bytes(), type=Figures) for file in sorted(FOLDER.glob("*.json"))]


def table(parts: list[Figures]) -> str:
    """What was counted, a line each, and the parts side by side."""
    names = [name for name in sorted({name for part in parts for name in part.counts}) if name not in LEFT_OUT]
    rows = [
        ["", *(part.part for part in parts)],
        ["---", *("---:" for _ in parts)],
        ["minutes", *(f"{part.seconds / 60:.0f}" for part in parts)],
        ["courses that went wrong", *(str(len(part.failed)) for part in parts)],
        *([name, *(f"{part.counts.get(name, 0):,}" for part in parts)] for name in names),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def fill(page: str, parts: list[Figures]) -> str:
    """The page, with the table in the place that is marked for it."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table(parts)}\n\n{end}{after}"


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text(), read()))
