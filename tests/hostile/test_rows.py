"""Under a SQL store: whatever somebody has written into its tables by hand stops nobody."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from hostile.attack import run, run_long
from hostile.rows import Ground, MySQLGround, PostgresGround, Row
from kvflow.instance import AT_ONCE

NAMES = ("rows", "rows swept")

LOG = ((0, b"zero"), (1, b"one"), (2, b"two"))
"""Of which both stores have one that is beyond the first two places."""

TOO_LARGE = 2**63 - 1

FOUND: dict[str, Row] = {
    "no more holders can be counted": Row({"attempt": TOO_LARGE, "token": "x", "expires_at": 0}, LOG),
    "no more bytes can be counted": Row({"log_size": TOO_LARGE}, LOG),
    "no more records can be counted": Row({"records": TOO_LARGE}, LOG),
    "a birth comes next": Row({"version": 0}, LOG),
    "half a lease": Row({"token": "x"}, LOG),
    "a lease from before all time": Row({"token": "x", "expires_at": -(2**63)}, LOG),
    "a name that nobody can ask for": Row({"run_id": "\n"}, LOG),
    "an event that nobody can wait for": Row({"event": ""}, LOG),
    "born before all time": Row({"created_at": -1}, LOG),
    "fewer records than none": Row({"records": -1}, LOG),
    "a stray record for one that is lost": Row({}, ((0, b"zero"), (2, b"two"), (9, b"stray"))),
    "a gap that a stray record fills": Row({}, ((0, b"zero"), (1, b"one"), (3, b"three"))),
}
"""What once stopped a neighbour, kept a call from ending, or was read as if it were right."""


@pytest.fixture(params=["postgres", "mysql"], scope="module")
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    url: str = request.getfixturevalue(f"{request.param}_url")
    with closing(made(request.param, url)) as ground:
        yield ground


def made(server: str, url: str) -> Ground:
    return PostgresGround(url) if server == "postgres" else MySQLGround(url)


@pytest.mark.parametrize("name", NAMES)
def test_rows_that_nobody_wrote_stop_nobody(ground: Ground, name: str) -> None:
    inputs, attacked, examples = ground.attacks()[name]
    run(f"{name} of {type(ground).__name__}", inputs, attacked, examples)


@pytest.mark.parametrize("found", FOUND)
def test_a_row_that_once_did_stops_nobody(ground: Ground, found: str) -> None:
    ground.called(FOUND[found])


def test_more_rows_than_a_sweep_claims_at_a_time_stop_nobody(ground: Ground) -> None:
    ground.swept([Row({"records": 7}, ())] * (2 * AT_ONCE))


@pytest.mark.chaos
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_nobody_wrote_stop_nobody_for_long(ground: Ground, name: str) -> None:
    run_long(f"{name} of {type(ground).__name__}", *ground.attacks()[name])
