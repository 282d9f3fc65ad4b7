"""What an operator wants of a store's server besides runs: the DDL, what its settings mean, all of a prefix gone.

A driver is imported only when its server is asked for. Of a scheme that somebody registered none of this is known.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

from kvflow.checks import check_options, check_prefix
from kvflow.errors import NotSupported
from kvflow.findings import Finding
from kvflow.stores.schemes import factory_of, scheme_of


class Upkeep(Protocol):
    """One prefix on one server, which is asked only when a method says so."""

    @property
    def names(self) -> str:
        """What of this prefix is there, in words."""
        ...

    def ddl(self) -> str:
        """What a team's own migrations run, any number of times; empty where nothing is needed. Connects to nobody."""
        ...

    def findings(self) -> list[Finding]:
        """What the server's own settings mean for runs. Writes nothing."""
        ...

    def drop(self) -> None:
        """Take away all that has this prefix."""
        ...


def upkeep_of(url: str, *, prefix: str = "kvflow", timeout: float = 5.0) -> Upkeep:
    """That of the server which ``url`` names; ``NotSupported`` where the scheme is none of ours."""
    check_prefix(prefix)
    check_options(1, timeout)
    factory_of(url)
    if (make := _makers.get(scheme_of(url))) is None:
        raise NotSupported(f"{scheme_of(url)}: is a scheme that was registered: ask whoever wrote its store")
    return make(url, prefix, timeout)


def _memory(url: str, prefix: str, timeout: float) -> Upkeep:
    from kvflow.stores.memory_upkeep import MemoryUpkeep

    return MemoryUpkeep()


def _file(url: str, prefix: str, timeout: float) -> Upkeep:
    from kvflow.stores.file_upkeep import FileUpkeep

    return FileUpkeep(url, prefix)


def _postgres(url: str, prefix: str, timeout: float) -> Upkeep:
    import_module("kvflow.stores.postgres")  # where the driver is missing, it says which extra brings it
    from kvflow.stores.postgres_upkeep import PostgresUpkeep

    return PostgresUpkeep(url, prefix, timeout)


def _mysql(url: str, prefix: str, timeout: float) -> Upkeep:
    from kvflow.stores.mysql_upkeep import MySQLUpkeep

    return MySQLUpkeep(url, prefix, timeout)


def _redis(url: str, prefix: str, timeout: float) -> Upkeep:
    import_module("kvflow.stores.redis")  # as above
    from kvflow.stores.redis_upkeep import RedisUpkeep

    return RedisUpkeep(url, prefix, timeout)


_makers: dict[str, Callable[[str, str, float], Upkeep]] = {
    "memory": _memory,
    "file": _file,
    **dict.fromkeys(("postgresql", "postgres"), _postgres),
    **dict.fromkeys(("mysql", "mariadb"), _mysql),
    **dict.fromkeys(("redis", "rediss", "unix", "redis+cluster", "redis+sentinel"), _redis),
}
