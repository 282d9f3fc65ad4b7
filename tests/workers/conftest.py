"""What the tests of the worker run on.

What a worker does beside its store's calls is the same on all of them, and the processes' tests run on each: the
others run on the store of threads and on one of the servers.
"""

from collections.abc import Generator

import pytest

from kvflow import Store
from kvflow.stores import open_store
from on_every_store import PREFIX, clock, empty, opened_stores, opener

__all__ = ["clock", "opened_stores", "opener"]


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest, opened_stores: dict[str, Store]) -> Generator[Store]:
    """An empty store."""
    if request.param == "memory":
        with open_store("memory:") as store:
            yield store
        return
    url: str = request.getfixturevalue("postgres_url")
    if url not in opened_stores:
        opened_stores[url] = open_store(url, prefix=PREFIX)
    yield opened_stores[url]
    empty(opened_stores[url])
