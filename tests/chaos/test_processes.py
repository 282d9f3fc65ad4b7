"""Real processes on real servers, killed, stopped, cut off: nothing is lost, done twice, or stuck."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chaos import replayable
from chaos.conftest import Fresh
from chaos.course import Course, run_course
from chaos.figures import Figures
from chaos.grounds import ServerGround
from servers.version import version

SEEDS = {"file": 11, "redis": 12, "postgres": 13, "mysql": 14}


def test_nothing_is_lost_in_a_short_course(fresh: Fresh, tmp_path: Path) -> None:
    with fresh() as ground:
        seed = SEEDS[ground.name]
        with replayable(seed):
            counts = run_course(ground, Course(seed, seconds=8), tmp_path / "course")
    assert counts["kill"]
    assert counts["stop"]
    assert counts["recorded"] > counts["orders"]


@pytest.mark.chaos(share=1)
def test_nothing_is_lost_in_long_courses(fresh: Fresh, seeds: Iterator[int], tmp_path: Path) -> None:
    figures: Figures | None = None
    for seed in seeds:
        with fresh() as ground:
            on = version(ground.url) if isinstance(ground, ServerGround) else ""
            figures = figures or Figures("processes", ground.name, on)
            with suppress(Exception), figures.noted(), replayable(seed):  # the others are to have their turn
                figures.add(run_course(ground, Course(seed, seconds=40), tmp_path / str(seed)))
    assert figures is not None
    assert not figures.failed, "\n\n".join(figures.failed)
