"""What a bench has found out, as it is kept: one JSON file a bench, from which plots and pages are made."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from bench.expenses import Expense
from bench.figures import Figure, Measure

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("kvflow", "msgspec", "psycopg", "psycopg-pool", "PyMySQL", "redis")


class Machine(Struct, frozen=True, kw_only=True):
    """Where it was found out: nothing that says whose machine it is."""

    python: str
    system: str
    processor: str
    cores: int
    memory: int
    packages: dict[str, str]

    def __str__(self) -> str:
        drivers = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return (
            f"Python {self.python} on {self.system}, {self.cores} cores ({self.processor}), "
            f"{self.memory / 2**30:.0f} GB of memory; {drivers}"
        )


class Found(Struct, frozen=True, kw_only=True):
    """All that a bench found out about one store."""

    store: str
    server: str
    about: list[str]
    figures: list[Figure] = []
    measures: list[Measure] = []
    expenses: list[Expense] = []
    counts: str | None = None
    """What the expenses' last column counts."""

    failed: str = ""
    """Why there is no more."""

    seconds: float = 0


class Kept(Struct, frozen=True, kw_only=True):
    """The file of one bench."""

    bench: str
    machine: Machine
    quick: bool
    results: list[Found]


def this_machine() -> Machine:
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory=psutil.virtual_memory().total,
        packages={name: version(name) for name in PACKAGES},
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def keep(kept: Kept, directory: Path) -> Path:
    """Write the file of a bench."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{kept.bench}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
    return path


def read(bench: str, directory: Path) -> Kept | None:
    """The file of a bench, where there is one."""
    path = directory / f"{bench}.json"
    return msgspec.json.decode(path.read_bytes(), type=Kept) if path.exists() else None
