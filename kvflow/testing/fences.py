"""Fences: who was presumed dead cannot write, and who only missed an answer loses nothing."""

from kvflow.errors import Conflict
from kvflow.run import Lease, Status
from kvflow.testing.runs import (
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


class FenceContract:
    """(version, token) fences out holders that come back, and tells a repeat from a conflict."""

    # Takeover

    def test_a_takeover_fences_the_old_holders_save(self, open: Open) -> None:
        with opened(open) as old, opened(open) as new:
            old.save(birth())
            stale, run = expire(old)
            mine, _ = hold(new)
            for version in (2, 3):
                with refused(Conflict):
                    old.save(after(run, version=version, snapshot=b"stale"), [b"stale"], stale)
            new.save(after(run, status=Status.RUNNING, wake_at=None), [b"step"], mine)
            for version in (2, 3):
                with refused(Conflict):
                    old.save(after(run, version=version, snapshot=b"stale"), [b"stale"], stale)
            assert get(new).log == (b"step",)
            assert get(new).snapshot == b"snapshot"

    def test_a_takeover_fences_the_old_holders_renewal_and_release(self, open: Open) -> None:
        with opened(open) as old, opened(open) as new:
            old.save(birth())
            stale, _ = expire(old)
            mine, _ = hold(new)
            assert old.renew({"a": stale.token}, MINUTE) == set()
            old.release("a", stale, wake_at=5)
            assert new.renew({"a": mine.token}, MINUTE) == {"a"}
            assert get(new).wake_at == 1000

    def test_a_save_after_its_own_release_is_refused(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, run = hold(store)
            store.release("a", mine)
            with refused(Conflict):
                store.save(after(run, snapshot=b"late"), [b"late"], mine)
            assert get(store) == birth()
            assert store.renew({"a": mine.token}, MINUTE) == set()

    def test_a_save_after_resting_is_refused(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, run = hold(store)
            store.save(after(run), lease=mine)
            with refused(Conflict):
                store.save(after(run, version=3, snapshot=b"late"), lease=mine)

    def test_delete_and_birth_under_a_stale_holder(self, open: Open) -> None:
        with opened(open) as old, opened(open) as new:
            old.save(birth())
            stale, run = hold(old)
            new.delete("a")
            with refused(Conflict):
                old.save(after(run, snapshot=b"stale"), [b"stale"], stale)
            assert new.load("a") is None
            new.save(birth(snapshot=b"new"))
            with refused(Conflict):
                old.save(after(run, snapshot=b"stale"), [b"stale"], stale)
            assert old.renew({"a": stale.token}, MINUTE) == set()
            old.release("a", stale, wake_at=5)
            assert get(new) == birth(snapshot=b"new")

    def test_delete_and_birth_under_the_writer_of_the_same_version(self, open: Open) -> None:
        with opened(open) as old, opened(open) as new:
            stale = lease()
            old.save(running(), [b"old"], stale)
            new.delete("a")
            new.save(running(snapshot=b"new"), [b"new"], lease())
            for version in (1, 2):
                with refused(Conflict):
                    old.save(running(version=version, snapshot=b"stale", seen=version - 1), [b"stale"], stale)
            assert get(new).log == (b"new",)

    def test_delete_takes_the_lease_with_it(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            hold(store)
            store.delete("a")
            assert store.due(MONTH, 10) == []
            store.save(birth(wake_at=2000))
            assert store.due(0, 10) == []
            assert hold(store)[1].attempt == 0

    # Repeats

    def test_a_repeated_birth_succeeds_and_changes_nothing(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            assert store.save(running(), [b"one"], mine) == 0
            before = get(store)
            assert store.save(running(), [b"one"], mine) == 0
            assert get(store) == before
            assert store.renew({"a": mine.token}, MINUTE) == {"a"}

    def test_a_repeated_birth_at_rest_succeeds(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(birth(), [b"one"], mine)
            assert store.save(birth(), [b"one"], mine) == 0
            assert get(store).log == (b"one",)

    def test_a_repeated_save_succeeds_and_changes_nothing(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), [b"one"], mine)
            second = running(version=2, seen=1)
            store.save(second, [b"two"], mine)
            before = get(store)
            for _ in range(3):
                assert store.save(second, [b"two"], mine) == 0
            assert get(store) == before
            store.save(running(version=3, seen=2), [b"three"], mine)
            assert get(store).log == (b"one", b"two", b"three")

    def test_a_repeated_last_save_succeeds_after_the_lease_is_gone(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), lease=mine)
            last = birth(version=2, status=Status.COMPLETED, wake_at=None, snapshot=b"end")
            store.save(last, [b"one"], mine)
            assert store.save(last, [b"one"], mine) == 0
            assert get(store).log == (b"one",)

    def test_a_repeat_succeeds_after_release_and_after_a_takeover(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            first = running(updated_at=10)
            store.save(first, [b"one"], mine)
            store.release("a", mine)
            assert store.save(first, [b"one"], mine) == 0
            theirs, taken = hold(store)
            assert store.save(first, [b"one"], mine) == 0
            assert store.acquire("a", lease()) is None, "the repeat dropped somebody's lease"
            store.save(after(taken), [b"two"], theirs)
            with refused(Conflict):
                store.save(first, [b"one"], mine)
            assert get(store).log == (b"one", b"two")

    def test_a_repeat_counts_what_was_posted_since(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), [b"one"], mine)
            store.post("a", b"event", 5)
            assert store.save(running(), [b"one"], mine) == 1

    def test_a_repeat_does_not_undo_a_release_or_a_post(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            rest = waiting(wake_at=9000)
            store.save(rest, lease=mine)
            store.post("a", b"event", 5)
            store.save(rest, lease=mine)
            assert store.due(5, 10) == ["a"]

    def test_another_token_at_the_same_version_is_a_conflict(self, open: Open) -> None:
        with opened(open) as store:
            store.save(running(), lease=lease())
            with refused(Conflict):
                store.save(running(), lease=lease())

    def test_a_save_without_a_lease_is_never_taken_for_a_repeat(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            with refused(Conflict):
                store.save(birth())
            mine, run = hold(store)
            store.save(after(run), lease=mine)
            with refused(Conflict):
                store.save(after(run))

    def test_a_save_without_a_lease_has_no_writer(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(birth(), lease=mine)
            store.save(birth(version=2))
            with refused(Conflict):
                store.save(birth(version=2), lease=mine)

    def test_a_repeated_release_leaves_the_next_holder_alone(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            mine, _ = hold(store)
            store.release("a", mine)
            theirs, _ = hold(store)
            store.release("a", Lease(mine.token, MINUTE), wake_at=1)
            assert store.renew({"a": theirs.token}, MINUTE) == {"a"}

    def test_a_holder_that_has_not_written_cannot_repeat_what_another_wrote(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one"])
            mine, run = hold(store)
            with refused(Conflict):
                store.save(after(run, version=1, snapshot=b"lost"), [b"lost"], mine)
            assert (get(store).snapshot, get(store).log) == (b"snapshot", (b"one",))

    def test_a_repeat_after_a_takeover_leaves_the_count_and_the_lease(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease(1)
            store.save(running(), [b"one"], mine)
            until(lambda: store.due(0, 10))
            theirs = lease()
            taken = store.acquire("a", theirs)
            assert taken is not None
            assert taken.attempt == 1
            assert store.save(running(), [b"one"], mine) == 0
            assert get(store).attempt == taken.attempt
            assert store.renew({"a": mine.token}, MINUTE) == set()
            assert store.renew({"a": theirs.token}, MINUTE) == {"a"}

    def test_a_late_first_save_is_refused_when_the_run_went_on(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), [b"one"], mine)
            store.save(running(version=2, seen=1), [b"two"], mine)
            with refused(Conflict):
                store.save(running(), [b"one"], mine)
            assert get(store).log == (b"one", b"two")
