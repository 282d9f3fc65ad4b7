"""trigger, signal, cancel, retry and sweep: through an application's runtime, of either colour, on several stores."""

from pathlib import Path

import pytest

from cli.conftest import PREFIX, Kvflow, write_shop


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_run_from_trigger_to_end(kvflow: Kvflow, here: Path, url: str, colour: str) -> None:
    write_shop(here, url, colour)
    begun = kvflow("trigger", "shop:runtime", "order", "40", "--id", "o-1")
    assert (begun.code, begun.err) == (0, "")
    assert ["status", "waiting"] in begun.rows
    assert ["payload", "40"] in begun.rows
    assert [row[1:] for row in begun.rows[-2:]] == [
        ["step", "charge", "1", '"charged 40"'],
        ["waits", "approval", "-", "event approved"],
    ]
    again = kvflow("trigger", "shop:runtime", "order", "40", "--id", "o-1", "--json")
    assert [one["id"] for one in again.json["history"]] == ["charge"], "the same run, not charged twice"
    [[*listed, _]] = kvflow("runs", url, "--prefix", PREFIX).rows
    assert listed == ["o-1", "order", "waiting", "event approved", "0", "-"]
    over = kvflow("signal", "shop:runtime", "o-1", "approved", '"ann"', "--json")
    assert (over.json["status"], over.json["output"]) == ("completed", "ann")
    seen = kvflow("show", url, "o-1", "--prefix", PREFIX, "--json")
    assert seen.json == over.json


def test_what_trigger_shows_names_a_new_run(kvflow: Kvflow, shop: str) -> None:
    run_id = kvflow("trigger", "shop:runtime", "greet", "--json").json["run_id"]
    shown = kvflow("show", shop, run_id, "--prefix", PREFIX)
    assert shown.rows[:3] == [["run", run_id], ["workflow", "greet"], ["status", "completed"]]
    assert ["output", '"hello"'] in shown.rows


def test_a_run_that_fails_is_exit_code_1_and_can_be_retried(kvflow: Kvflow, here: Path, shop: str) -> None:
    (here / "broken").touch()
    failed = kvflow("trigger", "shop:runtime", "order", "1", "--id", "o-1")
    assert failed.code == 1
    assert failed.err == (
        "kvflow: run 'o-1' has failed: StepFailed: step 'charge' failed: ValueError: the card reader is broken\n"
    )
    assert ["step", "charge", "1", "ValueError: the card reader is broken"] in [row[1:] for row in failed.rows]
    assert kvflow("retry", "shop:runtime", "o-1").code == 1
    (here / "broken").unlink()
    retried = kvflow("retry", "shop:runtime", "o-1", "--json")
    assert (retried.code, retried.json["status"]) == (0, "waiting")
    refused = kvflow("retry", "shop:runtime", "o-1")
    assert refused.code == 1
    assert "only a failed run can be retried" in refused.error


def test_recorded_tracebacks_are_shown_when_asked_for(kvflow: Kvflow, here: Path, shop: str) -> None:
    (here / "broken").touch()
    assert "Traceback" not in kvflow("trigger", "shop:runtime", "order", "1", "--id", "o-1").out
    shown = kvflow("show", shop, "o-1", "--prefix", PREFIX, "--traceback").out
    assert shown.count("Traceback (most recent call last):") == 1
    assert "\nstep charge:\nTraceback" in shown
    assert 'raise ValueError("the card reader is broken")' in shown


def test_a_submitted_run_is_driven_by_a_sweep(kvflow: Kvflow, shop: str) -> None:
    submitted = kvflow("trigger", "shop:runtime", "greet", "--id", "g-1", "--submit", "--json")
    assert submitted.json["output"] is None
    kvflow("trigger", "shop:runtime", "greet", "--id", "g-2", "--submit")
    swept = kvflow("sweep", "shop:runtime")
    assert (swept.code, swept.out, swept.err) == (0, "driven 2, deferred 0, next wake -\n", "")
    assert kvflow("show", shop, "g-1", "--prefix", PREFIX, "--json").json["output"] == "hello"
    kvflow("trigger", "shop:runtime", "nap", "--id", "n-1", "--submit")
    driven = kvflow("sweep", "shop:runtime", "--json").json
    wake = kvflow("show", shop, "n-1", "--prefix", PREFIX, "--json").json["wake_at"]
    assert driven == {"driven": 1, "deferred": 0, "next_wake": wake}


def test_a_sweep_says_what_it_could_not_drive(kvflow: Kvflow, here: Path, shop: str) -> None:
    kvflow("trigger", "shop:runtime", "order", "1", "--id", "o-1", "--submit")
    source = (here / "shop.py").read_text()
    (here / "shop.py").write_text(source.replace("amount: int", "amount: list[int]") + "\n# longer\n")
    assert kvflow("sweep", "shop:runtime").out.startswith("driven 0, deferred 1, next wake 2")
    assert kvflow("show", shop, "o-1", "--prefix", PREFIX, "--json").json["status"] == "suspended"


