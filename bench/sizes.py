"""How much is measured: as much as the goals speak of, or just enough to see that the bench works."""

from msgspec import Struct


class Sizes(Struct, frozen=True, kw_only=True):
    """``rounds`` of cheap calls, ``few_rounds`` of those that need hundreds of runs; ``batch`` calls to a round."""

    rounds: int
    few_rounds: int
    trials: int
    batch: int
    short: int
    long: int
    claim: int
    claimers: int
    pile: int
    """Due runs that several processes claim."""

    calls: int
    """Calls whose expenses are measured together."""


FULL = Sizes(
    rounds=60,
    few_rounds=25,
    trials=5,
    batch=10,
    short=10,
    long=5000,
    claim=100,
    claimers=4,
    pile=4000,
    calls=500,
)

QUICK = Sizes(rounds=5, few_rounds=5, trials=5, batch=2, short=2, long=20, claim=10, claimers=2, pile=40, calls=10)
