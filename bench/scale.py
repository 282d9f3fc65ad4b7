"""What many runs need: ``python -m bench.scale [file|postgres|mysql|redis ...] [--quick] [--results DIR]``.

Typical runs are stored in numbers, and each server is asked how much room they take, by part. ``bench.estimate`` and
``docs/scale.md`` reckon from these, and from what the other benches found, what a thousand million runs would need.
"""

import random
import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice

from msgspec.structs import replace

from bench.asleep import Original, at_rest, copies
from bench.command import Bench, Finding, main
from bench.figures import Measure
from bench.grounds import Ground
from bench.room import room
from bench.runs import SMALL, expect
from kvflow import Context, Status, workflow
from kvflow.store import Save, Store

RUNS = 10_000
FEW = 200
MONTH = 30 * 24 * 3_600_000
TOGETHER = 500


@workflow
def reminder(ctx: Context, payload: str) -> None:
    ctx.sleep("until then", timedelta(days=30))


@workflow
def subscription(ctx: Context, payload: str) -> None:
    for number in range(3):
        ctx.step(f"step {number}", done)
    ctx.sleep("until the next", timedelta(days=30))


@workflow
def order(ctx: Context, payload: str) -> str:
    for number in range(5):
        ctx.step(f"step {number}", done)
    return payload


def done() -> str:
    return "x" * SMALL


KINDS = {
    "asleep after no step": reminder,
    "asleep after 3 steps of 200 bytes": subscription,
    "completed after 5 steps of 200 bytes": order,
}


def find(ground: Ground, quick: bool) -> Iterator[Finding]:
    number = (FEW if quick else RUNS) // (1 if ground.served else 10)
    for at, (kind, body) in enumerate(KINDS.items()):
        prefix = f"room{at}"
        original = at_rest(body, "x" * SMALL)
        run, log = original
        yield Measure(name=f"{kind}: bytes of its own", value=len(run.snapshot) + sum(map(len, log)), unit="bytes")
        with ground.opener(prefix)() as store:
            with ground.loading():
                run_ids = _bear(store, original, number)
            for part, size in room(ground, prefix, run_ids).items():
                yield Measure(name=f"{kind}: {part}", value=size, unit="bytes")


def _bear(store: Store, original: Original, number: int) -> list[str]:
    """As they would come: ids in no order, born and due over a month."""
    dice = random.Random(number)
    run_ids: list[str] = []
    remaining = (_at_random(save, dice) for save in copies(original, "", number))
    while some := list(islice(remaining, TOGETHER)):
        expect(store.save_many(some))
        run_ids += [run.run_id for run, _, _ in some]
    return run_ids


def _at_random(save: Save, dice: random.Random) -> Save:
    run, log, lease = save
    later = dice.randrange(MONTH)
    wake_at = None if run.status is Status.COMPLETED else run.updated_at + later
    return replace(run, run_id=uuid.UUID(int=dice.getrandbits(128)).hex, wake_at=wake_at), log, lease


SCALE = Bench("scale", "the room that runs take", ("file", "postgres", "mysql", "redis"), find)

if __name__ == "__main__":
    raise SystemExit(main([SCALE], "bench.scale", "The room that runs take on each server."))
