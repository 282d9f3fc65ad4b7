"""How the command is asked: its help, APP, and what is wrong with either, each in one line."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from cli.conftest import Kvflow
from kvflow.cli import main
from kvflow.cli.app import COMMANDS

NAMES = [command.__name__ for command, _, _ in COMMANDS]

FINE = "from kvflow import Runtime\nruntime = Runtime()\nclass box:\n    inner = runtime\n"

BROKEN = {
    "raises": ("x = 1\nopen('nowhere')\n", "importing 'raises' failed at raises.py:2: FileNotFoundError: [Errno 2] "),
    "exits": ("raise SystemExit(3)\n", "importing 'exits' failed at exits.py:1: SystemExit: 3"),
    "silent": ("raise KeyError\n", "importing 'silent' failed at silent.py:1: KeyError"),
    "garbled": ("def f(:\n", "importing 'garbled' failed: SyntaxError: invalid syntax (garbled.py, line 1)"),
    "lines": ("raise ValueError('one\\ntwo\\x1b[2J')\n", "failed at lines.py:1: ValueError: one; two\\x1b[2J"),
    "deep": ("import json\n\n\njson.loads('{')\n", "importing 'deep' failed at deep.py:4: JSONDecodeError: "),
    "imports": ("import nosuchthing\n", "failed at imports.py:1: ModuleNotFoundError: No module named 'nosuchthing'"),
    "away": (
        "from kvflow.stores import open_store\nstore = open_store('redsi://x')\n",
        "importing 'away' failed at away.py:2: UnknownScheme: no store for 'redsi:'",
    ),
}


def test_the_version(kvflow: Kvflow) -> None:
    assert kvflow("--version") == (0, f"kvflow {version('kvflow')}\n", "")


def test_help_lists_the_commands(kvflow: Kvflow) -> None:
    done = kvflow("--help")
    assert (done.code, done.err) == (0, "")
    listed = done.out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == NAMES
    assert not any(line.endswith("...") for line in listed), "a line each, whole"


def test_without_a_command_help_is_given(kvflow: Kvflow) -> None:
    done = kvflow()
    assert (done.code, done.out) == (2, kvflow("--help").out)


@pytest.mark.parametrize(("command", "arguments", "example"), [(one.__name__, *rest) for one, *rest in COMMANDS])
def test_each_command_has_help_with_an_example(kvflow: Kvflow, command: str, arguments: str, example: str) -> None:
    done = kvflow(command, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: kvflow {f'{command} {arguments}'.strip()} [OPTIONS]\n")
    assert f"  Example:\n    {example}\n" in done.out
    assert example.split()[1] == command
    assert "\x1b" not in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("shwo",), "No such command 'shwo'"),
        (("--verbos",), "No such option: --verbos"),
        (("runs", "--bad"), "No such option: --bad"),
        (("trigger",), "Missing argument 'APP' (see kvflow trigger --help)"),
        (("trigger", "shop:runtime"), "Missing argument 'WORKFLOW' (see kvflow trigger --help)"),
        (("signal", "shop:runtime", "o-1"), "Missing argument 'EVENT' (see kvflow signal --help)"),
        (("retry", "shop:runtime"), "Missing argument 'ID' (see kvflow retry --help)"),
    ],
)
def test_usage_is_told_in_one_line(kvflow: Kvflow, arguments: tuple[str, ...], said: str) -> None:
    done = kvflow(*arguments)
    assert (done.code, said in done.error) == (2, True), done


@pytest.mark.parametrize("app", ["shop", "shop:", ":runtime", "a/shop:runtime", "shop:run time", "", ".:x", "shop:a:b"])
def test_app_is_a_module_and_a_name(kvflow: Kvflow, app: str) -> None:
    done = kvflow("retry", app, "o-1")
    assert (done.code, done.error) == (
        2,
        f"kvflow: APP is {app!r}: it must be module:runtime, such as shop:runtime",
    )


def test_an_attribute_of_an_attribute(kvflow: Kvflow, here: Path) -> None:
    (here / "fine.py").write_text(FINE)
    assert kvflow("retry", "fine:box.inner", "o-1").error == "kvflow: there is no run 'o-1'"


def test_a_module_in_a_package_of_the_current_directory(kvflow: Kvflow, here: Path) -> None:
    (here / "pack").mkdir()
    (here / "pack" / "fine.py").write_text(FINE)
    assert kvflow("retry", "pack.fine:runtime", "o-1").error == "kvflow: there is no run 'o-1'"
    assert kvflow("retry", "pack.other:runtime", "o-1").error == (
        f"kvflow: there is no module 'pack.other' in {here} or elsewhere on Python's path"
    )


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ("none:runtime", "there is no module 'none' in "),
        ("none.below:runtime", "there is no module 'none' in "),
        ("fine.py:runtime", "write 'fine', without .py"),
        ("fine:runtim", "module 'fine' has no 'runtim': its runtimes are fine:runtime"),
        ("fine:box.outer", "module 'fine' has no 'box.outer': its runtimes are fine:runtime"),
        ("fine:Runtime", "'fine:Runtime' is a type, no Runtime or AsyncRuntime: its runtimes are fine:runtime"),
        ("json:loads", "'json:loads' is a function, no Runtime or AsyncRuntime: it has no runtime; make one with"),
    ],
)
def test_an_app_that_is_not_there(kvflow: Kvflow, here: Path, app: str, said: str) -> None:
    (here / "fine.py").write_text(FINE)
    done = kvflow("retry", app, "o-1")
    assert (done.code, said in done.error) == (1, True), done


@pytest.mark.parametrize("name", BROKEN)
def test_a_module_that_cannot_be_imported_is_told_of_with_what_and_where(kvflow: Kvflow, here: Path, name: str) -> None:
    source, said = BROKEN[name]
    (here / f"{name}.py").write_text(source)
    done = kvflow("retry", f"{name}:runtime", "o-1")
    assert (done.code, said in done.error) == (1, True), done


def test_the_traceback_is_there_for_who_asks(kvflow: Kvflow, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "raises.py").write_text("raise ValueError('here')\n")
    monkeypatch.setenv("KVFLOW_TRACEBACK", "1")
    with pytest.raises(Exception, match="importing 'raises' failed"):
        main(["retry", "raises:runtime", "o-1"])


def test_an_error_that_is_not_ours_is_one_line_too(kvflow: Kvflow, here: Path) -> None:
    (here / "odd.py").write_text(
        "from kvflow import Runtime\n"
        "from kvflow.stores import MemoryStore\n"
        "class Odd(MemoryStore):\n"
        "    def load(self, *a, **k):\n"
        "        raise RuntimeError('boom\\x1b')\n"
        "runtime = Runtime(Odd())\n"
    )
    done = kvflow("retry", "odd:runtime", "o-1")
    assert (done.code, done.error) == (1, "kvflow: RuntimeError: boom\\x1b (KVFLOW_TRACEBACK=1 shows where)")


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("kvflow.cli.", "typer", "rich"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["--help"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"kvflow: the command line needs {missing}: pip install 'kvflow[cli]'\n")


def test_the_current_directory_is_where_modules_are_looked_for(kvflow: Kvflow, here: Path) -> None:
    (here / "fine.py").write_text(FINE)
    os.chdir("/")
    assert "there is no module 'fine'" in kvflow("retry", "fine:runtime", "o-1").error
