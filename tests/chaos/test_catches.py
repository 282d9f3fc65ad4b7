"""The checkers find what they are for: kvflow broken on purpose does not get through a course, and what is put into a
store by hand is not overlooked."""

import json
from pathlib import Path

import psycopg
import pytest

from chaos.breaks import BREAKS
from chaos.conftest import Fresh
from chaos.course import Course, Lost, run_course
from chaos.grounds import FileGround, Ground, MySQLGround, PostgresGround, RedisGround
from chaos.plan import Kind
from kvflow import Context, RunInfo, Runtime, workflow
from kvflow.stores import open_store

SAYS = {
    "fencing off": "is recorded 2 times",
    "index write left out": "is stuck",
    "posted records dropped": "is stuck",
    "lease check removed": "after it had been recorded",
    "recorded step forgotten": "is recorded 2 times",
    "event got twice": "and got",
}
"""What the checker has to say of each."""

STOPPED = {"fencing off", "lease check removed"}
"""These show only where a worker outlives its lease; the others without any fault beside them."""

SEEDS = 6


@pytest.mark.parametrize("fresh", ["file"], indirect=True)
@pytest.mark.parametrize("broken", BREAKS)
def test_kvflow_broken_on_purpose_is_seen(fresh: Fresh, broken: str, tmp_path: Path) -> None:
    said: list[str] = []
    for seed in range(SEEDS):  # whether a stopped worker stood where it matters is chance
        stops = broken in STOPPED
        course = Course(
            seed,
            seconds=4 if stops else 2,
            rate=6,
            kinds=(Kind.STOP,) if stops else (),
            patience=4 if stops else 2,
            think=0.4 if broken == "lease check removed" else 0.03,
            broken=broken,
        )
        with fresh() as ground:
            try:
                run_course(ground, course, tmp_path / str(seed))
            except Lost as lost:
                said.append(str(lost))
                if SAYS[broken] in said[-1]:
                    return
    pytest.fail(f"{broken} was not seen, but: {said}")


@workflow
def order(ctx: Context) -> str:
    return ctx.step("only", lambda: "done")


def over(ground: Ground) -> dict[str, RunInfo]:
    """A run that is over, in a store that has nothing else."""
    with open_store(ground.url, prefix=ground.prefix) as store, Runtime(store, [order]) as runtime:
        return {"one": runtime.trigger(order, run_id="one")}


def write(ground: Ground, statement: str) -> None:
    """Do as the server is told, which is none of kvflow's."""
    where = statement.format(p=ground.prefix, tag=f"{{{ground.prefix}}}:")
    if isinstance(ground, RedisGround):
        ground.do(*json.loads(where))
    elif isinstance(ground, PostgresGround):
        with psycopg.connect(ground.url) as connection:
            connection.execute(where.encode())
    elif isinstance(ground, MySQLGround):
        ground.do(where)
    elif isinstance(ground, FileGround):
        (ground.runs / where).write_bytes(b"")


LEFT: dict[str, dict[str, str]] = {
    "redis": {
        "is of no run": '["RPUSH", "{tag}log:two", "x"]',
        "{tag}leases' is of no run": '["ZADD", "{tag}leases", "0", "order\\n0000000000000001\\none"]',
        "{tag}wakes' is of no run": '["ZADD", "{tag}wakes", "0", "order\\n0000000000000001\\none"]',
        "the index of births has 0 entries": '["DEL", "{tag}births"]',
        "log:one' is missing": '["DEL", "{tag}log:one"]',
    },
    "postgres": {
        "two has records and no row": "INSERT INTO {p}_log VALUES ('two', 0, '')",
        "one is completed and has a lease": "UPDATE {p}_run SET token = 'x', expires_at = 1",
        "one is completed and has a wake": "UPDATE {p}_run SET wake_at = 1",
        "and its row says": "DELETE FROM {p}_log",
        "is listed, and not both": "UPDATE {p}_run SET run_id = 'two'",
    },
    "mysql": {
        "one is completed and has a lease": "UPDATE {p}_runs SET token = 'x', expires_at = 1",
        "one is completed and has a wake": "UPDATE {p}_runs SET wake_at = 1",
        "and its row says": "DELETE FROM {p}_log",
        "is listed, and not both": "UPDATE {p}_runs SET run_id = 'two'",
    },
    "file": {
        "2 files are there, and 1 runs": "0/two",
        "was never finished": "0/one.new",
    },
}
"""By store: what is to be said, and what is done to the store behind kvflow's back."""


def test_what_is_left_in_a_store_is_seen(fresh: Fresh) -> None:
    with fresh() as ground:
        told = LEFT[ground.name]
    for says, statement in told.items():
        with fresh() as ground:
            runs = over(ground)
            assert list(ground.at_rest(runs)) == []
            assert list(ground.left()) != [], "a run that was not deleted is left"
            write(ground, statement)
            said = "\n".join(ground.at_rest(runs))
            assert says.format(tag=f"{{{ground.prefix}}}:") in said
