"""Saves as the parameters of statements, one by one or many at once.

Many saves go in batches of different runs, an entry of a run that is already in the batch waiting for the next: so
several entries of one run are taken in their order, and each statement sees a run once.
"""

from collections.abc import Callable, Mapping, Sequence
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


def check_size(run_id: str, *parts: bytes) -> int:
    """How many bytes these are together; more than one message to the server can hold are refused."""
    if (size := sum(map(len, parts))) > LIMIT:
        raise TooLarge(
            f"run {run_id!r}: the {size} bytes of its snapshot and new records are over the {LIMIT} that PostgreSQL"
            " takes at once; nothing was written"
        )
    return size


def values_of(run: StoredRun, new: Sequence[bytes], lease: Lease | None) -> tuple[Any, ...]:
    """The values of ``SAVED`` for one save."""
    status = run.status
    token = lease.token if lease else None
    return (
        run.run_id,
        run.workflow,
        status,
        run.version,
        run.wake_at,
        run.event,
        run.created_at,
        run.updated_at,
        run.snapshot,
        run.seen,
        len(new),
        sum(map(len, new)),
        not status.over,
        bool(new) or status is not Status.RUNNING,
        token if status is Status.RUNNING else None,
        lease.ttl if lease else None,
        token,
    )


def call_of(batch: Sequence[Save], statement: Statement) -> Call:
    """The batch as arrays, in the order of ids, in which its rows are locked."""
    ordered = sorted(batch, key=lambda save: save[0].run_id)
    columns = zip(*(values_of(*save) for save in ordered), strict=True)
    records = [(run.run_id, seq, record) for run, new, _ in ordered for seq, record in enumerate(new, start=1)]
    return statement(
        **dict(zip(SAVED, columns, strict=True)),
        ids=[run_id for run_id, _, _ in records],
        seq=[seq for _, seq, _ in records],
        records=[record for _, _, record in records],
    )


def save_many(saves: Sequence[Save], save_batch: Callable[[Sequence[Save]], Outcomes]) -> Outcomes:
    """What became of each entry. A server away from the start is raised, later it befalls the rest."""
    outcomes: dict[int, int | KvflowError] = {}
    sizes: dict[int, int] = {}
    for place, error in enumerate(check_each(saves)):
        try:
            if error is not None:
                raise error
            sizes[place] = check_size(saves[place][0].run_id, saves[place][0].snapshot, *saves[place][1])
        except KvflowError as refusal:
            outcomes[place] = refusal
    left, begun = list(sizes), False
    while left:
        batch, left = _next_batch(saves, left, sizes)
        try:
            outcomes.update(zip(batch, save_batch([saves[place] for place in batch]), strict=True))
        except StoreUnavailable as error:
            if not begun:
                raise
            outcomes.update(dict.fromkeys([*batch, *left], error))
            break
        begun = True
    return [outcomes[place] for place in range(len(saves))]


def _next_batch(saves: Sequence[Save], places: Sequence[int], sizes: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """The first entries that go together, and those that are left."""
    batch: list[int] = []
    left: list[int] = []
    runs: set[str] = set()
    size = 0
    for place in places:
        run_id = saves[place][0].run_id
        if run_id in runs or len(batch) == _ENTRIES or (batch and size + sizes[place] > _BYTES):
            left.append(place)
        else:
            batch.append(place)
            size += sizes[place]
        runs.add(run_id)
    return batch, left
