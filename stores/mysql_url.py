"""What ``mysql://user:password@host:port/database?…`` means to PyMySQL."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from kvflow.errors import InvalidArgument, MissingDriver
from kvflow.stores.mysql_driver import CLIENT, Connection, connect

_FLAGS = {"ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"}
_OPTIONS = {"unix_socket", "ssl_ca", "ssl_cert", "ssl_key", *_FLAGS}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def dialler(url: str) -> "Callable[[float], Connection[Any]]":
    """A function that connects as the URL says, within the seconds that it is given."""
    where = _parse(url)

    def dial(seconds: float) -> "Connection[Any]":
        try:
            return connect(
                **where,
                connect_timeout=seconds,
                read_timeout=seconds,
                write_timeout=seconds,
                charset="utf8mb4",
                autocommit=True,
                client_flag=CLIENT.MULTI_STATEMENTS,
            )
        except RuntimeError as error:  # what PyMySQL raises where a way to log in needs another package
            raise MissingDriver(f"{error}: pip install 'pymysql[rsa]', or connect by TLS") from error

    return dial


def _parse(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"the URL of a MySQL server cannot be read: {error}") from error
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in ("mysql", "mariadb") or not database:
        raise InvalidArgument("the URL of a MySQL server is mysql://user:password@host:port/database, database and all")
    where: dict[str, Any] = {"host": parts.hostname or "localhost", "database": database}
    if port is not None:
        where["port"] = port
    if parts.username is not None:
        where["user"] = unquote(parts.username)
    if parts.password is not None:
        where["password"] = unquote(parts.password).encode()
    return where | dict(_option(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True))


def _option(name: str, value: str) -> tuple[str, str | bool]:
    if name not in _OPTIONS:
        raise InvalidArgument(f"option {name!r} in the URL of a MySQL server: the options are {sorted(_OPTIONS)}")
    if name not in _FLAGS:
        return name, value
    if value.lower() not in _TRUTH:
        raise InvalidArgument(f"option {name}={value!r} in the URL of a MySQL server: it must be true or false")
    return name, _TRUTH[value.lower()]
