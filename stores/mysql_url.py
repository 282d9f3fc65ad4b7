"""What ``mysql://user:password@host:port/database?…`` means to PyMySQL.

An error repeats nothing of the URL and is chained to none that does: whatever part could not be read, it may be
that of a password which was not percent-encoded.
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kvflow.errors import InvalidArgument, MissingDriver
from kvflow.stores.mysql_driver import CLIENT, Connection, connect

_FLAGS = {"ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"}
_OPTIONS = {"unix_socket", "ssl_ca", "ssl_cert", "ssl_key", *_FLAGS}
_NO_URL = (
    "this is no URL of a MySQL server: mysql://user:password@host:port/database, database and all; percent-encode what"
    " is special in name and password"
)
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
    parts = _split(url)
    if parts is None:
        raise InvalidArgument(_NO_URL)
    where: dict[str, Any] = {"host": parts.hostname or "localhost", "database": unquote(parts.path[1:])}
    if parts.port is not None:
        where["port"] = parts.port
    if parts.username is not None:
        where["user"] = unquote(parts.username)
    if parts.password is not None:
        where["password"] = unquote(parts.password).encode()
    return where | dict(_option(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True))


def _split(url: str) -> SplitResult | None:
    """The parts of the URL, or None where it is none, or names no database."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - read where it is asked for
        (parts.hostname or "").encode("idna")
    except ValueError:
        return None
    sound = parts.scheme in ("mysql", "mariadb") and url[len(parts.scheme) :].startswith("://")
    return parts if sound and parts.path[1:] and "@" not in parts.path and "#" not in url else None


def _option(name: str, value: str) -> tuple[str, str | bool]:
    if name not in _OPTIONS:
        raise InvalidArgument(f"an option in the URL of a MySQL server is none of {', '.join(sorted(_OPTIONS))}")
    if name not in _FLAGS:
        return name, value
    if value.lower() not in _TRUTH:
        raise InvalidArgument(f"option {name} in the URL of a MySQL server: it must be true or false")
    return name, _TRUTH[value.lower()]
