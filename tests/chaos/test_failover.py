"""Redis's honest limit: a failover to a replica that had not received the last writes.

What was acknowledged last is lost: runs, events, steps. What never breaks: no run is torn, none is stuck, nobody who
held a run before writes over what came of it after; and whoever asks again for what was lost gets it.
"""

import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from random import Random
from threading import Timer

import pytest

from chaos import replayable
from chaos.checker import Checker
from chaos.course import LEASE_TTL, TIMEOUT, WORKERS
from chaos.crew import Crew
from chaos.ending import PATIENCE, at_rest, settled
from chaos.figures import Figures
from chaos.grounds import RedisGround
from chaos.journal import Journal
from chaos.load import Load
from chaos.proxy import Proxy
from chaos.worker import Work
from kvflow import Lease, Runtime, Status, Store, StoredRun, StoreUnavailable
from kvflow.stores import open_store
from servers.guardian import Guardian
from servers.process import Missing
from servers.valkey import pair
from servers.version import version

SECONDS, BEHIND = 4.0, 1.5
"""How long orders come, and for how much of that the replica hears nothing."""

SEED = 31
LAG = 1
"""Seconds, the least that min-replicas-max-lag takes."""


class Pair:
    """A primary, its replica behind a dam, and the address by which clients reach whoever is the primary."""

    def __init__(self, guardian: Guardian, name: str, stack: ExitStack) -> None:
        servers = pair(guardian, f"failover-{name}")
        for server in servers:
            stack.callback(server.close)
            server.start()
        self.old, self.new = (RedisGround(server, f"chaos_{name}") for server in servers)
        self.dam = stack.enter_context(Proxy(self.old.port))
        self.front = stack.enter_context(Proxy(self.old.port))
        self.new.do("REPLICAOF", "127.0.0.1", self.dam.port)
        until(lambda: self.new.do("ROLE")[3] == b"connected", "the replica does not follow")

    @property
    def url(self) -> str:
        return self.old.by(self.front.port)

    def fail_over(self) -> None:
        """The primary is gone for good, and the replica is the primary with what it has."""
        self.old.server.stop()
        self.new.do("REPLICAOF", "NO", "ONE")
        self.front.to = self.new.port


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


Fresh = Callable[[], AbstractContextManager[Pair]]


@pytest.fixture
def fresh(guardian: Guardian) -> Fresh:
    """Makes a pair that nobody has used, as often as it is called."""

    @contextmanager
    def fresh_pair() -> Generator[Pair]:
        with ExitStack() as stack:
            try:
                pair = Pair(guardian, uuid.uuid4().hex[:8], stack)
            except Missing as missing:
                pytest.skip(str(missing))
            yield pair

    return fresh_pair


def course(pair: Pair, seed: int, folder: Path) -> Counter[str]:
    """Orders, a replica that falls behind, a failover; then whoever asked for something looks whether it is there."""
    folder.mkdir()
    journal = Journal(folder / "journal")
    work = Work(pair.url, pair.new.prefix, False, LEASE_TTL, 0.0, TIMEOUT)
    crew = Crew(work, WORKERS, folder, journal.path, Random(seed), None)
    with ExitStack() as stack:
        stack.callback(crew.bury)
        store = stack.enter_context(open_store(pair.url, prefix=pair.new.prefix, timeout=30.0))
        load = Load(store, Random(seed), LEASE_TTL)
        stack.callback(load.close)
        load.plan(SECONDS, rate=6, think=0.03)
        timer = Timer(load.lasts - BEHIND, pair.dam.dam)
        timer.start()
        load.run(crew.see_that_all_live)
        timer.join()
        pair.fail_over()
        failed_over = time.time()
        lost = asked_again(load, Runtime(store))
        runs, faults = settled(pair.new, PATIENCE)
        crew.end()
        # Until then who held a run may go on where it was, and be refused when it saves.
        known_from = failed_over + LEASE_TTL
        verdict = Checker(load.asked, runs, journal.calls(), crew.clocks, LEASE_TTL, known_from).verdict()
    faults += [*crew.faults, *verdict.faults]
    faults = faults or at_rest(pair.new, runs)
    assert not faults, "\n".join(faults)
    names = ("calls", "runs", "parents told of what was lost", "children of what was lost")
    counts = Counter({name: verdict.counts[name] for name in names})
    return lost + counts + Counter({"steps lost and run again": verdict.counts["run again"], "failovers": 1})


