"""Whatever is typed, and whatever is in the store, a command ends with a line that is harmless, and no traceback."""

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple

import hypothesis.strategies as st
import pytest

from hostile.attack import run, run_long
from hostile.decoders import Attack
from hostile.inputs import EVIL, REFUSED, SPECIAL
from hostile.watch import answered, check_harmless
from kvflow.cli import main
from kvflow.stores import FileStore, open_store
from kvflow.testing.runs import birth

APP = """
from kvflow import Context, Runtime, workflow
from kvflow.stores import open_store

@workflow
def order(ctx: Context, payload):
    return ctx.wait_for_event("wait", "go", timeout=3600)

runtime = Runtime(open_store("file:runs"), workflows=[order])
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


def command(*arguments: str) -> Said:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    check_harmless(out.getvalue() + err.getvalue())
    return Said(code, out.getvalue(), err.getvalue())


def typed(arguments: list[str]) -> None:
    """A usage error, a failure or success; of an error that is not kvflow's own, KVFLOW_TRACEBACK would be told."""
    said = command(*arguments)
    assert said.code in (0, 1, 2), said
    assert "KVFLOW_TRACEBACK" not in said.err, said.err


TEXT = st.sampled_from([*EVIL, *REFUSED, "order", "a", "bad 1", "file:runs"]) | st.text(max_size=12)
JSON = TEXT | st.sampled_from(
    [
        "[" * 10_000,
        "{" * 10_000,
        "9" * 5000,
        "1e999999999",
        '"\\ud800"',
        '"\udcff"',
        "NaN",
        "1" + "0" * 30,
        '{"a":1,"a":2}',
    ]
)
NUMBER = st.sampled_from(["0", "-1", "1", "9" * 30, "1e9", "nan", "x", "", "٣"])
APPS = st.sampled_from(
    ["shop:runtime", "shop", "shop:nothing", "../shop:runtime", "shop:runtime.store", ":", "nowhere:x", ""]
)
STORES = st.sampled_from(["file:runs", "file:", "file:\0", "x://y", "memory:", "file:a/" + "b" * 5000, "FILE:runs", ""])
STATUS = st.sampled_from(["waiting", "WAITING", "' OR 1=1", "", "\x1b[31m"])
ARGUMENTS = st.one_of(
    st.tuples(st.just("trigger"), APPS, TEXT, JSON, st.just("--id"), TEXT),
    st.tuples(st.just("signal"), APPS, TEXT, TEXT, JSON),
    st.tuples(st.sampled_from(["cancel", "retry"]), APPS, TEXT),
    st.tuples(st.just("cancel"), APPS, st.just("bad 1"), st.just("--reason"), TEXT),
    st.tuples(st.just("runs"), STORES, st.just("--status"), STATUS, st.just("--limit"), NUMBER),
    st.tuples(st.just("runs"), STORES, st.just("--prefix"), TEXT),
    st.tuples(st.just("show"), STORES, TEXT, st.sampled_from(["--json", "--traceback", "--prefix=" + EVIL[0]])),
    st.tuples(st.just("delete"), st.just("file:runs"), TEXT, st.just("--yes")),
    st.tuples(st.just("schema"), STORES, st.just("--prefix"), TEXT),
    st.tuples(TEXT, TEXT),
).map(list)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application, and a store in which every run is hostile."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    (tmp_path / "shop.py").write_text(APP)
    with FileStore("runs") as store:
        for number, data in enumerate(SPECIAL):
            store.save(birth(f"bad {number}", workflow="order", snapshot=data), [data])
        for text in EVIL:
            store.save(birth(text, workflow=text, event=text, snapshot=b"\x80"))
    return tmp_path


@pytest.mark.usefixtures("here")
def test_whatever_is_typed_ends_in_a_harmless_line() -> None:
    run("command lines", ARGUMENTS, typed, 120)


@pytest.mark.chaos
@pytest.mark.usefixtures("here")
def test_whatever_is_typed_ends_in_a_harmless_line_for_long() -> None:
    run_long("command lines", *Attack(ARGUMENTS, typed, 120))


@pytest.mark.usefixtures("here")
def test_a_store_full_of_hostile_runs_is_listed_and_each_is_shown() -> None:
    for how in ([], ["--json"]):
        said = command("runs", "file:runs", "--limit", "1000", *how)
        assert said.code == 0
        assert all(f"bad {number}" in said.out for number in range(len(SPECIAL)))
    for text in (*EVIL, *(f"bad {number}" for number in range(len(SPECIAL)))):
        typed(["show", "file:runs", "--", text])
        typed(["show", "file:runs", "--json", "--", text])


URLS = st.one_of(
    st.text(max_size=30),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(
            ["postgresql", "mysql", "mariadb", "redis", "rediss", "unix", "redis+cluster", "redis+sentinel"]
        ),
        st.sampled_from(["://", ":", ":/", ":///"]),
        st.text(alphabet=st.sampled_from("ab@:/?#[]%,&=.1 \\'\"\0\n\ud800é"), max_size=20),
    ),
    st.builds("file:{}".format, st.sampled_from(["\ud800", "\0", "%00", "%ff", "//host/x", "x" * 300])),
)


def opened(url: str) -> None:
    def open_it() -> None:
        open_store(url).close()

    answered(open_it, Path.cwd(), sys.prefix, sys.base_prefix)  # a driver looks up its own version


@pytest.fixture
def imported(here: Path) -> None:
    """All that opens a store is imported: it is when it is first asked for, and that is no deed of a hostile URL."""
    for scheme in ("postgresql", "mysql", "redis", "rediss"):
        open_store(f"{scheme}://localhost/1").close()
    open_store("file:warm").close()


@pytest.mark.usefixtures("imported")
def test_a_url_of_anything_opens_or_is_refused() -> None:
    run("URLs", URLS, opened, 300)


@pytest.mark.chaos
@pytest.mark.usefixtures("imported")
def test_a_url_of_anything_opens_or_is_refused_for_long() -> None:
    run_long("URLs", *Attack(URLS, opened, 300))
