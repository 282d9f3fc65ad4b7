"""Other processes: they share the store by its data alone, and they die."""

import multiprocessing
import os
import pickle
import signal
import traceback
import unittest
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from kvflow.errors import Conflict
from kvflow.run import Lease, Status
from kvflow.store import Runs, Store
from kvflow.testing.runs import MINUTE, Open, birth, get, lease, opened, refused, running, until, waiting

PROCESSES = 4
RUNS = 2000


def picklable(open: Open) -> Open:
    """``open``, or a skip where it could not be given to another process."""
    try:
        pickle.dumps(open)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise unittest.SkipTest(f"open cannot be pickled, so no other process can have it: {error}") from error
    return open


def _claim_all(open: Open, limit: int) -> list[str]:
    claimed: list[str] = []
    with opened(open) as store:
        while batch := store.claim(1000, limit, lease()):
            claimed += [run.run_id for run in batch]
            assert len(claimed) <= RUNS, "claims give runs that are held"
    return claimed


def _bear(open: Open, name: bytes) -> bool:
    with opened(open) as store:
        try:
            store.save(birth(snapshot=name), [name])
        except Conflict:
            return False
    return True


def _post(open: Open, sender: int, number: int) -> None:
    with opened(open) as store:
        for at in range(number):
            assert store.post("a", b"%d %d" % (sender, at), 5)


def _hold_and_die(open: Open, ttl: int, ready: Connection) -> None:
    """Take a run, say so, and stop without a word more, as a machine does."""
    with opened(open) as store:
        store.claim(1000, 1, Lease("dies", ttl))
        ready.send("held")
        os.kill(os.getpid(), signal.SIGKILL)


def _drive_for_ever(open: Open, ready: Connection) -> None:
    """Save step after step and say of each that it is saved."""
    with opened(open) as store:
        mine = lease(1)
        store.save(running(), lease=mine)
        version = 1
        while True:
            version += 1
            store.save(running(version=version, seen=version - 2), [b"%d" % (version - 2)], mine)
            ready.send(version)


class ProcessesContract:
    """What one process saved every other one sees, and who was killed leaves nothing half done."""

    def test_no_run_is_claimed_by_two_processes(self, open: Open) -> None:
        open = picklable(open)
        with opened(open) as store:
            runs = [birth(f"run {number:05}", workflow=f"w{number % 3}", wake_at=number % 5) for number in range(RUNS)]
            for at in range(0, RUNS, 500):
                store.save_many([(run, (), None) for run in runs[at : at + 500]])
            with _pool() as pool:
                shares = list(pool.map(_claim_all, [open] * PROCESSES, [13] * PROCESSES))
            claims = Counter(run_id for share in shares for run_id in share)
            assert len(claims) == RUNS, f"{RUNS - len(claims)} due runs were claimed by nobody"
            assert max(claims.values()) == 1
            assert store.due(1000, 10) == []

    def test_one_process_bears_a_run(self, open: Open) -> None:
        open = picklable(open)
        names = [b"%d" % number for number in range(PROCESSES)]
        with _pool() as pool:
            born = list(pool.map(_bear, [open] * PROCESSES, names))
        assert sum(born) == 1
        with opened(open) as store:
            assert get(store).log == (names[born.index(True)],)

    def test_posts_from_many_processes_are_all_kept(self, open: Open) -> None:
        open = picklable(open)
        with opened(open) as store:
            store.save(waiting())
            with _pool() as pool:
                list(pool.map(_post, [open] * PROCESSES, range(PROCESSES), [25] * PROCESSES))
            log = get(store).log
        assert len(log) == PROCESSES * 25
        for sender in range(PROCESSES):
            assert [r for r in log if r.startswith(b"%d " % sender)] == [b"%d %d" % (sender, n) for n in range(25)]

    def test_a_killed_holder_is_taken_over(self, open: Open) -> None:
        open = picklable(open)
        with opened(open) as store:
            store.save(birth(), [b"one"])
            child, ready = _spawn(_hold_and_die, open, 300)
            assert ready.recv() == "held"
            child.join(20)
            (run,) = _claim_expired(store)
            assert (run.attempt, run.log) == (1, (b"one",))
            with refused(Conflict):
                store.save(birth(version=2), lease=Lease("dies", MINUTE))

    def test_a_writer_that_is_killed_loses_nothing_it_was_told(self, open: Open) -> None:
        open = picklable(open)
        for steps in (3, 11, 29):
            child, ready = _spawn(_drive_for_ever, open)
            told = 0
            while told < steps:
                told = ready.recv()
            child.kill()
            child.join(20)
            with suppress(EOFError):
                while ready.poll():
                    told = ready.recv()
            with opened(open) as store:
                run = get(store)
                assert run.version in (told, told + 1)
                assert run.log == tuple(b"%d" % step for step in range(run.version - 1))
                (taken,) = _claim_expired(store)
                assert (taken.run_id, taken.version) == ("a", run.version)
                store.delete("a")

    def test_a_store_survives_a_fork(self, open: Open) -> None:
        open = picklable(open)
        if not hasattr(os, "fork"):
            raise unittest.SkipTest("this platform has no fork")
        with opened(open) as store:
            store.save(birth())
            for child in range(3):

                def write(name: str = f"child {child}") -> None:
                    assert get(store).run_id == "a"
                    store.save(birth(name), [b"from the child"])
                    assert len(store.claim(0, 10, lease())) == 0

                _in_a_fork(write)
                assert get(store, f"child {child}").log == (b"from the child",)
                store.save(birth(f"parent {child}"))
            mine = lease()
            assert len(store.claim(1000, 10, mine)) == 7
            store.save(birth(version=2, status=Status.COMPLETED, wake_at=None), lease=mine)


def _claim_expired(store: Store) -> Runs:
    return until(lambda: store.claim(0, 1, lease()))


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn"))


def _spawn(target: Callable[..., None], *args: object) -> tuple[BaseProcess, Connection]:
    """A process begun, and the end of a pipe on which it says how far it is."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=target, args=(*args, there), daemon=True)
    child.start()
    there.close()
    return child, here


def _in_a_fork(call: Callable[[], None]) -> None:
    """Make the call in a forked child, and fail here if it failed there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # what forking with threads warns of is what is tried here
        child = os.fork()
    if child == 0:
        failed = 1
        try:
            call()
            failed = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(failed)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the forked child failed; its traceback is on stderr"
