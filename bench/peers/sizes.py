"""How much is measured: enough to tell the sides apart, or just enough to see that all of it works."""

from msgspec import Struct


class Level(Struct, frozen=True):
    """So many runs, of which so many are in flight, in so many rounds."""

    at_once: int
    runs: int
    rounds: int


class Sizes(Struct, frozen=True, kw_only=True):
    levels: tuple[Level, ...]
    counted: bool
    """Whether commits are counted, for which each side starts twice more."""

    sleepers: int
    """Half of them are due."""

    sleeper_rounds: int
    jobs: int
    job_rounds: int
    side_by_side: int
    """Contests that are held at once: one, or nothing that they find out means anything."""


FULL = Sizes(
    levels=(Level(1, 20, 5), Level(8, 80, 5), Level(100, 200, 5)),
    counted=True,
    sleepers=2000,
    sleeper_rounds=2,
    jobs=1000,
    job_rounds=5,
    side_by_side=1,
)

QUICK = Sizes(
    levels=(Level(1, 2, 2), Level(16, 16, 2)),
    counted=False,
    sleepers=200,
    sleeper_rounds=1,
    jobs=40,
    job_rounds=2,
    side_by_side=4,
)
