"""Whatever bytes are stored, reading them gives a result or an error of kvflow's, and harms nobody else."""

import pytest

from hostile.attack import run, run_long
from hostile.decoders import ATTACKS


@pytest.mark.parametrize("name", ATTACKS)
def test_bytes_that_nobody_wrote_are_answered(name: str) -> None:
    inputs, attacked, examples = ATTACKS[name]
    run(name, inputs, attacked, examples)


@pytest.mark.chaos
@pytest.mark.parametrize("name", ATTACKS)
def test_bytes_that_nobody_wrote_are_answered_for_long(name: str) -> None:
    run_long(name, *ATTACKS[name])
