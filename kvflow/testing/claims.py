"""Claims: due runs found and leased in one step, never one run to two, never a workflow not asked for."""

from kvflow.run import Lease, Status
from kvflow.testing.primitives import IDS_IN_ORDER, LARGEST
from kvflow.testing.runs import MINUTE, MONTH, Open, birth, expire, get, hold, lease, opened, running, until, waiting


class ClaimContract:
    """Claim gives what due names, up to the limit, and holds it."""

    def test_claim_gives_due_runs_with_their_logs_and_holds_them(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(), [b"one", b"two"])
            mine = lease()
            assert store.claim(1000, 10, mine) == [birth(seen=2, log=(b"one", b"two"))]
            assert store.due(MONTH, 10) == []
            assert store.claim(MONTH, 10, lease()) == []
            assert store.acquire("a", lease()) is None
            assert store.renew({"a": mine.token}, MINUTE) == {"a"}

    def test_claim_of_nothing_is_nothing(self, open: Open) -> None:
        with opened(open) as store:
            assert store.claim(LARGEST, 10, lease()) == []
            store.save(birth())
            assert store.claim(999, 10, lease()) == []

    def test_claim_is_in_the_order_of_due(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in IDS_IN_ORDER:
                store.save(birth(run_id, workflow=f"w{len(run_id) % 3}"))
            for number in range(5):
                store.save(birth(f"first {number}", wake_at=500 - number))
            for number in range(3):
                store.save(birth(f"died {number}", wake_at=MONTH))
                expire(store, f"died {number}")
            due = store.due(1000, 100)
            assert due[:4] == ["died 0", "died 1", "died 2", "first 4"]
            assert [run.run_id for run in store.claim(1000, 100, lease())] == due

    def test_claim_gives_never_more_than_the_limit(self, open: Open) -> None:
        with opened(open) as store:
            for number in range(25):
                store.save(birth(f"run {number:02}", wake_at=number))
            claimed = [len(store.claim(1000, 10, lease())) for _ in range(4)]
            assert claimed == [10, 10, 5, 0]

    def test_claim_of_one_and_of_more_than_there_are(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "abc":
                store.save(birth(run_id))
            assert [run.run_id for run in store.claim(1000, 1, lease())] == ["a"]
            assert [run.run_id for run in store.claim(1000, 100_000, lease())] == ["b", "c"]

    def test_claim_mixes_expired_leases_and_wakes_within_the_limit(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in ("died", "dead"):
                store.save(birth(run_id, wake_at=MONTH))
                expire(store, run_id)
            for run_id in "abc":
                store.save(birth(run_id))
            assert [run.run_id for run in store.claim(1000, 4, lease())] == ["died", "dead", "a", "b"]

    def test_claim_skips_what_is_held(self, open: Open) -> None:
        with opened(open) as store:
            for number in range(20):
                store.save(birth(f"run {number:02}"))
            for number in range(0, 20, 2):
                hold(store, f"run {number:02}")
            claimed = store.claim(1000, 20, lease())
            assert [run.run_id for run in claimed] == [f"run {number:02}" for number in range(1, 20, 2)]

    def test_claim_gives_runs_of_any_status_that_have_a_wake(self, open: Open) -> None:
        with opened(open) as store:
            for status in Status:
                store.save(birth(status.value, status=status))
            store.save(waiting("open"))
            assert sorted(run.run_id for run in store.claim(1000, 10, lease())) == sorted(Status)

    def test_a_claimed_run_keeps_its_wake(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(wake_at=700))
            mine = lease()
            (run,) = store.claim(1000, 1, mine)
            assert run.wake_at == 700
            store.release("a", mine)
            assert store.due(700, 1) == ["a"]

    def test_claim_raises_the_count_of_dead_holders_only(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth("died"))
            store.save(birth("fresh"))
            expire(store, "died")
            assert [(run.run_id, run.attempt) for run in store.claim(1000, 10, lease())] == [("died", 1), ("fresh", 0)]
            assert get(store, "died").attempt == 1

    def test_a_claim_resent_under_its_token_harms_nobody(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "abc":
                store.save(birth(run_id))
            mine = lease()
            first = {run.run_id for run in store.claim(1000, 2, mine)}
            again = {run.run_id for run in store.claim(1000, 2, mine)}
            assert first == {"a", "b"}
            assert "c" in again
            assert all(get(store, run_id).attempt == 0 for run_id in "abc")
            assert store.renew(dict.fromkeys("abc", mine.token), MINUTE) == set("abc")

    def test_each_claimed_run_is_saved_and_released_by_itself(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "abc":
                store.save(birth(run_id))
            mine = lease()
            store.claim(1000, 3, mine)
            store.save(birth("a", version=2, wake_at=5000), lease=mine)
            store.release("b", mine, wake_at=6000)
            assert store.renew(dict.fromkeys("abc", mine.token), MINUTE) == {"c"}
            assert store.due(6000, 10) == ["a", "b"]

    # Workflows

    def test_claim_takes_only_the_workflows_asked_for(self, open: Open) -> None:
        with opened(open) as store:
            for number in range(12):
                store.save(birth(f"run {number:02}", workflow=f"w{number % 4}", wake_at=number))
            claimed = store.claim(1000, 10, lease(), ["w1", "w3"])
            assert [run.run_id for run in claimed] == [f"run {number:02}" for number in (1, 3, 5, 7, 9, 11)]
            assert {run.workflow for run in store.claim(1000, 10, lease())} == {"w0", "w2"}

    def test_others_that_are_due_before_are_in_nobodys_way(self, open: Open) -> None:
        with opened(open) as store:
            others = [birth(f"other {number:04}", workflow="other", wake_at=1) for number in range(1500)]
            assert all(outcome == 0 for outcome in store.save_many([(run, (), None) for run in others]))
            store.save(birth("mine", workflow="mine", wake_at=999))
            assert [run.run_id for run in store.claim(1000, 1, lease(), {"mine"})] == ["mine"]

    def test_claim_of_unknown_or_of_no_workflows_is_empty(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            assert store.claim(1000, 10, lease(), ["unknown"]) == []
            assert store.claim(1000, 10, lease(), []) == []
            assert len(store.claim(1000, 10, lease(), iter(["w", "w", "unknown"]))) == 1

    def test_expired_leases_are_of_their_workflow_too(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in ("one", "two"):
                store.save(birth(run_id, workflow=run_id, wake_at=MONTH))
                expire(store, run_id)
            assert [run.run_id for run in store.claim(0, 10, lease(), ["two"])] == ["two"]

    def test_names_of_workflows_are_exact(self, open: Open) -> None:
        with opened(open) as store:
            for name in IDS_IN_ORDER:
                store.save(birth(f"of {name}"[:200], workflow=name))
            for name in IDS_IN_ORDER:
                (run,) = store.claim(1000, 10, lease(), [name])
                assert run.workflow == name

    def test_many_workflows_at_once(self, open: Open) -> None:
        with opened(open) as store:
            names = [f"workflow {number:03}" for number in range(120)]
            for number, name in enumerate(names):
                store.save(birth(f"run {number:03}", workflow=name, wake_at=120 - number))
            claimed = store.claim(1000, 50, lease(), names)
            assert [run.workflow for run in claimed] == names[:-51:-1]
            assert len(store.claim(1000, 500, lease(), names)) == 70

    # What comes and goes

    def test_a_submitted_run_is_claimed_and_driven(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth(status=Status.RUNNING, wake_at=10))
            mine = lease()
            (run,) = store.claim(10, 1, mine)
            store.save(running(version=2, seen=run.seen), [b"step"], mine)
            store.save(birth(version=3, seen=1, status=Status.COMPLETED, wake_at=None), lease=mine)
            assert store.due(MONTH, 10) == []

    def test_a_claim_that_dies_is_claimed_again(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            assert len(store.claim(1000, 10, Lease("dies", 1))) == 1
            (run,) = until(lambda: store.claim(0, 10, lease()))
            assert (run.run_id, run.attempt) == ("a", 1)

    def test_long_logs_come_whole(self, open: Open) -> None:
        with opened(open) as store:
            for number in range(10):
                run_id = f"run {number}"
                store.save(birth(run_id), [b"%d-%d" % (number, at) + b"x" * 2000 for at in range(100 * (number % 3))])
            for run in store.claim(1000, 10, lease()):
                number = int(run.run_id.removeprefix("run "))
                assert len(run.log) == run.seen == 100 * (number % 3)
                assert all(record.startswith(b"%d-%d" % (number, at)) for at, record in enumerate(run.log))

    def test_a_limit_beyond_all_numbers(self, open: Open) -> None:
        with opened(open) as store:
            for run_id in "ab":
                store.save(birth(run_id))
            assert store.due(1000, LARGEST) == ["a", "b"]
            assert len(store.claim(1000, LARGEST, lease())) == 2

    def test_a_log_of_ten_thousand_records_is_claimed_and_acquired_whole(self, open: Open) -> None:
        with opened(open) as store:
            records = tuple(b"record %d" % number for number in range(10_000))
            store.save(birth(), records)
            mine = lease()
            (run,) = store.claim(1000, 10, mine)
            assert (run.seen, run.log) == (10_000, records)
            store.release("a", mine)
            assert hold(store)[1].log == records
