"""Clients made from URLs: one server, a cluster, or the master that Sentinels name.

All of them share these traits: connections bounded by the deadline of the call, answers as bytes, and no
retries of the driver's own, for the link that uses them knows how much time is left to try again.

An error repeats nothing of the URL and is chained to none that does: whatever part could not be read, it may be
that of a password which was not percent-encoded.
"""

from collections.abc import Callable
from ssl import TLSVersion
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis, RedisCluster, cluster, connection, sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
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


_OURS = {"socket_timeout", "socket_connect_timeout", "timeout", "max_connections"}
_FILES = {"ssl_ca_certs", "ssl_ca_data", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"}
_TLS = _FILES | {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ciphers", "ssl_min_version"}
_ACCOUNTS = {"username", "password", "sentinel_username", "sentinel_password"}
_KNOWN = {"db", "client_name", "socket_keepalive", *_ACCOUNTS, *_TLS}


class _Refusal(ValueError):
    """Why a URL is not taken, in words of our own."""


def connector(url: str) -> Connect:
    """What makes the client that the URL names, once the URL has been found right. Nothing is connected yet."""
    if not isinstance(url, str):
        raise InvalidArgument(f"a URL of a RedisStore is a str, not a {type(url).__name__}")
    scheme, slashes, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _MAKERS or not slashes:
        raise InvalidArgument(f"a URL of a RedisStore begins with one of {', '.join(s + '://' for s in _MAKERS)}")
    made = _understood(scheme, rest)
    if isinstance(made, str):
        raise InvalidArgument(
            f"this {scheme} URL is not understood: {made}; it is {scheme}://{_FORMS.get(scheme, _FORM)}, and"
            " percent-encode what is special in name and password"
        )
    return made


def _understood(scheme: str, rest: str) -> Connect | str:
    """What makes the client, or why the URL is not taken."""
    if not rest.isprintable() or "#" in rest:
        return "it has a character that must be percent-encoded"
    try:
        return _MAKERS[scheme](scheme, rest)
    except _Refusal as error:
        return str(error)
    except (ValueError, TypeError, LookupError, RedisError):
        return "a host, a port or the value of an option is not as it should be"


def _single(scheme: str, rest: str) -> Connect:
    options = _options(f"{scheme}://{rest}")
    kind = _BOUNDED.get(options.pop("connection_class", None), BoundedConnection)
    if "host" in options:
        _check_host(options["host"])
    _check(kind, options)

    def connect() -> Client:
        return Redis(connection_pool=_connection.ConnectionPool(connection_class=kind, **options))

    return connect


def _cluster(_: str, rest: str) -> Connect:
    hosts, tail, account = _hosts(rest, _PORT)
    options = _options(f"redis://{account}cluster{tail}")
    if options.pop("db", 0):
        raise _Refusal("a cluster has the database 0 alone")
    options.pop("host")  # a stand-in for the list
    _check(BoundedConnection, options)

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
        raise _Refusal("it names no master")
    options = _options(f"redis://{account}master/{db}?{query}")
    watching = {key: options.pop(f"sentinel_{key}", None) for key in ("username", "password")}
    options.pop("host")  # a stand-in for the master
    _check(BoundedConnection, options)

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
    parts = urlsplit(url)
    _check_names({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)})
    if parts.scheme != "unix" and parts.path.strip("/") and not parts.path.strip("/").isdecimal():
        raise _Refusal("its database is no number")
    options: Options = _connection.parse_url(url)
    if options.get("db", 0) < 0:
        raise _Refusal("its database is no number")
    return {**options, **_TRAITS}


def _check_names(names: set[str]) -> None:
    """Refuse options that would get between the store and its connections, or that nobody knows."""
    for ours in sorted(names & _OURS):
        raise _Refusal(f"{ours} is set by the options timeout and pool_size of the store")
    if "decode_responses" in names:
        raise _Refusal("decode_responses is not for us, for a run is bytes")
    if names - _KNOWN:
        raise _Refusal(f"the options that may follow a ? are {', '.join(sorted(_KNOWN))}")


def _check(kind: Any, options: Options) -> None:
    """Refuse now what a connection would refuse at the first call."""
    if not all("!" <= letter <= "~" for letter in options.get("client_name", "")):
        raise _Refusal("a client_name has no spaces, and ASCII alone")
    if "\0" in options.get("path", ""):
        raise _Refusal("no path has such a character")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise _Refusal("an ssl_keyfile is of no use without its ssl_certfile")
    TLSVersion(options.get("ssl_min_version", TLSVersion.TLSv1_2))
    kind(**options)


def _check_host(host: str) -> None:
    if not host.isprintable() or not host.encode("idna"):
        raise _Refusal("a host is empty, or has a character that no host has")


def _hosts(rest: str, port: int) -> tuple[Hosts, str, str]:
    """The hosts of a list, what follows them, and the account before them."""
    parts = urlsplit(f"//{rest}")
    account, at, places = parts.netloc.rpartition("@")
    found = [urlsplit(f"//{place}") for place in places.split(",")]
    hosts = [(place.hostname or "", place.port or port) for place in found]
    for host, _ in hosts:
        _check_host(host)
    return hosts, f"{parts.path}?{parts.query}", account + at


_FORM = "user:password@host:port/db"
_FORMS = {
    "unix": "/path/to/socket?db=0",
    "redis+cluster": "user:password@host:port,host:port",
    "redis+sentinel": "user:password@host:port,host:port/master/db",
}

_MAKERS: dict[str, Callable[[str, str], Connect]] = {
    "redis": _single,
    "rediss": _single,
    "unix": _single,
    "redis+cluster": _cluster,
    "redis+sentinel": _sentinels,
}
