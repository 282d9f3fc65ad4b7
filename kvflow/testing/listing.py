"""For operators, a listing, newest first; for idle workers, when to look again."""

from kvflow.run import Status
from kvflow.testing.primitives import IDS_IN_ORDER
from kvflow.testing.runs import MONTH, Open, birth, expire, hold, lease, opened, running, waiting


class ListContract:
    """Every run stands in the listing once, and a listing can be gone through page by page."""

    def test_an_empty_store_lists_nothing(self, open: Open) -> None:
        with opened(open) as store:
            assert store.list(10) == []

    def test_a_listing_is_newest_first_without_logs(self, open: Open) -> None:
        with opened(open) as store:
            for run_id, created_at in (("old", 1), ("new", 3), ("mid", 2)):
                store.save(birth(run_id, created_at=created_at), [b"one"])
            assert store.list(10) == [
                birth("new", created_at=3),
                birth("mid", created_at=2),
                birth("old", created_at=1),
            ]
            assert [run.run_id for run in store.list(1)] == ["new"]
            assert len(store.list(2**63 - 1)) == 3

    def test_ties_are_in_falling_order_of_their_ids(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in IDS_IN_ORDER:
                store.save(birth(run_id))
            assert [run.run_id for run in store.list(100)] == IDS_IN_ORDER[::-1]

    def test_pages_follow_each_other(self, open: Open) -> None:
        with opened(open) as store:
            for number in range(23):
                store.save(birth(f"run {number:02}", created_at=number // 4))
            listed: list[str] = []
            row = None
            while page := store.list(5, after=row):
                listed += [run.run_id for run in page]
                row = (page[-1].created_at, page[-1].run_id)
            assert listed == [f"run {number:02}" for number in range(22, -1, -1)]

    def test_after_a_row_that_is_gone(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "abd":
                store.save(birth(run_id))
            assert [run.run_id for run in store.list(10, after=(10, "c"))] == ["b", "a"]
            assert store.list(10, after=(9, "z")) == []
            assert len(store.list(10, after=(11, "a"))) == 3

    def test_after_at_ids_of_any_kind(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in IDS_IN_ORDER:
                store.save(birth(run_id))
            for number, run_id in enumerate(IDS_IN_ORDER):
                page = store.list(1, after=(10, run_id))
                assert [run.run_id for run in page] == IDS_IN_ORDER[max(0, number - 1) : number]

    def test_a_status_filters(self, open: Open) -> None:
        with opened(open) as store:
            for number in range(60):
                status = Status.FAILED if number % 20 == 7 else Status.COMPLETED
                store.save(birth(f"run {number:02}", status=status, wake_at=None, created_at=number))
            assert [run.run_id for run in store.list(10, status=Status.FAILED)] == ["run 47", "run 27", "run 07"]
            assert [run.run_id for run in store.list(1, after=(47, "run 47"), status=Status.FAILED)] == ["run 27"]
            assert store.list(10, status=Status.RUNNING) == []
            assert len(store.list(100, status=Status.COMPLETED)) == 57

    def test_a_listing_follows_saves_and_deletes(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("a"))
            store.save(birth("b"))
            store.save(birth("a", version=2, status=Status.COMPLETED, wake_at=None, updated_at=99))
            store.delete("b")
            assert store.list(10) == [birth("a", version=2, status=Status.COMPLETED, wake_at=None, updated_at=99)]
            hold(store, "a")
            assert len(store.list(10)) == 1


class NextWakeContract:
    """The earliest wake of a run that nobody holds."""

    def test_without_runs_there_is_no_wake(self, open: Open) -> None:
        with opened(open) as store:
            assert store.next_wake() is None
            store.save(waiting())
            store.save(birth("over", status=Status.COMPLETED, wake_at=None))
            assert store.next_wake() is None
            assert store.next_wake(["w"]) is None

    def test_the_earliest_counts(self, open: Open) -> None:
        with opened(open) as store:
            for run_id, wake_at in (("late", 3000), ("early", 1000), ("mid", 2000)):
                store.save(birth(run_id, wake_at=wake_at))
            assert store.next_wake() == 1000
            store.delete("early")
            assert store.next_wake() == 2000
            store.save(birth("mid", version=2, wake_at=4000))
            assert store.next_wake() == 3000

    def test_held_runs_do_not_count(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("a", wake_at=1000))
            store.save(birth("b", wake_at=2000))
            store.save(running("c"), lease=lease())
            mine, _ = hold(store, "a")
            assert store.next_wake() == 2000
            hold(store, "b")
            assert store.next_wake() is None
            store.release("a", mine)
            assert store.next_wake() == 1000

    def test_workflows_count_where_they_are_asked_for(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("a", workflow="one", wake_at=1000))
            store.save(birth("b", workflow="two", wake_at=2000))
            assert store.next_wake(["two"]) == 2000
            assert store.next_wake(["two", "one"]) == 1000
            assert store.next_wake(["three"]) is None
            assert store.next_wake([]) is None

    def test_a_lease_that_ran_out_is_a_wake(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=2**53))
            expire(store)
            wake = store.next_wake(["w"])
            assert wake is not None
            assert MONTH < wake < 2**53

    def test_next_wake_counts_runs_that_are_over_and_owe_something(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(status=Status.COMPLETED, wake_at=700))
            assert store.next_wake() == 700

    def test_a_wake_at_zero_is_a_wake(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("b", wake_at=0))
            store.save(birth("a", wake_at=1))
            assert store.next_wake() == 0
            assert store.due(1, 1) == ["b"]
            assert store.due(0, 10) == ["b"]
