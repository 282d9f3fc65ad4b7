"""Posts: no event is lost, whenever it comes, and nobody is woken who need not be."""

from kvflow.errors import Conflict
from kvflow.run import Status
from kvflow.store import Store
from kvflow.testing.primitives import OVER
from kvflow.testing.runs import (
    MONTH,
    Open,
    after,
    birth,
    expire,
    get,
    hold,
    lease,
    opened,
    refused,
    running,
    until,
    waiting,
)


class PostContract:
    """A record reaches the log without a lease and surfaces as a wake where it must."""

    def test_a_post_is_appended(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting(), [b"one"])
            assert store.post("a", b"two\x00\xff", 5) is True
            store.save(after(waiting(), seen=2), [b"three"])
            assert store.post("a", b"", 6) is True
            assert get(store).log == (b"one", b"two\x00\xff", b"three", b"")

    def test_a_post_to_nobody_is_false(self, open: Open) -> None:
        with opened(open) as store:
            assert store.post("nobody", b"event", 5) is False
            assert store.load("nobody") is None

    def test_a_post_to_a_run_that_is_over_is_false(self, open: Open) -> None:
        with opened(open) as store:
            for status in OVER:
                store.save(birth(status.value, status=status, wake_at=None))
                assert store.post(status.value, b"event", 5) is False
                assert store.post(status.value, b"event", 5, wake=True) is False
                assert get(store, status.value).log == ()
            assert store.due(MONTH, 10) == []

    def test_a_post_changes_no_version(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            store.post("a", b"event", 5)
            assert get(store).version == 1
            store.save(after(waiting(), seen=1))

    # Who is woken

    def test_a_post_wakes_a_waiting_run(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            store.save(waiting("timed", wake_at=9000))
            for run_id in ("a", "timed"):
                assert store.post(run_id, b"event", 700)
                assert get(store, run_id).wake_at == 700
            assert store.due(699, 10) == []
            assert store.due(700, 10) == ["a", "timed"]

    def test_an_earlier_wake_stays(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting(wake_at=300))
            store.post("a", b"event", 700)
            assert get(store).wake_at == 300

    def test_a_wake_is_never_later_than_the_stores_clock(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            store.post("a", b"event", 2**53)
            wake_at = get(store).wake_at
            assert wake_at is not None
            assert wake_at < 2**53

    def test_a_post_leaves_a_suspended_run_asleep(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=9000))
            assert store.post("a", b"event", 5)
            assert get(store).wake_at == 9000
            assert store.due(8999, 10) == []

    def test_a_post_can_wake_any_run(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=9000))
            store.save(birth("submitted", status=Status.RUNNING, wake_at=9000))
            for run_id in ("a", "submitted"):
                assert store.post(run_id, b"cancel", 5, wake=True)
            assert store.due(5, 10) == ["a", "submitted"]

    def test_a_post_does_not_take_a_held_run_from_its_holder(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, run = hold(store)
            store.post("a", b"event", 5)
            assert store.due(MONTH, 10) == []
            store.save(after(run, status=Status.RUNNING, wake_at=None), [b"step"], mine)

    # A record that comes during a drive

    def test_a_post_under_a_lease_surfaces_after_release(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("suspended", wake_at=9000))
            store.save(waiting("waiting"))
            store.save(running("running", wake_at=9000))
            for run_id in ("suspended", "waiting", "running"):
                mine, _ = hold(store, run_id)
                assert store.post(run_id, b"event", 5)
                store.release(run_id, mine)
                assert store.due(5, 10) == [run_id]
                store.delete(run_id)

    def test_a_post_under_a_lease_surfaces_after_expiry(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            expire(store)
            store.post("a", b"event", 5)
            (run,) = store.claim(5, 10, lease())
            assert run.log == (b"event",)

    def test_a_post_under_a_lease_that_is_deferred_is_not_lost(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            mine, _ = hold(store)
            store.post("a", b"event", 5)
            store.release("a", mine, wake_at=7000)
            assert store.due(7000, 10) == ["a"]

    def test_a_post_under_a_lease_surfaces_after_a_save_at_rest(self, open: Open) -> None:
        with opened(open) as store:
            for status, wake_at in ((Status.SUSPENDED, 9000), (Status.WAITING, None), (Status.WAITING, 9000)):
                mine = lease()
                store.save(running(), lease=mine)
                assert store.post("a", b"event", 5)
                rest = birth(version=2, status=status, wake_at=wake_at, updated_at=600)
                assert store.save(rest, [b"step"], mine) == 1
                assert store.due(599, 10) == []
                assert store.due(600, 10) == ["a"]
                assert get(store).wake_at == 600
                store.delete("a")

    def test_a_record_that_was_seen_wakes_nobody(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), lease=mine)
            store.post("a", b"event", 5)
            assert store.save(waiting(version=2, seen=1), [b"step"], mine) == 0
            assert store.due(MONTH, 10) == []

    def test_a_running_save_reports_what_it_has_not_seen(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            assert store.save(running(), [b"one"], mine) == 0
            store.post("a", b"cancel", 5)
            assert store.save(running(version=2, seen=1), [b"two"], mine) == 1
            store.post("a", b"event", 5)
            assert store.save(running(version=3, seen=2), [b"three", b"four"], mine) == 2
            assert get(store).log == (b"one", b"cancel", b"two", b"event", b"three", b"four")
            assert store.save(running(version=4, seen=6), [b"five"], mine) == 0

    def test_a_record_unseen_wakes_a_run_saved_without_a_lease(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            store.post("a", b"event", 5)
            assert store.save(waiting(version=2, updated_at=600)) == 1
            assert store.due(600, 10) == ["a"]

    def test_an_own_wake_that_is_earlier_stays(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            store.post("a", b"event", 5)
            store.save(waiting(version=2, wake_at=50, updated_at=600))
            assert store.due(50, 10) == ["a"]

    def test_a_run_that_is_over_stays_over(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), lease=mine)
            store.post("a", b"event", 5)
            store.save(birth(version=2, status=Status.COMPLETED, wake_at=None), lease=mine)
            assert store.due(2**53, 10) == []

    def test_nobody_can_have_seen_more_than_there_is(self, open: Open) -> None:
        with opened(open) as store:
            with refused(Conflict):
                store.save(birth(seen=1))
            store.save(birth(), [b"one"])
            with refused(Conflict):
                store.save(birth(version=2, seen=2, snapshot=b"lost"), [b"lost"])
            assert get(store) == birth(seen=1, log=(b"one",))

    def test_a_post_to_a_lease_that_ran_out_surfaces_after_the_takeover(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=9000))
            expire(store)
            store.post("a", b"event", 5)
            mine, _ = hold(store)
            store.release("a", mine)
            assert store.due(5, 10) == ["a"]

    def test_a_post_before_a_lease_runs_out_surfaces_after_the_takeover(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=9000))
            mine, _ = hold(store)
            store.post("a", b"event", 5)
            store.renew({"a": mine.token}, 1)
            (run,) = until(lambda: store.claim(0, 10, lease()))
            assert run.log == (b"event",)
            assert run.wake_at == 5

    def test_a_post_leaves_a_submitted_run_asleep(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(status=Status.RUNNING, wake_at=9000))
            assert store.post("a", b"event", 5)
            assert get(store).wake_at == 9000

    def test_a_record_unseen_wakes_at_zero_too(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting(updated_at=0))
            store.post("a", b"event", 5)
            assert store.save(waiting(version=2, updated_at=0)) == 1
            assert store.due(0, 10) == ["a"]

    def test_a_running_save_does_not_put_off_what_it_has_not_seen(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), lease=mine)
            store.post("a", b"event", 5)
            assert store.save(running(version=2, wake_at=9000, updated_at=600), [b"step"], mine) == 1
            store.release("a", mine)
            assert store.due(600, 10) == ["a"]

    def test_a_wake_that_post_sets_is_by_the_earlier_clock(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            before = self._store_clock(store)
            store.post("a", b"event", 2**53)
            wake_at = get(store).wake_at
            assert wake_at is not None
            assert before <= wake_at <= self._store_clock(store)

    def _store_clock(self, store: Store) -> int:
        """About now by the store's clock: when a lease ran out that was taken just before."""
        store.save(birth("clock", workflow="clock", wake_at=2**53))
        expire(store, "clock")
        clock = store.next_wake(["clock"])
        store.delete("clock")
        assert clock is not None
        return clock
