"""The bench of peers measures what it says, finds a wrong answer out, and says who cannot take part.

kvflow stands in for the peers here, so that nothing is installed. What is measured means nothing.
"""

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.grounds import PostgresGround
from bench.peers import __main__ as command
from bench.peers import environments, jobs, proof, runs, sleepers
from bench.peers.contest import Pair, contestants
from bench.peers.environments import PINS
from bench.peers.program import Failed, Program
from bench.peers.rows import Row
from bench.peers.sizes import Level, Sizes

SIZES = Sizes(
    levels=(Level(1, 5, 2), Level(10, 10, 2)),
    counted=True,
    sleepers=20,
    sleeper_rounds=1,
    jobs=8,
    job_rounds=2,
    side_by_side=1,
)
EMPTY = Row(work="", unit="", server="", durability="", peer="kvflow")


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    """The command sets a handler, as nobody but a process's main does."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ground(postgres_url: str) -> PostgresGround:
    return PostgresGround(postgres_url)


@pytest.fixture
def pair(ground: PostgresGround) -> Iterator[Pair]:
    with contestants(ground, "kvflow") as pair:
        yield pair


def test_runs(ground: PostgresGround, pair: Pair) -> None:
    alone, many = runs.rows(EMPTY, ground, pair, SIZES)
    for row in (alone, many):
        _compares(row, rounds=2)
    for side in alone.sides:
        assert side.commits is not None
        assert 7 <= side.commits < 9  # a save for its birth, each step, and its end; now and then a new connection's
    assert (alone.sides[0].way, many.sides[0].way) == ("Runtime.trigger", "AsyncRuntime.trigger, tasks")


def test_sleepers(ground: PostgresGround, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sleepers, "GRACE", 0.5)
    [row] = sleepers.rows(EMPTY, ground, pair, SIZES)
    _compares(row, rounds=1)
    for side in row.sides:
        assert side.measures["threads"] > 1
        assert 0 <= side.measures["late ms, median"] <= side.measures["late ms, worst"]
        assert min(side.measures["MB before"], side.measures["MB with all parked"]) > 0


def test_jobs(ground: PostgresGround, pair: Pair) -> None:
    [row] = jobs.rows(EMPTY, ground, pair, SIZES)
    _compares(row, rounds=2)


def _compares(row: Row, rounds: int) -> None:
    assert row.ratio is not None
    assert row.ratio_spread is not None
    assert row.ratio_spread[0] <= row.ratio <= row.ratio_spread[1]
    for side in row.sides:
        assert (side.name, len(side.samples), row.rounds) == ("kvflow", rounds, rounds)
        assert min(side.samples) > 0


def test_a_right_answer_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, kept = _command(tmp_path, monkeypatch)
    assert code == 0
    assert [row["at_once"] for row in kept["rows"]] == [1, 16]
    assert not any(row["wrong"] for row in kept["rows"])


def test_a_wrong_answer_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(run: str, number: int) -> str:
        return f"{run} {number} is not what the programs, in processes of their own, give"

    monkeypatch.setattr(proof, "step", other)
    code, kept = _command(tmp_path, monkeypatch)
    assert code == 1
    assert kept["rows"][-1]["wrong"].startswith("outputs of kvflow: ")
    assert "kvflow on files, SQLite: wrong, outputs of kvflow" in capsys.readouterr().out


def _command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, Any]]:
    """The exit code and what is kept when the only peer is kvflow, which needs no environment of its own."""

    def nothing(peer: str) -> None:
        """To install."""

    monkeypatch.setattr(command, "install", nothing)
    monkeypatch.setattr(command, "GROUNDS", ("file",))
    monkeypatch.setattr(runs, "PEERS", {"file": ("kvflow",)})
    monkeypatch.setitem(PINS, "kvflow", ())
    monkeypatch.setitem(command.NAMES, "kvflow", "kvflow")
    kept = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["bench.peers", "kvflow", "--quick", "--json", str(kept)])
    return command.main(), json.loads(kept.read_bytes())


def test_who_cannot_be_installed_is_said(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "CACHE", tmp_path / "environments")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("KVFLOW_TEST_REDIS_URL", redis_url)
    kept = tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["bench.peers", "saq", "--quick", "--json", str(kept)])
    assert command.main() == 0
    [row] = json.loads(kept.read_bytes())["rows"]
    assert row["peer"] == "SAQ"
    assert row["missing"].startswith("pip cannot install saq")


def test_a_program_that_fails_says_why() -> None:
    with (
        pytest.raises(Failed, match=r"(?s)kvflow has ended: .*UnknownScheme"),
        Program("kvflow", "nowhere:"),
    ):
        pass
    with (
        pytest.raises(Failed, match=r"(?s)kvflow cannot do 'prove': .*'ids'"),
        Program("kvflow", "memory:", "kvflow") as program,
    ):
        program.ask("prove")
