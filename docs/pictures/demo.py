"""Makes demo.svg, the picture that the README shows, of a real run of ``kvflow demo``.

    .venv/bin/python docs/pictures/demo.py

It is what a terminal of 80 columns showed, a few moments a second, and at the end the account. A row that stays the
same from one moment to the next stands in the file once, with the time for which it is seen. What shows no animations,
and whoever asks for few, is shown the account.
"""

import sys
from collections.abc import Iterator, Sequence
from html import escape
from itertools import chain, groupby
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from kvflow.demo.orders import order_book
from kvflow.demo.play import Play
from kvflow.demo.scene import Scene
from kvflow.demo.scratch import scratch
from kvflow.demo.views import WIDTH, panel, tell

EVERY, LAST = 0.4, 9.0
"""Seconds from one moment to the next, and for which the account is seen."""

CELL, LINE, MARGIN = 8.4, 19, 20

PAPER, FRAME, INK, DIM = (13, 17, 23), "#30363d", (201, 209, 217), "#8b949e"
THEME = TerminalTheme(
    PAPER,
    INK,
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34),
     (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
)  # fmt: skip

Row = tuple[Segment, ...]
Screen = list[Row]


def main() -> None:
    Path(__file__).with_name("demo.svg").write_text(picture(record()), encoding="utf-8")


def record() -> list[Screen]:
    """A real run."""
    scenes: list[Scene] = []

    def watch(scene: Scene) -> None:
        if not scenes or scene.seconds - scenes[-1].seconds >= EVERY or scene.over == scene.orders:
            scenes.append(scene)

    with scratch(None) as place:
        account = Play(place, order_book(36), watch).run()
    if not account.sound:
        sys.exit("\n".join(account.faults))
    command = Text("$ kvflow demo\n")
    shown: list[RenderableType] = [panel(scene) for scene in scenes]
    end = Group(panel(scenes[-1], notes=0), tell(account))
    return [screen(Group(command, each)) for each in (*shown, end)]


def screen(shown: RenderableType) -> Screen:
    console = Console(width=WIDTH, force_terminal=True, color_system="standard", legacy_windows=False)
    lines = console.render_lines(shown, pad=False)
    return [tuple(Segment.simplify(each for each in line if each.text)) for line in lines]


def picture(screens: Sequence[Screen]) -> str:
    """One screen after the other, the last for longest, and then from the beginning."""
    height = max(map(len, screens))
    rows = [list(seen(screens, number)) for number in range(height)]
    spans = sorted({(first, last) for row in rows for first, last, _ in row if last - first < len(screens)})
    width, tall = round(WIDTH * CELL + 2 * MARGIN), height * LINE + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {tall}" role="img">',
            "<title>kvflow demo: a worker is killed, others take over its runs, and no event is lost</title>",
            "<style>",
            "text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}",
            ".m{visibility:hidden}.l{visibility:visible}",
            "@media(prefers-reduced-motion:no-preference){",
            *(moving(first, last, len(screens)) for first, last in spans),
            "}",
            "</style>",
            f'<rect width="{width}" height="{tall}" rx="8" fill="{FRAME}"/>',
            f'<rect x="1" y="1" width="{width - 2}" height="{tall - 2}" rx="7" fill="{colour(PAPER)}"/>',
            *chain.from_iterable(drawn(number, row, len(screens)) for number, row in enumerate(rows)),
            "</svg>\n",
        ]
    )


def seen(screens: Sequence[Screen], number: int) -> Iterator[tuple[int, int, Row]]:
    """What stands in this row: from which screen on, up to which, and the row."""
    first = 0
    for row, same in groupby(screen[number] if number < len(screen) else () for screen in screens):
        last = first + len(list(same))
        if any(segment.text.strip() for segment in row):
            yield first, last, row
        first = last


def moving(first: int, last: int, screens: int) -> str:
    """The animation of what is seen on these screens only."""
    whole = (screens - 1) * EVERY + LAST
    begin, end = first * EVERY / whole, 1 if last == screens else last * EVERY / whole
    name = f"s{first}-{last}"
    frames = f"0%{{visibility:{'visible' if not first else 'hidden'}}}"
    frames += f"{begin:.2%}{{visibility:visible}}" if first else ""
    frames += f"{end:.2%},to{{visibility:hidden}}" if last < screens else ""
    return f"@keyframes {name}{{{frames}}}.{name}{{animation:{name} {whole:.1f}s step-end infinite}}"


def drawn(number: int, row: Sequence[tuple[int, int, Row]], screens: int) -> Iterator[str]:
    """The rows that stand in one place, one after the other."""
    y = MARGIN + LINE * number + 14
    for first, last, segments in row:
        always = last - first == screens
        kind = "" if always else f' class="{"l" if last == screens else "m"} s{first}-{last}"'
        yield f"<g{kind}>{''.join(words(segments, y))}</g>"


def words(segments: Row, y: int) -> Iterator[str]:
    """Each word where a terminal has it, whatever the width of the letters here."""
    column = 0
    for segment in segments:
        text = segment.text.rstrip()
        if text.strip():
            x = MARGIN + (column + len(text) - len(text.lstrip())) * CELL
            text = text.lstrip()
            yield (
                f'<text x="{x:.1f}" y="{y}" textLength="{len(text) * CELL:.1f}" {look(segment.style)}>'
                f"{escape(text, quote=False)}</text>"
            )
        column += segment.cell_length


def look(style: Style | None) -> str:
    if style is None:
        return f'fill="{colour(INK)}"'
    fill = DIM if style.dim else colour(style.color.get_truecolor(THEME) if style.color else INK)
    return f'fill="{fill}"' + (' font-weight="bold"' if style.bold else "")


def colour(rgb: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in rgb)


if __name__ == "__main__":
    main()
