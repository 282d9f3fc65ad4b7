"""Many saves at once: each entry succeeds or fails by itself, as if it had come alone."""

from kvflow.errors import Conflict, InvalidArgument, InvalidRunId
from kvflow.run import Lease, Status
from kvflow.store import Save
from kvflow.testing.runs import MINUTE, Open, after, birth, expire, get, hold, lease, opened, running, waiting


class SaveManyContract:
    """save_many is so many saves."""

    def test_nothing_to_save_is_nothing(self, open: Open) -> None:
        with opened(open) as store:
            assert store.save_many([]) == []

    def test_each_entry_is_saved(self, open: Open) -> None:
        with opened(open) as store:
            saves: list[Save] = [(birth(f"run {n}", wake_at=n), [b"%d" % n] * n, None) for n in range(30)]
            assert store.save_many(iter(saves)) == [0] * 30
            for number in range(30):
                assert get(store, f"run {number}").log == (b"%d" % number,) * number
            assert store.due(14, 100) == [f"run {number}" for number in range(15)]

    def test_a_thousand_at_once(self, open: Open) -> None:
        with opened(open) as store:
            runs = [birth(f"run {number:04}", wake_at=number) for number in range(1000)]
            assert store.save_many([(run, [b"record"], None) for run in runs]) == [0] * 1000
            assert store.due(1000, 2000) == [run.run_id for run in runs]
            assert get(store, "run 0999").log == (b"record",)

    def test_a_conflict_is_one_entrys_alone(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "abcdef":
                store.save(birth(run_id))
            mine, _ = hold(store, "b")
            hold(store, "c")
            stale, _ = expire(store, "d")
            hold(store, "d")
            saves: list[Save] = [
                (birth("a", version=2, snapshot=b"new"), [b"one"], None),
                (birth("b", version=2, snapshot=b"new"), [b"one"], mine),
                (birth("c", version=2, snapshot=b"lost"), [b"one"], None),
                (birth("d", version=2, snapshot=b"lost"), [b"one"], stale),
                (birth("e", version=3, snapshot=b"lost"), [b"one"], None),
                (birth("f", version=2, snapshot=b"lost", seen=1), [b"one"], None),
                (birth("g", snapshot=b"new"), [b"one"], None),
            ]
            outcomes = store.save_many(saves)
            assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
                0,
                0,
                Conflict,
                Conflict,
                Conflict,
                Conflict,
                0,
            ]
            for run_id in "abg":
                assert (get(store, run_id).snapshot, get(store, run_id).log) == (b"new", (b"one",))
            for run_id in "cdef":
                assert (get(store, run_id).snapshot, get(store, run_id).log) == (b"snapshot", ())

    def test_bad_input_is_one_entrys_alone(self, open: Open) -> None:
        with opened(open) as store:
            outcomes = store.save_many(
                [
                    (birth("a"), (), None),
                    (birth(""), (), None),
                    (birth("b", wake_at=None), (), None),
                    (birth("c"), [b"one"], None),
                ]
            )
            assert (outcomes[0], outcomes[3]) == (0, 0)
            assert isinstance(outcomes[1], InvalidRunId)
            assert isinstance(outcomes[2], InvalidArgument)
            assert store.due(1000, 10) == ["a", "c"]

    def test_entries_of_one_run_are_taken_in_order(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            saves: list[Save] = [
                (running("a"), [b"one"], mine),
                (birth("b"), (), None),
                (running("a", version=2, seen=1), [b"two"], mine),
                (running("a", version=2, seen=1, snapshot=b"lost"), [b"lost"], lease()),
                (birth("a", version=3, seen=2), [b"three"], mine),
                (birth("b", version=2, wake_at=2000), (), None),
            ]
            outcomes = store.save_many(saves)
            assert isinstance(outcomes.pop(3), Conflict)
            assert outcomes == [0] * 5
            assert get(store).log == (b"one", b"two", b"three")
            assert store.due(1999, 10) == ["a"]

    def test_a_repeat_within_a_batch_succeeds(self, open: Open) -> None:
        with opened(open) as store:
            saves: list[Save] = [(running(f"run {number}"), [b"one"], lease()) for number in range(5)]
            assert store.save_many(saves) == [0] * 5
            assert store.save_many([*saves, *saves]) == [0] * 10
            assert all(get(store, run.run_id).log == (b"one",) for run, _, _ in saves)

    def test_leases_wakes_and_counts_are_as_in_a_save(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            for run_id in "abcd":
                store.save(running(run_id), lease=mine)
            store.post("a", b"event", 5)
            store.post("b", b"event", 5)
            outcomes = store.save_many(
                [
                    (waiting("a", version=2, updated_at=600), [b"step"], mine),
                    (running("b", version=2), [b"step"], mine),
                    (birth("c", version=2, status=Status.FAILED, wake_at=None), [b"step"], mine),
                    (birth("d", version=2, wake_at=900), (), mine),
                ]
            )
            assert outcomes == [1, 1, 0, 0]
            assert store.due(1000, 10) == ["a", "d"]
            assert store.due(600, 10) == ["a"]
            assert store.renew(dict.fromkeys("abcd", mine.token), MINUTE) == {"b"}

    def test_a_batch_clears_the_count_of_dead_holders(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "ab":
                store.save(birth(run_id))
                expire(store, run_id)
            mine = lease()
            held = store.claim(0, 10, mine)
            assert [run.attempt for run in held] == [1, 1]
            store.save_many(
                [
                    (after(held[0], status=Status.RUNNING), (), mine),
                    (after(held[1], status=Status.RUNNING), [b"step"], Lease(mine.token, MINUTE)),
                ]
            )
            assert [get(store, run_id).attempt for run_id in "ab"] == [1, 0]
