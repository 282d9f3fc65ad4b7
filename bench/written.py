"""How many bytes a long run writes: each step must add its own, and never write again what is there."""

from collections.abc import Callable, Iterator

from msgspec.structs import replace

from bench.command import Finding
from bench.figures import LEAST_ROUNDS, Measure, figure
from bench.floors import Floor
from bench.grounds import Ground
from bench.runs import text
from kvflow import Context, Runtime, workflow

SIZE = 1024


@workflow
def wordy(ctx: Context, steps: int) -> None:
    for number in range(steps):
        ctx.step(f"step {number}", words)


def words() -> str:
    return text(SIZE).decode()


def findings(ground: Ground, steps: int) -> Iterator[Finding]:
    """A run beside bare writes of what its steps gave; and for each byte of that, how many."""
    if ground.written() is None:
        return
    with (
        ground.opener("written")() as store,
        Runtime(store, workflows=[wordy]) as runtime,
        ground.floor() as floor,
    ):

        def run() -> float:
            return _grown(ground, lambda: runtime.trigger(wordy, steps))

        def bare() -> float:
            return _grown(ground, lambda: _writes(floor, steps))

        pairs = [(run(), bare()) for _ in range(LEAST_ROUNDS)]
    name = f"bytes in the {ground.log} of a run of {steps} steps of {SIZE:,} bytes beside bare writes of them"
    found = figure(name, pairs, None)
    yield replace(found, unit="bytes", series="written", at=steps)
    about = f"bytes in the {ground.log} for each byte that the {steps} steps gave"
    yield Measure(name=about, value=found.one / (steps * SIZE), unit="")


def _writes(floor: Floor, steps: int) -> None:
    for _ in range(steps):
        floor.write(text(SIZE))


def _grown(ground: Ground, write: Callable[[], object]) -> float:
    """By how much the log grew while it was written."""
    before = ground.written()
    write()
    after = ground.written()
    assert before is not None
    assert after is not None
    return float(after - before)
