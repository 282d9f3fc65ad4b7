"""The stores that a course can be run on, each on a server or a disk of the test's own."""

import uuid
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from chaos.grounds import FileGround, Ground, MySQLGround, PostgresGround, RedisGround

GROUNDS: dict[str, type[RedisGround | PostgresGround | MySQLGround]] = {
    "redis": RedisGround,
    "postgres": PostgresGround,
    "mysql": MySQLGround,
}
STORES = ("file", *GROUNDS)

Fresh = Callable[[], AbstractContextManager[Ground]]


@pytest.fixture(params=STORES)
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Fresh:
    """Makes a store that nobody has used, as often as it is called, and takes it away."""

    @contextmanager
    def ground() -> Generator[Ground]:
        name = uuid.uuid4().hex[:8]
        if request.param == "file":
            made: Ground = FileGround(tmp_path / name)
        else:
            made = GROUNDS[request.param](request.getfixturevalue(f"own_{request.param}"), f"chaos_{name}")
        try:
            yield made
        finally:
            made.away()

    return ground
