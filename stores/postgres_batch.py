"""Saves as the parameters of statements, one by one or many at once.

Many saves go in batches of different runs, an entry of a run that is already in the batch waiting for the next: so
several entries of one run are taken in their order, and each statement sees a run once.
"""

from collections.abc import Callable, Sequence
from typing import Any

from kvflow.checks import Save, check_each
from kvflow.errors import KvflowError, StoreUnavailable, TooLarge
from kvflow.run import Lease, Status, StoredRun
from kvflow.store import Outcomes
from kvflow.stores.postgres_protocol import Call, Statement
from kvflow.stores.postgres_statements import SAVED

LIMIT = 2**30 - 2**16
"""PostgreSQL takes messages of less than 1 GiB; a little of it is ids and lengths."""

_ENTRIES = 200
_BYTES = 2**25

_AT_REST = (Status.SUSPENDED, Status.WAITING)


def check_size(run: StoredRun, new: Sequence[bytes]) -> None:
    """Refuse what one message to the server cannot hold."""
    if (size := _size(run, new)) > LIMIT:
        raise TooLarge(
            f"run {run.run_id!r}: a snapshot of {len(run.snapshot)} bytes and records of {size - len(run.snapshot)}"
            f" are over the {LIMIT} that PostgreSQL takes at once; nothing was written"
        )


def check_record(run_id: str, record: bytes) -> None:
    """Refuse a record that one message to the server cannot hold."""
    if len(record) > LIMIT:
        raise TooLarge(
            f"run {run_id!r}: a record of {len(record)} bytes is over the {LIMIT} that PostgreSQL takes at once;"
            " nothing was written"
        )


def _size(run: StoredRun, new: Sequence[bytes]) -> int:
    return len(run.snapshot) + sum(map(len, new))


def values_of(run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> dict[str, Any]:
    """The parameters of one save, but for the records themselves."""
    return {
        "run_id": run.run_id,
        "workflow": run.workflow,
        "status": run.status,
        "version": run.version,
        "wake_at": run.wake_at,
        "event": run.event,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "snapshot": run.snapshot,
        "seen": run.seen,
        "added": len(new),
        "added_size": sum(map(len, new)),
        "rests": run.status in _AT_REST,
        "progress": bool(new) or run.status is not Status.RUNNING,
        "held": lease.token if lease and run.status is Status.RUNNING else None,
        "ttl": lease.ttl if lease else None,
        "writer": lease.token if lease else None,
    }


def call_of(batch: Sequence[Save], statement: Statement) -> Call:
    """The batch as arrays, in the order of ids, in which its rows are locked."""
    ordered = sorted(batch, key=lambda save: save[0].run_id)
    entries = [values_of(*save) for save in ordered]
    records = [(run.run_id, seq, record) for run, new, _ in ordered for seq, record in enumerate(new, start=1)]
    return statement(
        **{name: [entry[name] for entry in entries] for name in SAVED},
        ids=[run_id for run_id, _, _ in records],
        seq=[seq for _, seq, _ in records],
        records=[record for _, _, record in records],
    )


def save_many(saves: Sequence[Save], save_batch: Callable[[Sequence[Save]], Outcomes]) -> Outcomes:
    """What became of each entry. A server away from the start is raised, later it befalls the rest."""
    outcomes: dict[int, int | KvflowError] = {}
    for place, (save, refusal) in enumerate(zip(saves, check_each(saves), strict=True)):
        if (error := refusal or _refusal(save)) is not None:
            outcomes[place] = error
    left = [place for place in range(len(saves)) if place not in outcomes]
    begun = False
    while left:
        batch, left = _next_batch(saves, left)
        try:
            outcomes.update(zip(batch, save_batch([saves[place] for place in batch]), strict=True))
        except StoreUnavailable as error:
            if not begun:
                raise
            outcomes.update(dict.fromkeys([*batch, *left], error))
            break
        begun = True
    return [outcomes[place] for place in range(len(saves))]


def _refusal(save: Save) -> KvflowError | None:
    try:
        check_size(save[0], save[1])
    except TooLarge as error:
        return error
    return None


def _next_batch(saves: Sequence[Save], places: Sequence[int]) -> tuple[list[int], list[int]]:
    """The first entries that go together, and those that are left."""
    batch: list[int] = []
    left: list[int] = []
    runs: set[str] = set()
    size = 0
    for place in places:
        run, new, _ = saves[place]
        fits = len(batch) < _ENTRIES and (not batch or size + _size(run, new) <= _BYTES)
        if fits and run.run_id not in runs:
            batch.append(place)
            size += _size(run, new)
        else:
            left.append(place)
        runs.add(run.run_id)
    return batch, left
