"""An attack: so many inputs, each tried under watch; and how many have been tried, for the account of a long run."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from msgspec import Struct

from chaos import chaos_seeds, replayable

FOLDER = Path(os.environ.get("KVFLOW_CHAOS_FIGURES", Path(__file__).parents[2] / ".chaos"))

tried: Counter[str] = Counter()
"""Inputs tried so far, by the name of the attack."""


def run(
    name: str,
    inputs: SearchStrategy[Any],
    attacked: Callable[[Any], object],
    count: int,
    by: int | None = None,
    shrink: bool = True,
) -> None:
    """Try so many inputs, the same each time or by a seed; a failure shows the least of those that fail."""

    def each(given: Any) -> None:
        tried[name] += 1
        attacked(given)

    chosen = settings(
        max_examples=count,
        deadline=None,
        derandomize=by is None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    test = chosen(given(inputs)(each))
    (test if by is None else hypothesis.seed(by)(test))()


class Figures(Struct):
    """What a long run came to, in the form in which all parts of ``make chaos`` write theirs."""

    part: str
    began: float
    seconds: int
    counts: dict[str, int]
    failed: list[str]


def run_long(attack: str, inputs: SearchStrategy[Any], attacked: Callable[[Any], object], examples: int) -> None:
    """Try new inputs for ``KVFLOW_CHAOS_MINUTES``, and count them in a JSON file, even if the run is broken off."""
    began, failed = time.time(), list[str]()
    for seed in chaos_seeds():
        try:
            with replayable(seed):
                run(attack, inputs, attacked, 10 * examples, by=seed)
        except BaseException as error:
            failed.append("\n".join([str(error), *getattr(error, "__notes__", ())]))
            raise
        finally:
            seconds = round(time.time() - began)
            part = f"hostile-{re.sub('[^a-z]+', '-', attack.lower())}"
            FOLDER.mkdir(exist_ok=True)
            figures = Figures(part, began, seconds, {"hostile inputs": tried[attack]}, failed)
            (FOLDER / f"{part}.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
