"""Processes that sweep one backlog of runs: how many a second, and each run driven once, whoever drives it."""

from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from time import monotonic

from msgspec import Struct
from msgspec.structs import replace

from bench.asleep import Original, bear_copies, submitted
from bench.command import Finding
from bench.crew import crew, tell
from bench.figures import Goal, Measure, figure
from bench.grounds import Ground
from kvflow import Context, Runtime, workflow
from kvflow.store import Store

GOAL = Goal(0.95, least=True)
ONCE = Goal(1.0)
GIVES_UP = 3


class Swept(Struct, frozen=True):
    """What one process did in a trial: the runs that it drove to their end, its step's calls, and from when to when."""

    run_ids: list[str]
    calls: list[str]
    began: float
    ended: float


@workflow
def task(ctx: Context, payload: None) -> str:
    return ctx.step("work", _called, ctx.run_id)


_calls: list[str] = []


def _called(run_id: str) -> str:
    _calls.append(run_id)
    return "x" * 200


def findings(ground: Ground, processes: Sequence[int], backlog: int, trials: int) -> Iterator[Finding]:
    original = submitted(task)
    seconds: dict[int, list[float]] = {number: [] for number in processes}
    drives = 0
    with ground.opener("backlog")() as store, crew(max(processes), _work, ground.opener("backlog")) as ends:
        for trial in range(trials + 1):  # the first warms them up
            for number in processes if trial % 2 else reversed(processes):
                shares = _trial(store, original, ends[:number], f"{trial}-{number}", backlog)
                drives += sum(len(share.calls) for share in shares)
                began, ended = min(share.began for share in shares), max(share.ended for share in shares)
                seconds[number].append((ended - began) / backlog)
    alone = seconds[processes[0]]
    for number in processes[1:]:
        name = f"runs swept a second, {number} processes beside one"
        pairs = [*zip(alone[1:], seconds[number][1:], strict=True)]
        yield replace(figure(name, pairs, GOAL), series="processes", at=number, beside=processes[0])
    swept = backlog * len(processes) * (trials + 1)
    yield Measure(name=f"drives of each of {swept:,} runs", value=drives / swept, unit="", goal=ONCE)


def _trial(store: Store, original: Original, ends: Sequence[Connection], name: str, backlog: int) -> list[Swept]:
    bear_copies(store, original, name, backlog)
    shares: list[Swept] = tell(ends, "sweep")
    ended = [run_id for share in shares for run_id in share.run_ids]
    if len(ended) != backlog or len(set(ended)) != backlog:
        raise AssertionError(f"of a backlog of {backlog} runs {len(set(ended))} ended, in {len(ended)} drives")
    return [share for share in shares if share.run_ids]


def _work(orders: Connection, opener: Callable[[], Store]) -> None:
    with opener() as store, Runtime(store, workflows=[task]) as runtime:
        while orders.recv() is not None:
            orders.send(_sweep(runtime))


def _sweep(runtime: Runtime) -> Swept:
    """Until nothing was found a few times in a row, for a lost race may look like nothing."""
    _calls.clear()
    run_ids: list[str] = []
    began = ended = monotonic()
    found_nothing = 0
    while found_nothing < GIVES_UP:
        swept = runtime.sweep(limit=100)
        found_nothing = 0 if swept else found_nothing + 1
        if swept:
            ended = monotonic()
        run_ids += [info.run_id for info in swept if info.status.over]
    return Swept(run_ids, [*_calls], began, ended)
