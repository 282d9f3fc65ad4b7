"""``kvflow demo`` on real servers: its account is true, it leaves nothing behind, and it tells what is wrong."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import psutil
import psycopg
import pytest
from msgspec.structs import replace
from rich.console import Console

from kvflow import Runtime, Status
from kvflow.cli import main
from kvflow.demo import shop
from kvflow.demo.account import Account, account
from kvflow.demo.journal import Journal, Line, What
from kvflow.demo.orders import order, order_book
from kvflow.demo.scene import Note, Place, Scene
from kvflow.demo.views import WIDTH, panel, tell, watching
from kvflow.info import RunInfo
from kvflow.stores.redis_urls import connector

ORDERS = 12
DEADLINE = 120
PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"

CALL: tuple[What, What] = ("begun", "ended")


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# The demo, as its user starts it


class Demo:
    """A demo that runs. Its journal can still be read when the demo has removed it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvflow", "demo", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        until(lambda: self.path is not None or self.process.poll() is not None, "no step was called")
        assert self.path is not None, self.process.communicate()
        self._journal = self.path.open("rb")

    @property
    def path(self) -> Path | None:
        return next(self.folder.glob("kvflow-demo-*/journal.jsonl"), None)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, out, err

    def lines(self) -> list[Line]:
        self._journal.seek(0)
        return [msgspec.json.decode(line, type=Line) for line in self._journal.read().splitlines()]

    def workers(self) -> set[int]:
        return {line.pid for line in self.lines() if line.what == "begun"}

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._journal.close()


@contextmanager
def demo(folder: Path, *options: str) -> Generator[Demo]:
    with closing(Demo(folder, *options)) as running:
        yield running


def left_of(prefix: str, url: str | None) -> list[Any]:
    """What a server has of a prefix."""
    if url is None:
        return []
    if url.startswith("postgres"):
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT relname FROM pg_class WHERE starts_with(relname, %s)", [prefix])
            return found.fetchall()
    client: Any = connector(url)()
    with closing(client):
        return list(client.scan_iter(f"*{prefix}*", count=1000))


