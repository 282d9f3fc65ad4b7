"""One course: workers drive a load of orders on one store while faults befall them, and then everything is looked at.

When the faults are over, what is left must come to its end by itself, within a deadline: nothing may be stuck.
"""

import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from msgspec import Struct

from chaos.checker import Asked, Checker
from chaos.crew import Crew
from chaos.ending import PATIENCE, at_rest, settled
from chaos.grounds import Ground, ServerGround
from chaos.journal import Journal
from chaos.load import Load
from chaos.plan import Fault, Kind, plan
from chaos.proxy import Cut, Proxy
from chaos.worker import Work
from kvflow.stores import open_store

LEASE_TTL = 1.0
WORKERS = 4
TIMEOUT = 4.0
"""Of the workers' stores, in seconds: shorter than some outages."""


class Course(Struct, frozen=True):
    """How long, how many orders a second, and for tests of the checker: which faults alone, how long all must be over
    after them, and how kvflow is broken on purpose meanwhile.
    """

    seed: int
    seconds: float
    rate: float = 3.0
    kinds: tuple[Kind, ...] | None = None
    patience: float = PATIENCE
    think: float = 0.03
    broken: str | None = None


class Lost(AssertionError):
    """Something that should always hold did not."""


def run_course(ground: Ground, course: Course, folder: Path) -> Counter[str]:
    """Run one, and give how much of everything there was; raises ``Lost`` with all that is wrong.

    What was said is in ``folder``, which is removed where nothing was wrong.
    """
    folder.mkdir()
    faults, counts = _Run(ground, course, folder).run()
    if faults:
        raise Lost(f"{ground.name}, seed {course.seed}; all that was said is in {folder}\n" + "\n".join(faults[:40]))
    shutil.rmtree(folder)
    return counts


class _Run:
    def __init__(self, ground: Ground, course: Course, folder: Path) -> None:
        self._ground = ground
        self._course = course
        self._folder = folder
        self._journal = Journal(folder / "journal")
        self._done: Counter[str] = Counter()
        self._error: BaseException | None = None

    def run(self) -> tuple[list[str], Counter[str]]:
        began, course = time.monotonic(), self._course
        with ExitStack() as stack:
            proxy = stack.enter_context(Proxy(self._ground.port)) if isinstance(self._ground, ServerGround) else None
            url = self._ground.by(proxy.port) if proxy and isinstance(self._ground, ServerGround) else self._ground.url
            work = Work(url, self._ground.prefix, False, LEASE_TTL, 0.0, TIMEOUT)
            crew = Crew(work, WORKERS, self._folder, self._journal.path, Random(course.seed), course.broken)
            stack.callback(crew.bury)
            asked = self._befall(crew, proxy, url)
            runs, faults = settled(self._ground, course.patience)
            crew.end()
        verdict = Checker(asked, runs, self._journal.calls(), crew.clocks, LEASE_TTL).verdict()
        faults += [*crew.faults, *verdict.faults]
        faults = faults or at_rest(self._ground, runs)
        seconds = Counter(courses=1, seconds=round(time.monotonic() - began))
        return faults, verdict.counts + self._done + seconds + Counter(cuts=proxy.cuts if proxy else 0)

    def _befall(self, crew: Crew, proxy: Proxy | None, url: str) -> list[Asked]:
        course = self._course
        kinds = self._ground.kinds if course.kinds is None else course.kinds
        todo = plan(course.seed, course.seconds, kinds, WORKERS, LEASE_TTL)
        with open_store(url, prefix=self._ground.prefix, timeout=TIMEOUT) as store:
            load = Load(store, Random(course.seed), LEASE_TTL)
            try:
                load.plan(course.seconds, course.rate, course.think)
                with self._meanwhile(lambda: self._faults(todo, crew, proxy)):
                    load.run(lambda: None)
            finally:
                load.close()
        if self._error is not None:
            raise self._error
        return load.asked

    @contextmanager
    def _meanwhile(self, what: Callable[[], None]) -> Generator[None]:
        def guarded() -> None:
            try:
                what()
            except BaseException as error:  # noqa: BLE001 (raised by whoever waits for the thread)
                self._error = error

        thread = threading.Thread(target=guarded, name="chaos-faults")
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _faults(self, todo: list[Fault], crew: Crew, proxy: Proxy | None) -> None:
        began = time.monotonic()
        with (self._folder / "faults.log").open("w", buffering=1) as log:
            for fault in todo:
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                print(f"{time.time():.3f} {fault}", file=log)
                self._bring(fault, crew, proxy)
                crew.see_that_all_live()
        if proxy is not None:
            proxy.mend()

    def _bring(self, fault: Fault, crew: Crew, proxy: Proxy | None) -> None:
        server = self._ground.server if isinstance(self._ground, ServerGround) else None
        match fault.kind:
            case Kind.KILL:
                crew.kill(fault.place)
            case Kind.STOP:
                crew.stop(fault.place)
            case Kind.GO_ON:
                crew.go_on(fault.place)
            case Kind.CUT if proxy is not None:
                proxy.cut(Cut(fault.where, fault.after))
                return  # counted when something was there to be cut
            case Kind.SERVER_KILLED if server is not None:
                server.stop()
            case Kind.SERVER_STARTED if server is not None:
                server.start()
            case Kind.SERVER_FROZEN if server is not None:
                server.pause()
            case Kind.SERVER_THAWED if server is not None:
                server.resume()
            case Kind.DISK_FULL:
                self._ground.fill()
            case Kind.DISK_FREED:
                self._ground.free()
            case _:
                raise AssertionError(f"{fault} cannot befall {self._ground.name}")
        self._done[str(fault.kind)] += 1
