"""How the demo is shown: a picture that moves where somebody looks at a terminal, else a line for each event."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kvflow.demo.account import Account
from kvflow.demo.book import Twice
from kvflow.demo.crew import LEASE_TTL
from kvflow.demo.play import Watch
from kvflow.demo.scene import Note, Place, Scene, short
from kvflow.run import Status

WIDTH = 80
NOTES = 9
"""How many events are seen at once."""

COLOURS = {
    "killed": "bold red",
    "failed": "red",
    "taken over": "bold green",
    "retry": "yellow",
    "approved": "cyan",
    "undone": "magenta",
}
STATUSES = {
    Status.RUNNING: "cyan",
    Status.SUSPENDED: "blue",
    Status.WAITING: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
}


@contextmanager
def watching(console: Console) -> Generator[Watch]:
    """What is called with each scene, to show it."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console).show
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda scene: live.update(panel(scene), refresh=True)


class Lines:
    """For a log or a pipe: nothing is written over, and no line is broken."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen = 0
        self._over = 0

    def show(self, scene: Scene) -> None:
        for note in scene.notes[self._seen :]:
            self._say(note)
        self._seen = len(scene.notes)
        if scene.over != self._over:
            self._over = scene.over
            self._say(Note(scene.seconds, "over", f"{scene.over} of {scene.orders} runs"))

    def _say(self, note: Note) -> None:
        self._console.print(_note(note), soft_wrap=True, highlight=False)


def panel(scene: Scene, notes: int = NOTES) -> RenderableType:
    """A scene, with its latest notes."""
    return Group(
        _heading(scene),
        Text(),
        _progress(scene),
        _statuses(scene),
        Text(),
        _workers(scene),
        Text(),
        *(_cut(_note(note)) for note in scene.notes[len(scene.notes) - notes :]),
    )


def _heading(scene: Scene) -> RenderableType:
    grid = _grid(1, 0)
    grid.add_row(
        Text.assemble(("kvflow demo", "bold"), f"  {scene.orders} orders, {len(scene.workers)} workers, {scene.store}"),
        f"{scene.seconds:.1f} s",
    )
    return grid


def _progress(scene: Scene) -> RenderableType:
    grid = _grid(0, 1)
    bar = ProgressBar(scene.orders, scene.over, style="bright_black", complete_style="green", finished_style="green")
    grid.add_row(f"{scene.over:>2} of {scene.orders} over ", bar)
    return grid


def _statuses(scene: Scene) -> Text:
    text = Text()
    for status, colour in STATUSES.items():
        text.append(f"{status} ")
        text.append(f"{scene.statuses.get(status, 0):<4}", f"bold {colour}")
    return text


def _workers(scene: Scene) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    for worker in scene.workers:
        grid.add_row(f"{worker.name}", Text(f"pid {worker.pid}", "dim"), _state(worker), _cut(_work(worker)))
    return grid


def _state(worker: Place) -> Text:
    if worker.killed:
        return Text("✗ killed", "bold red")
    return Text("● works", "green") if worker.calls else Text("○ idle", "dim")


def _work(worker: Place) -> Text:
    if worker.killed:
        return Text("its runs: " + ", ".join(f"{short(order)} → {_short(name)}" for order, name in worker.taken))
    return Text(", ".join(f"{short(order)} {step}" for order, step in worker.calls))


def _short(worker: str | None) -> str:
    return "?" if worker is None else worker.replace("worker ", "w")


def _note(note: Note) -> Text:
    return Text.assemble((f"{note.at:5.1f} s  ", "dim"), (f"{note.kind:<10} ", COLOURS.get(note.kind, "")), note.text)


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _grid(*ratios: int) -> Table:
    grid = Table.grid(expand=True)
    for ratio in ratios:
        grid.add_column(ratio=ratio or None, no_wrap=True)
    return grid


def tell(account: Account) -> RenderableType:
    """The account, as a person reads it."""
    return Group(
        Text(),
        Text("The account, worked out from what the steps did to the outside", "bold"),
        Text(),
        _row("runs finished", f"{account.finished} of {account.orders}", _ends(account), _good(account.all_finished)),
        _row("steps run", str(account.steps_run), f"{account.tried_again} of them again, after an error"),
        _row("steps run twice", str(len(account.run_twice)), _why(account)),
        *map(_twice, account.run_twice),
        _row("events lost", str(account.events_lost), _events(account), _good(not account.events_lost)),
        Text(),
        *_verdict(account),
    )


def _row(what: str, figure: str, meaning: str, style: str = "bold") -> Text:
    return Text.assemble(f"{what:<17}", (f"{figure:<10}", style), meaning)


def _good(good: bool) -> str:
    return "bold green" if good else "bold red"


def _events(account: Account) -> str:
    return f"{account.events_sent} approvals sent" + (", each came to its order once" if account.sound else "")


def _ends(account: Account) -> str:
    return f"{account.shipped} shipped, {account.undone} failed and undone, latest step first"


def _why(account: Account) -> str:
    if not account.run_twice:
        return "no call was cut off"
    return f"cut off in {' and '.join(account.killed)}; the key makes a repeat harmless"


def _twice(twice: Twice) -> Text:
    keys = {key[:10] for key in twice.keys}
    under = f"same key {keys.pop()}…" if len(keys) == 1 else "DIFFERENT KEYS"
    return Text(f"  {twice.order} {twice.step:<8}{', then '.join(twice.workers)}, {under}", "dim")


def _verdict(account: Account) -> list[Text]:
    if account.sound:
        return [
            Text("Each run had one driver at a time, and no step ran again once it was recorded.", "green"),
        ]
    faults = account.faults or ("not every order came to an end",)
    return [
        Text("Something is off:", "bold red"),
        *(Text(f"- {fault}", "red", overflow="fold") for fault in faults),
        Text(
            f"Was this machine asleep, or too busy to answer? A worker that stands still for {LEASE_TTL.seconds} s is"
            " taken for dead, and its runs are given to others.",
            "dim",
        ),
    ]
