"""How a bench is called: ``python -m bench.NAME [STORE ...] [--quick] [--results DIR]``; all: ``python -m bench``.

A store's server is started once for all benches. Each prints its tables and is kept as JSON. A goal that is missed is
said to be over or under, and is no failure of the bench: on a busy machine look at the spread.
"""

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from bench import tables
from bench.expenses import Expense
from bench.figures import Figure, Measure
from bench.grounds import Ground
from bench.kept import RESULTS, Found, Kept, keep, this_machine
from bench.places import PLACES, Missing

Finding = Figure | Measure | Expense


class Bench(Struct, frozen=True):
    """Something to find out: its name, what it is about, of which stores, and how: quickly, or so that it counts."""

    name: str
    about: str
    stores: tuple[str, ...]
    find: Callable[[Ground, bool], Iterator[Finding]]


def main(benches: Sequence[Bench], name: str, about: str) -> int:
    """Hold these benches on the stores that are asked for; 1 where one of them failed."""
    options = _options(benches, name, about)
    signal.signal(signal.SIGTERM, end)  # so that what was made on servers is removed
    machine, begin = this_machine(), time.monotonic()
    print(machine)
    found: dict[str, list[Found]] = {bench.name: [] for bench in benches}
    for store in options.stores or PLACES:
        wanted = [bench for bench in benches if store in bench.stores]
        for bench, what in _on(store, wanted, options.quick):
            found[bench].append(what)
    for bench, results in found.items():
        path = keep(Kept(bench=bench, machine=machine, quick=options.quick, results=results), options.results)
        print(f"kept in {path}")
    failed = [f"{bench} on {what.store}" for bench, results in found.items() for what in results if what.failed]
    print(f"it took {time.monotonic() - begin:.0f} s" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _options(benches: Sequence[Bench], name: str, about: str) -> argparse.Namespace:
    stores = [store for store in PLACES if any(store in bench.stores for bench in benches)]
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=about)
    parser.add_argument("stores", nargs="*", metavar="STORE", help=f"of {', '.join(stores)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="sizes so small that the figures mean nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the directory of what is kept (%(default)s)")
    options = parser.parse_args()
    for store in options.stores:
        if store not in stores:
            parser.error(f"no store {store!r}: it must be one of {', '.join(stores)}")
    return options


def end(number: int, frame: object) -> None:
    """End as an exception does, for a signal."""
    sys.exit(128 + number)


def _on(store: str, benches: Sequence[Bench], quick: bool) -> Iterator[tuple[str, Found]]:
    """What each bench finds out about a store; nothing where its server is missing."""
    if not benches:
        return
    try:
        with PLACES[store]() as ground:
            print(f"\n== {store}: " + "\n   ".join(ground.about), flush=True)
            for bench in benches:
                print(f"\n-- {store}, {bench.about}", flush=True)
                yield bench.name, _found(ground, bench, quick)
    except Missing as missing:
        print(f"\n== {store}: left out, {missing}")


def _found(ground: Ground, bench: Bench, quick: bool) -> Found:
    """What one bench finds out; what was found before a failure is shown and kept too."""
    begin, failed = time.monotonic(), ""
    figures: list[Figure] = []
    measures: list[Measure] = []
    expenses: list[Expense] = []
    try:
        for finding in bench.find(ground, quick):
            if isinstance(finding, Expense):
                expenses.append(finding)
            elif isinstance(finding, Measure):
                measures.append(replace(finding, server=ground.server, durability=ground.durability))
            else:
                figures.append(replace(finding, server=ground.server, durability=ground.durability))
    except Exception as error:  # noqa: BLE001 (the others are held all the same)
        traceback.print_exc()
        failed = f"{type(error).__name__}: {error}"
    shown = [tables.figures(figures), tables.measures(measures), tables.expenses(expenses, ground.counts)]
    seen = [text for text, some in zip(shown, (figures, measures, expenses), strict=True) if some]
    seconds = time.monotonic() - begin
    print("\n\n".join(seen) + f"\n\nmeasured in {seconds:.0f} s", flush=True)
    return Found(
        store=ground.name,
        server=ground.server,
        about=ground.about,
        figures=figures,
        measures=measures,
        expenses=expenses,
        counts=ground.counts,
        failed=failed,
        seconds=seconds,
    )
