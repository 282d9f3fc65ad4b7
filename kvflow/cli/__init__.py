"""The command ``kvflow``: runs, workers and stores from a shell.

This module asks for nothing but the standard library, so that a missing extra is one line that names it. The
commands are listed in ``kvflow.cli.app``, and each stands in a file of its own name.
"""

import sys
from collections.abc import Sequence

NEEDS = {"typer", "rich"}
INTERRUPTED = 130
"""The exit code of a command that Ctrl-C ended, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say; 0, 1 for what failed, 2 for usage, 130 for Ctrl-C."""
    try:
        from kvflow.cli.app import run

        return run(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NEEDS:
            raise
        sys.stderr.write(f"kvflow: the command line needs {missing}: pip install 'kvflow[cli]'\n")
        return 1
    except KeyboardInterrupt:  # before typer could see it
        return INTERRUPTED
