"""On every store: a run whose bytes are hostile stops no sweep, no worker, no list and no neighbour."""

import threading
from collections.abc import Callable

import pytest

from hostile.decoders import answered_within, good, order
from hostile.inputs import EVIL, SPECIAL
from kvflow import Context, Lease, Runtime, Status, Store, Worker, workflow
from kvflow.records import Got, Joined, encode_record
from kvflow.testing import FakeClock
from kvflow.testing.runs import birth, get, lease, until

HEAD = b"\x80"
DANGLING = (
    (encode_record(Got(at=1, id="b", event="m", message="nobody sent it")),),
    (encode_record(Joined(at=1, id="c/join", messages=("nobody sent it",))),),
    (b"\x95\xa5event\x01\xa1x\xa1m\xa1\xff",),
)
HOSTILE: list[tuple[bytes, tuple[bytes, ...]]] = [
    *((snapshot, ()) for snapshot in SPECIAL if snapshot),
    *((HEAD, (record,)) for record in SPECIAL if record),
    *((HEAD, log) for log in DANGLING),
    (b"\x81\xa4open\x81\xa1\xff\x80", ()),
    (b"\x81\xa4owes\xc3", ()),
    (b"\x81\xa6format\xcd\xff\xff", ()),
]


def fill(store: Store, status: Status = Status.SUSPENDED) -> list[str]:
    """A run for each piece of hostile bytes; all are due before everybody else."""
    saves = [
        (birth(f"bad {number}", workflow="order", wake_at=0, status=status, snapshot=snapshot), list(log), None)
        for number, (snapshot, log) in enumerate(HOSTILE)
    ]
    assert store.save_many(saves) == [0] * len(saves)
    return [save[0].run_id for save in saves]


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.FAILED])
def test_a_sweep_goes_on_to_the_neighbours(store: Store, clock: FakeClock, status: Status) -> None:
    bad = fill(store, status)
    with Runtime(store, workflows=[order, good], clock=clock) as runtime:
        for number in range(3):
            runtime.submit(good, number, run_id=f"good {number}")
        runtime.tick(60)
        listed = {run.run_id: run for run in runtime.list_runs(1000)}
        assert {listed[f"good {number}"].status for number in range(3)} == {Status.COMPLETED}
        assert set(bad) <= set(listed)
        calls: tuple[Callable[[str], object], ...] = (
            runtime.get_run,
            runtime.resume,
            lambda run_id: runtime.signal(run_id, "m", 1),
            lambda run_id: runtime.cancel(run_id, "no more"),
            runtime.retry,
        )
        for run_id in bad[::4]:
            for call in calls:
                answered_within(lambda call=call, run_id=run_id: call(run_id))  # type: ignore[misc]


def test_bytes_that_cannot_be_read_are_left_as_they_are(store: Store, clock: FakeClock) -> None:
    bad = fill(store)
    with Runtime(store, workflows=[order, good], clock=clock) as runtime:
        runtime.tick(60)
    for run_id, (snapshot, log) in zip(bad, HOSTILE, strict=True):
        there = get(store, run_id)
        if there.version == 1:
            assert (there.snapshot, there.log) == (snapshot, log)
    assert sum(get(store, run_id).version == 1 for run_id in bad) > len(bad) // 2


def test_a_worker_drives_the_neighbours(store: Store) -> None:
    fill(store)
    with Runtime(store, workflows=[order, good]) as runtime:
        worker = Worker(runtime, concurrency=2, poll=0.05)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            runtime.submit(good, 7, run_id="good")
            until(lambda: get(store, "good").status is Status.COMPLETED)
        finally:
            worker.stop()
            thread.join(30)
        assert not thread.is_alive()


# Every string that somebody gives


def with_neighbours(store: Store) -> Callable[[], None]:
    """Runs whose names mean nothing; gives what makes sure that they are as they were."""
    for name in ("a", "A", "x" * 199, "kvflow", "run", "order"):
        store.save(birth(name, workflow="theirs", event="e", wake_at=2**52), [b"record"])
    before = {run.run_id: get(store, run.run_id) for run in store.list(100)}

    def unchanged() -> None:
        assert {run_id: get(store, run_id) for run_id in before} == before
        assert {run.run_id for run in store.list(100)} == set(before)

    return unchanged


@pytest.fixture
def neighbours(store: Store) -> Callable[[], None]:
    return with_neighbours(store)


NAMES = [text for text in EVIL if text != "A"]


def test_strings_come_back_as_they_were_and_touch_nobody_else(store: Store, neighbours: Callable[[], None]) -> None:
    for text in NAMES:
        run = birth(text, workflow=text, event=text, snapshot=text.encode())
        mine = Lease(text, 60_000)
        store.save(run, [text.encode()])
        assert get(store, text).workflow == text
        (claimed,) = store.claim(1000, 10, mine, [text])
        assert (claimed.run_id, claimed.workflow, claimed.event) == (text, text, text)
        assert (claimed.snapshot, claimed.log) == (text.encode(), (text.encode(),))
        assert store.renew({text: text}, 60_000) == {text}
        assert store.post(text, text.encode(), 5)
        assert store.acquire(text, lease()) is None
        store.release(text, mine, wake_at=1000)
        assert store.due(1000, 10) == [text]
        assert store.next_wake([text]) == 1000
        assert [run.run_id for run in store.list(1, after=(10, text))] != [text]
        assert store.save_many([(birth(text, workflow=text, version=2, seen=2), [text.encode()], None)]) == [0]
        assert len(get(store, text).log) == 3
        store.delete(text)
        assert store.load(text) is None
    neighbours()


def test_strings_given_to_a_runtime_come_back_as_they_were(store: Store, neighbours: Callable[[], None]) -> None:
    def body(ctx: Context, payload: str) -> list[str]:
        mine = ctx.step(payload[:150], lambda: payload)
        return [mine, ctx.wait_for_event("wait", payload, type=str)]

    for text in NAMES:
        named = workflow(name=text)(body)
        with Runtime(store, workflows=[named]) as runtime:
            runtime.trigger(named, text, run_id=text)
            run = runtime.signal(text, text, text)
            assert run.output == [text, text]
            assert runtime.get_run(text) == run
            runtime.trigger(named, text, run_id="second")
            cancelled = runtime.cancel("second", text)
            assert cancelled.status is Status.CANCELLED
            assert cancelled.error is not None
            assert text in cancelled.error.message
            runtime.delete_run(text)
            runtime.delete_run("second")
    neighbours()


def test_many_hostile_names_at_once(store: Store, neighbours: Callable[[], None]) -> None:
    """Batches, claims and renewals put many names into one statement."""
    outcomes = store.save_many([(birth(text, workflow=text, event=text), [text.encode()], None) for text in NAMES])
    assert outcomes == [0] * len(NAMES)
    mine = lease()
    assert {run.run_id for run in store.claim(1000, 1000, mine, NAMES)} == set(NAMES)
    assert store.renew(dict.fromkeys(NAMES, mine.token), 60_000) == set(NAMES)
    assert store.renew(dict.fromkeys(NAMES, "') OR 1=1 -- "), 60_000) == set()
    for text in NAMES:
        store.delete(text)
    neighbours()
