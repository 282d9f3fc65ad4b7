"""The workers of a course: real processes, of which any may be killed or stopped, and none outlives the course."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec

from chaos.flows import JOURNAL
from chaos.worker import BREAK, Work

PATIENCE = 30
WORST_CLOCK = 2.0
"""Seconds by which a worker's clock may be wrong, either way."""


class Member:
    """One worker process."""

    def __init__(self, work: Work, journal: Path, said: Path, broken: str | None) -> None:
        self.work = work
        self.stopped = False
        self.said = said
        with said.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "chaos.worker"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    JOURNAL: str(journal),
                    BREAK: broken or "",
                },
                start_new_session=True,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(work) + b"\n")
        self.process.stdin.flush()

    def send(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def bury(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


class Crew:
    """Places, each with a worker at work in it; every third is an async one."""

    def __init__(self, work: Work, size: int, folder: Path, journal: Path, chance: Random, broken: str | None) -> None:
        self.clocks: dict[int, float] = {}
        """Who had which clock: seconds off, by pid."""
        self.faults: list[str] = []
        self._work = work
        self._folder = folder
        self._journal = journal
        self._chance = chance
        self._broken = broken
        self._members = [self._begin(place) for place in range(size)]

    def _begin(self, place: int) -> Member:
        work = msgspec.structs.replace(
            self._work, is_async=place % 2 == 1, clock_off=round(self._chance.uniform(-WORST_CLOCK, WORST_CLOCK), 3)
        )
        member = Member(work, self._journal, self._folder / f"worker-{place}.log", self._broken)
        self.clocks[member.process.pid] = work.clock_off
        return member

    def kill(self, place: int) -> None:
        """SIGKILL: it has no chance to say or write anything. Another takes its place."""
        self._see_that_it_lives(place)
        self._members[place].bury()
        self._members[place] = self._begin(place)

    def stop(self, place: int) -> None:
        self._members[place].stopped = True
        self._members[place].send(signal.SIGSTOP)

    def go_on(self, place: int) -> None:
        if self._members[place].stopped:
            self._members[place].stopped = False
            self._members[place].send(signal.SIGCONT)

    def see_that_all_live(self) -> None:
        """Whoever has ended by itself is a fault, and is replaced."""
        for place in range(len(self._members)):
            if not self._see_that_it_lives(place):
                self._members[place].bury()
                self._members[place] = self._begin(place)

    def _see_that_it_lives(self, place: int) -> bool:
        code = self._members[place].process.poll()
        if code is not None:
            self.faults.append(f"a worker ended by itself with {code}: {self._last_words(place)}")
        return code is None

    def _last_words(self, place: int) -> str:
        return "\n".join(self._members[place].said.read_text(errors="replace").splitlines()[-30:])

    def end(self) -> None:
        """Ask all to stop, and see that they do so well."""
        self.see_that_all_live()
        for place, member in enumerate(self._members):
            self.go_on(place)
            assert member.process.stdin is not None
            member.process.stdin.close()
        for place, member in enumerate(self._members):
            try:
                code = member.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.faults.append(f"a worker that was told to stop did not: {self._last_words(place)}")
            else:
                if code != 0:
                    self.faults.append(f"a worker that was told to stop ended with {code}: {self._last_words(place)}")

    def bury(self) -> None:
        for member in self._members:
            member.bury()
