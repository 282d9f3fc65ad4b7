"""The stores' speed: ``python -m bench.stores [memory|file|postgres|mysql|redis ...] [--quick] [--json PATH]``.

Prints a table of figures and a table of expenses for each store, and keeps all of it as JSON. A goal that is missed is
said to be over, and is no failure of the bench: on a busy machine look at the spread.
"""

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

import msgspec

from bench import claimers, claims, saves, tables
from bench.expenses import Expense, expenses
from bench.figures import Figure
from bench.places import PLACES, Missing
from bench.sizes import FULL, QUICK, Sizes

RESULTS = Path(__file__).parent / "results" / "stores.json"
DRIVERS = ("kvflow", "msgspec", "psycopg", "psycopg-pool", "PyMySQL", "redis")


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found out about one store."""

    store: str
    about: list[str]
    figures: list[Figure]
    expenses: list[Expense]


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _end)  # so that what was made on servers is removed
    machine = _machine()
    print(machine)
    results: list[Result] = []
    failed: list[str] = []
    for name in options.stores or PLACES:
        try:
            results.append(_measure(name, QUICK if options.quick else FULL))
        except Missing as missing:
            print(f"\n== {name}: left out, {missing}")
        except Exception:  # noqa: BLE001 - the others are measured all the same
            traceback.print_exc()
            failed.append(name)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    kept = {"machine": machine, "quick": options.quick, "results": results}
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    print(f"\nkept in {options.json}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.stores", description="What the stores cost, as ratios.")
    parser.add_argument("stores", nargs="*", metavar="STORE", help=f"of {', '.join(PLACES)}; all if none is named")
    parser.add_argument("--quick", action="store_true", help="sizes so small that the figures mean nothing")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where the figures are kept (%(default)s)")
    options = parser.parse_args()
    for name in options.stores:
        if name not in PLACES:
            parser.error(f"no store {name!r}: it must be one of {', '.join(PLACES)}")
    return options


def _measure(name: str, sizes: Sizes) -> Result:
    begin = time.monotonic()
    with PLACES[name]() as ground:
        print(f"\n== {name}: " + "\n   ".join(ground.about), flush=True)
        kinds = (saves, claims, claimers) if ground.served else (saves, claims)
        figures: list[Figure] = []
        try:
            for kind in kinds:
                for figure in kind.figures(ground, sizes):
                    figures.append(figure)  # noqa: PERF402 - what was found before a failure is shown
        finally:
            print(tables.figures(figures))
        spent = list(expenses(ground, sizes))
        print("\n" + tables.expenses(spent, ground.counts))
        print(f"\nmeasured in {time.monotonic() - begin:.0f} s", flush=True)
        return Result(store=name, about=ground.about, figures=figures, expenses=spent)


def _machine() -> str:
    drivers = ", ".join(f"{name} {version(name)}" for name in DRIVERS)
    return f"Python {platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores; {drivers}"


if __name__ == "__main__":
    sys.exit(main())
