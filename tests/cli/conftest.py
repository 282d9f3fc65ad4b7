"""The command line in this process: a directory with an application in it, and what the commands say."""

import json
import sys
import uuid
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from kvflow.cli import main
from kvflow.stores import open_store

PREFIX = f"kvflow_{uuid.uuid4().hex[:12]}"

BODIES = {
    "sync": '''
@workflow
def order(ctx: Context, amount: int) -> str:
    """Charged at once, and then approved by somebody."""
    ctx.step("charge", charge, amount)
    return ctx.wait_for_event("approval", "approved")


@workflow
def greet(ctx: Context) -> str:
    return "hello"


@workflow
def nap(ctx: Context) -> None:
    ctx.sleep("nap", 3600)


runtime = Runtime(store, workflows=[order, greet, nap])
''',
    "async": '''
@workflow
async def order(ctx: AsyncContext, amount: int) -> str:
    """Charged at once, and then approved by somebody."""
    await ctx.step("charge", charge, amount)
    return await ctx.wait_for_event("approval", "approved")


@workflow
async def greet(ctx: AsyncContext) -> str:
    return "hello"


@workflow
async def nap(ctx: AsyncContext) -> None:
    await ctx.sleep("nap", 3600)


runtime = AsyncRuntime(store, workflows=[order, greet, nap])
''',
}

SHOP = """
from pathlib import Path

from kvflow import AsyncContext, AsyncRuntime, Context, Runtime, workflow
from kvflow.stores import open_store


def charge(amount):
    if Path("broken").exists():
        raise ValueError("the card reader is broken")
    return f"charged {amount}"


store = open_store(URL, prefix=PREFIX)
nothing = Runtime(store)
"""


class Done(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[list[str]]:
        """The fields of each line."""
        return [line.split("\t") for line in self.out.splitlines()]

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line in which an error is told."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert self.out == ""
        return lines[0]


Kvflow = Callable[..., Done]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """An empty current directory, and modules that are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("KVFLOW_STORE", "KVFLOW_PREFIX", "KVFLOW_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    _forget(tmp_path)


@pytest.fixture
def kvflow(here: Path, capsys: pytest.CaptureFixture[str]) -> Kvflow:
    """A command in this process; each imports the application anew, as a process of its own would."""

    def called(*arguments: str) -> Done:
        code = main(arguments)
        _forget(here)
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return called


def _forget(directory: Path) -> None:
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(directory)):
            del sys.modules[name]


def write_shop(directory: Path, url: str, colour: str) -> None:
    lines: Sequence[str] = (f"URL, PREFIX = {url!r}, {PREFIX!r}", SHOP, BODIES[colour])
    (directory / "shop.py").write_text("\n".join(lines))


@pytest.fixture(params=["sync", "async"])
def shop(request: pytest.FixtureRequest, here: Path) -> str:
    """An application in ``shop.py``, of either colour, on the store whose URL this is."""
    url = f"file:{here}/runs"
    write_shop(here, url, request.param)
    return url


@pytest.fixture(params=["file", "postgres", "redis"])
def url(request: pytest.FixtureRequest, here: Path) -> Generator[str]:
    """A store that others may share, empty under our prefix."""
    if request.param == "file":
        yield f"file:{here}/runs"
        return
    url: str = request.getfixturevalue(f"{request.param}_url")
    yield url
    with open_store(url, prefix=PREFIX) as store:
        while runs := store.list(100):
            for run in runs:
                store.delete(run.run_id)
    if request.param == "postgres":
        with psycopg.connect(url) as connection:
            connection.execute(f"DROP TABLE IF EXISTS {PREFIX}_run, {PREFIX}_log, {PREFIX}_schema".encode())
