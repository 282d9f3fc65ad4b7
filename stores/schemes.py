"""Which store a URL means: ``open_store("redis://localhost")``, and schemes of your own beside ours."""

import re
from collections.abc import Callable
from typing import Any

from kvflow.checks import check_options, check_prefix
from kvflow.errors import InvalidArgument, UnknownScheme
from kvflow.store import Store

Factory = Callable[..., Store]
"""Makes a store from a URL and the options of ``open_store``."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")


def open_store(
    url: str, *, prefix: str = "kvflow", pool_size: int = 10, timeout: float = 5.0, **options: object
) -> Store:
    """The store that ``url`` names.

    ``prefix`` keeps applications apart that share one server, ``pool_size`` bounds the connections, and
    ``timeout`` the seconds spent connecting and waiting. A store takes of these what makes sense there;
    other options go to the factory of the scheme as they are.
    """
    check_prefix(prefix)
    check_options(pool_size, timeout)
    return factory_of(url)(url, prefix=prefix, pool_size=pool_size, timeout=timeout, **options)


def factory_of(url: str) -> Factory:
    """What makes the store that ``url`` names: unlike its scheme, another process need not have registered it."""
    scheme = scheme_of(url)
    factory = _factories.get(scheme)
    if factory is None:
        raise UnknownScheme(f"no store for {scheme + ':'!r}: the schemes are {', '.join(sorted(_factories))}")
    return factory


def register_scheme(scheme: str, factory: Factory) -> None:
    """Let ``open_store`` answer ``scheme:`` with ``factory(url, prefix=…, pool_size=…, timeout=…, **options)``."""
    if not isinstance(scheme, str) or not _SCHEME.fullmatch(scheme):
        raise InvalidArgument(f"scheme {scheme!r}: it must match {_SCHEME.pattern}, such as 'dynamo', without a colon")
    _factories[scheme] = factory


def is_known(url: str) -> bool:
    """Whether a store is registered for the scheme of this URL."""
    scheme, colon, _ = url.partition(":")
    return bool(colon) and scheme.lower() in _factories


def scheme_of(url: str) -> str:
    """The scheme of a URL, in lower case."""
    if not isinstance(url, str):
        raise InvalidArgument(f"the URL is {type(url).__name__}: it must be a string such as 'redis://localhost'")
    scheme, colon, _ = url.partition(":")
    if not colon or not _SCHEME.fullmatch(scheme.lower()):
        raise UnknownScheme(
            f"{redacted(url)!r} has no scheme: it must begin with one of {', '.join(sorted(_factories))}"
        )
    return scheme.lower()


def redacted(url: str) -> str:
    """The URL without a password, fit for messages and logs."""
    return re.sub(r"(?s).*@", "***@", url.partition("?")[0])


def _postgres(url: str, **options: Any) -> Store:
    from kvflow.stores.postgres import PostgresStore

    return PostgresStore.from_url(url, **options)


def _mysql(url: str, **options: Any) -> Store:
    from kvflow.stores.mysql import MySQLStore

    return MySQLStore.from_url(url, **options)


def _redis(url: str, **options: Any) -> Store:
    from kvflow.stores.redis import RedisStore

    return RedisStore.from_url(url, **options)


def _memory(url: str, *, prefix: str, pool_size: int, timeout: float, **options: Any) -> Store:
    """A new MemoryStore each time: nobody shares it, so a prefix parts nothing."""
    from kvflow.stores.memory import MemoryStore

    return MemoryStore(**options)


def _file(url: str, *, prefix: str, pool_size: int, timeout: float, **options: Any) -> Store:
    from kvflow.stores.file import FileStore
    from kvflow.stores.file_url import directory_of

    return FileStore(directory_of(url, prefix), timeout=timeout, **options)


_factories: dict[str, Factory] = {
    "memory": _memory,
    "file": _file,
    "postgresql": _postgres,
    "postgres": _postgres,
    "mysql": _mysql,
    "mariadb": _mysql,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "redis+cluster": _redis,
    "redis+sentinel": _redis,
}
