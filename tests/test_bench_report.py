"""The report writes pages of whatever results there are, and says what was missed, what failed and what is missing."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from bench import estimate, peer_rows, plots
from bench.figures import Figure, Goal, Measure, figure
from bench.kept import Found, Kept, keep, read, this_machine
from bench.peers.rows import Row, Side
from bench.plots import Results
from bench.report import write

NOTHING = Results(None, None, None, None, None, None)
SERVERS = {"postgres": "PostgreSQL 18.6", "redis": "Valkey 9.1"}


def _figure(name: str, ratio: float, server: str, goal: Goal | None = None) -> Figure:
    found = figure(name, [(ratio * 0.001, 0.001)] * 5, goal)
    return replace(found, server=server, durability="fsync=on")


def _kept(bench: str, *figures: str, measures: dict[str, float] | None = None) -> Kept:
    results = [
        Found(
            store=store,
            server=server,
            about=[f"{server} at 127.0.0.1", "fsync=on, and more"],
            figures=[_figure(name, 1.5, server) for name in figures],
            measures=[
                Measure(name=name, value=value, unit="bytes", server=server, durability="fsync=on")
                for name, value in (measures or {}).items()
            ],
        )
        for store, server in SERVERS.items()
    ]
    return Kept(bench=bench, machine=this_machine(), quick=False, results=results)


def _in_series(kept: Kept, series: str, at: int) -> Kept:
    """With the last figure of each server in a series."""
    results = [
        replace(what, figures=[*what.figures[:-1], replace(what.figures[-1], series=series, at=at, beside=10)])
        for what in kept.results
    ]
    return replace(kept, results=results)


@pytest.fixture
def results() -> Results:
    kind = estimate.ASLEEP
    peers = peer_rows.Peers(
        quick=False,
        rows=[
            Row(
                work="runs of 5 steps",
                unit="run",
                at_once=8,
                server="PostgreSQL 18.6 (Debian)",
                durability="fsync=on",
                peer="Somebody",
                sides=[
                    Side(name="kvflow", version="0.1.0", median=0.001),
                    Side(name="Somebody", version="3.2", median=0.004),
                ],
                rounds=5,
                ratio=4.25,
                ratio_spread=(4.0, 4.5),
                goal=Goal(2, least=True),
            ),
            Row(
                work="runs of 5 steps",
                unit="run",
                server="redis",
                durability="",
                peer="Nobody",
                missing="no such thing",
            ),
        ],
    )
    return Results(
        stores=_kept("stores", "save beside the bare write", "load of 800 bytes beside the bare read"),
        engine=_kept("engine", "a run of 5 steps beside 7 bare writes of the same bytes"),
        growth=_in_series(_kept("growth", "a step at a log of 100 beside 10"), "step", 100),
        speed=_in_series(
            _kept("speed", "a wake, of 1,000 sleepers that are due, beside a bare write", "7 bare writes beside a run"),
            "at once beside bare writes",
            0,
        ),
        scale=_kept("scale", measures={f"{kind}: bytes of its own": 1000, f"{kind}: run:<id>": 1500}),
        peers=peers,
    )


def test_every_figure_is_on_the_page_with_server_and_settings(results: Results, tmp_path: Path) -> None:
    write(results, tmp_path)
    page = (tmp_path / "performance.md").read_text(encoding="utf-8")
    for kept in results[:4]:
        assert isinstance(kept, Kept)
        for what in kept.results:
            for each in what.figures:
                [row] = [
                    line for line in page.splitlines() if line.startswith(f"| {each.name} ") and what.server in line
                ]
                assert "**1.50** | 1.50–1.50" in row
                assert "fsync=on" in row
    assert "Somebody 3.2 | **4.25** | 4.00–4.50 | ≥ 2 | met" in page
    assert "no such thing" in page


def test_pictures_are_drawn_for_what_there_is_and_shown(results: Results, tmp_path: Path) -> None:
    paths = write(results, tmp_path)
    text = "".join((tmp_path / page).read_text(encoding="utf-8") for page in ("performance.md", "scale.md"))
    shown = {tmp_path / path for path in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)}
    assert {path.name for path in shown} == {
        f"bench-{name}.svg" for name in ("floors", "steps", "together", "room", "peers")
    }
    assert shown | {path.with_suffix(".png") for path in shown} == {path for path in paths if path.suffix != ".md"}
    for path in shown:
        assert path.read_text(encoding="utf-8").startswith("<?xml")
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_missed_goal_comes_first(results: Results, tmp_path: Path) -> None:
    assert results.stores is not None
    what = replace(results.stores.results[0], figures=[_figure("too slow", 3.0, "PostgreSQL 18.6", Goal(2))])
    write(results._replace(stores=replace(results.stores, results=[what])), tmp_path)
    page = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert page.index("Of 1 goals 0 are met") < page.index("| too slow | **3.00** |") < page.index("## Where")
    assert "**missed**" in page


def test_the_estimate_counts_what_is_needed_most(results: Results) -> None:
    assert results.scale is not None
    assert results.speed is not None
    day = estimate.simulate()
    assert day.busiest > day.wakes > 0
    found = {need.store: need for need in estimate.needs(results.scale, results.speed, day)}
    of_redis = found["redis"]
    assert of_redis.room == pytest.approx(1500)
    assert of_redis.for_room == pytest.approx(1e9 * 1500 / 48e9, abs=1)
    assert of_redis.saves == pytest.approx(7 / 0.001)
    assert of_redis.for_speed == pytest.approx(day.saves / 3500, abs=1)
    assert of_redis.servers == max(of_redis.for_room, of_redis.for_speed)
    assert 1 <= of_redis.uneven < 1.5


def test_a_quick_run_and_a_failure_are_said(results: Results, tmp_path: Path) -> None:
    assert results.speed is not None
    failed = replace(results.speed.results[0], failed="OSError: gone")
    write(results._replace(speed=replace(results.speed, quick=True, results=[failed])), tmp_path)
    page = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "quick run (speed)" in page
    assert "speed on PostgreSQL 18.6 failed" in page


def test_without_results_there_are_pages_all_the_same(tmp_path: Path) -> None:
    paths = write(NOTHING, tmp_path)
    assert {path.name for path in paths} == {"performance.md", "scale.md"}
    assert "no results to reckon from" in (tmp_path / "scale.md").read_text(encoding="utf-8")


def test_what_is_kept_can_be_read(results: Results, tmp_path: Path) -> None:
    assert results.stores is not None
    keep(results.stores, tmp_path)
    assert read("stores", tmp_path) == results.stores
    assert plots.results(tmp_path) == NOTHING._replace(stores=results.stores)
