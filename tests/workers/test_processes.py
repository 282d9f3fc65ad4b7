"""Workers in processes of their own: told to stop, killed, busy, and of different deployments."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from kvflow import Status
from kvflow.stores import open_store
from on_every_store import DEADLINE, Journal, Open, begun, ended, until
from workers.colours import COLOURS, made, order, run, statuses, submitted

RUNS = 24
TTL = timedelta(seconds=60)
"""Longer than a test may take: what is handed over before that was given back."""

each = pytest.mark.parametrize(
    ("opener", "colour"),
    [("file", "def"), ("file", "async"), ("postgres", "async"), ("mysql", "def"), ("redis", "async")],
    indirect=["opener"],
)
both = pytest.mark.parametrize("colour", COLOURS)


def sent(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    os.kill(process.pid, number)


def over(opener: Open) -> bool:
    with opener() as store:
        return all(Status(status).over for status in statuses(store).values())


# SIGTERM


def work(opener: Open, path: Path, colour: str, seconds: float, grace: float) -> None:
    """Runs of three steps, each of which says when it begins and when it ends."""
    journal = Journal(path)

    def step(name: str) -> tuple[str, Callable[[str], None]]:
        def call(run_id: str) -> None:
            journal.add("begins", run_id, name, os.getpid())
            time.sleep(seconds)
            journal.add("ends", run_id, name, os.getpid(), time.time())

        return name, call

    flow = order(colour, [step(name) for name in "abc"])
    with opener() as store:
        run(made(store, [flow], {"grace": grace}, lease_ttl=TTL))
    journal.add("left", os.getpid(), time.time())


@each
def test_sigterm_loses_nothing_and_hands_over(opener: Open, tmp_path: Path, colour: str) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        submitted(store, *(f"o-{number}" for number in range(RUNS)))
    first = begun(work, opener, journal.path, colour, 0.03, 20.0)
    until(lambda: len(journal.lines()) > RUNS, "the first worker does nothing")
    sent(first, signal.SIGTERM)
    assert ended([first]) == [0]
    lines = journal.lines()
    (left,) = [float(line[2]) for line in lines if line[0] == "left"]
    assert left - max(float(line[4]) for line in lines if line[0] == "ends") < 5, "long before the grace is over"
    assert not over(opener), "it was stopped in the middle"
    second = begun(work, opener, journal.path, colour, 0.0, 20.0)
    until(lambda: over(opener), "what was given back is not driven")
    sent(second, signal.SIGTERM)
    assert ended([second]) == [0]
    calls = Counter((run_id, step) for word, run_id, step, *_ in journal.lines() if word == "begins")
    assert set(calls.values()) == {1}, "no step runs twice"
    assert len(calls) == 3 * RUNS


@both
@pytest.mark.parametrize("opener", ["postgres"], indirect=True)
def test_what_outlasts_the_grace_is_handed_over_and_the_process_leaves(
    opener: Open, tmp_path: Path, colour: str
) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        submitted(store, "o-1")
    first = begun(work, opener, journal.path, colour, 300.0, 0.3)
    until(lambda: len(journal.lines()) == 1, "the step does not begin")
    sent(first, signal.SIGTERM)
    assert ended([first]) == [0], "a step in a thread keeps the process"
    second = begun(work, opener, journal.path, colour, 0.0, 20.0)
    until(lambda: over(opener), "what was let go is not driven")
    sent(second, signal.SIGTERM)
    assert ended([second]) == [0]


@both
@pytest.mark.parametrize("opener", ["redis"], indirect=True)
def test_a_second_signal_leaves_at_once(opener: Open, tmp_path: Path, colour: str) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        submitted(store, "o-1")
    worker = begun(work, opener, journal.path, colour, 300.0, 300.0)
    until(lambda: len(journal.lines()) == 1, "the step does not begin")
    sent(worker, signal.SIGINT)
    time.sleep(0.3)
    assert worker.is_alive()
    sent(worker, signal.SIGTERM)
    assert ended([worker]) == [0]
    with opener() as store:
        assert store.due(time.time_ns() // 1_000_000, 10) == ["o-1"], "it was released"


# SIGKILL


def stick(opener: Open, path: Path, colour: str) -> None:
    """The first call of the second step never ends."""
    journal = Journal(path)

    def second(run_id: str) -> None:
        journal.add("second", run_id)
        if len(journal.lines()) == 2:
            time.sleep(DEADLINE)

    flow = order(colour, [("first", lambda run_id: journal.add("first", run_id)), ("second", second)])
    with opener() as store:
        run(made(store, [flow], lease_ttl=1.0))


@each
def test_sigkill_hands_over_after_the_lease(opener: Open, tmp_path: Path, colour: str) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        submitted(store, "o-1")
    first = begun(stick, opener, journal.path, colour)
    until(lambda: len(journal.lines()) == 2, "the second step does not begin")
    second = begun(stick, opener, journal.path, colour)
    sent(first, signal.SIGKILL)
    assert ended([first]) == [-signal.SIGKILL]
    until(lambda: over(opener), "nobody took it over")
    sent(second, signal.SIGTERM)
    assert ended([second]) == [0]
    assert [line[0] for line in journal.lines()] == ["first", "second", "second"]


# Busy


def be_busy(opener: Open, path: Path, colour: str) -> None:
    """A step that is busy in pure Python for three lease lengths and more."""
    journal = Journal(path)

    def busy(run_id: str) -> None:
        journal.add("busy", os.getpid())
        until_then = time.monotonic() + 2
        while time.monotonic() < until_then:
            sum(range(1000))

    flow = order(colour, [("busy", busy), ("after", lambda _: journal.add("after", os.getpid()))])
    with opener() as store:
        run(made(store, [flow], {"poll": 0.1}, lease_ttl=0.6))


@each
def test_a_busy_body_keeps_its_lease(opener: Open, tmp_path: Path, colour: str) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        submitted(store, "o-1")
    workers = [begun(be_busy, opener, journal.path, colour) for _ in range(2)]
    until(lambda: over(opener), "it is not driven to its end")
    for worker in workers:
        sent(worker, signal.SIGTERM)
    assert ended(workers) == [0, 0]
    (busy, after) = journal.lines()
    assert (busy[0], after[0], busy[1] == after[1]) == ("busy", "after", True)


# Two deployments


def deploy(opener: Open, path: Path, name: str) -> None:
    journal = Journal(path)
    flow = order("def" if name == "a" else "async", [("step", lambda run_id: journal.add(name, run_id))], name=name)
    with opener() as store:
        run(made(store, [flow]))


def test_two_deployments_share_a_store(opener: Open, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        for name in "abc":
            submitted(store, *(f"{name}-{number}" for number in range(10)), name=name)
        workers = [begun(deploy, opener, journal.path, name) for name in "ab"]
        until(lambda: Counter(statuses(store).values())["completed"] == 20, "not all are driven")
        for worker in workers:
            sent(worker, signal.SIGTERM)
        assert ended(workers) == [0, 0]
        assert all(run_id.startswith(name) for name, run_id in journal.lines())
        assert {status for run_id, status in statuses(store).items() if run_id[0] == "c"} == {Status.SUSPENDED}
        assert len(store.due(time.time_ns() // 1_000_000, 100)) == 10, "what nobody knows is left as it was"


# Forks


def fork_in_a_step(opener: Open, path: Path) -> None:
    journal = Journal(path)

    def fork(run_id: str) -> None:
        child = os.fork()
        if not child:
            while True:
                time.sleep(0.01)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        journal.add("child", child)
        _, status = os.waitpid(child, 0)
        journal.add("ended", os.waitstatus_to_exitcode(status))

    with opener() as store:
        run(made(store, [order("def", [("fork", fork)])]))


def test_a_forked_child_is_no_worker(tmp_path: Path) -> None:
    """SIGTERM ends it, as it would anybody; inherited handlers would tell a worker that is not there."""
    opener = partial(open_store, f"file:{tmp_path}/runs")
    journal = Journal(tmp_path / "journal")
    with opener() as store:
        submitted(store, "o-1")
    worker = begun(fork_in_a_step, opener, journal.path)
    until(lambda: bool(journal.lines()), "it does not fork")
    deadline = time.monotonic() + 10
    while len(journal.lines()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    (_, child), *rest = journal.lines()
    if not rest:
        os.kill(int(child), signal.SIGKILL)
    until(lambda: over(opener), "it is not driven to its end")
    sent(worker, signal.SIGTERM)
    assert ended([worker]) == [0]
    assert rest == [["ended", str(-signal.SIGTERM)]]
