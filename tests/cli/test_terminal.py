"""What a person sees on a terminal: tables, a question before anything is deleted, and a table that lives."""

import os
import re
import signal
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from cli.conftest import write_shop
from cli.processes import Terminal, run
from kvflow import Context, Runtime, workflow
from kvflow.stores import open_store


@workflow
def rests(ctx: Context, payload: str) -> object:
    ctx.step("say", lambda: payload)
    return ctx.wait_for_event("word", "said", timeout=3600)


On = Callable[..., Terminal]


@pytest.fixture
def on(tmp_path: Path) -> Generator[On]:
    """A command on a terminal, beside a store ``file:runs`` with the runs ``r-0`` and ``r-1``."""
    trigger(tmp_path, "r-0", "r-1")
    begun: list[Terminal] = []

    def opened(*arguments: str, **more: str) -> Terminal:
        begun.append(Terminal(arguments, tmp_path, **more))
        return begun[-1]

    yield opened
    for terminal in begun:
        terminal.close()


def trigger(cwd: Path, *run_ids: str, payload: str = "hello") -> None:
    with open_store(f"file:{cwd}/runs") as store, Runtime(store, workflows=[rests]) as runtime:
        for run_id in run_ids:
            runtime.trigger(rests, payload, run_id=run_id)


def left(cwd: Path) -> set[str]:
    with open_store(f"file:{cwd}/runs") as store:
        return {found.run_id for found in store.list(100)}


def test_a_table_of_runs(on: On) -> None:
    terminal = on("runs", "file:runs")
    assert terminal.end() == 0
    heading, *rows = terminal.text.splitlines()
    assert re.split(r"  +", heading.strip()) == ["id", "workflow", "status", "waits for", "attempt", "wakes", "updated"]
    assert [re.split(r"  +", row)[:6] for row in rows] == [
        [run_id, "rests", "waiting", "event said", "0", "in 59m"] for run_id in ("r-1", "r-0")
    ]
    assert "\x1b[33mwaiting" in terminal.raw, "in colour"


def test_a_table_says_that_there_are_more_or_none(on: On) -> None:
    more = on("runs", "file:runs", "--limit", "1")
    assert more.end() == 0
    assert (more.text.count("r-"), "there are more: see --limit" in more.text) == (1, True)
    none = on("runs", "file:runs", "--status", "failed")
    assert none.end() == 0
    assert "no runs" in none.text


def test_no_colours_where_they_are_not_wanted(on: On) -> None:
    plain = on("runs", "file:runs", NO_COLOR="1")
    assert plain.end() == 0
    assert "waiting" in plain.text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain.raw)


def test_a_terminal_that_knows_nothing_gets_plain_lines(on: On) -> None:
    plain = on("runs", "file:runs", TERM="dumb")
    assert plain.end() == 0
    assert "\x1b" not in plain.raw
    assert plain.text.startswith("r-1\trests\twaiting\t") or plain.text.startswith("r-1     rests")


def test_a_timeline_on_a_terminal(on: On, tmp_path: Path) -> None:
    trigger(tmp_path, "[bold]r\\", payload="[red]" + "x" * 3000)
    terminal = on("show", "file:runs", "[bold]r\\")
    assert terminal.end() == 0
    assert "[bold]r\\" in terminal.text
    assert '"[red]xxx' in terminal.text
    assert "(3007 characters; --json has all)" in re.sub(r"\s+", " ", terminal.text)
    assert "at (UTC)" in terminal.text
    assert max(len(line) for line in terminal.text.splitlines()) <= 100


def test_json_is_the_same_on_a_terminal(on: On, tmp_path: Path) -> None:
    terminal = on("show", "file:runs", "r-0", "--json")
    assert terminal.end() == 0
    assert terminal.text == run("show", "file:runs", "r-0", "--json", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("answer", "code", "gone"),
    [("y\n", 0, True), ("\n", 1, False), ("\4", 1, False)],
)
def test_delete_asks_first(on: On, tmp_path: Path, answer: str, code: int, gone: bool) -> None:
    terminal = on("delete", "file:runs", "r-0")
    terminal.wait_for("[y/N]")
    assert "r-0 (rests, waiting)\ndelete from file:runs?" in terminal.text
    assert left(tmp_path) == {"r-0", "r-1"}
    terminal.type(answer)
    assert terminal.end() == code
    assert ("nothing was deleted" in terminal.text) is not gone
    assert left(tmp_path) == ({"r-1"} if gone else {"r-0", "r-1"})


def test_delete_does_not_ask_when_told_so_or_when_there_is_nothing(on: On, tmp_path: Path) -> None:
    none = on("delete", "file:runs", "none")
    assert (none.end(), none.text) == (1, "kvflow: there is no run 'none'\n")
    assert on("delete", "file:runs", "r-0", "--yes").end() == 0
    assert left(tmp_path) == {"r-1"}


def test_ctrl_c_at_the_question_deletes_nothing(on: On, tmp_path: Path) -> None:
    terminal = on("delete", "file:runs", "r-0")
    terminal.wait_for("[y/N]")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
    assert left(tmp_path) == {"r-0", "r-1"}


def test_a_table_that_lives_until_ctrl_c(on: On, tmp_path: Path) -> None:
    terminal = on("runs", "file:runs", "--watch")
    terminal.wait_for("r-0")
    trigger(tmp_path, "later")
    terminal.wait_for("later")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text
    assert terminal.raw.rstrip().endswith("\x1b[?25h"), "the cursor is back"


def test_a_worker_on_a_terminal(on: On, tmp_path: Path) -> None:
    write_shop(tmp_path, "file:runs", "sync")
    terminal = on("worker", "shop:runtime")
    terminal.wait_for("a worker for shop:runtime, on a FileStore")
    terminal.wait_for("the worker begins")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 0
    assert "the worker has stopped" in terminal.text


def test_help_on_a_terminal(on: On) -> None:
    terminal = on("show", "--help")
    assert terminal.end() == 0
    assert terminal.text.startswith("Usage: kvflow show [STORE] ID [OPTIONS]\n")
