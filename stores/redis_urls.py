"""Clients made from URLs: one server, a cluster, or the master that Sentinels name.

All of them share these traits: connections bounded by the deadline of the call, answers as bytes, and no
retries of the driver's own, for the link that uses them knows how much time is left to try again.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from redis import Redis, RedisCluster, cluster, connection, sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

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
Hosts = list[tuple[str, int]]

_PORT = 6379
_SENTINEL_PORT = 26379

# The driver declares the types of these in part only.
_connection: Any = connection
_Node: Any = cluster.ClusterNode
_Sentinel: Any = sentinel.Sentinel
_RedisCluster: Any = RedisCluster

_TRAITS: Options = {"protocol": 2, "retry": Retry(NoBackoff(), 0)}

_BOUNDED: dict[Any, Any] = {
    connection.SSLConnection: BoundedSSLConnection,
    connection.UnixDomainSocketConnection: BoundedUnixConnection,
}


def connector(url: str) -> Connect:
    """What makes the client that the URL names, once the URL has been found right. Nothing is connected yet."""
    scheme, slashes, rest = url.partition("://")
    make = _MAKERS.get(scheme.lower())
    if make is None or not slashes:
        raise InvalidArgument(f"a URL of a RedisStore begins with one of {', '.join(s + '://' for s in _MAKERS)}")
    try:
        return make(scheme.lower(), rest)
    except (ValueError, TypeError) as error:
        # What is no port may be a password that lacks the rest of its account.
        why = "a port is no number" if "ort could not" in str(error) else str(error)
        raise InvalidArgument(f"this {scheme} URL is not understood: {why}") from None


def _single(scheme: str, rest: str) -> Connect:
    options = _options(f"{scheme}://{rest}")
    kind = _BOUNDED.get(options.pop("connection_class", None), BoundedConnection)
    kind(**options)  # an option that no connection knows is found now, not at the first call

    def connect() -> Client:
        return Redis(connection_pool=_connection.ConnectionPool(connection_class=kind, **options))

    return connect


def _cluster(_: str, rest: str) -> Connect:
    hosts, tail, account = _hosts(rest, _PORT)
    options = _options(f"redis://{account}cluster{tail}")
    if options.pop("db", 0):
        raise ValueError("a cluster has the database 0 alone")
    _check(options)

    def connect() -> Client:
        # Only with a URL does RedisCluster let the class of its connections be chosen.
        host, port = hosts[0]
        made: RedisCluster = _RedisCluster(
            url=f"redis://{f'[{host}]' if ':' in host else host}:{port}",
            startup_nodes=[_Node(*place) for place in hosts[1:]],
            connection_class=BoundedConnection,
            **{**options, "retry": Retry(NoBackoff(), 1)},
        )
        return made

    return connect


def _sentinels(_: str, rest: str) -> Connect:
    hosts, tail, account = _hosts(rest, _SENTINEL_PORT)
    path, _, query = tail.partition("?")
    service, _, db = path.lstrip("/").partition("/")
    if not service:
        raise ValueError("it names no master: write redis+sentinel://host:port,host:port/master")
    options = _options(f"redis://{account}master/{db}?{query}")
    watching = {key: options.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    _check(options)

    def connect() -> Client:
        watch = _Sentinel([])
        watch.sentinels = [_watcher({"host": host, "port": port, **watching, **_TRAITS}) for host, port in hosts]
        made: Redis = watch.master_for(unquote(service), connection_class=BoundedMasterConnection, **options)
        return made

    return connect


def _watcher(options: Options) -> Redis:
    return Redis(connection_pool=_connection.ConnectionPool(connection_class=BoundedConnection, **options))


def _options(url: str) -> Options:
    """What redis-py reads from the URL, with the traits of our clients."""
    options: Options = _connection.parse_url(url)
    for ours in ("socket_timeout", "socket_connect_timeout", "timeout", "max_connections"):
        if ours in options:
            raise ValueError(f"{ours} is set by the options timeout and pool_size of the store")
    if options.get("decode_responses"):
        raise ValueError("decode_responses is not for us, for a run is bytes")
    return {**options, **_TRAITS}


def _check(options: Options) -> None:
    """Refuse options that no connection knows; the host was a stand-in for the list."""
    options.pop("host")
    BoundedConnection(**options)


def _hosts(rest: str, port: int) -> tuple[Hosts, str, str]:
    """The hosts of a list, what follows them, and the account before them."""
    parts = urlsplit(f"//{rest}")
    account, at, places = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{place}") for place in places.split(",")]
    hosts = [(place.hostname or "", place.port or port) for place in found]
    if any(not host for host, _ in hosts):
        raise ValueError("a host is empty: write host:port,host:port")
    return hosts, f"{parts.path}?{parts.query}", account + at


_MAKERS: dict[str, Callable[[str, str], Connect]] = {
    "redis": _single,
    "rediss": _single,
    "unix": _single,
    "redis+cluster": _cluster,
    "redis+sentinel": _sentinels,
}
