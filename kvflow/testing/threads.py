"""Many threads on one handle and on many: every race has one winner."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from kvflow.errors import Conflict
from kvflow.run import Status
from kvflow.testing.runs import Open, after, birth, get, hold, lease, opened, running, waiting

THREADS = 8

Outcome = TypeVar("Outcome")


def side_by_side(calls: Sequence[Callable[[], Outcome]]) -> list[Outcome]:
    """What each call gave, all begun at the same moment."""
    barrier = threading.Barrier(len(calls))

    def begin(call: Callable[[], Outcome]) -> Outcome:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


class ThreadsContract:
    """A store is safe to share between threads, and as many handles are one store."""

    def test_one_run_is_born_once(self, open: Open) -> None:
        with opened(open) as store:

            def bear(name: bytes) -> bytes | None:
                try:
                    store.save(birth(snapshot=name), [name])
                except Conflict:
                    return None
                return name

            for _ in range(5):
                names = [b"%d" % number for number in range(THREADS)]
                born = [name for name in side_by_side([partial(bear, name) for name in names]) if name]
                assert len(born) == 1
                assert get(store).log == (born[0],)
                store.delete("a")

    def test_one_next_version_is_saved(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())

            def write(version: int, name: bytes) -> bool:
                try:
                    store.save(birth(version=version, seen=version - 2, snapshot=name), [name])
                except Conflict:
                    return False
                return True

            for version in range(2, 8):
                names = [b"%d of %d" % (number, version) for number in range(THREADS)]
                won = side_by_side([partial(write, version, name) for name in names])
                assert sum(map(bool, won)) == 1
                assert get(store).log[-1] == names[won.index(True)]
            assert len(get(store).log) == 6

    def test_one_holder_acquires(self, open: Open) -> None:
        with opened(open) as store:
            store.save(birth())
            for _ in range(5):
                leases = [lease() for _ in range(THREADS)]
                held = side_by_side([partial(store.acquire, "a", mine) for mine in leases])
                assert sum(run is not None for run in held) == 1
                winner = next(mine for mine, run in zip(leases, held, strict=True) if run is not None)
                store.release("a", winner)

    def test_no_run_is_claimed_twice(self, open: Open) -> None:
        with opened(open) as store:
            runs = [birth(f"run {number:04}", workflow=f"w{number % 3}", wake_at=number % 7) for number in range(600)]
            store.save_many([(run, (), None) for run in runs])

            def claim_all(own_handle: bool) -> list[str]:
                claimed: list[str] = []
                with opened(open) as own:
                    source = own if own_handle else store
                    while batch := source.claim(1000, 7, lease()):
                        claimed += [run.run_id for run in batch]
                        assert len(claimed) <= len(runs), "claims give runs that are held"
                return claimed

            shares = side_by_side([partial(claim_all, number % 2 == 1) for number in range(THREADS)])
            claims = Counter(run_id for share in shares for run_id in share)
            assert len(claims) == len(runs), f"{len(runs) - len(claims)} due runs were claimed by nobody"
            assert max(claims.values()) == 1

    def test_an_empty_claim_stops_no_birth(self, open: Open) -> None:
        with opened(open) as store:
            done = threading.Event()

            def look() -> int:
                looks = 0
                while not (looks and done.is_set()):
                    assert store.claim(5, 10, lease(), ["w"]) == []
                    looks += 1
                return looks

            def bear() -> None:
                try:
                    for number in range(100):
                        store.save(birth(f"run {number}"))
                finally:
                    done.set()

            looks, _ = side_by_side([look, bear])
            assert looks
            assert len(store.due(1000, 1000)) == 100

    def test_posts_from_many_threads_are_all_kept(self, open: Open) -> None:
        with opened(open) as store:
            store.save(waiting())

            def send(sender: int) -> None:
                for number in range(25):
                    assert store.post("a", b"%d %d" % (sender, number), 5)

            side_by_side([partial(send, sender) for sender in range(THREADS)])
            log = get(store).log
            assert len(log) == THREADS * 25
            for sender in range(THREADS):
                own = [record for record in log if record.startswith(b"%d " % sender)]
                assert own == [b"%d %d" % (sender, number) for number in range(25)]

    def test_posts_during_a_drive_are_counted_or_wake(self, open: Open) -> None:
        with opened(open) as store:
            mine = lease()
            store.save(running(), lease=mine)
            posts = 40

            def drive() -> int:
                run, seen = get(store), 0
                for version in range(2, 30):
                    unseen = store.save(after(run, version=version, seen=seen), [b"step"], mine)
                    seen = len(get(store).log) if unseen else seen + 1
                return store.save(waiting(version=30, seen=seen, updated_at=600), lease=mine)

            def send() -> None:
                for number in range(posts):
                    assert store.post("a", b"event %d" % number, 5)

            unseen, _ = side_by_side([drive, send])
            run = get(store)
            assert len(run.log) == posts + 28
            assert [record for record in run.log if record != b"step"] == [b"event %d" % n for n in range(posts)]
            if unseen:
                assert store.due(600, 1) == ["a"]

    def test_saves_of_many_runs_side_by_side(self, open: Open) -> None:
        with opened(open) as store:

            def drive(name: str) -> None:
                mine = lease()
                store.save(running(name), lease=mine)
                for version in range(2, 12):
                    store.save(running(name, version=version, seen=version - 2), [b"%d" % version], mine)
                store.save(birth(name, version=12, seen=10, status=Status.COMPLETED, wake_at=None), lease=mine)

            side_by_side([partial(drive, f"run {number}") for number in range(THREADS)])
            for number in range(THREADS):
                run = get(store, f"run {number}")
                assert (run.version, run.log) == (12, tuple(b"%d" % version for version in range(2, 12)))

    def test_batches_that_overlap_are_no_deadlock(self, open: Open) -> None:
        with opened(open) as store:
            names = [f"run {number}" for number in range(20)]

            def write(order: list[str], version: int) -> int:
                outcomes = store.save_many([(birth(name, version=version), (), None) for name in order])
                return sum(outcome == 0 for outcome in outcomes)

            for version in range(1, 6):
                orders = [names, names[::-1]] * (THREADS // 2)
                won = side_by_side([partial(write, order, version) for order in orders])
                assert sum(won) == len(names)

    def test_deletes_and_posts_side_by_side(self, open: Open) -> None:
        with opened(open) as store:
            for _ in range(10):
                store.save(waiting())
                side_by_side([lambda: store.delete("a"), *[lambda: store.post("a", b"event", 5)] * 3])
                assert store.load("a") is None
                assert store.due(2**53, 10) == []
                store.save(birth())
                assert get(store).log == ()
                store.delete("a")

    def test_renewals_release_and_claims_side_by_side(self, open: Open) -> None:
        with opened(open) as store:
            store.save_many([(birth(f"run {number}"), (), None) for number in range(10)])

            def work() -> None:
                for _ in range(10):
                    mine = lease()
                    held = {run.run_id: mine.token for run in store.claim(1000, 3, mine)}
                    assert store.renew(held, 60_000) == set(held)
                    for run_id in held:
                        store.release(run_id, mine)

            side_by_side([work] * THREADS)
            assert len(store.due(1000, 100)) == 10
            for number in range(10):
                assert hold(store, f"run {number}")[1].attempt == 0

    def test_no_claim_of_many_gives_more_than_its_limit(self, open: Open) -> None:
        with opened(open) as store:
            store.save_many([(birth(f"run {number:03}", wake_at=number % 7), (), None) for number in range(400)])

            def claim_all() -> int:
                total = 0
                while batch := store.claim(1000, 7, lease()):
                    assert len(batch) <= 7
                    wakes = [run.wake_at or 0 for run in batch]
                    assert wakes == sorted(wakes)
                    total += len(batch)
                    assert total <= 400, "claims give runs that are held"
                return total

            assert sum(side_by_side([claim_all] * THREADS)) == 400
