"""``kvflow`` as a process: a worker and its signals, pipes that close, no terminal anywhere."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from cli.conftest import PREFIX, write_shop
from cli.processes import PATIENCE, command, environment, run
from kvflow import Status, StoredRun
from kvflow.stores import open_store
from servers.process import Server

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING) \S")

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(tmp_path: Path) -> Generator[Begin]:
    """A process in the background, with pipes; none outlives the test."""
    begun: list[subprocess.Popen[str]] = []

    def opened(*arguments: str) -> "subprocess.Popen[str]":
        begun.append(
            subprocess.Popen(
                command(*arguments),
                cwd=tmp_path,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return begun[-1]

    yield opened
    for process in begun:
        process.kill()
        process.communicate(timeout=PATIENCE)


@pytest.fixture(params=["sync", "async"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    write_shop(tmp_path, "file:runs", request.param)
    return f"file:{tmp_path}/runs"


def until_it_is(status: Status, url: str, run_id: str) -> None:
    deadline = time.monotonic() + PATIENCE
    with open_store(url, prefix=PREFIX) as store:
        while (found := store.load(run_id, log=False)) is None or found.status is not status:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    """Lines of its stdout, as they come."""
    assert process.stdout is not None
    deadline, text = time.monotonic() + PATIENCE, ""
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            text += os.read(process.stdout.fileno(), 65536).decode()
        *lines, text = text.split("\n")
        yield from lines
    raise AssertionError("it says nothing more")


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_drives_what_is_due_until_it_is_told_to_stop(
    begin: Begin, tmp_path: Path, shop: str, told: signal.Signals
) -> None:
    worker = begin("worker", "shop:runtime", "--concurrency", "2", "--poll", "0.1")
    assert run("trigger", "shop:runtime", "greet", "--id", "g-1", "--submit", cwd=tmp_path).returncode == 0
    until_it_is(Status.COMPLETED, shop, "g-1")
    worker.send_signal(told)
    out, err = worker.communicate(timeout=PATIENCE)
    assert (worker.returncode, out) == (0, "")
    lines = err.splitlines()
    assert lines[0].endswith("INFO a worker for shop:runtime, on a FileStore")
    assert "greet" in lines[1]
    assert "2 at once" in lines[1]
    assert any("'g-1'" in line and "completed" in line for line in lines)
    assert all(LINE.match(line) for line in lines)


def test_a_worker_that_is_told_more_says_more(begin: Begin, tmp_path: Path, shop: str) -> None:
    run("trigger", "shop:runtime", "order", "1", "--id", "o-1", "--submit", cwd=tmp_path)
    worker = begin("worker", "shop:runtime", "-v")
    until_it_is(Status.WAITING, shop, "o-1")
    worker.terminate()
    _, err = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    assert "DEBUG run 'o-1' of workflow 'order', step 'charge'" in err


def test_the_logging_of_an_application_is_left_as_it_is(tmp_path: Path, shop: str) -> None:
    source = (tmp_path / "shop.py").read_text()
    (tmp_path / "shop.py").write_text(
        f"import logging\nlogging.basicConfig(format='mine: %(message)s', level='DEBUG')\n{source}"
    )
    run("trigger", "shop:runtime", "greet", "--id", "g-1", "--submit", cwd=tmp_path)
    swept = run("sweep", "shop:runtime", "-v", cwd=tmp_path)
    assert swept.stdout == "driven 1, deferred 0, next wake -\n"
    lines = [line for line in swept.stderr.splitlines() if "'g-1'" in line]
    assert lines
    assert all(line.startswith("mine: run 'g-1'") for line in lines)


def test_a_sweep_that_is_told_more_says_what_happened(tmp_path: Path, shop: str) -> None:
    run("trigger", "shop:runtime", "greet", "--id", "g-1", "--submit", cwd=tmp_path)
    swept = run("sweep", "shop:runtime", "--verbose", cwd=tmp_path)
    assert "INFO run 'g-1' of workflow 'greet' is completed\n" in swept.stderr
    assert run("sweep", "shop:runtime", cwd=tmp_path).stderr == ""


def test_what_others_wrote_is_harmless_in_a_log(tmp_path: Path, shop: str) -> None:
    source = (tmp_path / "shop.py").read_text()
    (tmp_path / "shop.py").write_text(source.replace("is broken", "is\\x1b[2J\\n2026 INFO nothing\\x9b"))
    (tmp_path / "broken").touch()
    run("trigger", "shop:runtime", "order", "1", "--id", "o-1", "--submit", cwd=tmp_path)
    said = run("sweep", "shop:runtime", "-v", cwd=tmp_path).stderr
    assert "the card reader is\\x1b[2J\\n2026 INFO nothing\\x9b" in said
    assert not re.search("[\0-\x09\x0b-\x1f\x7f-\x9f]", said)
    assert all(LINE.match(line) for line in said.splitlines())


def test_an_exit_that_a_step_asks_for_is_one(tmp_path: Path, shop: str) -> None:
    source = (tmp_path / "shop.py").read_text()
    (tmp_path / "shop.py").write_text(source.replace("raise ValueError(", "raise SystemExit("))
    (tmp_path / "broken").touch()
    done = run("trigger", "shop:runtime", "order", "1", "--id", "o-1", cwd=tmp_path)
    # In the main thread it ends the command; a step in a thread of its own has failed by it, and its run too.
    assert done.returncode == 1
    assert "the card reader is broken" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_is_away_while_it_is_watched(begin: Begin, own_redis: Server) -> None:
    watch = begin("runs", own_redis.url, "--watch", "--prefix", PREFIX)
    save(own_redis.url, "before")
    lines = lines_of(watch)
    assert next(lines).startswith("before\t")
    own_redis.stop()
    assert watch.stderr is not None
    assert "; looking again" in watch.stderr.readline()
    own_redis.start()
    save(own_redis.url, "after")
    assert next(lines).startswith("after\t")


def save(url: str, run_id: str) -> None:
    with open_store(url, prefix=PREFIX) as store:
        store.save(stored(run_id))


def test_nobody_reads_to_the_end(tmp_path: Path) -> None:
    many(tmp_path, 400)
    lister = subprocess.Popen(
        command("runs", "file:runs", "--limit", "400"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert lister.stdout is not None
    assert lister.stdout.readline().startswith("n-399\t")
    lister.stdout.close()
    lister.stdout = None
    _, err = lister.communicate(timeout=PATIENCE)
    assert (lister.returncode, err) == (1, "")


def test_a_reader_that_is_gone_before_a_short_answer(tmp_path: Path) -> None:
    many(tmp_path, 1)
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        command("show", "file:runs", "n-0"), cwd=tmp_path, env=environment(), stdout=theirs, stderr=subprocess.PIPE
    )
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_watched_without_a_terminal_each_change_is_a_line(begin: Begin, tmp_path: Path, json: tuple[str, ...]) -> None:
    many(tmp_path, 2)
    watch = begin("runs", "file:runs", "--watch", *json)
    lines = lines_of(watch)
    assert "n-1" in next(lines)
    assert "n-0" in next(lines)
    many(tmp_path, 3)
    assert "n-2" in next(lines), "the others have not changed"
    watch.send_signal(signal.SIGINT)
    out, err = watch.communicate(timeout=PATIENCE)
    assert (watch.returncode, out, err) == (0, "", "")


def many(cwd: Path, count: int) -> None:
    """Runs ``n-0`` to ``n-(count - 1)``, as far as they are not there."""
    with open_store(f"file:{cwd}/runs") as store:
        for number in range(count):
            if store.load(f"n-{number}", log=False) is None:
                store.save(stored(f"n-{number}", number))


def stored(run_id: str, at: int = 0) -> StoredRun:
    return StoredRun(
        run_id=run_id,
        workflow="w" * 200,
        status=Status.WAITING,
        version=1,
        created_at=at,
        updated_at=at,
        snapshot=b"\x80",
    )


def test_text_that_the_encoding_of_stdout_lacks(tmp_path: Path) -> None:
    write_shop(tmp_path, "file:runs", "sync")
    done = run("trigger", "shop:runtime", "greet", "--id", "é☃", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("run\t\\xe9\\u2603\n")


def test_without_a_terminal_nothing_asks_and_nothing_is_coloured(tmp_path: Path) -> None:
    many(tmp_path, 2)
    listed = run("runs", "file:runs", cwd=tmp_path, FORCE_COLOR="1", COLUMNS="20", TERM="xterm")
    assert [line.split("\t")[0] for line in listed.stdout.splitlines()] == ["n-1", "n-0"]
    assert "\x1b" not in listed.stdout
    assert run("delete", "file:runs", "n-0", cwd=tmp_path).stdout == "deleted\tn-0\n"


def test_the_script_and_the_module_are_the_same(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("kvflow")
    done = subprocess.run([script, "runs"], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, run("runs", cwd=tmp_path).stderr)
