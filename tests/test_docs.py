"""The pages are true: their Python runs, and their links lead somewhere.

The ``python`` blocks of a page run in order, as one program, in an empty directory. A URL of a server in them
becomes that of the tests' server, and the default prefix one of this page's own, whose runs are deleted before and
after. A comment before a block, which readers do not see, says what else it is:

    <!-- file NAME -->           it is a file of that name, which what follows may import
    <!-- a method of FILE -->    it stands in that file, word for word
    <!-- needs MODULE -->        it runs where that module is installed
    <!-- not run: REASON -->     it needs what no test can have

A page whose program has fixtures is a test file besides, and pytest runs it as one.
"""

import importlib
import importlib.util
import json
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvflow.stores import MySQLStore, PostgresStore, RedisStore, open_store

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
URL = re.compile(r"\b(postgresql|postgres|mysql|mariadb|redis|redis\+cluster|redis\+sentinel)://[^\s\"'`]+")
FIXTURES = {
    **dict.fromkeys(("postgresql", "postgres"), "postgres_url"),
    **dict.fromkeys(("mysql", "mariadb"), "mysql_url"),
    "redis": "redis_url",
    "redis+cluster": "redis_cluster_url",
    "redis+sentinel": "redis_sentinel_url",
}


class Block(NamedTuple):
    """A piece of Python on a page: what its mark says, its line, and itself."""

    mark: str
    line: int
    code: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield Block(found["mark"] or "", text.count("\n", 0, found.start("code")), found["code"])


def file_of(block: Block) -> str:
    """The name of the file that a block is, or nothing."""
    return block.mark.removeprefix("file ") if block.mark.startswith("file ") else ""


def runs(block: Block) -> bool:
    """Whether a block is part of its page's program here."""
    if file_of(block):
        return True
    module = block.mark.removeprefix("needs ")
    return not block.mark or (module != block.mark and importlib.util.find_spec(module) is not None)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def with_python(mark: str) -> list[Path]:
    return [page for page in PAGES if any(block.mark.startswith(mark) for block in blocks(page))]


@pytest.mark.parametrize("page", with_python(""), ids=named)
def test_the_python_of_a_page_runs(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    urls: dict[str, str] = {}

    def ours(found: re.Match[str]) -> str:
        return urls.setdefault(found[0], request.getfixturevalue(FIXTURES[found[1]]))

    programs = [(block.line, URL.sub(ours, block.code), file_of(block)) for block in blocks(page) if runs(block)]
    prefix = re.sub(r"\W", "_", f"docs_{page.stem}").lower()[:31]
    _default_prefix(prefix, monkeypatch)
    prefixes = {prefix, *(name for _, code, _ in programs for name in re.findall(r"prefix=\"(\w+)\"", code))}
    _empty(urls.values(), prefixes)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for line, code, file in programs:
            if file:
                _imported(tmp_path / file, code)
            else:
                exec(compile("\n" * line + code, named(page), "exec"), namespace)
    finally:
        for _, _, file in programs:
            sys.modules.pop(file.removesuffix(".py"), None)
        _empty(urls.values(), prefixes)


def with_fixtures() -> list[Path]:
    return [page for page in PAGES if any("@pytest.fixture\ndef" in block.code for block in blocks(page))]


@pytest.mark.parametrize("page", with_fixtures(), ids=named)
def test_the_tests_of_a_page_pass(page: Path, tmp_path: Path) -> None:
    file = tmp_path / "test_page.py"
    file.write_text("\n\n".join(block.code for block in blocks(page) if runs(block)), encoding="utf-8")
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:valkey", "-p", "no:cacheprovider", "-W", "error", file)
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d passed", done.stdout), done.stdout


SHOP = """
import json
from kvflow import Runtime
from shop import runtime, store
runtime.submit("order", {"id": "o-9", "amount": 3}, run_id="o-9")
elsewhere = Runtime(store)
elsewhere.signal("o-9", "answered", "yes")
run = elsewhere.wait("o-9", timeout=60)
print(json.dumps([run.status, run.output]))
"""


def test_the_worker_of_the_tutorial_drives_what_the_shop_submits(tmp_path: Path) -> None:
    for block in blocks(ROOT / "docs" / "tutorial.md"):
        if file_of(block):
            (tmp_path / file_of(block)).write_text(block.code, encoding="utf-8")
    command = (sys.executable, "-W", "error", "worker.py")
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as worker:
        try:
            shop = subprocess.run((sys.executable, "-c", SHOP), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
            worker.send_signal(signal.SIGTERM)
            said, logged = worker.communicate(timeout=60)
        finally:
            worker.kill()
    assert json.loads(shop.stdout) == ["completed", "o-9 is on its way"], logged
    assert said.splitlines() == ["charging 3 for o-9", "shipping o-9"]
    assert "the worker has stopped" in logged
    assert worker.returncode == 0


@pytest.mark.parametrize("page", with_python("a method of "), ids=named)
def test_what_a_page_shows_of_a_file_stands_in_it(page: Path) -> None:
    for block in blocks(page):
        if block.mark.startswith("a method of "):
            shown = (page.parent / block.mark.removeprefix("a method of ")).read_text(encoding="utf-8")
            assert textwrap.indent(block.code, "    ") in shown


def test_a_mark_is_one_of_those_that_mean_something() -> None:
    marks = [block.mark for page in PAGES for block in blocks(page) if block.mark]
    assert all(mark.startswith(("file ", "a method of ", "needs ", "not run: ")) for mark in marks), marks


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for path, anchor in LINK.findall(text):
        target = page.parent / path if path else page
        assert target.resolve().is_relative_to(ROOT), f"{path} leads out of the project"
        assert target.exists(), f"{path} is not there"
        if anchor:
            assert anchor in _anchors(target), f"{path}#{anchor} is no heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in seen:
            continue
        seen.add(page)
        if page.is_dir():
            ahead += page.glob("*.md")
        elif page.suffix == ".md" and page.exists():
            ahead += [(page.parent / path).resolve() for path, _ in LINK.findall(page.read_text(encoding="utf-8"))]
    assert [named(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page not in seen] == []


def _imported(file: Path, code: str) -> None:
    """Let a file be there, and import it; one that is there already would be somebody else's module."""
    assert importlib.util.find_spec(file.stem) is None, f"{file.stem} is the name of another module"
    file.write_text(code, encoding="utf-8")
    importlib.invalidate_caches()
    importlib.import_module(file.stem)


def _anchors(page: Path) -> set[str]:
    """The names that a page's headings have as targets."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def _default_prefix(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whatever a page opens without a prefix have this one."""
    stores: tuple[Any, ...] = (PostgresStore, MySQLStore, RedisStore)
    makers: list[Any] = [
        open_store,
        *(maker for store in stores for maker in (store.__init__, store.from_url.__func__)),
    ]
    for maker in makers:
        monkeypatch.setitem(maker.__kwdefaults__, "prefix", prefix)


def _empty(urls: Iterable[str], prefixes: Iterable[str]) -> None:
    for url, prefix in product(sorted(set(urls)), prefixes):
        with open_store(url, prefix=prefix) as store:
            while runs := store.list(100):
                for run in runs:
                    store.delete(run.run_id)
