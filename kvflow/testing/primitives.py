"""What any object with save, load, delete and due has to keep, bare, to be a store under ``Derived``."""

from kvflow.errors import Conflict
from kvflow.run import Status
from kvflow.testing.runs import OpenPrimitives, after, birth, get, opened, refused, waiting

FAR = 2**53
LARGEST = 2**63 - 1

FOUR_BYTES = "\U0001f600"

# In the order of their code points, which neither UTF-16 nor a locale keeps.
_ASCII = "../x . .. / A B CON a a/b a:b a{b}c b x x%20 {kvflow}"
_STRANGE = "\u2028 \ufeffa \uffff \U0010ffff \ufb01 fi \u00df ss % _ * [a] ? -1 0 null \u0130 i\u0307 \u202eabc \u00ad"
_WIDER = "e\u0301 \u00e9 \u0131 \u4e2d \uff21 \uffe0"
IDS_IN_ORDER = sorted(
    [*_ASCII.split(), "x ", "x  ", *_WIDER.split(), *_STRANGE.split(" "), FOUR_BYTES, FOUR_BYTES * 200]
)
OVER = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
ALL_BYTES = bytes(range(256))


class PrimitivesContract:
    """Save is a compare-and-set, load gives what was saved, due is in order."""

    def test_a_saved_run_loads_as_it_was_saved(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            run = birth(
                status=Status.WAITING, wake_at=1234, event="päid ☂", created_at=7, updated_at=8, snapshot=b"\x00\xff"
            )
            assert store.save(run, [b"one", b"two"]) == 0
            assert get(store) == after(run, version=1, seen=2, log=(b"one", b"two"))

    def test_each_status_comes_back(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for status in Status:
                store.save(birth(status.value, status=status))
                assert get(store, status.value).status is status

    def test_an_unknown_id_gives_nothing(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            assert store.load("nobody") is None
            assert store.load("nobody", log=False) is None

    def test_what_is_not_there_comes_back_as_none(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(waiting(event=None))
            run = get(store)
            assert (run.wake_at, run.event) == (None, None)

    def test_the_head_alone_has_no_log(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one"])
            head = store.load("a", log=False)
            assert head == birth()

    def test_a_second_handle_sees_the_same(self, open: OpenPrimitives) -> None:
        with opened(open) as store, opened(open) as other:
            store.save(birth(), [b"one"])
            assert get(other) == get(store)
            other.save(after(get(other), wake_at=2000), [b"two"])
            assert get(store).log == (b"one", b"two")
            assert store.due(1999, 10) == []

    def test_times_to_the_last_that_is_exact(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for at in (0, 1, 1_700_000_000_123, FAR - 1, FAR):
                store.save(birth(f"at {at}", wake_at=at, created_at=at, updated_at=at))
                run = get(store, f"at {at}")
                assert (run.wake_at, run.created_at, run.updated_at) == (at, at, at)
            assert store.due(FAR - 1, 10) == ["at 0", "at 1", "at 1700000000123", f"at {FAR - 1}"]

    # Compare-and-set

    def test_a_run_is_born_once(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth())
            with refused(Conflict):
                store.save(birth(snapshot=b"other"), [b"lost"])
            assert get(store) == birth()

    def test_only_the_next_version_is_saved(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth())
            store.save(birth(version=2, snapshot=b"second"))
            for version in (1, 2, 4, FAR):
                with refused(Conflict):
                    store.save(birth(version=version, snapshot=b"lost", wake_at=1), [b"lost"])
            assert get(store) == birth(version=2, snapshot=b"second")
            assert store.due(999, 10) == []

    def test_a_run_that_is_not_there_has_no_second_version(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            with refused(Conflict):
                store.save(birth(version=2), [b"lost"])
            assert store.load("a") is None
            assert store.due(FAR, 10) == []

    def test_the_head_is_replaced_whole(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(waiting(wake_at=5))
            second = birth(
                version=2, workflow="other", status=Status.COMPLETED, wake_at=None, updated_at=99, snapshot=b"end"
            )
            store.save(second)
            assert get(store) == second

    # Ids and bytes

    def test_ids_are_exact(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for number, run_id in enumerate(IDS_IN_ORDER):
                store.save(birth(run_id, snapshot=b"%d" % number), [b"log %d" % number])
            for number, run_id in enumerate(IDS_IN_ORDER):
                run = get(store, run_id)
                assert (run.run_id, run.snapshot, run.log) == (run_id, b"%d" % number, (b"log %d" % number,))

    def test_ties_are_in_order_of_their_ids(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for run_id in reversed(IDS_IN_ORDER):
                store.save(birth(run_id))
            assert store.due(1000, 100) == IDS_IN_ORDER
            assert store.due(1000, 3) == IDS_IN_ORDER[:3]

    def test_deleting_one_id_leaves_its_neighbours(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for run_id in IDS_IN_ORDER:
                store.save(birth(run_id), [b"kept"])
            for run_id in IDS_IN_ORDER[::2]:
                store.delete(run_id)
            assert store.due(1000, 100) == IDS_IN_ORDER[1::2]
            assert all(get(store, run_id).log == (b"kept",) for run_id in IDS_IN_ORDER[1::2])

    def test_names_are_exact_too(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for run_id in IDS_IN_ORDER:
                store.save(birth(run_id, workflow=run_id, event=run_id))
            for run_id in IDS_IN_ORDER:
                run = get(store, run_id)
                assert (run.workflow, run.event) == (run_id, run_id)

    def test_bytes_need_not_be_text(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            records = (ALL_BYTES, b"", b"\x00", b"\\'\"%s;--\n", "ünï".encode("utf-16"), b"nil")
            for number, snapshot in enumerate(records):
                run_id = f"run {number}"
                store.save(birth(run_id, snapshot=snapshot), records)
                run = get(store, run_id)
                assert (run.snapshot, run.log) == (snapshot, records)

    def test_a_megabyte_comes_back(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            large = ALL_BYTES * 4096
            store.save(birth(snapshot=large), [large, b"small"])
            assert get(store) == birth(snapshot=large, seen=2, log=(large, b"small"))

    # The log

    def test_the_log_grows_by_what_is_new(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one"])
            store.save(birth(version=2, seen=1))
            store.save(birth(version=3, seen=1), [b"two", b"three"])
            assert get(store).log == (b"one", b"two", b"three")

    def test_the_log_of_the_given_head_is_not_saved(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(log=(b"not new",)))
            assert get(store).log == ()

    def test_ten_thousand_records_stay_in_order(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            records = [b"record %d" % number for number in range(10_000)]
            store.save(birth(), records[:9000])
            store.save(birth(version=2, seen=9000), records[9000:])
            assert list(get(store).log) == records

    # Delete

    def test_delete_leaves_nothing(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one"])
            store.delete("a")
            assert store.load("a") is None
            assert store.due(FAR, 10) == []

    def test_delete_of_nothing_is_nothing(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.delete("nobody")
            store.save(birth())
            store.delete("a")
            store.delete("a")
            assert store.load("a") is None

    def test_a_deleted_id_begins_anew(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(), [b"old"])
            store.save(birth(version=2, seen=1), [b"older"])
            store.delete("a")
            store.save(birth(snapshot=b"new", wake_at=2000), [b"new"])
            assert get(store) == birth(snapshot=b"new", wake_at=2000, seen=1, log=(b"new",))
            assert store.due(1999, 10) == []

    # Due

    def test_due_is_earliest_first_and_cut_at_the_limit(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for run_id, wake_at in (("late", 3000), ("early", 1000), ("mid", 2000)):
                store.save(birth(run_id, wake_at=wake_at))
            assert store.due(2500, 10) == ["early", "mid"]
            assert store.due(5000, 1) == ["early"]
            assert store.due(5000, 10_000) == ["early", "mid", "late"]

    def test_due_begins_at_the_very_millisecond(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=1_700_000_000_000))
            assert store.due(1_699_999_999_999, 10) == []
            assert store.due(1_700_000_000_000, 10) == ["a"]

    def test_a_run_that_is_over_without_a_wake_is_never_due(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for status in OVER:
                store.save(birth(status.value))
                store.save(birth(status.value, version=2, status=status, wake_at=None))
            assert store.due(FAR, 10) == []
            assert store.due(LARGEST, 10) == []

    def test_a_run_that_is_over_and_owes_something_keeps_its_wake(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for number, status in enumerate(OVER):
                store.save(birth(status.value, status=status, wake_at=1000 + number))
            assert store.due(LARGEST, 10) == ["completed", "failed", "cancelled"]

    def test_a_wait_without_a_timeout_is_not_due(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(waiting())
            store.save(waiting("timed", wake_at=5))
            assert store.due(LARGEST, 10) == ["timed"]

    def test_a_submitted_run_is_due(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(status=Status.RUNNING, wake_at=10))
            assert store.due(9, 10) == []
            assert store.due(10, 10) == ["a"]

    def test_a_run_moves_with_its_wake(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=1000))
            store.save(birth("b", wake_at=1500))
            store.save(birth(version=2, wake_at=2000))
            assert store.due(1999, 10) == ["b"]
            assert store.due(2000, 10) == ["b", "a"]
            store.save(birth(version=3, status=Status.WAITING, wake_at=None))
            assert store.due(LARGEST, 10) == ["b"]
            store.save(birth(version=4, wake_at=1))
            assert store.due(LARGEST, 10) == ["a", "b"]

    def test_a_run_moves_with_its_workflow(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            store.save(birth(workflow="one"))
            store.save(birth(workflow="two", version=2))
            assert store.due(1000, 10) == ["a"]
            store.delete("a")
            assert store.due(1000, 10) == []

    def test_workflows_take_turns_by_time(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            for number in range(20):
                store.save(birth(f"run {number:02}", workflow=f"w{number % 3}", wake_at=1000 + number))
            assert store.due(1011, 5) == [f"run {number:02}" for number in range(5)]
            assert store.due(1011, 50) == [f"run {number:02}" for number in range(12)]

    def test_an_answer_of_save_counts_what_its_writer_has_not_seen(self, open: OpenPrimitives) -> None:
        with opened(open) as store:
            assert store.save(birth(), [b"one", b"two"]) == 0
            assert store.save(birth(version=2, seen=1), [b"three"]) == 1
            assert store.save(birth(version=3, seen=3)) == 0