@pytest.mark.parametrize("server", [None, "redis", "postgres"])
def test_its_account_is_what_the_journal_says_and_nothing_is_left(
    server: str | None, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url: str | None = None if server is None else request.getfixturevalue(f"{server}_url")
    with demo(tmp_path, f"--orders={ORDERS}", *([] if url is None else ["--store", url])) as running:
        code, out, err = running.end()
        lines, workers = running.lines(), running.workers()
    assert code == 0, out + err
    told = msgspec.json.decode(out)
    assert (told["finished"], told["shipped"], told["undone"]) == (ORDERS, ORDERS - 2, 2)
    assert (told["faults"], told["events_lost"], len(told["killed"])) == ([], 0, 1)

    begun = [line for line in lines if line.what == "begun"]
    ended = {line.call for line in lines if line.what in ("ended", "failed")}
    cut_off = [line for line in begun if line.call not in ended]
    assert cut_off, "somebody was killed in the middle of a step"
    assert len({line.pid for line in cut_off}) == 1
    assert told["steps_run"] == len(begun)
    twice = {(each["order"], each["step"]): set(each["keys"]) for each in told["run_twice"]}
    assert {(line.order, line.step): {line.key} for line in cut_off}.items() <= twice.items()
    sent = {line.call for line in lines if line.what == "sent"}
    assert told["events_sent"] == len(sent) == 6
    assert {name for line in begun if line.step == "pack" for name in line.shown} == sent

    assert re.search(r" s +killed +worker \d \(SIGKILL\) in \d\d pack|\d\d pack", err)
    assert {line.order for line in cut_off} <= set(re.findall(r"taken over (\S+), by worker", err))
    assert "\x1b" not in err
    prefix = re.findall(r"under the prefix (\w+)", err)
    assert len(prefix) == 1
    assert left_of(prefix[0], url) == []
    assert list(tmp_path.iterdir()) == []
    assert len(workers) == 3
    assert not [pid for pid in workers if psutil.pid_exists(pid)]


def test_ctrl_c_takes_away_all_that_it_made(redis_url: str, tmp_path: Path) -> None:
    with demo(tmp_path, "--store", redis_url) as running:
        until(lambda: len(running.workers()) == 3, "not all workers have begun")
        running.process.send_signal(signal.SIGINT)
        code, out, err = running.end()
        assert (code, out) == (130, "")
        assert err.splitlines()[-1].startswith("kvflow: stopped")
        [prefix] = re.findall(r"under the prefix (\w+)", err)
        assert left_of(prefix, redis_url) == []
        assert list(tmp_path.iterdir()) == []
        assert not [pid for pid in running.workers() if psutil.pid_exists(pid)]


def test_workers_do_not_outlive_a_demo_that_was_killed(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        until(lambda: len(running.workers()) == 3, "not all workers have begun")
        workers = [psutil.Process(pid) for pid in running.workers()]
        running.process.kill()
        _, alive = psutil.wait_procs(workers, timeout=DEADLINE)
        assert alive == []


def test_what_is_off_is_told_and_the_exit_code_is_1(tmp_path: Path) -> None:
    with demo(tmp_path, "--orders=1") as running:
        until(lambda: any(line.what == "ended" for line in running.lines()), "no step has ended")
        assert running.path is not None
        first = next(line for line in running.lines() if line.what == "begun")
        Journal(running.path).add(replace(first, call="another", key="another"))
        code, out, _ = running.end()
    assert code == 1
    assert f"order-01 {first.step} was called under different keys" in msgspec.json.decode(out)["faults"]


def test_a_store_that_no_other_process_sees_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--store", "memory:"]) == 2
    assert "one process alone" in capsys.readouterr().err


# The account, of a journal that something is done to


class Evidence:
    """The journal of orders that went as they should, all in this process, and what the store says of them."""

    def __init__(self, path: Path) -> None:
        self.orders = order_book(ORDERS)
        self.lines: list[Line] = []
        self.runs: dict[str, RunInfo | None] = {}
        self.path = path

    def account(self, *killed: int) -> Account:
        journal = Journal(self.path)
        self.path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in self.lines))
        journal.read()
        return account(self.orders, journal, self.runs, workers={os.getpid(): "worker 1"}, killed=killed)

    def the(self, order: str, step: str, what: What = "begun") -> int:
        """Where the line is; the last, if there are some."""
        [*_, place] = [
            place for place, line in enumerate(self.lines) if (line.order, line.step, line.what) == (order, step, what)
        ]
        return place

    def change(self, place: int, **changes: Any) -> None:
        self.lines[place] = replace(self.lines[place], **changes)

    def drop(self, order: str, step: str) -> None:
        self.lines = [line for line in self.lines if (line.order, line.step) != (order, step)]

    def call_again(self, order: str, step: str, after: float = 60.0, **changes: Any) -> None:
        """The same call once more, so many seconds later."""
        for what in CALL:
            line = self.lines[self.the(order, step, what)]
            self.lines.append(replace(line, call="again", at=line.at + after, **changes))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    evidence = Evidence(tmp_path_factory.mktemp("sound") / "journal.jsonl")
    journal = Journal(evidence.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(shop.JOURNAL, str(journal.path))
        patch.setattr(shop, "SECONDS", dict.fromkeys(shop.SECONDS, 0))
        with Runtime(workflows=[order]) as runtime:
            for each in evidence.orders:
                runtime.submit(order, each, run_id=each.id)
                for number in range(each.approvals):
                    runtime.signal(each.id, "approved", f"{each.id} {number}")
                    journal.sent(each.id, f"{each.id} {number}")
            until(lambda: not runtime.sweep() and all(run.over for run in runtime.list_runs()), "not all are over")
            evidence.runs = {each.id: runtime.get_run(each.id) for each in evidence.orders}
    evidence.lines = journal.read()
    return evidence


@pytest.fixture
def evidence(sound: Evidence, tmp_path: Path) -> Evidence:
    copy = Evidence(tmp_path / "journal.jsonl")
    copy.lines, copy.runs = list(sound.lines), dict(sound.runs)
    return copy


def test_what_went_well_has_no_fault(evidence: Evidence) -> None:
    told = evidence.account()
    assert told.faults == ()
    assert (told.sound, told.finished, told.undone, told.events_sent) == (True, ORDERS, 2, 6)
    assert told.tried_again == 3, "the bank's line was bad for three of them"


def fault(told: Account) -> str:
    """The one fault."""
    assert not told.sound
    [fault] = told.faults
    return fault


def test_a_recorded_step_that_is_called_again_is_told(evidence: Evidence) -> None:
    evidence.call_again("order-02", "ship")
    told = evidence.account()
    assert "order-02 ship was called again 60.0 s after it had been recorded" in " ".join(told.faults)
    assert not told.sound


def test_a_recorded_step_that_is_called_again_is_told_though_its_worker_was_killed(evidence: Evidence) -> None:
    evidence.call_again("order-02", "ship", pid=2)
    told = evidence.account(os.getpid())
    assert "order-02 ship was called again 60.0 s after it had been recorded" in fault(told)


def test_a_call_that_its_workers_death_cut_off_is_no_fault(evidence: Evidence) -> None:
    before = evidence.lines[evidence.the("order-02", "pack")]
    cut_off = replace(before, call="cut off", pid=2)
    evidence.lines.insert(evidence.the("order-02", "pack"), cut_off)
    told = evidence.account(2)
    assert told.sound
    [twice] = told.run_twice
    assert (twice.order, twice.step, twice.workers, twice.keys) == (
        "order-02",
        "pack",
        ("pid 2", "worker 1"),
        (before.key, before.key),
    )
    told = evidence.account()
    assert not told.sound, "nobody was killed in it"


def test_a_failed_try_that_its_workers_death_left_unrecorded_is_no_fault(evidence: Evidence) -> None:
    place = evidence.the("order-02", "charge")
    first = replace(evidence.lines[place], call="unrecorded", pid=2)
    evidence.lines[place:place] = [first, replace(first, what="failed", said="the bank's line is bad")]
    assert evidence.account(2).sound
    assert fault(evidence.account()) == "order-02 charge is recorded at attempt 1, and was called 2 times"


def test_another_key_is_told(evidence: Evidence) -> None:
    before = evidence.lines[evidence.the("order-02", "pack")]
    evidence.lines.insert(evidence.the("order-02", "pack"), replace(before, call="cut off", pid=2, key="another"))
    assert fault(evidence.account(2)) == "order-02 pack was called under different keys"


def test_an_event_that_was_lost_is_told(evidence: Evidence) -> None:
    place = evidence.the("order-04", "pack")
    evidence.change(place, shown=evidence.lines[place].shown[:1])
    told = evidence.account()
    assert told.events_lost == 1
    assert "order-04 was sent order-04 0, order-04 1, and showed order-04 0" in fault(told)


def test_an_event_that_came_twice_is_told(evidence: Evidence) -> None:
    place = evidence.the("order-01", "pack")
    evidence.change(place, shown=evidence.lines[place].shown * 2)
    told = evidence.account()
    assert told.events_lost == 0
    assert "order-01 was sent order-01 0, and showed order-01 0, order-01 0" in fault(told)


def test_events_in_another_order_are_told(evidence: Evidence) -> None:
    place = evidence.the("order-04", "pack")
    evidence.change(place, shown=evidence.lines[place].shown[::-1])
    assert "order-04 was sent" in fault(evidence.account())


def test_a_step_that_was_not_undone_is_told(evidence: Evidence) -> None:
    evidence.drop("order-05", "release")
    told = evidence.account()
    assert fault(told) == "order-05 has failed, and its reserve was not undone"
    assert told.finished == ORDERS - 1


def test_an_undo_that_was_begun_and_not_done_is_told(evidence: Evidence) -> None:
    del evidence.lines[evidence.the("order-05", "release", "ended")]
    assert fault(evidence.account()) == "order-05 has failed, and its reserve was not undone"


def test_undoing_in_the_wrong_order_is_told(evidence: Evidence) -> None:
    release = [line for line in evidence.lines if (line.order, line.step) == ("order-05", "release")]
    evidence.drop("order-05", "release")
    at = evidence.the("order-05", "refund")
    evidence.lines[at:at] = release
    assert "it should have gone reserve, charge, pack, ship, refund, release" in fault(evidence.account())


def test_an_undo_of_something_else_is_told(evidence: Evidence) -> None:
    evidence.change(evidence.the("order-05", "refund"), shown=("charge of somebody else",))
    assert fault(evidence.account()) == "order-05 refund was not shown what charge had answered"


def test_an_undo_of_an_order_that_was_shipped_is_told(evidence: Evidence) -> None:
    for what in CALL:
        line = evidence.lines[evidence.the("order-05", "refund", what)]
        evidence.lines.append(replace(line, call="stray", order="order-06"))
    assert "order-06 had a refund, which was none of its steps" in evidence.account().faults


def test_two_drivers_at_once_are_told(evidence: Evidence) -> None:
    place = evidence.the("order-02", "pack", "ended")
    evidence.change(place, at=evidence.lines[place].at + 60)
    for what in CALL:
        evidence.change(evidence.the("order-02", "ship", what), pid=2)
    assert fault(evidence.account()) == "order-02 was driven by two at once: by worker 1 and by pid 2"


def test_a_step_that_is_recorded_and_was_never_called_is_told(evidence: Evidence) -> None:
    evidence.drop("order-02", "pack")
    told = evidence.account()
    assert "order-02 is without its pack" in told.faults
    assert "order-02 pack is recorded, and was never called" in told.faults


def test_another_answer_than_the_recorded_is_told(evidence: Evidence) -> None:
    evidence.change(evidence.the("order-02", "pack", "ended"), said="another")
    assert "and its last call answered 'another'" in fault(evidence.account())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": Status.WAITING}, "should be completed, and is waiting"),
        ({"output": "another"}, "came out as 'another'"),
        ({"history": ()}, "the store has no record of it"),
    ],
)
def test_another_word_of_the_store_is_told(evidence: Evidence, changes: dict[str, Any], words: str) -> None:
    run = evidence.runs["order-02"]
    assert run is not None
    evidence.runs["order-02"] = replace(run, **changes)
    told = evidence.account()
    assert not told.sound
    assert all(fault.startswith("order-02 ") for fault in told.faults)
    assert words in told.faults[0]


