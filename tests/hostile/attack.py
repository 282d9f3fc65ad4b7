"""An attack: so many inputs, each tried under watch; and how many have been tried, for the account of a long run."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from chaos import chaos_seeds, replayable
from chaos.figures import Figures

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


def run_long(attack: str, inputs: SearchStrategy[Any], attacked: Callable[[Any], object], examples: int) -> None:
    """Try new inputs for a small share of ``KVFLOW_CHAOS_MINUTES``, and count them: so every attack has figures."""
    figures = Figures("hostile", attack)
    for seed in chaos_seeds():
        with figures.noted(), replayable(seed):
            try:
                run(attack, inputs, attacked, 10 * examples, by=seed)
            finally:
                figures.counts["inputs"] = tried[attack]
