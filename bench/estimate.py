"""What a thousand million runs would need, reckoned from what was measured: simulated, for nobody here has as many.

The runs of a sample live through one day, minute by minute, each by a life that teams know; the sample stands for all.
From the busiest half hour follows how many servers are needed for speed, from the room of a run how many for room.
"""

import math
import random
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate

from msgspec import Struct

from bench.kept import Kept

RUNS = 1_000_000_000
SAMPLE = 200_000
MINUTES = 24 * 60
HALF_HOUR = 30
HEADROOM = 0.5
"""Which part of what was measured a server is asked for, lest it have no room for a bad day."""

BYTES = {"redis": 48e9, "postgres": 2e12, "mysql": 2e12}
"""What one server is given: 48 GB of the 64 that it has, for a fork of Redis needs some; 2 TB of disk."""

POLL = 1.0
WORKERS = 2
"""Workers of each store at the least, so that one may die."""


class Life(Struct, frozen=True, kw_only=True):
    """How runs of a kind live: which part of all they are, how often they wake, how many saves a wake makes."""

    name: str
    part: float
    wakes: str
    sleeps: float
    """Days from one wake to the next."""

    steps: int
    kind: str
    """Under what the room that they take was measured."""


ASLEEP = "asleep after 3 steps of 200 bytes"

LIVES = (
    Life(name="subscriptions", part=0.70, wakes="once in 30 days", sleeps=30, steps=3, kind=ASLEEP),
    Life(name="reminders", part=0.25, wakes="once a day", sleeps=1, steps=1, kind=ASLEEP),
    Life(name="orders", part=0.05, wakes="five times in two days", sleeps=0.4, steps=1, kind=ASLEEP),
)


class Day(Struct, frozen=True, kw_only=True):
    """What the simulated day was like, of all runs."""

    wakes: float
    """A second, on average."""

    busiest: float
    """Wakes a second in the busiest half hour."""

    saves: float
    """A second in the busiest half hour: one for each step, and one to rest."""


class Need(Struct, frozen=True, kw_only=True):
    """What all runs need of one kind of server."""

    store: str
    server: str
    durability: str
    room: float
    """Bytes of a run."""

    saves: float
    """That one server makes a second, as measured: many runs at once, from one process."""

    for_room: int
    for_speed: int
    uneven: float
    """How much more than its share the fullest store has to save in its busiest minute."""

    looks: float
    """Questions a second of workers that look for the next wake."""

    @property
    def servers(self) -> int:
        return max(self.for_room, self.for_speed)


@cache
def simulate(seed: int = 1) -> Day:
    """A day of the sample. More happens by day than by night: three times as much at noon as at midnight."""
    dice = random.Random(seed)
    curve = [*accumulate(2 - math.cos(2 * math.pi * minute / MINUTES) for minute in range(MINUTES))]
    wakes, saves = [0] * MINUTES, [0] * MINUTES
    for life in LIVES:
        for _ in range(round(SAMPLE * life.part)):
            for minute in dice.choices(range(MINUTES), cum_weights=curve, k=_times(1 / life.sleeps, dice)):
                wakes[minute] += 1
                saves[minute] += life.steps + 1
    many = RUNS / SAMPLE
    return Day(wakes=sum(wakes) / 86_400 * many, busiest=_busiest(wakes) * many, saves=_busiest(saves) * many)


def _busiest(minutes: Sequence[int]) -> float:
    """A second, in the busiest half hour."""
    return max(sum(minutes[at : at + HALF_HOUR]) for at in range(MINUTES - HALF_HOUR)) / (HALF_HOUR * 60)


def _times(mean: float, dice: random.Random) -> int:
    """How often a run wakes on one day: the whole part surely, and once more as often as the rest says."""
    return int(mean) + (dice.random() < mean - int(mean))


def uneven(saves: float, stores: int, seed: int = 1) -> float:
    """The fullest store's busiest minute of an hour beside its share, where runs are spread by a hash of their ids."""
    if stores == 1:
        return 1.0
    dice = random.Random(seed)
    held = RUNS / stores
    share = saves * 60 / stores
    most = max(
        dice.gauss(1, held**-0.5) + max(dice.gauss(0, share**-0.5) for _ in range(60)) for _ in range(min(stores, 500))
    )
    return max(1.0, most)


def needs(scale: Kept, speed: Kept, day: Day) -> list[Need]:
    """What each kind of server would need, of those that were measured."""
    found: list[Need] = []
    for room in scale.results:
        of_run = _room(room.store, scale)
        saves = _saves(room.store, speed)
        if room.store not in BYTES or of_run is None or saves is None:
            continue
        for_room = math.ceil(RUNS * of_run / BYTES[room.store])
        for_speed = math.ceil(day.saves / (saves * HEADROOM))
        servers = max(for_room, for_speed)
        found.append(
            Need(
                store=room.store,
                server=room.server,
                durability=room.measures[0].durability if room.measures else "",
                room=of_run,
                saves=saves,
                for_room=for_room,
                for_speed=for_speed,
                uneven=uneven(day.saves, servers),
                looks=servers * WORKERS / POLL,
            )
        )
    return found


def parts(store: str, kind: str, scale: Kept) -> dict[str, float]:
    """Bytes of a run of this kind, by part; what the run itself has is no part of it."""
    start = f"{kind}: "
    named = {
        measure.name.removeprefix(start): measure.value
        for found in scale.results
        if found.store == store
        for measure in found.measures
        if measure.name.startswith(start)
    }
    return {part: size for part, size in named.items() if part != OWN}


OWN = "bytes of its own"

SUBJECTS = {
    "heads": ("run:<id>", "{prefix}_run", "{prefix}_runs.PRIMARY"),
    "records": ("log:<id>", "{prefix}_log", "{prefix}_log.PRIMARY"),
    "index of records": ("{prefix}_log_pkey",),
    "ids": ("{prefix}_run_pkey", "{prefix}_runs.run_id"),
    "wakes": ("wakes", "index", "{prefix}_run_wake", "{prefix}_runs.due"),
    "leases": ("leases", "{prefix}_run_lease", "{prefix}_runs.held"),
    "births": ("births", "{prefix}_run_birth", "{prefix}_runs.born"),
    "a file for each run": ("runs",),
}
"""What the parts of the stores are for."""


def by_subject(sizes: Mapping[str, float]) -> dict[str, float]:
    """Bytes of a run, by what they are for."""
    found = {subject: sum(sizes.get(part, 0) for part in parts) for subject, parts in SUBJECTS.items()}
    return {subject: size for subject, size in found.items() if size >= 1}


def _room(store: str, scale: Kept) -> float | None:
    """Bytes of a run of the mix; None where they were not measured."""
    sizes = [(life.part, parts(store, life.kind, scale)) for life in LIVES]
    return sum(part * sum(some.values()) for part, some in sizes) if all(some for _, some in sizes) else None


def _saves(store: str, speed: Kept) -> float | None:
    """Saves a second of many runs at once."""
    for found in speed.results:
        for figure in found.figures:
            if found.store == store and figure.series == "at once beside bare writes":
                return 7 / figure.other
    return None
