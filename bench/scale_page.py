"""The page of what a thousand million runs would need, from what was measured and what was simulated."""

from collections.abc import Iterator

from bench import estimate, markdown
from bench.estimate import BYTES, HEADROOM, LIVES, OWN, POLL, RUNS, WORKERS, Day, Need
from bench.kept import Kept
from bench.plots import PREFIX, Results
from bench.scale import FEW
from bench.scale import RUNS as NUMBER


def parts(found: Results, drawn: set[str]) -> Iterator[str]:
    yield markdown.prose("scale", runs=f"{RUNS:,}")
    if found.scale is None or found.speed is None:
        yield "There are no results to reckon from: `make bench` makes them."
        return
    if found.scale.quick or found.speed.quick:
        yield "**These are of a quick run: they show that the estimate can be made, and nothing else.**"
    day = estimate.simulate()
    needs = estimate.needs(found.scale, found.speed, day)
    yield from _needs(needs)
    yield from _day(day)
    yield from _room(found.scale, drawn)
    yield from _reckoned(needs)
    yield markdown.prose("how-runs-spread")
    yield markdown.prose("engines")
    yield markdown.prose("tried", number=f"{FEW if found.scale.quick else NUMBER:,}")


def _needs(needs: list[Need]) -> Iterator[str]:
    yield "## In short"
    yield markdown.table(
        ("on", "a run takes", "all runs", "servers for room", "servers for speed", "so", "settings"),
        [
            (
                need.server,
                f"{need.room / 1000:.1f} kB",
                f"{need.room * RUNS / 1e12:.1f} TB",
                f"{need.for_room:,}",
                f"{need.for_speed:,}",
                f"**{need.servers:,} servers**",
                need.durability,
            )
            for need in needs
        ],
    )
    given = ", ".join(f"{size / 1e9:,.0f} GB on {store}" for store, size in BYTES.items())
    yield markdown.prose("servers", given=given, part=f"{HEADROOM:.0%}")


def _day(day: Day) -> Iterator[str]:
    yield "## The day that was simulated"
    yield markdown.table(
        ("life", "part", "wakes", "saves of a wake"),
        [(life.name, f"{life.part:.0%}", life.wakes, f"{life.steps + 1}: its steps, and its rest") for life in LIVES],
    )
    yield markdown.prose(
        "day",
        sample=f"{estimate.SAMPLE:,}",
        wakes=f"{day.wakes:,.0f}",
        busiest=f"{day.busiest:,.0f}",
        saves=f"{day.saves:,.0f}",
        claims=f"{day.busiest / 100:,.0f}",
    )


def _room(scale: Kept, drawn: set[str]) -> Iterator[str]:
    yield "## The room that a run takes"
    yield "Measured: bytes a run, of runs with ids of 32 characters and payloads and results of 200 bytes."
    if "room" in drawn:
        yield f"![Bytes of a sleeping run on each server, by what they are for](pictures/{PREFIX}room.svg)"
    rows: list[tuple[str, ...]] = []
    subjects = list(estimate.SUBJECTS)
    for kind in dict.fromkeys(m.name.split(": ")[0] for found in scale.results for m in found.measures):
        for found in scale.results:
            sizes = estimate.by_subject(estimate.parts(found.store, kind, scale))
            own = next(m.value for m in found.measures if m.name == f"{kind}: {OWN}")
            cells = [f"{sizes[name]:,.0f}" if name in sizes else "" for name in subjects]
            rows.append((kind, found.server, f"{own:,.0f}", *cells, f"**{sum(sizes.values()):,.0f}**"))
    yield markdown.table(("a run that is", "server", "its own", *subjects, "in all"), rows)
    yield markdown.prose("room")


def _reckoned(needs: list[Need]) -> Iterator[str]:
    yield "## How it was reckoned"
    yield markdown.table(
        (
            "on",
            "saves a second that one server made",
            "asked of it",
            "fullest store beside its share",
            "looks a second",
        ),
        [
            (
                need.server,
                f"{need.saves:,.0f}",
                f"{need.saves * HEADROOM:,.0f}",
                f"{need.uneven:.3f}",
                f"{need.looks:,.0f}",
            )
            for need in needs
        ],
    )
    yield markdown.prose("reckoned", poll=f"{POLL:g}", workers=str(WORKERS))
