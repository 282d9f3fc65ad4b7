"""The stores, and ``open_store``, which picks one by the scheme of a URL.

A store's module, and with it a driver, is imported only when the store is asked for; where the driver
is missing, ``MissingDriver`` names the extra that brings it.
"""

from kvflow.stores.schemes import Factory, open_store, register_scheme

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kvflow.stores.file import FileStore
    from kvflow.stores.memory import MemoryStore
    from kvflow.stores.mysql import MySQLStore
    from kvflow.stores.postgres import PostgresStore
    from kvflow.stores.redis import RedisStore

__all__ = [
    "Factory",
    "FileStore",
    "MemoryStore",
    "MySQLStore",
    "PostgresStore",
    "RedisStore",
    "open_store",
    "register_scheme",
]

_MODULES = {
    "FileStore": "file",
    "MemoryStore": "memory",
    "MySQLStore": "mysql",
    "PostgresStore": "postgres",
    "RedisStore": "redis",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
