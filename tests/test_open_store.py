"""Which store a URL means, what every one of them refuses, and what an error may say of a URL."""

import subprocess
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from kvflow import InvalidArgument, InvalidPrefix, KvflowError, Store, StoreUnavailable, UnknownScheme
from kvflow.stores import MemoryStore, open_store, register_scheme
from kvflow.stores.schemes import Factory
from kvflow.testing.runs import birth, get, opened, refused

SCHEMES = ("memory", "file", "postgresql", "postgres", "mysql", "mariadb", "redis", "rediss", "unix")
COMPOUND = ("redis+cluster", "redis+sentinel")
SERVERS = {
    "postgres": ("psycopg", "PostgresStore", "postgresql://host/db"),
    "mysql": ("pymysql", "MySQLStore", "mysql://host/db"),
    "redis": ("redis", "RedisStore", "redis://host"),
}
"""By extra: the driver that it brings, the store that needs it, and a URL of that store."""
SECRET = "hunter2"


@pytest.fixture
def register() -> Callable[[Factory], str]:
    """Registers a factory under a scheme that no other test uses, and gives its name."""

    def register(factory: Factory) -> str:
        name = f"test-{uuid.uuid4().hex}"
        register_scheme(name, factory)
        return name

    return register


def in_memory(url: str, **options: object) -> Store:
    return MemoryStore()


# Schemes


def test_memory_is_a_new_store_each_time() -> None:
    with open_store("memory:") as one, open_store("memory:") as other:
        assert type(one) is MemoryStore
        one.save(birth())
        assert other.load("a") is None


def test_a_scheme_is_known_in_capitals_too() -> None:
    with open_store("MEMORY:") as store:
        assert type(store) is MemoryStore


@pytest.mark.parametrize("server", ["postgres", "mysql", "redis", "redis_cluster", "redis_sentinel"])
def test_the_url_of_a_server_opens_its_store(server: str, request: pytest.FixtureRequest) -> None:
    url: str = request.getfixturevalue(f"{server}_url")
    with open_store(url, prefix="open_store") as store:
        run = birth(uuid.uuid4().hex)
        store.save(run, [b"one"])
        assert get(store, run.run_id).log == (b"one",)
        store.delete(run.run_id)


def test_an_unknown_scheme_names_those_that_are_known() -> None:
    with pytest.raises(UnknownScheme) as caught:
        open_store("dynamodb://table")
    said = str(caught.value)
    assert "'dynamodb:'" in said
    for known in (*SCHEMES, *COMPOUND):
        assert known in said


@pytest.mark.parametrize("url", ["", "runs.db", "/var/lib/runs", "//host/db", "1file:x", ":memory:", "a b:c"])
def test_a_url_without_a_scheme_says_with_what_it_must_begin(url: str) -> None:
    with refused(UnknownScheme, saying="it must begin with one of"):
        open_store(url)


# Schemes of one's own


def test_a_scheme_of_ones_own_gets_the_url_and_all_options(register: Callable[[Factory], str]) -> None:
    given: list[tuple[str, dict[str, object]]] = []

    def make(url: str, **options: object) -> Store:
        given.append((url, options))
        return MemoryStore()

    name = register(make)
    with open_store(f"{name}://host/x?y=1", prefix="shop", pool_size=3, timeout=0.5, region="eu") as store:
        assert type(store) is MemoryStore
    with open_store(f"{name}:"):
        pass
    assert given == [
        (f"{name}://host/x?y=1", {"prefix": "shop", "pool_size": 3, "timeout": 0.5, "region": "eu"}),
        (f"{name}:", {"prefix": "kvflow", "pool_size": 10, "timeout": 5.0}),
    ]


def test_a_scheme_of_ones_own_is_named_among_the_known(register: Callable[[Factory], str]) -> None:
    name = register(in_memory)
    with refused(UnknownScheme, saying=name):
        open_store("nobody:")


@pytest.mark.parametrize("bad", ["", "My", "my:", "my store", "1my", "my://"])
def test_a_name_that_no_url_could_have_is_no_scheme(bad: str) -> None:
    with refused(InvalidArgument, saying=repr(bad)):
        register_scheme(bad, in_memory)


# Options


@pytest.mark.parametrize("prefix", ["", "Shop", "1shop", "a-b", "a b", "a" * 32, "a\n", "ä", "kv;drop", None, 7])
def test_a_prefix_that_could_not_name_tables(prefix: str) -> None:
    with refused(InvalidPrefix, saying=repr(prefix)):
        open_store("memory:", prefix=prefix)


