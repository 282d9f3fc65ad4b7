"""Leases: one holder at a time, by the store's clock, and a count of the holders that died."""

from kvflow.errors import Conflict
from kvflow.run import Lease, Status
from kvflow.testing.runs import (
    HOUR,
    MINUTE,
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

NOW = 1_700_000_000_000
SKEWS = (-MONTH, -HOUR, 0, HOUR, MONTH)


class LeaseContract:
    """Acquire, renew, release, and the saves between them."""

    # Acquire

    def test_acquire_gives_the_run_with_its_log(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one", b"two"])
            assert store.acquire("a", lease()) == birth(seen=2, log=(b"one", b"two"))

    def test_acquire_of_nothing_is_none(self, open: Open) -> None:
        with opened(open) as store:
            assert store.acquire("nobody", lease()) is None

    def test_acquire_takes_any_run_that_exists(self, open: Open) -> None:
        with opened(open) as store:
            for status in Status:
                store.save(birth(status.value, status=status))
                assert store.acquire(status.value, lease()) is not None

    def test_a_second_holder_waits_for_the_release(self, open: Open) -> None:
        with opened(open) as store, opened(open) as other:
            store.save(birth())
            mine, _ = hold(store)
            assert other.acquire("a", lease()) is None
            store.release("a", mine)
            assert other.acquire("a", lease()) is not None

    def test_a_held_run_is_not_due(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = hold(store)
            assert store.due(MONTH, 10) == []
            store.release("a", mine)
            assert store.due(1000, 10) == ["a"]

    def test_acquire_again_under_the_same_token_is_a_repeat(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one"])
            mine, run = hold(store)
            assert store.acquire("a", mine) == run
            assert store.acquire("a", mine) == run
            assert store.renew({"a": mine.token}, MINUTE) == {"a"}

    def test_a_repeated_acquire_is_no_holder_that_died(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = expire(store)
            run = store.acquire("a", Lease(mine.token, MINUTE))
            assert run is not None
            assert run.attempt == 0
            assert store.acquire("a", lease()) is None, "the repeat did not begin the lease anew"

    # Clocks

    def test_a_live_lease_holds_whatever_the_callers_clock_says(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=NOW - 2 * MONTH))
            hold(store)
            for skew in SKEWS:
                assert store.due(NOW + skew, 10) == []
                assert store.claim(NOW + skew, 10, lease()) == []
            assert store.acquire("a", lease()) is None

    def test_an_expired_lease_is_due_whatever_the_callers_clock_says(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=NOW + 2 * MONTH))
            expire(store)
            for skew in SKEWS:
                assert store.due(NOW + skew, 10) == ["a"]
            for skew in SKEWS:
                (claimed,) = store.claim(NOW + skew, 10, Lease(lease().token, 1))
                assert claimed.run_id == "a"
                until(lambda: store.due(0, 10))

    def test_a_lease_of_one_millisecond_can_be_taken_by_another(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            expire(store)
            assert store.acquire("a", lease()) is not None

    def test_expired_leases_come_before_all_wakes(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("early", wake_at=0))
            for run_id in ("z", "y"):
                store.save(birth(run_id, wake_at=MONTH))
                expire(store, run_id)
            assert store.due(1000, 10) == ["z", "y", "early"]
            assert store.due(1000, 1) == ["z"]
            assert [run.run_id for run in store.claim(1000, 2, lease())] == ["z", "y"]

    def test_an_expired_lease_is_due_whatever_the_status(self, open: Open) -> None:
        with opened(open) as store:
            for status in Status:
                store.save(birth(status.value, status=status, wake_at=None if status.over else MONTH))
                expire(store, status.value)
            assert sorted(store.due(0, 10)) == sorted(Status)

    # Renew

    def test_renew_says_which_leases_still_are_ours(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "abcde":
                store.save(birth(run_id))
            held = {run_id: hold(store, run_id)[0].token for run_id in "abcd"}
            store.release("a", Lease(held["a"], MINUTE))
            store.save(after(get(store, "b")), lease=Lease(held["b"], MINUTE))
            store.delete("c")
            tokens = {**held, "e": "not mine", "nobody": "nothing"}
            assert store.renew(tokens, MINUTE) == {"d"}

    def test_renew_of_nothing_is_nothing(self, open: Open) -> None:
        with opened(open) as store:
            assert store.renew({}, MINUTE) == set()

    def test_renew_of_many(self, open: Open) -> None:
        with opened(open) as store:
            runs = [birth(f"run {number:03}") for number in range(300)]
            store.save_many([(run, (), None) for run in runs])
            mine = lease()
            claimed = store.claim(1000, 300, mine)
            assert len(claimed) == 300
            tokens = {run.run_id: mine.token if number % 3 else "lost" for number, run in enumerate(claimed)}
            assert store.renew(tokens, MINUTE) == {run_id for run_id, token in tokens.items() if token == mine.token}

    def test_renew_keeps_a_run_that_had_run_out_but_was_not_taken(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = expire(store)
            assert store.renew({"a": mine.token}, MINUTE) == {"a"}
            assert store.due(0, 10) == []
            assert store.acquire("a", lease()) is None

    def test_renew_counts_from_now(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = hold(store)
            assert store.renew({"a": mine.token}, 1) == {"a"}
            until(lambda: store.due(0, 10) == ["a"])

    # Release

    def test_release_by_somebody_else_does_nothing(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            hold(store)
            store.release("a", lease())
            store.release("a", lease(), wake_at=5)
            store.release("nobody", lease())
            assert store.acquire("a", lease()) is None
            assert get(store).wake_at == 1000

    def test_a_released_run_comes_back_to_its_own_wake(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=1500))
            mine, _ = hold(store)
            store.release("a", mine)
            assert store.due(1499, 10) == []
            assert store.due(1500, 10) == ["a"]

    def test_release_can_defer(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=1000))
            mine, _ = hold(store)
            store.release("a", mine, wake_at=7000)
            assert store.due(6999, 10) == []
            assert store.due(7000, 10) == ["a"]
            assert get(store).wake_at == 7000

    def test_a_running_run_is_due_at_once_when_released(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(updated_at=4000), lease=mine)
            store.release("a", mine)
            assert store.due(3999, 10) == []
            assert store.due(4000, 10) == ["a"]

    def test_a_waiting_run_waits_on_when_released(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())
            mine, _ = hold(store)
            store.release("a", mine)
            assert store.due(MONTH, 10) == []

    def test_release_twice_is_release_once(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = hold(store)
            store.release("a", mine, wake_at=2000)
            store.release("a", mine, wake_at=9000)
            assert get(store).wake_at == 2000

    # Saves under a lease

    def test_a_run_can_be_born_leased(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), [b"one"], mine)
            assert store.due(MONTH, 10) == []
            assert store.acquire("a", lease()) is None
            assert store.renew({"a": mine.token}, MINUTE) == {"a"}

    def test_a_run_that_rests_at_birth_is_not_held(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(birth(), lease=mine)
            assert store.due(1000, 10) == ["a"]
            assert store.renew({"a": mine.token}, MINUTE) == set()

    def test_a_running_save_keeps_the_lease(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), lease=mine)
            for version in range(2, 6):
                store.save(running(version=version, seen=version - 2), [b"step"], mine)
            assert store.acquire("a", lease()) is None
            assert store.due(MONTH, 10) == []

    def test_a_running_save_renews_the_lease(self, open: Open) -> None:
        with opened(open) as store:
            store.save(running(status=Status.RUNNING, wake_at=5))
            mine, run = expire(store)
            store.save(after(run, wake_at=None), lease=Lease(mine.token, MINUTE))
            assert store.due(MONTH, 10) == []
            assert store.acquire("a", lease()) is None

    def test_a_save_at_rest_drops_the_lease(self, open: Open) -> None:
        with opened(open) as store:
            for status in Status:
                if status is Status.RUNNING:
                    continue
                mine = lease()
                store.save(running(status.value), lease=mine)
                store.save(birth(status.value, version=2, status=status), lease=mine)
                assert store.renew({status.value: mine.token}, MINUTE) == set()
                assert store.acquire(status.value, lease()) is not None

    def test_a_live_lease_refuses_a_save_without_one(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            hold(store)
            with refused(Conflict):
                store.save(birth(version=2, wake_at=5), [b"lost"])
            assert get(store) == birth()

    def test_an_expired_lease_does_not(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = expire(store)
            store.save(birth(version=2, wake_at=5))
            assert store.renew({"a": mine.token}, MINUTE) == set()
            assert store.due(5, 10) == ["a"]

    def test_a_save_under_a_lease_that_nobody_holds_is_refused(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            with refused(Conflict):
                store.save(birth(version=2), lease=lease())
            assert get(store) == birth()

    def test_a_lease_that_ran_out_still_saves_if_nobody_took_it(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, run = expire(store)
            assert store.save(after(run, wake_at=2000), [b"kept"], mine) == 0
            assert get(store).log == (b"kept",)
            assert store.due(1999, 10) == []

    # Attempt

    def test_attempt_counts_the_holders_that_died(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            for died in range(4):
                _, run = expire(store)
                assert run.attempt == died
            (claimed,) = store.claim(0, 10, lease())
            assert claimed.attempt == 4
            assert get(store).attempt == 4

    def test_attempt_counts_nothing_else(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            for _ in range(3):
                mine, run = hold(store)
                assert run.attempt == 0
                store.renew({"a": mine.token}, MINUTE)
                store.post("a", b"event", 5)
                assert store.acquire("a", lease()) is None
                store.release("a", mine)
            assert get(store).attempt == 0

    def test_a_release_keeps_the_count(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            expire(store)
            mine, _ = hold(store)
            store.release("a", mine, wake_at=5)
            assert hold(store)[1].attempt == 1

    def test_progress_clears_the_count(self, open: Open) -> None:
        with opened(open) as store:
            store.save(running(wake_at=5))
            expire(store)
            mine, run = hold(store)
            store.save(after(run), lease=mine)
            assert get(store).attempt == 1, "a running save without records is no progress"
            store.save(after(run, version=3), [b"step"], mine)
            assert get(store).attempt == 0

    def test_rest_clears_the_count(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            expire(store)
            mine, run = hold(store)
            assert run.attempt == 1
            store.save(after(run), lease=mine)
            assert get(store).attempt == 0

    def test_the_head_does_not_set_the_count(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(attempt=7))
            assert get(store).attempt == 0
            store.save(running("b", attempt=7), lease=lease())
            assert get(store, "b").attempt == 0

    def test_a_lease_that_ran_out_can_be_given_back(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=1500))
            mine, _ = expire(store)
            store.release("a", mine)
            assert store.due(1499, 10) == []
            assert store.due(1500, 10) == ["a"]
            assert hold(store)[1].attempt == 0

    def test_release_to_time_zero(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=1000))
            mine, _ = hold(store)
            store.release("a", mine, wake_at=0)
            assert get(store).wake_at == 0
            assert store.due(0, 10) == ["a"]
            assert store.next_wake() == 0

    def test_a_running_run_updated_at_zero_is_due_when_released(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(updated_at=0, created_at=0), lease=mine)
            store.release("a", mine)
            assert store.due(0, 10) == ["a"]

    def test_batches_of_renewals_from_several_handles(self, open: Open) -> None:
        with opened(open) as one, opened(open) as two:
            for run_id in "ab":
                one.save(birth(run_id))
            mine, _ = hold(one, "a")
            theirs, _ = hold(two, "b")
            assert one.renew({"a": mine.token, "b": mine.token}, MINUTE) == {"a"}
            assert two.renew({"a": theirs.token, "b": theirs.token}, MINUTE) == {"b"}