def asked_again(load: Load, office: Runtime) -> Counter[str]:
    """Submit and send again what the store has lost, and give how much that was."""
    lost: Counter[str] = Counter()
    for asked in load.asked:
        run = office.get_run(asked.run)
        if run is None:
            lost["runs lost"] += 1
            load.submit(asked)
        stored = {one.result for one in run.history if one.kind == "signal"} if run is not None else set[str]()
        missing = [event for event in asked.approvals if event not in stored]
        lost["events lost"] += len(missing)
        for event in missing:
            office.signal(asked.run, "approved", event)
    return lost


def test_a_failover_loses_the_last_writes_and_breaks_nothing(fresh: Fresh, tmp_path: Path) -> None:
    with replayable(SEED), fresh() as pair:
        counts = course(pair, SEED, tmp_path / "course")
    assert counts["runs lost"] + counts["events lost"] + counts["steps lost and run again"], "nothing was lost"


@pytest.mark.chaos(share=3 / 4)
def test_failovers_break_nothing_for_long(fresh: Fresh, seeds: Iterator[int], tmp_path: Path) -> None:
    figures: Figures | None = None
    for seed in seeds:
        with fresh() as pair:
            figures = figures or Figures("failovers", "redis", version(pair.url))
            with figures.noted(), replayable(seed):
                figures.add(course(pair, seed, tmp_path / str(seed)))


def saves(pair: Pair, seconds: float) -> list[float]:
    """Save runs one after the other for so long; give when each was acknowledged, in seconds since the replica hears
    nothing, and stop at the first that is refused."""
    acknowledged: list[float] = []
    with open_store(pair.url, prefix=pair.new.prefix, timeout=0.5) as store:
        save(store, 0)
        until(lambda: pair.new.do("EXISTS", f"{{{pair.new.prefix}}}:run:0") == 1, "the replica does not hear")
        pair.dam.dam()
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            try:
                save(store, len(acknowledged) + 1)
            except StoreUnavailable:
                break
            acknowledged.append(time.monotonic() - began)
            time.sleep(0.01)
    return acknowledged


def save(store: Store, number: int) -> None:
    run = StoredRun(
        run_id=str(number), workflow="w", status=Status.WAITING, version=1, created_at=1, updated_at=1, snapshot=b"head"
    )
    store.save(run, [b"record"], Lease(f"token {number}", 1000))


def kept(pair: Pair) -> int:
    """How many of the runs that were saved behind the dam the new primary has."""
    pair.fail_over()
    return len(pair.new.do("KEYS", f"{{{pair.new.prefix}}}:run:*")) - 1


def test_without_min_replicas_to_write_a_primary_goes_on_alone(fresh: Fresh) -> None:
    with fresh() as pair:
        lost = saves(pair, 3 * LAG)
        assert lost[-1] > 2 * LAG
        assert kept(pair) == 0, "the replica had heard of none"


def test_min_replicas_to_write_bounds_what_is_lost(fresh: Fresh) -> None:
    with fresh() as pair:
        pair.old.do("CONFIG", "SET", "min-replicas-to-write", 1, "min-replicas-max-lag", LAG)
        lost = saves(pair, 30)
        assert lost, "the replica is silent only since now"
        assert lost[-1] < 15, "writes are refused once the replica has been silent for the lag"
        assert kept(pair) == 0
