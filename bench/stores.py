"""The stores' speed: ``python -m bench.stores [memory|file|postgres|mysql|redis ...] [--quick] [--results DIR]``.

Each call of a store beside the least that its driver could do, calls alone beside calls together, several processes
beside one; and what each call spends.
"""

from collections.abc import Iterator

from bench import claimers, claims, reads, saves
from bench.command import Bench, Finding, main
from bench.expenses import expenses
from bench.grounds import Ground
from bench.places import PLACES
from bench.sizes import FULL, QUICK


def find(ground: Ground, quick: bool) -> Iterator[Finding]:
    sizes = QUICK if quick else FULL
    yield from saves.figures(ground, sizes)
    yield from reads.figures(ground, sizes)
    yield from claims.figures(ground, sizes)
    if ground.served:
        yield from claimers.figures(ground, sizes)
    yield from expenses(ground, sizes)


STORES = Bench("stores", "the calls of a store beside its floor", tuple(PLACES), find)

if __name__ == "__main__":
    raise SystemExit(main([STORES], "bench.stores", "What the stores cost, as ratios."))
