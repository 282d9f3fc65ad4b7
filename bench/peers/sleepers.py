"""Sleepers: many runs are parked, their process is killed, another is started, and half of them are due.

They are due after a new process has had about as long to find its feet as parking took. Lateness is counted from the
moment when they are due, or from the start of the new process if that was later.
"""

import time
from collections.abc import Iterator
from itertools import count
from statistics import median, quantiles
from typing import Any

from msgspec.structs import replace

from bench.grounds import Ground
from bench.peers import proof
from bench.peers.contest import Contestant, Pair, expect, in_turn, side_of
from bench.peers.rows import Row, Side, compared, side
from bench.peers.sizes import Sizes

WORK = "sleepers that wake after a restart"
UNIT = "wake"
PEERS = {"postgres": ("dbos", "absurd", "edda")}
CANNOT = {
    "postgres": {"langgraph": "it has no timers: a graph at rest goes on when somebody invokes it"},
}
CHECKED = "each due run woke once, not early, and its output; all others still sleep"

LATER = 86_400.0
GRACE = 2.0
"""Seconds to start a process in, beside the time that parking took."""

PATIENCE = 120.0
"""Seconds that the last may be late."""

EARLY = 0.05
"""Seconds that a wake may come too early: clocks of a process and a server are not read at the same moment."""

_names = count()


def rows(row: Row, ground: Ground, pair: Pair, sizes: Sizes) -> Iterator[Row]:
    rounds = [in_turn(at, pair, lambda one: _sleep(one, sizes.sleepers // 2)) for at in range(sizes.sleeper_rounds)]
    kvflow, peer = (_together([sides[at] for sides in rounds]) for at in range(2))
    yield compared(replace(row, number=sizes.sleepers, checked=CHECKED), kvflow, peer)


def _together(sides: list[Side]) -> Side:
    """The side of all rounds: the median of each measure."""
    measures = {name: median(one.measures[name] for one in sides) for name in sides[0].measures}
    return replace(side(sides[0], [one.samples[0] for one in sides]), measures=measures)


def _sleep(one: Contestant, half: int) -> Side:
    name = f"sleeper{next(_names)}"
    program = one.program()
    with program:
        program.ask("work")
        memory = program.memory()
        began = time.time()
        asleep = program.ask("park", name=f"{name}later", number=half, wake_at=began + LATER)
        expect(f"{one.name}'s runs that sleep", asleep, half)
        took = time.time() - began
        wake_at = time.time() + 2 * took + GRACE
        asleep = program.ask("park", name=f"{name}due", number=half, wake_at=wake_at)
        expect(f"{one.name}'s runs that sleep", asleep, half)
        parked, threads = program.memory(), program.threads()
        program.kill()
    restarted = time.time()
    with one.program() as program:
        way = program.ask("work")
        since = max(wake_at, restarted)
        deadline = max(0.0, wake_at - time.time()) + PATIENCE
        answer = program.ask("wakes", deadline + PATIENCE, name=f"{name}due", number=half, deadline=deadline)
        _check(one.name, f"{name}due", half, wake_at, answer)
        expect(f"{one.name}'s runs that still sleep", program.ask("asleep", name=f"{name}later"), half)
        late = sorted(woken - since for [woken] in answer["woken"].values())
        measures = {
            "parked a second": half / took,
            "woken a second": half / late[-1],
            "late ms, median": 1000 * median(late),
            "late ms, 95%": 1000 * quantiles(late, n=20, method="inclusive")[-1],
            "late ms, worst": 1000 * late[-1],
            "MB with all parked": parked,
            "MB before": memory,
            "threads": float(threads),
        }
        found = side_of(program, way)
        program.kill()  # those that sleep for a day are of no more use
    return replace(found, samples=[late[-1] / half], measures=measures)


def _check(side: str, name: str, number: int, wake_at: float, answer: dict[str, Any]) -> None:
    names = [f"{name}-{at}" for at in range(number)]
    expect(f"{side}'s runs that woke", sorted(answer["woken"]), sorted(names))
    expect(f"how often {side}'s runs woke", {len(times) for times in answer["woken"].values()}, {1})
    early = [run for run, [woken] in answer["woken"].items() if woken < wake_at - EARLY]
    expect(f"{side}'s runs that woke too early", early, [])
    expect(f"outputs of {side}'s sleepers", answer["outputs"], {run: proof.woken(run) for run in names})
