"""How the machine is run: so many courses of so many calls, the same each time or by a seed."""

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from model.machine import Machine

CALLS = 30


def run(machine: type[Machine], courses: int, by: int | None = None, shrink: bool = True) -> None:
    """Fail, with the shortest course found, if the store ever answers as the model does not."""
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    chosen = settings(
        max_examples=courses,
        stateful_step_count=CALLS,
        deadline=None,
        derandomize=by is None,
        database=None,
        report_multiple_bugs=False,
        phases=phases,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(machine if by is None else seed(by)(machine), settings=chosen)