def test_a_run_that_the_store_does_not_know_is_told(evidence: Evidence) -> None:
    evidence.runs["order-02"] = None
    assert "order-02 is unknown to the store" in evidence.account().faults


def test_an_order_that_nobody_called_for_is_told(evidence: Evidence) -> None:
    evidence.lines = [line for line in evidence.lines if line.order != "order-02"]
    told = evidence.account()
    assert told.finished == ORDERS - 1
    assert "order-02 is without its reserve" in told.faults


# What is seen


SCENE = Scene(
    seconds=5.04,
    store="PostgresStore",
    orders=36,
    statuses={Status.RUNNING: 8, Status.COMPLETED: 9, Status.FAILED: 1},
    workers=(
        Place("worker 1", 4194301, False, tuple((f"order-{number}", "release") for number in range(10, 14))),
        Place("worker 2", 4194302, True, (), (("order-14", "worker 1"), ("order-15", None))),
    ),
    notes=tuple(Note(number / 10, "killed", f"event {number} " + "x" * 90) for number in range(30)),
)


def test_a_scene_is_80_columns_wide_and_says_who_drives_what() -> None:
    console = Console(file=StringIO(), width=WIDTH, force_terminal=True, color_system=None)
    lines = "".join(
        segment.text for line in console.render_lines(panel(SCENE), new_lines=True) for segment in line
    ).splitlines()
    assert max(map(len, lines)) == WIDTH
    text = "\n".join(lines)
    assert "10 of 36 over" in text
    assert "10 release, 11 release, 12 release, 13 release" in text
    assert "14 → w1, 15 → ?" in text
    assert "event 29" in text


