"""Clients made from URLs: one server, a cluster, or the master that Sentinels name.

All of them share these traits: connections bounded by the deadline of the call, answers as bytes, and no
retries of the driver's own, for the link that uses them knows how much time is left to try again.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.connection import AbstractConnection, ConnectionPool, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from kvflow.errors import InvalidArgument
from kvflow.stores.redis_deadline import (
    BoundedConnection,
    BoundedMasterConnection,
    BoundedSSLConnection,
    BoundedUnixConnection,
)

Client = Redis | RedisCluster
Connect = Callable[[], Client]
"""Makes a client; that of a cluster asks the cluster for its nodes at once."""

Options = dict[str, Any]

_PORT = 6379
_SENTINEL_PORT = 26379


def connector(url: str, pool_size: int) -> Connect:
    """What makes the client that the URL names, once the URL has been found right. Nothing is connected yet."""
    scheme, _, rest = url.partition("://")
    make = _MAKERS.get(scheme.lower())
    if make is None or not rest:
        raise InvalidArgument(f"a URL of a RedisStore begins with one of {', '.join(s + '://' for s in _MAKERS)}")
    try:
        return make(scheme.lower(), rest, pool_size)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"this {scheme} URL is not understood: {error}") from error


def _single(scheme: str, rest: str, pool_size: int) -> Connect:
    options = _options(f"{scheme}://{rest}")
    kind = _BOUNDED.get(options.pop("connection_class", None), BoundedConnection)
    kind(**options)  # an option that no connection knows is found now, not at the first call

    def connect() -> Client:
        return Redis(connection_pool=ConnectionPool(connection_class=kind, max_connections=pool_size, **options))

    return connect


def _cluster(_: str, rest: str, pool_size: int) -> Connect:
    hosts, tail, account = _hosts(rest, _PORT)
    options = _options(f"redis://{account}{hosts[0][0]}{tail}")
    if options.pop("db", 0):
        raise ValueError("a cluster has the database 0 alone")
    options.pop("host")
    BoundedConnection(**options)

    def connect() -> Client:
        # Only with a URL does RedisCluster let the class of its connections be chosen. Its own retry option is not
        # the connections'.
        return RedisCluster(
            url=f"redis://{_bracketed(hosts[0][0])}:{hosts[0][1]}",
            startup_nodes=[ClusterNode(host, port) for host, port in hosts[1:]],
            connection_class=BoundedConnection,
            **{**options, "retry": Retry(NoBackoff(), 1)},
        )

    return connect


def _sentinel(_: str, rest: str, pool_size: int) -> Connect:
    hosts, tail, account = _hosts(rest, _SENTINEL_PORT)
    path, _, query = tail.partition("?")
    service, _, db = unquote(path.lstrip("/")).partition("/")
    if not service:
        raise ValueError("it names no master: write redis+sentinel://host:port,host:port/master")
    options = _options(f"redis://{account}sentinel/{db}?{query}")
    options.pop("host")
    watching = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    BoundedConnection(**options)

    def connect() -> Client:
        sentinel = Sentinel([])
        sentinel.sentinels = [_watcher(host, port, watching) for host, port in hosts]
        return sentinel.master_for(
            service, connection_class=BoundedMasterConnection, max_connections=pool_size, **options
        )

    return connect


def _watcher(host: str, port: int, account: Options) -> Redis:
    options = {"host": host, "port": port, **account, **_TRAITS}
    return Redis(connection_pool=ConnectionPool(connection_class=BoundedConnection, **options))


def _options(url: str) -> Options:
    """What redis-py reads from the URL, with the traits of our clients."""
    options: Options = parse_url(url)
    for ours in ("socket_timeout", "socket_connect_timeout", "timeout", "max_connections"):
        if ours in options:
            raise ValueError(f"{ours} is set by the options timeout and pool_size of the store")
    return {**options, **_TRAITS}


def _hosts(rest: str, port: int) -> tuple[list[tuple[str, int]], str, str]:
    """The hosts of a list, what follows them, and the account before them."""
    parts = urlsplit(f"//{rest}")
    account, at, places = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{place}") for place in places.split(",")]
    hosts = [(place.hostname or "", place.port or port) for place in found]
    if any(not host for host, _ in hosts):
        raise ValueError("a host is empty: write host:port,host:port")
    return hosts, f"{parts.path}?{parts.query}", account + at


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


_TRAITS: Options = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}

_BOUNDED: dict[type[AbstractConnection] | None, type[AbstractConnection]] = {
    SSLConnection: BoundedSSLConnection,
    UnixDomainSocketConnection: BoundedUnixConnection,
}

_MAKERS: dict[str, Callable[[str, str, int], Connect]] = {
    "redis": _single,
    "rediss": _single,
    "unix": _single,
    "redis+cluster": _cluster,
    "redis+sentinel": _sentinel,
}
