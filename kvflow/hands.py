"""The driver of the engine's generators that calls; ``kvflow.async_hands`` awaits. The rules are elsewhere, once.

In a sweep one drive follows another, and the saves that put runs to rest go out together: nothing of a run happens
after it has come to rest, so its last save can wait a moment for those of the next runs. It waits until a step is
to be called, or a pause made, for these may be long, or until a run is saved that goes on.
"""

import contextvars
import inspect
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import wait
from typing import Any, TypeVar

from kvflow.commits import MOST, send
from kvflow.context import Context, inside
from kvflow.effects import Alone, Ask, Body, Call, Each, Effect, Pause, Settle, Together, Work
from kvflow.errors import WrongColour
from kvflow.leases import NEVER
from kvflow.places import Places
from kvflow.run import Lease, Status, StoredRun
from kvflow.signals import own_interrupts
from kvflow.store import Save, Store

Outcome = TypeVar("Outcome")

BRANCHES = 64
"""The most branches of one ``parallel`` that a sync runtime runs in threads of their own."""


LONGEST = 0.1
"""How long, in seconds, the last save of a run waits for those of others, once a body comes to its end."""


class Hands:
    """Does for one drive at a time what the engine asks, by calling."""

    def __init__(self, store: Store, save: Callable[..., int] | None = None) -> None:
        self._store = store
        self._save = save or store.save
        self._alone = threading.Lock()
        self._ways: dict[type[Effect], Callable[[Any], Any]] = {
            Ask: self._ask,
            Call: _inside,
            Body: self._body,
            Alone: self._one_at_a_time,
            Together: self._together,
            Settle: lambda _: None,
            Pause: lambda pause: time.sleep(pause.seconds),
            Each: lambda each: Gathering(store, self._save).run(each.works),
        }

    def run(self, work: Work[Outcome]) -> Outcome:
        """Do all that ``work`` wants and give what it comes to."""
        try:
            effect = next(work)
            while True:
                try:
                    outcome = self.do(effect)
                except BaseException as error:  # noqa: BLE001 (whatever it is, it is the engine's to judge)
                    effect = work.throw(error)
                else:
                    effect = work.send(outcome)
        except StopIteration as end:
            result: Outcome = end.value
            return result

    def do(self, effect: Effect) -> Any:
        """Do one thing."""
        return self._ways[type(effect)](effect)

    def begin_with(self, kind: type[Effect], first: Callable[[Any], None]) -> None:
        """Whenever this kind of thing is to be done, do something else first."""
        then = self._ways[kind]

        def both(effect: Any) -> Any:
            first(effect)
            return then(effect)

        self._ways[kind] = both

    def _ask(self, ask: Ask) -> Any:
        if ask.method == "save":
            return self._save(*ask.args)
        return getattr(self._store, ask.method)(*ask.args)

    def _body(self, body: Body) -> Any:
        drive = body.drive
        with own_interrupts():
            return drive.workflow.body(*drive.workflow.arguments(Context(drive, self.run), drive.payload))

    def _one_at_a_time(self, alone: Alone) -> Any:
        with self._alone:
            return self.run(alone.work)

    def _together(self, together: Together) -> list[Any]:
        works = together.works
        places = Places(min(len(works), BRANCHES))
        begun = [places.begin(contextvars.copy_context().run, self._settled, work) for work in works]
        places.close()
        try:
            return [future.result() for future in begun]
        finally:
            wait(begun)  # whoever interrupts it too: a branch must not go on beside what comes next

    def _settled(self, work: Work[Any]) -> Any:
        try:
            return self.run(work)
        except BaseException as error:  # noqa: BLE001 (all branches end before any error is raised)
            return error


