"""``kvflow demo``: workers as real processes, one of which is killed, and an account of what came of it."""

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from kvflow.cli.output import complain, say_json

AsJson = Annotated[bool, typer.Option("--json", help="Write the account as JSON, and all else to stderr.")]


def demo(
    store: Annotated[
        str | None, typer.Option(metavar="URL", help="Of a server; a FileStore in a temporary folder if left out.")
    ] = None,
    orders: Annotated[int, typer.Option(metavar="N", min=1, max=99, help="How many.")] = 36,
    json: AsJson = False,
) -> int:
    """Watch a worker be killed and others take over.

    Three workers drive orders; one of them is killed in the middle of a step. In the end there is an account of what
    their steps did; exit 1 if anything in it is wrong. It needs nothing, and what it makes it takes away again, also
    on a server.
    """
    from kvflow.demo.orders import order_book
    from kvflow.demo.play import Play
    from kvflow.demo.scratch import scratch
    from kvflow.demo.views import tell, watching

    console = Console(file=sys.stderr if json else sys.stdout, markup=False, emoji=False)
    try:
        with _ends_well(), scratch(store) as place, watching(console) as watch:
            account = Play(place, order_book(orders), watch).run()
    except KeyboardInterrupt:
        complain("stopped; its workers, its folder and its runs are gone")
        return 130
    if json:
        say_json(account)
    else:
        console.print(tell(account))
    return 0 if account.sound else 1


@contextmanager
def _ends_well() -> Generator[None]:
    """Whatever signal ends it, what was made is taken away first, and no second signal stops that."""

    def leave(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
