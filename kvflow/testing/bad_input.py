"""Bad input: every store refuses the same things, says why, and has written nothing."""

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

from kvflow.errors import Conflict, InvalidArgument, InvalidRunId
from kvflow.run import Lease, Status
from kvflow.testing.runs import MINUTE, Open, after, birth, get, lease, opened, refused, running

TOO_FAR = 2**53 + 1
_TEXTS = ["", "x" * 201, "\U0001f600" * 201, "a\nb", "\x00", "a\x1f", "\x7f", "\x85", "\ud800", "a\udfff"]
BAD_IDS: list[Any] = [*_TEXTS, None, 7, b"a"]


class Mood(enum.StrEnum):
    """No status of ours."""

    FINE = "fine"


class BadInputContract:
    """What nobody could take is refused before a stored byte is looked at."""

    def test_wrong_ids(self, open: Open) -> None:
        with opened(open) as store:
            for bad in BAD_IDS:
                calls: list[Callable[[], object]] = [
                    partial(store.save, birth(bad)),
                    partial(store.load, bad),
                    partial(store.delete, bad),
                    partial(store.acquire, bad, lease()),
                    partial(store.renew, {bad: "token"}, MINUTE),
                    partial(store.release, bad, lease()),
                    partial(store.post, bad, b"event", 5),
                ]
                for call in calls:
                    with refused(InvalidRunId, saying="1 to 200 characters"):
                        call()
            assert store.list(10) == []

    def test_limits_that_ask_for_nothing(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            bad: Any
            for bad in (0, -1, -(2**31), 1.5, "1", None):
                with refused(InvalidArgument, saying=str(bad)):
                    store.due(1000, bad)
                with refused(InvalidArgument, saying=str(bad)):
                    store.claim(1000, bad, lease())
                with refused(InvalidArgument, saying=str(bad)):
                    store.list(bad)
            assert store.due(1000, 10) == ["a"]

    def test_leases_that_run_out_before_they_begin(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            for ttl in (0, -1, TOO_FAR):
                bad = Lease("token", ttl)
                with refused(InvalidArgument, saying=str(ttl)):
                    store.claim(1000, 1, bad)
                with refused(InvalidArgument, saying=str(ttl)):
                    store.acquire("a", bad)
                with refused(InvalidArgument, saying=str(ttl)):
                    store.save(running("b"), lease=bad)
                with refused(InvalidArgument, saying=str(ttl)):
                    store.renew({"a": "token"}, ttl)
            assert store.due(1000, 10) == ["a"]

    def test_tokens_that_are_none(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            for token in ("", "\x00", "x" * 201):
                with refused(InvalidArgument, saying="token"):
                    store.acquire("a", Lease(token, MINUTE))

    def test_wakes_that_cannot_be_kept(self, open: Open) -> None:
        with opened(open) as store:
            bad: Any
            for bad in (TOO_FAR, -1, 1.5, "soon"):
                with refused(InvalidArgument, saying=str(bad)):
                    store.save(birth(wake_at=bad))
                with refused(InvalidArgument, saying=str(bad)):
                    store.release("a", lease(), wake_at=bad)
                with refused(InvalidArgument, saying=str(bad)):
                    store.save(birth(created_at=bad))
                with refused(InvalidArgument, saying=str(bad)):
                    store.save(birth(updated_at=bad))
            assert store.load("a") is None

    def test_versions_and_counts_that_cannot_be(self, open: Open) -> None:
        with opened(open) as store:
            for version in (0, -1, TOO_FAR):
                with refused(InvalidArgument, saying=f"version is {version}"):
                    store.save(birth(version=version))
            with refused(InvalidArgument, saying="seen is -1"):
                store.save(birth(seen=-1))
            with refused(Conflict):
                store.save(birth(seen=1))
            assert store.load("a") is None

    def test_runs_that_could_never_wake(self, open: Open) -> None:
        with opened(open) as store:
            with refused(InvalidArgument, saying="wake"):
                store.save(birth(wake_at=None))
            with refused(InvalidArgument, saying="wake"):
                store.save(birth(wake_at=None), lease=lease())
            with refused(InvalidArgument, saying="neither lease nor wake"):
                store.save(running())
            assert store.load("a") is None

    def test_statuses_that_are_none(self, open: Open) -> None:
        with opened(open) as store:
            bad: Any
            for bad in ("done", None, Mood.FINE):
                with refused(InvalidArgument, saying="status"):
                    store.save(birth(status=bad))
            with refused(InvalidArgument, saying="completed"):
                store.list(10, status="done")
            store.save(birth(status=Status.COMPLETED))
            assert len(store.list(10, status="completed")) == 1

    def test_names_that_are_none(self, open: Open) -> None:
        with opened(open) as store:
            for bad in ("", "a\x00b", "x" * 201, "\ud800"):
                with refused(InvalidArgument, saying="workflow"):
                    store.save(birth(workflow=bad))
                with refused(InvalidArgument, saying="event"):
                    store.save(birth(event=bad))
                with refused(InvalidArgument, saying="workflow"):
                    store.claim(1000, 10, lease(), [bad])
            with refused(InvalidArgument, saying="['w']"):
                store.claim(1000, 10, lease(), "w")
            assert store.load("a") is None

    def test_bytes_that_are_not(self, open: Open) -> None:
        with opened(open) as store:
            bad: Any
            for bad in ("text", None, 7, bytearray(b"x")):
                with refused(InvalidArgument, saying=type(bad).__name__):
                    store.save(birth(snapshot=bad))
                with refused(InvalidArgument, saying=type(bad).__name__):
                    store.save(birth(), [b"fine", bad])
                with refused(InvalidArgument, saying=type(bad).__name__):
                    store.post("a", bad, 5)
            assert store.load("a") is None

    def test_times_that_are_not(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            bad: Any
            for bad in (1.5, "now", None):
                with refused(InvalidArgument, saying=str(bad)):
                    store.due(bad, 10)
                with refused(InvalidArgument, saying=str(bad)):
                    store.claim(bad, 10, lease())
                with refused(InvalidArgument, saying=str(bad)):
                    store.post("a", b"event", bad)
            assert get(store) == birth()

    def test_times_past_either_end_mean_that_end(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            assert store.due(-(2**70), 10) == []
            assert store.due(2**70, 10) == ["a"]
            store.post("a", b"event", -(2**70), wake=True)
            assert get(store).wake_at == 0

    def test_places_in_a_listing_that_are_none(self, open: Open) -> None:
        with opened(open) as store:
            bad: Any
            for bad in ("a", (1,), ("a", 1), (1, 2), (1, ""), (-1, "a")):
                with refused(InvalidArgument):
                    store.list(10, after=bad)

    def test_text_that_means_something_to_a_server_is_only_text(self, open: Open) -> None:
        with opened(open) as store:
            for text in (
                "'; DROP TABLE kvflow_run; --",
                '"',
                "\\",
                "\\'",
                "%s",
                "%(a)s",
                "$1",
                "{0}",
                "*",
                "?",
                "`",
                "_",
            ):
                mine = Lease(text, MINUTE)
                run = birth(text, workflow=text, event=text, snapshot=text.encode())
                store.save(run, [text.encode()])
                (claimed,) = store.claim(1000, 10, mine, [text])
                assert claimed == after(run, version=1, seen=1, log=(text.encode(),))
                assert store.renew({text: text}, MINUTE) == {text}
                assert store.next_wake([text]) is None
                store.release(text, mine)
                store.delete(text)
            assert store.list(10) == []

    def test_arguments_of_another_kind(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            bad: Any
            number: Any = 7
            for bad in (None, "token", 7):
                calls: list[Callable[[], object]] = [
                    partial(store.save, bad),
                    partial(store.acquire, "a", bad),
                    partial(store.release, "a", bad),
                    partial(store.claim, 1000, 1, bad),
                    partial(store.renew, bad, MINUTE),
                    partial(store.claim, 1000, 1, lease(), number),
                    partial(store.due, 1000, True),
                    partial(store.save, birth("b", version=True)),
                ]
                for call in calls:
                    with refused(InvalidArgument):
                        call()
            assert store.due(1000, 10) == ["a"]
