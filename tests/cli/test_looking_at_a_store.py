"""runs, show and delete: on a store, without the code of any application."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import PREFIX, Kvflow
from kvflow import Context, Runtime, Status, Store, StoredRun, workflow
from kvflow.stores import open_store

HOSTILE = "[red]\N{RIGHT-TO-LEFT OVERRIDE}[link=http://x]"


@workflow
def rests(ctx: Context, payload: Any) -> Any:
    ctx.step("say", lambda: payload)
    return ctx.wait_for_event("word", "said", timeout=3600)


@workflow
def ends(ctx: Context, payload: Any) -> Any:
    return payload


@workflow
def breaks(ctx: Context) -> None:
    raise ValueError("\x1b[2J[bold]gone[/bold]\x9b31m")


def begun(url: str, **runs: object) -> None:
    """Runs that rest for an event, on this store."""
    with open_store(url, prefix=PREFIX) as store, Runtime(store, workflows=[rests]) as runtime:
        for run_id, payload in runs.items():
            runtime.trigger(rests, payload, run_id=run_id)


def stored(store: Store, run_id: str, at: int = 0, snapshot: bytes = b"") -> None:
    store.save(
        StoredRun(
            run_id=run_id,
            workflow="w",
            status=Status.WAITING,
            version=1,
            created_at=at,
            updated_at=at,
            snapshot=snapshot or Runtime.__name__.encode(),
        )
    )


@pytest.fixture
def filled(here: Path) -> str:
    """The URL of a store with a run that rests, one that is over and one that has failed, maybe of one millisecond."""
    url = f"file:{here}/runs"
    with open_store(url) as store, Runtime(store, workflows=[rests, ends, breaks]) as runtime:
        runtime.trigger(rests, {"b": 1}, run_id="r")
        runtime.trigger(ends, [1, 2], run_id="e")
        runtime.trigger(breaks, run_id="b")
    return url


@pytest.mark.parametrize("command", [["runs"], ["show", "a"], ["delete", "a"]])
def test_a_directory_that_is_not_there_is_not_made(kvflow: Kvflow, here: Path, command: list[str]) -> None:
    name, *rest = command
    done = kvflow(name, f"file:{here}/rnus", *rest)
    assert done.code == 1
    assert done.error == f"kvflow: there is no directory '{here}/rnus': name one in which a FileStore is"
    assert not (here / "rnus").exists()


# runs


def test_runs_are_lines_that_cut_can_use(kvflow: Kvflow, url: str) -> None:
    begun(url, a=1, b=2)
    done = kvflow("runs", url, "--prefix", PREFIX)
    assert (done.code, done.err) == (0, "")
    assert sorted(row[:5] for row in done.rows) == [
        ["a", "rests", "waiting", "event said", "0"],
        ["b", "rests", "waiting", "event said", "0"],
    ]
    for *_, wake, updated in done.rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", updated)
        assert wake > updated


def test_runs_as_json_have_the_names_of_run_info(kvflow: Kvflow, url: str) -> None:
    begun(url, a={"b": [1, "é"]})
    [run] = kvflow("runs", url, "--prefix", PREFIX, "--json").json
    assert (run["run_id"], run["workflow"], run["status"], run["attempt"]) == ("a", "rests", "waiting", 0)
    assert [(one["kind"], one["id"], one["event"]) for one in run["pending"]] == [("event", "word", "said")]
    assert run["pending"][0]["wake_at"] == run["wake_at"]
    assert not run.keys() & {"payload", "output", "history"}, "a listing does not read them"


def test_newest_first_and_no_more_than_the_limit(kvflow: Kvflow, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvflow.cli.runs.PAGE", 3)
    url = f"file:{here}/runs"
    with open_store(url) as store:
        for number in range(8):
            stored(store, f"n-{number}", at=number)
    newest = [f"n-{number}" for number in reversed(range(8))]
    for limit in (1, 3, 4, 7, 8, 9, 50):
        assert [run_id for run_id, *_ in kvflow("runs", url, "--limit", str(limit)).rows] == newest[:limit]
    with open_store(url) as store:
        for number in range(8, 60):
            stored(store, f"n-{number}", at=number)
    assert len(kvflow("runs", url).rows) == 50


def test_runs_of_one_status(kvflow: Kvflow, filled: str) -> None:
    assert sorted(row[:3] for row in kvflow("runs", filled).rows) == [
        ["b", "breaks", "failed"],
        ["e", "ends", "completed"],
        ["r", "rests", "waiting"],
    ]
    assert [row[0] for row in kvflow("runs", filled, "--status", "failed").rows] == ["b"]
    assert [run["run_id"] for run in kvflow("runs", filled, "--status", "waiting", "--json").json] == ["r"]
    none = kvflow("runs", filled, "--status", "running")
    assert (none.code, none.out) == (0, "")
    assert kvflow("runs", filled, "--status", "running", "--json").json == []


def test_a_run_that_cannot_be_read_says_so_among_the_others(kvflow: Kvflow, filled: str) -> None:
    with open_store(filled) as store:
        stored(store, "odd", snapshot=b"no snapshot")
    rows = kvflow("runs", filled).rows
    assert len(rows) == 4
    assert rows[-1][0] == "odd"
    assert rows[-1][3].startswith("corrupt: run 'odd'")
    shown = kvflow("show", filled, "odd")
    assert (shown.code, shown.error[:27]) == (1, "kvflow: run 'odd', snapshot")
    assert kvflow("delete", filled, "odd").code == 0


# show


def test_a_timeline(kvflow: Kvflow, url: str) -> None:
    begun(url, a={"b": 1})
    done = kvflow("show", url, "a", "--prefix", PREFIX)
    facts = {row[0]: row[1] for row in done.rows if len(row) == 2}
    assert facts.keys() == {"run", "workflow", "status", "created", "updated", "wakes", "payload"}
    assert (facts["run"], facts["workflow"], facts["status"], facts["payload"]) == ("a", "rests", "waiting", '{"b":1}')
    step, waits = (row for row in done.rows if len(row) == 5)
    assert step[1:] == ["step", "say", "1", '{"b":1}']
    assert facts["created"] <= step[0] <= facts["updated"]
    assert waits == ["-", "waits", "word", "-", f"event said until {facts['wakes']}"]


def test_one_run_as_json_is_one_object(kvflow: Kvflow, url: str) -> None:
    begun(url, a={"b": 1})
    run = kvflow("show", url, "a", "--prefix", PREFIX, "--json").json
    assert (run["run_id"], run["payload"], run["output"], run["error"]) == ("a", {"b": 1}, None, None)
    [step] = run["history"]
    assert (step["kind"], step["id"], step["attempt"], step["result"]) == ("step", "say", 1, {"b": 1})
    assert run["created_at"] <= step["at"] <= run["updated_at"]


def test_nothing_is_cut_off_without_a_terminal(kvflow: Kvflow, here: Path) -> None:
    url, long = f"file:{here}/runs", "x" * 5000
    begun(url, a=long)
    rows = kvflow("show", url, "a", "--prefix", PREFIX).rows
    assert ["payload", f'"{long}"'] in rows


def test_values_that_json_has_no_word_for(kvflow: Kvflow, here: Path) -> None:
    url = f"file:{here}/runs"
    payload = {1: b"\0\xff", None: float("nan"), "t": (1, 2)}
    begun(url, a=payload)
    shown = kvflow("show", url, "a", "--prefix", PREFIX)
    assert (shown.code, shown.err) == (0, "")
    assert kvflow("show", url, "a", "--prefix", PREFIX, "--json").json["run_id"] == "a"


@pytest.mark.parametrize("more", [(), ("--traceback",), ("--json",)])
def test_what_others_wrote_reaches_no_terminal_as_a_command(kvflow: Kvflow, here: Path, more: tuple[str, ...]) -> None:
    url = f"file:{here}/runs"
    with open_store(url) as store, Runtime(store, workflows=[rests, breaks]) as runtime:
        runtime.trigger(rests, {HOSTILE: "\x1b]0;title\a\x85\x9b"}, run_id=HOSTILE)
        runtime.trigger(breaks, run_id="b\\")
    commands: list[tuple[str, ...]] = [("show", url, HOSTILE, *more), ("show", url, "b\\", *more)]
    if more != ("--traceback",):
        commands.append(("runs", url, *more))
    for command in commands:
        done = kvflow(*command)
        assert (done.code, done.err) == (0, "")
        assert not re.search("[\0-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.out)
        assert "[red]" in done.out or "[bold]gone[/bold]" in done.out, "no markup is acted upon"
    assert kvflow("show", url, HOSTILE, "--json").json["run_id"] == HOSTILE
    gone = kvflow("delete", url, HOSTILE, f"{HOSTILE}2")
    assert (gone.out, gone.err) == (
        "deleted\t[red]\\u202e[link=http://x]\n",
        "kvflow: there is no run '[red]\\u202e[link=http://x]2'\n",
    )


# delete


def test_runs_are_deleted_and_those_that_are_not_there_are_told_of(kvflow: Kvflow, url: str) -> None:
    begun(url, a=1, b=2, c=3)
    done = kvflow("delete", url, "a", "none", "b", "--prefix", PREFIX)
    assert done == (1, "deleted\ta\ndeleted\tb\n", "kvflow: there is no run 'none'\n")
    assert [row[0] for row in kvflow("runs", url, "--prefix", PREFIX).rows] == ["c"]
    assert kvflow("delete", url, "c", "--prefix", PREFIX) == (0, "deleted\tc\n", "")


def test_deletions_as_json(kvflow: Kvflow, filled: str) -> None:
    done = kvflow("delete", filled, "r", "none", "--json")
    assert (done.code, done.err) == (1, "kvflow: there is no run 'none'\n")
    assert done.json == [{"run_id": "r", "deleted": True}, {"run_id": "none", "deleted": False}]


def test_nothing_is_deleted_when_an_id_is_none(kvflow: Kvflow, filled: str) -> None:
    assert kvflow("delete", filled, "r", "a\nb").code == 2
    assert len(kvflow("runs", filled).rows) == 3


# Which store


def test_the_store_and_the_prefix_of_the_environment(
    kvflow: Kvflow, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file:{here}/runs"
    begun(url, a=1)
    monkeypatch.setenv("KVFLOW_STORE", url)
    assert kvflow("runs").out == ""
    monkeypatch.setenv("KVFLOW_PREFIX", PREFIX)
    assert [row[0] for row in kvflow("runs").rows] == ["a"]
    assert kvflow("show", "a", "--json").json["run_id"] == "a"
    begun(f"file:{here}/others", b=1)
    assert kvflow("show", f"file:{here}/others", "a").error.endswith(f"in this store under the prefix '{PREFIX}'")
    assert kvflow("delete", "a").code == 0
    assert kvflow("runs", url).out == ""


def test_an_id_that_looks_like_a_url_is_given_after_the_store(
    kvflow: Kvflow, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file:{here}/runs"
    begun(url, **{"redis:1": 1, "order:1": 2})
    monkeypatch.setenv("KVFLOW_STORE", url)
    monkeypatch.setenv("KVFLOW_PREFIX", PREFIX)
    assert kvflow("show", "order:1", "--json").json["payload"] == 2, "nobody's scheme"
    assert kvflow("show", url, "redis:1", "--json").json["payload"] == 1
    assert kvflow("show", "redis:1").error == "kvflow: which run? give one ID after STORE: there are 0"
    wrong = kvflow("delete", "redsi://host", "order:1")
    assert (wrong.code, wrong.error[:32]) == (2, "kvflow: no store for 'redsi:': t")
    assert len(kvflow("runs").rows) == 2, "no typo in a URL deletes from another store"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runs",), 2, "which store? give STORE, a URL such as redis://localhost, or set KVFLOW_STORE"),
        (("show", "a"), 2, "which store?"),
        (("delete", "a"), 2, "which store?"),
        (("show", "memory:"), 2, "which run? give one ID after STORE"),
        (("show", "memory:", "a", "b"), 2, "which run? give one ID after STORE: there are 2"),
        (("delete", "memory:"), 2, "which runs? give one ID or more after STORE"),
        (("show",), 2, "(see kvflow show --help)"),
        (("delete",), 2, "(see kvflow delete --help)"),
        (("show", "memory:", "a"), 1, "there is no run 'a' in this store under the prefix 'kvflow'"),
        (("show", "memory:", ""), 2, "run id '' has 0 characters"),
        (("runs", "nowhere"), 2, "'nowhere' has no scheme"),
        (("runs", "redsi://localhost"), 2, "no store for 'redsi:'"),
        (("runs", "memory:", "--prefix", "No"), 2, "prefix 'No': it must match"),
        (("runs", "memory:", "--status", "asleep"), 2, "status 'asleep': it must be one of running, suspended"),
        (("runs", "memory:", "--limit", "0"), 2, "limit is 0"),
        (("runs", "memory:", "--limit", "few"), 2, "--limit"),
        (("show", "postgresql://127.0.0.1:1/x?connect_timeout=1", "a"), 1, "127.0.0.1"),
        (("runs", "redis://ann:secret@127.0.0.1:1"), 1, "Connection refused"),
    ],
)
def test_what_cannot_be_looked_at(
    kvflow: Kvflow, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    defaults: Any = open_store.__kwdefaults__
    monkeypatch.setitem(defaults, "timeout", 0.3)
    done = kvflow(*arguments)
    assert (done.code, said in done.error) == (code, True), done
    assert "secret" not in done.err


def test_a_missing_driver_names_the_extra(kvflow: Kvflow, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("kvflow.stores.redis")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    done = kvflow("runs", "redis://localhost")
    assert (done.code, "pip install 'kvflow[redis]'" in done.error) == (1, True)


def test_json_is_one_line_a_run(kvflow: Kvflow, filled: str) -> None:
    lines = kvflow("runs", filled, "--json").out.splitlines()
    assert sorted(json.loads(line.strip("[], "))["run_id"] for line in lines if line.strip("[], ")) == ["b", "e", "r"]
