"""Jobs of one step through a queue: enqueued one by one, several at a time, while a worker does them."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from msgspec.structs import replace

from bench.grounds import Ground
from bench.peers import proof
from bench.peers.contest import Pair, expect, in_turn, side_of
from bench.peers.program import Program
from bench.peers.rows import Row, compared, side
from bench.peers.sizes import Sizes

WORK = "jobs through a queue"
UNIT = "job"
PEERS = {"postgres": ("procrastinate",), "redis": ("saq",)}
CANNOT: dict[str, dict[str, str]] = {}
CHECKED = "what each job gave; its recorded result, or its status where a peer keeps no results"

AT_ONCE = 8

_names = count()


def rows(row: Row, ground: Ground, pair: Pair, sizes: Sizes) -> Iterator[Row]:
    with pair[0].program() as ours, pair[1].program() as theirs:
        programs = (ours, theirs)
        ways = [program.ask("work") for program in programs]
        for program in programs:
            _jobs(program, AT_ONCE)
        rounds = [in_turn(at, programs, lambda program: _jobs(program, sizes.jobs)) for at in range(sizes.job_rounds)]
        sides = [
            replace(
                side(side_of(program, way), [answers[at]["seconds"] / sizes.jobs for answers in rounds]),
                measures={"ms to enqueue one": 1000 * min(answers[at]["enqueued"] for answers in rounds) / sizes.jobs},
            )
            for at, (program, way) in enumerate(zip(programs, ways, strict=True))
        ]
    yield compared(replace(row, at_once=AT_ONCE, checked=CHECKED), *sides)


def _jobs(program: Program, number: int) -> dict[str, Any]:
    name = f"job{next(_names)}"
    answer: dict[str, Any] = program.ask("jobs", name=name, number=number, at_once=AT_ONCE)
    given = {f"{name}-{at}": proof.step(f"{name}-{at}", 0) for at in range(number)}
    expect(f"what {program.name}'s jobs gave", answer["outputs"], given)
    kept = {run: ["succeeded"] if program.about["journals"] == "statuses" else [it] for run, it in given.items()}
    expect(f"what {program.name} has kept of its jobs", answer["journal"], kept)
    return answer
