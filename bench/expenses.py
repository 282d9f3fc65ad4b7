"""What a call spends: processor time here and at the server, round trips, and syncs or commands.

What is left of a call's time when the time of both processors is taken off is waiting: for the disk, or for a turn.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import process_time
from urllib.parse import urlsplit

import psutil
from msgspec import Struct

from bench.door import Door
from bench.figures import clocked
from bench.grounds import Ground
from bench.runs import HELD, SMALL, WORKFLOWS, Crowd, Drive, bear, due, lease, now, text, waiting
from bench.sizes import Sizes
from kvflow.store import Save, Store

Calls = Sequence[Callable[[Store], object]]


class Expense(Struct, frozen=True, kw_only=True):
    """What one call of a kind spends, on average: seconds where it is time, None where nobody can tell."""

    name: str
    wall: float
    client: float
    server: float | None
    turns: float | None
    counted: float | None


def expenses(ground: Ground, sizes: Sizes) -> Iterator[Expense]:
    few = max(3, sizes.calls // 10)
    kinds: list[tuple[str, Callable[[Store, str], Calls]]] = [
        ("save", partial(_saves, number=sizes.calls)),
        ("post", partial(_posts, number=sizes.calls)),
        ("claim of nothing", partial(_empty_claims, number=sizes.calls)),
        (f"claim({sizes.claim})", partial(_claims, number=few, limit=sizes.claim)),
        (f"save_many({sizes.claim})", partial(_save_manys, number=few, limit=sizes.claim)),
    ]
    if ground.bare_goal is not None:
        with ground.floor() as floor:
            wall, client, server = _clock([partial(floor.write, text(2 * SMALL)) for _ in range(sizes.calls)])
        yield Expense(name="bare write", wall=wall, client=client, server=server, turns=None, counted=None)
    for at, (name, kind) in enumerate(kinds):
        opener = ground.opener(f"spent{at}")
        with opener() as store:
            with ground.loading():
                calls = kind(store, "clocked")
            wall, client, server = _clock([partial(call, store) for call in calls])
        turns, counted = _count(ground, f"spent{at}", kind)
        yield Expense(name=name, wall=wall, client=client, server=server, turns=turns, counted=counted)


def _clock(calls: Sequence[Callable[[], object]]) -> tuple[float, float, float | None]:
    """Seconds of a call: by the clock, of this process, and of the servers that it started."""
    first, *rest = calls
    first()
    servers = psutil.Process().children(recursive=True)
    before, served = process_time(), _spent(servers)
    wall, _ = clocked(lambda: [call() for call in rest])
    client, server = process_time() - before, _spent(servers) - served
    return wall / len(rest), client / len(rest), server / len(rest) or None


def _spent(processes: Sequence[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes if process.is_running()]
    return sum(time.user + time.system for time in times)


def _count(ground: Ground, prefix: str, kind: Callable[[Store, str], Calls]) -> tuple[float | None, float | None]:
    """Round trips of a call, and how many of what the ground counts.

    A ground tells what it counted only when no store is open. So a store is opened for one call and another for the
    rest: what opening costs is in both, and falls out of the difference.
    """
    if ground.counts is None:
        return None, None
    with ground.opener(prefix)() as store, ground.loading():
        calls = kind(store, "counted")
    with ground.counting():
        once, twice = (_run(ground, prefix, some) for some in (calls[:1], calls[1:]))
    more = len(calls) - 2
    turns = (twice[0] - once[0]) / more if ground.served else None
    return turns, (twice[1] - once[1]) / more


def _run(ground: Ground, prefix: str, calls: Calls) -> tuple[int, int]:
    """The round trips of a store that is opened, makes these calls and is closed, and what the ground counted."""
    before = ground.counted()
    if not ground.served:
        _call(ground.opener(prefix), calls)
        return 0, ground.counted() - before
    where = urlsplit(ground.url)
    with Door((where.hostname or "127.0.0.1", where.port or ground.port)) as door:
        login = f"{where.username}@" if where.password is None else f"{where.username}:{where.password}@"
        through = where._replace(netloc=f"{login if where.username else ''}127.0.0.1:{door.port}")
        _call(ground.opener(prefix, through.geturl()), calls)
        return door.turns, ground.counted() - before


def _call(opener: Callable[[], Store], calls: Calls) -> None:
    with opener() as store:
        for call in calls:
            call(store)


def _saves(store: Store, name: str, number: int) -> Calls:
    return [partial(_save, save=save) for save in Drive(store, name).steps(number)]


def _save(store: Store, save: Save) -> object:
    return store.save(*save)


def _posts(store: Store, name: str, number: int) -> Calls:
    runs = list(waiting(name, number))
    bear(store, runs)
    return [partial(_post, run_id=run.run_id, record=text(SMALL)) for run in runs]


def _post(store: Store, run_id: str, record: bytes) -> object:
    return store.post(run_id, record, now())


def _claims(store: Store, name: str, number: int, limit: int) -> Calls:
    bear(store, due(name, number * limit), HELD)
    return [partial(_claim, limit=limit)] * number


def _empty_claims(store: Store, name: str, number: int) -> Calls:
    return [partial(_claim, limit=100)] * number


def _claim(store: Store, limit: int) -> object:
    return store.claim(now(), limit, lease(), WORKFLOWS)


def _save_manys(store: Store, name: str, number: int, limit: int) -> Calls:
    crowd = Crowd(store, name, limit)
    return [partial(_save_many, saves=crowd.saves()) for _ in range(number)]


def _save_many(store: Store, saves: list[Save]) -> object:
    return store.save_many(saves)
