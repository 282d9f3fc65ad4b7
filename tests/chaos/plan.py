"""The faults of a course: a pure function of its seed, so that the same seed brings the same faults at the same times.

What the processes make of them is theirs: the machine's scheduler keeps no seed.
"""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from random import Random

from msgspec import Struct

from chaos.proxy import Where


class Kind(StrEnum):
    KILL = "kill"
    STOP = "stop"
    GO_ON = "go on"
    CUT = "cut"
    SERVER_KILLED = "server killed"
    SERVER_STARTED = "server started"
    SERVER_FROZEN = "server frozen"
    SERVER_THAWED = "server thawed"
    DISK_FULL = "disk full"
    DISK_FREED = "disk freed"


class Fault(Struct, frozen=True, order=True):
    """What happens when, in seconds since the beginning: to which worker, or to how much of what is passed."""

    at: float
    kind: Kind
    place: int = 0
    where: Where = Where.REPLY
    after: float = 0.0


WEIGHTS = {Kind.KILL: 4, Kind.STOP: 3, Kind.CUT: 8, Kind.SERVER_KILLED: 2, Kind.SERVER_FROZEN: 1, Kind.DISK_FULL: 2}

PAUSE = (0.1, 1.6)
"""Seconds between two faults: from, to."""

TOO_LONG = (1.1, 2.5)
"""How long, in leases, a process is stopped: so long that its lease ends meanwhile."""

AWAY = (0.0, 1.5)
"""Seconds for which a server is away, beside what its start takes; a disk is full for as long."""

IN_TURN = {
    Kind.SERVER_KILLED: Kind.SERVER_STARTED,
    Kind.SERVER_FROZEN: Kind.SERVER_THAWED,
    Kind.DISK_FULL: Kind.DISK_FREED,
}


def plan(seed: int, seconds: float, kinds: Iterable[Kind], workers: int, lease_ttl: float) -> list[Fault]:
    """The faults, by their times; whatever was stopped goes on again within the time."""
    return sorted(_faults(Random(seed), seconds, list(kinds), workers, lease_ttl))


def _faults(chance: Random, seconds: float, kinds: list[Kind], workers: int, lease_ttl: float) -> Iterator[Fault]:
    at, back = chance.uniform(*PAUSE), 0.0
    first = chance.sample(kinds, len(kinds))  # a short course has one of each
    while kinds and at < seconds:
        kind = first.pop() if first else chance.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
        place = chance.randrange(workers)
        if kind is Kind.STOP:
            yield Fault(at, kind, place)
            yield Fault(at + lease_ttl * chance.uniform(*TOO_LONG), Kind.GO_ON, place)
        elif kind is Kind.CUT:
            where = chance.choice([Where.REQUEST, Where.REPLY, Where.REPLY])
            for _ in range(chance.choice([1, 1, 2, 5])):
                yield Fault(at, kind, where=where, after=chance.choice([0.0, chance.random()]))
        elif kind in IN_TURN:
            if at > back:
                back = at + chance.uniform(*AWAY)
                yield Fault(at, kind)
                yield Fault(back, IN_TURN[kind])
        else:
            yield Fault(at, kind, place)
        at += chance.uniform(*PAUSE)