def test_without_a_terminal_each_event_is_one_line_and_told_once() -> None:
    console = Console(file=(file := StringIO()), width=WIDTH)
    with watching(console) as watch:
        watch(replace(SCENE, notes=SCENE.notes[:1]))
        watch(replace(SCENE, notes=SCENE.notes[:2]))
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("10 of 36 runs")
    assert lines[2].endswith("x" * 90)


def test_a_terminal_is_drawn_on_in_place() -> None:
    console = Console(file=(file := StringIO()), width=WIDTH, force_terminal=True)
    with watching(console) as watch:
        watch(SCENE)
        watch(SCENE)
    assert "\x1b[1A" in file.getvalue()


def test_faults_are_told_in_full(evidence: Evidence) -> None:
    evidence.drop("order-05", "release")
    console = Console(file=(file := StringIO()), width=WIDTH)
    console.print(tell(evidence.account()))
    assert "runs finished    11 of 12" in file.getvalue()
    assert "- order-05 has failed, and its reserve was not undone" in file.getvalue()


# Its picture


def test_a_picture_shows_each_moment_and_in_the_end_the_account(evidence: Evidence) -> None:
    spec = importlib.util.spec_from_file_location("picture", PICTURES / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    later = replace(SCENE, seconds=6.0, notes=SCENE.notes[:3])
    screens = [made.screen(shown) for shown in (panel(SCENE), panel(later), tell(evidence.account()))]
    drawn = ElementTree.fromstring(made.picture(screens))
    seen = {text.text: group.get("class") for group in drawn.iter(f"{SVG}g") for text in group.iter(f"{SVG}text")}
    assert (seen["5.0 s"], seen["6.0 s"]) == ("m s0-1", "m s1-2"), "one after the other"
    assert seen["10 of 36 over"] == "m s0-2", "once, though it is seen in both"
    assert seen["The account, worked out from what the steps did to the outside"] == "l s2-3", (
        "even where nothing moves"
    )


def test_the_picture_that_we_show_is_one_and_names_no_path() -> None:
    text = (PICTURES / "demo.svg").read_text()
    words = [each.text or "" for each in ElementTree.fromstring(text).iter(f"{SVG}text")]
    assert "events lost" in " ".join(words)
    assert not [each for each in words if "/" in each]
