"""Many saves at the price of few.

A few saves at a time go to the server as one script, and the next few are made ready while it works on those.
Whatever gets lost on the way, all of a group is sent again from its first save: so no run is in a group twice,
for its earlier save would then find the later one, and look like a conflict.
"""

import os
from collections.abc import Iterator, Sequence

from kvflow import checks
from kvflow.errors import KvflowError
from kvflow.store import Outcomes
from kvflow.stores.redis_channels import Argument, Call
from kvflow.stores.redis_heads import facts, refused
from kvflow.stores.redis_keys import Keys
from kvflow.stores.redis_scripts import SAVE_MANY
from kvflow.stores.redis_server import Server

GROUP, CHUNK = 200, 25
"""Saves that are answered for together, and those of one script: so many may hold up everybody else."""

BUDGET = 1024 * 1024
"""Bytes of one script, unless one save alone has more."""

_RECORD = 64  # what a record costs beside its bytes


def save_many(server: Server, keys: Keys, saves: Sequence[checks.Save]) -> Outcomes:
    """For each save what became of it, in order."""
    outcomes: Outcomes = []
    while len(outcomes) < len(saves):
        group = _Group(server, keys, saves, len(outcomes))
        server.run_each(SAVE_MANY, group)
        outcomes += group.outcomes()
    return outcomes


class _Group:
    """The saves from a place on, as far as they are of different runs."""

    def __init__(self, server: Server, keys: Keys, saves: Sequence[checks.Save], start: int) -> None:
        self._server = server
        self._keys = keys
        self._saves = saves
        self._start = start
        self._end = start
        self._refused: dict[int, KvflowError] = {}
        self._nonce = os.urandom(12).hex()
        self._answers: list[bytes] = []

    def calls(self) -> Iterator[Call]:
        self._answers.clear()
        keys: list[bytes] = [*self._keys.indexes]
        arguments: list[Argument] = []
        runs = set[str]()
        size = 0
        for at in range(self._start, min(self._start + GROUP, len(self._saves))):
            try:
                checks.check_entry(self._saves[at])
                run, new, lease = self._saves[at]
                cost = self._server.check_size(run.run_id, run.snapshot, new) + _RECORD * len(new)
            except KvflowError as error:
                self._refused[at] = error
                self._end = at + 1
                continue
            if run.run_id in runs:
                break
            if len(keys) > 2 * CHUNK or (arguments and size + cost > BUDGET):
                yield keys, arguments
                keys, arguments, size = [*self._keys.indexes], [], 0
            runs.add(run.run_id)
            keys += self._keys.of(run.run_id)
            arguments += (facts(run, new, lease, f"{self._nonce}{at}"), run.snapshot, *new)
            size += cost
            self._end = at + 1
        if arguments:
            yield keys, arguments

    def take(self, answer: bytes) -> None:
        self._answers += answer.split(b"\n")

    def outcomes(self) -> Outcomes:
        """What became of each save."""
        answers = iter(self._answers)
        return [self._refused.get(at) or self._outcome(at, next(answers)) for at in range(self._start, self._end)]

    def _outcome(self, at: int, answer: bytes) -> int | KvflowError:
        run = self._saves[at][0]
        return refused(answer, run.run_id, run.version) if b":" in answer else int(answer)
