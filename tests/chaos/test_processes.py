"""Real processes on real servers, killed, stopped, cut off: nothing is lost, done twice, or stuck."""

from pathlib import Path

import pytest

from chaos import chaos_seeds, replayable
from chaos.conftest import Fresh
from chaos.course import Course, run_course
from chaos.figures import Figures

SEEDS = {"file": 11, "redis": 12, "postgres": 13, "mysql": 14}


def test_nothing_is_lost_in_a_short_course(fresh: Fresh, tmp_path: Path) -> None:
    with fresh() as ground:
        seed = SEEDS[ground.name]
        with replayable(seed):
            counts = run_course(ground, Course(seed, seconds=8), tmp_path / "course")
    assert counts["kill"]
    assert counts["stop"]
    assert counts["recorded"] > counts["orders"]


@pytest.mark.chaos
def test_nothing_is_lost_in_long_courses(fresh: Fresh, tmp_path: Path) -> None:
    figures: Figures | None = None
    for seed in chaos_seeds():
        with fresh() as ground:
            figures = figures or Figures(f"processes on {ground.name}")
            try:
                with replayable(seed):
                    figures.add(run_course(ground, Course(seed, seconds=40), tmp_path / str(seed)))
            except Exception as error:  # noqa: BLE001 (the others are to have their turn; told below)
                figures.fail(error)
    assert figures is not None
    assert not figures.failed, "\n\n".join(figures.failed)
