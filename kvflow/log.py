"""What kvflow tells the logger ``kvflow``: one line an event, with the run, its workflow and the step.

Whoever wants them apart finds them on the record as ``run_id``, ``workflow`` and ``step``: on each, so that a format
may name them, and None where there is none.
"""

import logging
from logging import DEBUG, INFO, WARNING

from kvflow.run import StoredRun

__all__ = ["DEBUG", "INFO", "WARNING", "say", "tell"]

log = logging.getLogger("kvflow")


def tell(level: int, run: StoredRun, what: str, *args: object, step: str | None = None) -> None:
    """Say what became of a run, or of one of its steps."""
    if not log.isEnabledFor(level):
        return
    extra = {"run_id": run.run_id, "workflow": run.workflow, "step": step}
    said = map(_in_one_line, args)
    if step is None:
        log.log(level, f"run %r of workflow %r {what}", run.run_id, run.workflow, *said, extra=extra)
    else:
        log.log(level, f"run %r of workflow %r, step %r: {what}", run.run_id, run.workflow, step, *said, extra=extra)


def say(level: int, what: str, *args: object, run_id: str | None = None) -> None:
    """Say what became of a worker, of its store, or of a run of which no more than the id is known."""
    if log.isEnabledFor(level):
        log.log(level, what, *map(_in_one_line, args), extra={"run_id": run_id, "workflow": None, "step": None})


def _in_one_line(told: object) -> object:
    """What errors of others say may have lines of its own, which must not look like lines of the log."""
    return told if isinstance(told, (int, float)) else "\\n".join(str(told).splitlines())