@pytest.mark.parametrize("prefix", ["a", "_", "shop_2", "a" * 31])
def test_a_prefix_that_could(prefix: str) -> None:
    with open_store("memory:", prefix=prefix):
        pass


@pytest.mark.parametrize("pool_size", [0, -1, 1.5, "10", None, True])
def test_a_pool_without_connections(pool_size: int) -> None:
    with refused(InvalidArgument, saying=f"pool_size is {pool_size!r}"):
        open_store("memory:", pool_size=pool_size)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "5", None, True])
def test_a_timeout_that_is_none(timeout: float) -> None:
    with refused(InvalidArgument, saying=f"timeout is {timeout!r}"):
        open_store("memory:", timeout=timeout)


# Files


@pytest.mark.parametrize("form", ["file:{relative}", "file:{absolute}", "file://{absolute}", "FILE:{absolute}"])
def test_all_forms_of_a_file_url_name_the_same_directory(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "deep" / "runs of mine"
    with open_store(f"file:{directory}") as store:
        store.save(birth(), [b"one"])
    assert directory.is_dir()
    with open_store(form.format(relative="deep/runs%20of%20mine", absolute=directory)) as again:
        assert get(again).log == (b"one",)


@pytest.mark.parametrize("url", ["file:", "file://", "file://host/runs", "file://runs"])
def test_a_file_url_that_names_no_local_directory(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(InvalidArgument, saying="file:rel, file:/abs or file:///abs"):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_a_prefix_of_ones_own_is_a_directory_in_the_directory(tmp_path: Path) -> None:
    with open_store(f"file:{tmp_path}/runs", prefix="shop") as shop, open_store(f"file:{tmp_path}/runs") as plain:
        shop.save(birth("of the shop"))
        plain.save(birth("plain"))
        assert [run.run_id for run in shop.list(10)] == ["of the shop"]
        assert [run.run_id for run in plain.list(10)] == ["plain"]
    assert (tmp_path / "runs" / "prefix-shop").is_dir()


# What an error may say of a URL


@pytest.mark.parametrize(
    "url",
    [
        f"nosuch://user:{SECRET}@host/db",
        f"user:{SECRET}@host/db",
        f"//user:{SECRET}@host/db",
        f"nosuch//user:{SECRET}@host/db",
        f"mysql://user:{SECRET}@host",
        f"mysql://user:{SECRET}@host:port/db",
        f"mysql://user:{SECRET}@host/db?nosuch=1",
        f"redis://user:{SECRET}@host:port/0",
        f"redis://user:{SECRET}@host/0?socket_timeout=1",
        f"redis+sentinel://user:{SECRET}@host:1",
        f"redis+cluster://user:{SECRET}@host/7",
        f"postgresql://user:{SECRET}@host/db?nosuch=1",
    ],
)
def test_a_url_that_is_wrong_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(KvflowError) as caught:
        open_store(url, timeout=0.5).load("a")
    assert isinstance(caught.value, InvalidArgument)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        f"{scheme}://user:{SECRET}@127.0.0.1:1/{path}"
        for scheme, path in (
            *((scheme, "db") for scheme in ("postgresql", "postgres", "mysql", "mariadb")),
            *((scheme, "0") for scheme in ("redis", "rediss", "redis+cluster")),
            ("redis+sentinel", "master"),
        )
    ],
)
def test_a_server_that_is_not_there_is_unavailable_and_its_password_unsaid(url: str) -> None:
    """Nothing listens on port 1."""
    with pytest.raises(StoreUnavailable) as caught, opened(partial(open_store, url, timeout=0.5)) as store:
        store.load("a")
    assert SECRET not in str(caught.value)


# Drivers


def python(code: str) -> str:
    """What another interpreter printed."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("extra", SERVERS)
def test_a_missing_driver_names_the_extra_that_brings_it(extra: str) -> None:
    driver, store, url = SERVERS[extra]
    said = python(
        f"""
import sys
sys.modules[{driver!r}] = None
from kvflow import MissingDriver
from kvflow.stores import open_store
try:
    open_store({url!r})
except MissingDriver as error:
    print(error)
try:
    from kvflow.stores import {store}
except MissingDriver as error:
    print(error)
"""
    )
    assert len(said.splitlines()) == 2
    for line in said.splitlines():
        assert store in line
        assert f"pip install 'kvflow[{extra}]'" in line


def test_the_stores_are_at_hand_without_any_driver() -> None:
    drivers = [driver for driver, _, _ in SERVERS.values()]
    imported = python(
        f"""
import sys
import kvflow
from kvflow.stores import FileStore, MemoryStore, open_store, register_scheme
open_store("memory:").close()
print([name for name in {drivers!r} if name in sys.modules])
"""
    )
    assert imported == "[]"
