"""What it costs to read and to lease: a load beside the bare read, and a claim beside a bare write and a bare read."""

from collections.abc import Iterator

from bench.figures import Figure, compare, each
from bench.floors import Floor
from bench.grounds import Ground
from bench.runs import HELD, SMALL, bear, clocked_claim, due, text
from bench.sizes import Sizes
from kvflow.store import Store

BYTES = SMALL * (HELD + 1)
"""Of a run that is loaded or claimed: its head and its records."""


def figures(ground: Ground, sizes: Sizes) -> Iterator[Figure]:
    if ground.bare_goal is None:
        return
    with ground.opener("reads")() as store, ground.floor() as floor:
        bear(store, due("read", sizes.claim), HELD)
        floor.write(text(BYTES))
        yield _load_beside_bare(store, floor, sizes)
        for limit in (1, sizes.claim):
            yield _claim_beside_bare(store, floor, sizes, limit)


def _load_beside_bare(store: Store, floor: Floor, sizes: Sizes) -> Figure:
    """Head and records against the same bytes in one value."""

    def load() -> float:
        return each(store.load, [(f"read-{at % sizes.claim:06}",) for at in range(sizes.batch)])

    def bare() -> float:
        return each(floor.read, [()] * sizes.batch)

    return compare(f"load of {BYTES} bytes beside the bare read", load, bare, sizes.rounds, None)


def _claim_beside_bare(store: Store, floor: Floor, sizes: Sizes, limit: int) -> Figure:
    """A claim writes a lease and reads head and records: a head is written and all is read, for each run of it."""

    def bare() -> float:
        written = each(floor.write, [(text(BYTES),) for _ in range(sizes.batch)])
        return written + each(floor.read, [()] * sizes.batch)

    name = f"claim({limit}), for each run, beside a bare write and a bare read"
    return compare(name, lambda: clocked_claim(store, limit, None) / limit, bare, sizes.few_rounds, None)
