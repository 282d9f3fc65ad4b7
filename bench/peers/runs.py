"""Runs of five journaled steps of 200 bytes each: one after another, and many at once."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from msgspec.structs import replace

from bench.figures import Goal
from bench.grounds import Ground
from bench.peers import proof
from bench.peers.contest import Contestant, Pair, expect, in_turn, side_of
from bench.peers.grounds import commits
from bench.peers.program import Program
from bench.peers.rows import Row, Side, compared, side
from bench.peers.sizes import Level, Sizes

WORK = f"runs of {proof.STEPS} steps"
UNIT = "run"
PEERS = {"postgres": ("dbos", "absurd", "edda", "langgraph"), "mysql": ("edda",), "file": ("dbos",)}
CANNOT = {
    "mysql": {
        "dbos": "it runs on Postgres and SQLite",
        "absurd": "it runs on Postgres",
        "langgraph": "its makers have no checkpointer for it",
    }
}
CHECKED = f"each run's output and its {proof.STEPS} journal entries, byte for byte, as another process finds them"

GOALS = {("dbos", "postgres", 1): 5.0, ("dbos", "postgres", 8): 8.0, ("dbos", "postgres", 100): 40.0}
ELSE = 3.0
"""Against whom else it may be, on that peer's own ground."""

Ids = dict[str, str]
"""The runs by the ids that a side knows them by."""

_names = count()


def rows(row: Row, ground: Ground, pair: Pair, sizes: Sizes) -> Iterator[Row]:
    idle = [_commits_of_a_start(ground, one) if sizes.counted else None for one in pair]
    made: tuple[Ids, Ids] = {}, {}
    for level in sizes.levels:
        kvflow, peer = _level(ground, pair, level, idle, made)
        goal = None if ground.name == "file" else GOALS.get((pair[1].name, ground.name, level.at_once), ELSE)
        yield compared(
            replace(row, at_once=level.at_once, goal=goal and Goal(goal, least=True), checked=CHECKED), kvflow, peer
        )
    for one, ids in zip(pair, made, strict=True):
        _prove(one, ids)


def _commits_of_a_start(ground: Ground, one: Contestant) -> int | None:
    """The first start makes the tables; what a further one commits is no run's cost."""
    with one.program():
        pass
    before = commits(ground, one.arguments)
    with one.program():
        pass
    after = commits(ground, one.arguments)
    return None if before is None or after is None else after - before


def _level(
    ground: Ground, pair: Pair, level: Level, idle: list[int | None], made: tuple[Ids, Ids]
) -> tuple[Side, Side]:
    """Both sides at one level; each keeps what it has made to itself, to be proved later."""
    before = [_so_far(ground, one, of_start) for one, of_start in zip(pair, idle, strict=True)]
    with pair[0].program() as ours, pair[1].program() as theirs:
        sides = ((ours, made[0]), (theirs, made[1]))
        warm = [_runs(one, level.at_once, level.at_once) for one in sides]
        rounds = [
            in_turn(at, sides, lambda one: _runs(one, level.runs, level.at_once)["seconds"] / level.runs)
            for at in range(level.rounds)
        ]
        found = [side_of(program, answer["way"]) for (program, _), answer in zip(sides, warm, strict=True)]
    number = level.at_once + level.runs * level.rounds
    for at, one in enumerate(found):
        now, then = None if before[at] is None else commits(ground, pair[at].arguments), before[at]
        spent = None if now is None or then is None else (now - then) / number
        found[at] = replace(side(one, [seconds[at] for seconds in rounds]), commits=spent)
    return found[0], found[1]


def _so_far(ground: Ground, one: Contestant, of_start: int | None) -> int | None:
    """The commits in a side's place, with those of the start that is to come; None where nobody counts."""
    if of_start is None:
        return None
    found = commits(ground, one.arguments)
    return None if found is None else found + of_start


def _runs(one: tuple[Program, Ids], number: int, at_once: int) -> dict[str, Any]:
    """So many runs, which the side keeps to itself."""
    program, made = one
    name = f"run{next(_names)}"
    answer: dict[str, Any] = program.ask("runs", name=name, number=number, at_once=at_once)
    made.update(zip(answer["ids"], (f"{name}-{at}" for at in range(number)), strict=True))
    return answer


def _prove(one: Contestant, ids: Ids) -> None:
    """A process that has not made them finds every run over, right, and recorded."""
    names = sorted(ids.values())
    steps = {run: [proof.step(run, at) for at in range(proof.STEPS)] for run in names}
    with one.program() as program:
        answer: dict[str, Any] = program.ask("prove", ids=ids)
    expect(f"outputs of {one.name}", answer["outputs"], {run: proof.output(steps[run]) for run in names})
    expect(f"runs in the journal of {one.name}", sorted(answer["journal"]), names)
    for run in names:
        expect(f"journal of {one.name}'s {run}", sorted(answer["journal"][run]), steps[run])
