"""The rules to the very millisecond, which the contract suite cannot hold a server's clock to."""

from kvflow import rules
from kvflow.errors import Conflict
from kvflow.rules import Entry
from kvflow.run import Lease, Status
from kvflow.testing import FakeClock
from kvflow.testing.runs import after, birth, refused, running, waiting

CLOCK = 5000
HELD = Entry(run=birth(wake_at=9000), token="mine", expires=CLOCK + 1)
RUN_OUT = Entry(run=birth(wake_at=9000), token="mine", expires=CLOCK)


def test_a_lease_ends_at_its_expiry() -> None:
    theirs = Lease("theirs", 100)
    assert rules.taken(HELD, theirs, CLOCK) is None
    assert rules.place_due(HELD, CLOCK, CLOCK) is None
    assert rules.next_due(HELD, CLOCK) is None
    taken = rules.taken(RUN_OUT, theirs, CLOCK)
    assert taken is not None
    assert (taken.token, taken.expires, taken.run.attempt) == ("theirs", CLOCK + 100, 1)
    assert rules.place_due(RUN_OUT, 0, CLOCK) == (False, CLOCK, "a")
    assert rules.next_due(RUN_OUT, CLOCK) == CLOCK


def test_a_lease_is_as_long_as_its_ttl() -> None:
    saved, _ = rules.saved(None, running(), 0, Lease("mine", 100), CLOCK)
    renewed = rules.renewed(RUN_OUT, "mine", 70, CLOCK)
    assert renewed is not None
    assert (saved.expires, renewed.expires) == (CLOCK + 100, CLOCK + 70)


def test_a_wake_that_post_sets_is_by_the_earlier_clock_and_never_below_zero() -> None:
    entry = Entry(run=waiting())
    for now, wake_at in ((CLOCK - 1, CLOCK - 1), (CLOCK, CLOCK), (CLOCK + 1, CLOCK), (2**53, CLOCK), (-1, 0)):
        posted = rules.posted(entry, now, False, CLOCK)
        assert posted is not None
        assert posted.run.wake_at == wake_at


def test_a_post_wakes_whoever_is_held_or_was() -> None:
    for entry, wake_at in ((HELD, 7), (RUN_OUT, 7), (Entry(run=birth(wake_at=9000)), 9000)):
        posted = rules.posted(entry, 7, False, CLOCK)
        assert posted is not None
        assert posted.run.wake_at == wake_at


def test_a_post_leaves_a_submitted_run_asleep() -> None:
    posted = rules.posted(Entry(run=birth(status=Status.RUNNING, wake_at=9000)), 7, False, CLOCK)
    assert posted is not None
    assert posted.run.wake_at == 9000


def test_time_zero_is_a_time() -> None:
    released = rules.released(HELD, "mine", 0)
    assert released is not None
    assert released.run.wake_at == 0
    assert rules.next_due(released, CLOCK) == 0


def test_a_running_run_is_due_with_records_unseen() -> None:
    entry = Entry(run=running(wake_at=9000), records=1, token="mine", expires=CLOCK + 1)
    for head in (running(version=2, wake_at=9000), running(version=2)):
        saved, unseen = rules.saved(entry, head, 0, Lease("mine", 100), CLOCK)
        assert (saved.run.wake_at, unseen) == (head.updated_at, 1)


def test_a_holder_cannot_repeat_what_another_wrote() -> None:
    with refused(Conflict, saying="version 1 is stored"):
        rules.saved(HELD, after(HELD.run, version=1, snapshot=b"lost"), 0, Lease("mine", 100), CLOCK)


def test_a_clock_is_read_in_whole_milliseconds() -> None:
    assert rules.reader(lambda: 1234)() == 1234
    assert rules.reader(FakeClock())() == 1_893_456_000_000
    assert abs(rules.reader(None)() - round(FakeClock()().timestamp() * 1000)) < 100 * 365 * 86_400_000
