"""Under a SQL store: whatever somebody has written into its tables by hand stops nobody."""

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from hostile.attack import run, run_long
from hostile.decoders import good
from hostile.rows import Ground, MySQLGround, PostgresGround, Row
from kvflow import Runtime, Status, Worker
from kvflow.checks import LATEST
from kvflow.instance import AT_ONCE
from kvflow.stores.mysql_session import Session
from kvflow.stores.postgres_server import Server
from kvflow.testing.runs import birth, get, lease, until

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
    run(f"{name} of {type(ground.store).__name__}", inputs, attacked, examples)


@pytest.mark.parametrize("found", FOUND)
def test_a_row_that_once_did_stops_nobody(ground: Ground, found: str) -> None:
    ground.called(FOUND[found])


def test_more_rows_than_a_sweep_claims_at_a_time_stop_nobody(ground: Ground) -> None:
    ground.swept([Row({"records": 7}, ())] * (2 * AT_ONCE))


# More than a few of them

UNREADABLE = Row({"records": 7}, ())


def claimed(ground: Ground, limit: int, now: int = 1000) -> list[str]:
    return sorted(run.run_id for run in ground.store.claim(now, limit, lease()))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim gets past two portions that cannot be read, and no more."""
    for module in ("postgres", "mysql_line"):
        monkeypatch.setattr(f"kvflow.stores.{module}._ROUNDS", 2)


def test_what_is_claimed_does_not_wait_for_rows_that_cannot_be_read(ground: Ground) -> None:
    ground.empty()
    ahead = [f"ahead {number}" for number in range(7)]
    for run_id in ahead:
        ground.store.save(birth(run_id, wake_at=0))
    for number in range(20):
        ground.place(UNREADABLE, run_id=f"bad {number:02}", wake_at=1)
    ground.store.save(birth("behind", wake_at=2))
    assert claimed(ground, 8) == ahead
    assert len(ground.store.due(1000, 100)) == 20, "one of the claimed eight could not be read"
    assert claimed(ground, 8) == ["behind"]


@pytest.mark.usefixtures("patience")
def test_a_claim_ends_and_the_next_goes_on_behind_it(ground: Ground) -> None:
    ground.empty()
    for number in range(5):
        ground.place(UNREADABLE, run_id=f"bad {number}")
    ground.store.save(birth("behind"))
    assert [claimed(ground, 1) for _ in range(4)] == [[], [], ["behind"], []]


@pytest.mark.usefixtures("patience")
def test_a_worker_gets_behind_more_rows_than_a_claim_does(ground: Ground) -> None:
    ground.empty()
    with Runtime(ground.store, workflows=[good]) as runtime:
        for number in range(12):
            ground.place(UNREADABLE, run_id=f"bad {number}", workflow="good")
        runtime.submit(good, 1, run_id="behind")
        worker = Worker(runtime, concurrency=2, poll=0.05)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            until(lambda: get(ground.store, "behind").status is Status.COMPLETED)
        finally:
            worker.stop()
            thread.join()


def test_a_short_list_behind_many_rows_asks_few_times(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.empty()
    ground.store.save(birth("older"))
    ground.store.save(birth("oldest", created_at=9))
    for number in range(150):
        ground.place(Row({"event": ""}, ()), run_id=f"bad {number}")
    asked = list[object]()
    for server, call in ((Server, "read"), (Session, "ask")):
        monkeypatch.setattr(server, call, counted(getattr(server, call), asked))
    assert [run.run_id for run in ground.store.list(1)] == ["older"]
    assert len(asked) <= 4


def counted(call: Callable[..., object], asked: list[object]) -> Callable[..., object]:
    def counting(*given: object) -> object:
        asked.append(given)
        return call(*given)

    return counting


@pytest.mark.usefixtures("patience")
def test_what_is_put_off_at_the_end_of_all_time_can_be_mended(ground: Ground) -> None:
    ground.empty()
    ground.place(UNREADABLE)
    assert claimed(ground, 1, now=2**60) == []
    ((wake,),) = ground.ask(f"SELECT wake_at FROM {ground.runs}")
    assert wake == LATEST
    ground.ask(f"UPDATE {ground.runs} SET records = 0")
    assert claimed(ground, 1, now=2**60) == ["bad"]


@pytest.mark.chaos
@pytest.mark.parametrize("name", NAMES)
def test_rows_that_nobody_wrote_stop_nobody_for_long(ground: Ground, name: str) -> None:
    run_long(f"{name} of {type(ground.store).__name__}", *ground.attacks()[name])