class Gathering:
    """Drives one after another, of which the last saves go out together."""

    def __init__(self, store: Store, save: Callable[..., int]) -> None:
        self._store = store
        self._save = save
        self._lock = threading.RLock()  # the branches of one body save and call side by side
        self._parked: list[Parked] = []
        self._until = NEVER

    def run(self, works: Iterable[Work[Any]]) -> list[Any]:
        """Do one after another; give what each came to, in order. An error of one is raised when all are done."""
        begun: list[Parked] = []
        try:
            for work in works:
                begun.append(Parked(self._hands(), work))
                self._go_on(begun[-1], None)
                if len(self._parked) >= MOST or time.monotonic() >= self._until:
                    self.flush()
        finally:
            self.flush()
        for one in begun:
            if one.error is not None:
                raise one.error
        return [one.outcome for one in begun]

    def flush(self) -> None:
        """Save what waits, and let those drives end; what is raised meanwhile is raised when all have."""
        while self._parked:
            with self._lock:
                self._send([])

    def save(self, run: StoredRun, new: Sequence[bytes] = (), lease: Lease | None = None) -> int:
        """Save a run that goes on, and with it what waits."""
        if not self._parked:
            return self._save(run, new, lease)
        with self._lock:
            (outcome,) = self._send([(run, new, lease)])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _hands(self) -> Hands:
        hands = Hands(self._store, self.save)
        hands.begin_with(Call, self._before_a_call)
        hands.begin_with(Pause, lambda _: self.flush())
        return hands

    def _before_a_call(self, call: Call) -> None:
        """What waits is saved first; if that took longer than the lease of this run, its step is not called."""
        if self._parked:
            self.flush()
            call.drive.leave_if_lost()

    def _send(self, more: list[Save]) -> list[int | Exception]:
        parked, self._parked = self._parked, []
        raised: list[BaseException] = []
        outcomes: list[Any] = []
        try:
            outcomes = send(self._store, [*(one.save for one in parked), *more])
        except BaseException as error:  # noqa: BLE001 (an interrupt: each drive has to let go of its run)
            raised.append(error)
            outcomes = [error] * len(parked)
        for one, outcome in zip(parked, outcomes, strict=False):
            try:
                self._go_on(one, outcome)
            except BaseException as error:  # noqa: BLE001 (an interrupt; the others end first)
                raised.append(error)
        if raised:
            raise raised[0]
        return outcomes[len(parked) :]

    def _go_on(self, one: "Parked", answer: Any) -> None:
        if one.go_on(answer):
            if not self._parked:
                self._until = time.monotonic() + LONGEST
            self._parked.append(one)


class Parked:
    """A drive that waits with the save that puts its run to rest."""

    def __init__(self, hands: Hands, work: Work[Any]) -> None:
        self._going = _up_to_rest(hands, work)
        self.save: Save
        self.outcome: Any = None
        self.error: Exception | None = None

    def go_on(self, answer: Any) -> bool:
        """Go on with the answer to its save; whether it waits with another one."""
        try:
            if isinstance(answer, BaseException):
                self.save = self._going.throw(answer)
            else:
                self.save = self._going.send(answer)
        except StopIteration as end:
            self.outcome = end.value
            return False
        except Exception as error:  # noqa: BLE001 (not the trouble of the run in whose middle this is flushed)
            self.error = error
            return False
        return True


def _up_to_rest(hands: Hands, work: Work[Outcome]) -> Generator[Save, Any, Outcome]:
    """Do the work as ``hands.run`` does, but yield each save that puts the run to rest, to be sent its outcome."""
    try:
        effect = next(work)
        while True:
            try:
                if isinstance(effect, Alone):  # at this level all branches of the body have ended
                    outcome = yield from _up_to_rest(hands, effect.work)
                elif isinstance(effect, Ask) and _rests(effect):
                    outcome = yield effect.args
                else:
                    outcome = hands.do(effect)
            except BaseException as error:  # noqa: BLE001 (whatever it is, it is the engine's to judge)
                effect = work.throw(error)
            else:
                effect = work.send(outcome)
    except StopIteration as end:
        result: Outcome = end.value
        return result


def _rests(ask: Ask) -> bool:
    return ask.method == "save" and ask.args[0].status is not Status.RUNNING


def _inside(call: Call) -> Any:
    before = inside.set(call.drive)
    try:
        outcome = called(call)
    finally:
        inside.reset(before)
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise WrongColour(
            f"step {call.function!r} gave a coroutine, which a sync runtime cannot await: use AsyncRuntime"
        )
    return outcome


def called(call: Call) -> Any:
    """What the user's function gives."""
    with own_interrupts():
        return call.function(*call.args)