def test_a_cancelled_run(kvflow: Kvflow, shop: str) -> None:
    kvflow("trigger", "shop:runtime", "order", "40", "--id", "o-1")
    gone = kvflow("cancel", "shop:runtime", "o-1", "--reason", "sold out", "--json")
    assert (gone.code, gone.json["status"], gone.json["error"]["message"]) == (0, "cancelled", "sold out")
    assert kvflow("cancel", "shop:runtime", "o-1").code == 0, "it is as it was asked to be"


def test_a_run_that_is_over_takes_neither_event_nor_cancel(kvflow: Kvflow, shop: str) -> None:
    kvflow("trigger", "shop:runtime", "greet", "--id", "g-1")
    signalled = kvflow("signal", "shop:runtime", "g-1", "approved")
    assert (signalled.code, signalled.error) == (1, "kvflow: run 'g-1' is completed: no event reaches it any more")
    cancelled = kvflow("cancel", "shop:runtime", "g-1")
    assert (cancelled.code, cancelled.error) == (
        1,
        "kvflow: run 'g-1' is completed: there is nothing to cancel any more",
    )


@pytest.mark.parametrize("command", [("signal", "approved"), ("cancel",), ("retry",)])
def test_a_run_that_is_not_there(kvflow: Kvflow, shop: str, command: tuple[str, ...]) -> None:
    name, *rest = command
    done = kvflow(name, "shop:runtime", "none", *rest)
    assert (done.code, done.error) == (1, "kvflow: there is no run 'none'")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("ordr", "1"), 1, "'shop:runtime' has no workflow 'ordr'; it has order, greet, nap"),
        (("ordr", "1", "--submit"), 1, "'shop:runtime' has no workflow 'ordr'; it has order, greet, nap"),
        (("order", '"much"'), 2, "workflow 'order' does not take this payload: Expected `int`, got `str`"),
        (("order", "much"), 2, "'much' is not JSON"),
        (("order", '{"a'), 2, "is not JSON"),
        (("order", "NaN"), 2, "'NaN' is not JSON"),
        (("order", "[" * 5000), 2, "is not JSON"),
        (("order", "1", "--id", "a\tb"), 2, "run id 'a\\tb' has a control character at 1"),
        (("order", "1", "--id", "\udcff"), 2, "run id '\\udcff' has a surrogate at 0"),
        (("order", "1", "--id", ""), 2, "run id '' has 0 characters"),
        (("order", "1", "more"), 2, "(more) (see kvflow trigger --help)"),
    ],
)
def test_what_cannot_be_triggered(kvflow: Kvflow, shop: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = kvflow("trigger", "shop:runtime", *arguments)
    assert (done.code, said in done.error) == (code, True), done
    assert kvflow("runs", shop, "--prefix", PREFIX).out == ""


def test_an_id_belongs_to_one_trigger(kvflow: Kvflow, shop: str) -> None:
    kvflow("trigger", "shop:runtime", "order", "1", "--id", "o-1")
    other = kvflow("trigger", "shop:runtime", "order", "2", "--id", "o-1")
    assert other.code == 1
    assert "'o-1'" in other.error


def test_an_event_that_is_not_json_is_not_sent(kvflow: Kvflow, shop: str) -> None:
    kvflow("trigger", "shop:runtime", "order", "1", "--id", "o-1")
    assert kvflow("signal", "shop:runtime", "o-1", "approved", "{").code == 2
    assert kvflow("signal", "shop:runtime", "o-1", "a\nb").code == 2
    assert kvflow("show", shop, "o-1", "--prefix", PREFIX, "--json").json["status"] == "waiting"


def test_ids_and_numbers_that_begin_with_a_dash(kvflow: Kvflow, shop: str) -> None:
    begun = kvflow("trigger", "shop:runtime", "--id=-1", "--json", "--", "order", "-5")
    assert (begun.json["run_id"], begun.json["payload"]) == ("-1", -5)
    assert kvflow("signal", "shop:runtime", "--json", "--", "-1", "approved", '"x"').json["output"] == "x"
    assert kvflow("show", shop, "--prefix", PREFIX, "--json", "--", "-1").json["output"] == "x"


@pytest.mark.parametrize("command", ["sweep", "worker"])
def test_an_application_without_workflows_has_nothing_to_drive(kvflow: Kvflow, shop: str, command: str) -> None:
    done = kvflow(command, "shop:nothing")
    assert (done.code, "'shop:nothing' has no workflows" in done.error) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sweep", "shop:runtime", "--budget", "-1"), "budget"),
        (("sweep", "shop:runtime", "--budget", "soon"), "--budget"),
        (("worker", "shop:runtime", "--concurrency", "0"), "concurrency"),
        (("worker", "shop:runtime", "--poll", "-1"), "poll"),
        (("worker", "shop:runtime", "--grace", "-1"), "grace"),
    ],
)
def test_numbers_that_make_no_sense(kvflow: Kvflow, shop: str, arguments: tuple[str, ...], said: str) -> None:
    done = kvflow(*arguments)
    assert (done.code, said in done.err.splitlines()[-1]) == (2, True), done
