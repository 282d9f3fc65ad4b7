"""A MySQL or MariaDB server as an operator sees it: what its settings promise, the tables to make and to drop.

All settings that are read here, every user may read. Nothing is written but by ``drop``.
"""

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

from kvflow.errors import NotSupported, StoreUnavailable
from kvflow.findings import Finding, bad, good, limit, note
from kvflow.stores import mysql_schema
from kvflow.stores.mysql_driver import Connection, Cursor, MySQLError
from kvflow.stores.mysql_session import Session, check_version, is_in_the_way, lasting, words_of
from kvflow.stores.mysql_url import dialler

Told = dict[str, str]

_SETTINGS = (
    *("version", "version_comment", "read_only", "super_read_only", "innodb_read_only", "innodb_doublewrite"),
    *("innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog", "binlog_format", "wsrep_on"),
    *("rpl_semi_sync_master_enabled", "rpl_semi_sync_source_enabled", "group_replication_group_name"),
)
_ASK = f"SHOW GLOBAL VARIABLES WHERE Variable_name IN {_SETTINGS}"


class MySQLUpkeep:
    """One prefix in one database."""

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        self._dial = dialler(url)
        self._prefix = prefix
        self._timeout = timeout

    @property
    def names(self) -> str:
        return f"the tables {self._prefix}_runs, {self._prefix}_log and {self._prefix}_schema"

    def ddl(self) -> str:
        return mysql_schema.ddl(self._prefix)

    def drop(self) -> None:
        """Whoever was killed in a transaction holds its tables until the server has noticed."""
        end = monotonic() + self._timeout
        with self._connected() as connection:
            session = Session(connection, self._timeout)
            while True:
                try:
                    return mysql_schema.drop(session, self._prefix)
                except MySQLError as error:
                    if not is_in_the_way(error) or monotonic() > end:
                        raise

    def findings(self) -> list[Finding]:
        with self._connected() as connection, connection.cursor(Cursor) as cursor:
            cursor.execute(_ASK)
            told = {str(name): str(value) for name, value in cursor.fetchall()}
        asked: list[Callable[[Told], Finding | None]] = [_version, _writable, _commits, _pages, _binlog, _replicas]
        return [found for each in asked if (found := each(told)) is not None]

    @contextmanager
    def _connected(self) -> "Generator[Connection[Any]]":
        try:
            with closing(self._dial(self._timeout)) as connection:
                yield connection
        except MySQLError as error:
            raise lasting(error) or StoreUnavailable(f"no answer of the server: {words_of(error)}") from error
        except OSError as error:
            raise StoreUnavailable(f"no connection to the server: {error}") from error


def _is_on(told: Told, name: str) -> bool:
    return told.get(name, "OFF").upper() in ("ON", "1", "YES", "TRUE")


def _version(told: Told) -> Finding:
    version = told["version"]
    named = f"{'MariaDB' if 'mariadb' in version.lower() else 'MySQL'} {version}"
    try:
        check_version(version)
    except NotSupported:
        return bad("version", f"{named} is too old", "use MySQL 8.0.1, or MariaDB 10.6, or later")
    return good("version", named)


def _writable(told: Told) -> Finding | None:
    for name in ("innodb_read_only", "super_read_only", "read_only"):
        if _is_on(told, name):
            return bad("role", f"{name} is on: this is a replica, or closed to writes", "give the primary's address")
    return None


def _commits(told: Told) -> Finding:
    name, value = "innodb_flush_log_at_trx_commit", told["innodb_flush_log_at_trx_commit"]
    if value == "1" or (value == "3" and "mariadb" in told["version"].lower()):
        return good(name, f"{value}: an acknowledged write is on the disk")
    what = "the machine" if value == "2" else "the server"
    return limit(
        name,
        f"{value}: about the last second before a crash of {what} is lost, whole saves at a time, and"
        " steps recorded in it run again",
        f"set {name} = 1",
    )


def _pages(told: Told) -> Finding | None:
    if told.get("innodb_doublewrite", "ON").upper() in ("OFF", "0"):
        return limit(
            "innodb_doublewrite",
            "off: a crash of the machine may leave pages half written",
            "set innodb_doublewrite = ON, unless the disk writes 16 kB at once or not at all",
        )
    return None


def _binlog(told: Told) -> Finding | None:
    if not _is_on(told, "log_bin"):
        return None
    if told.get("binlog_format", "ROW").upper() == "STATEMENT":
        return bad("binlog_format", "STATEMENT: under it the server refuses READ COMMITTED", "set ROW or MIXED")
    if told.get("sync_binlog") != "1":
        return limit(
            "sync_binlog",
            f"{told.get('sync_binlog')}: after a crash replicas may lack what this server has",
            "set sync_binlog = 1",
        )
    return good("sync_binlog", "1: the binary log keeps what was acknowledged")


def _replicas(told: Told) -> Finding:
    if _is_on(told, "wsrep_on"):
        return limit(
            "replicas",
            "Galera, which kvflow's own tests do not try: locks do not reach other nodes",
            "let all instances write to one node",
        )
    if told.get("group_replication_group_name"):
        return note("replicas", "group replication: a failover keeps what the majority had; write to one primary")
    if _is_on(told, "rpl_semi_sync_master_enabled") or _is_on(told, "rpl_semi_sync_source_enabled"):
        return good("replicas", "semi-synchronous: a failover keeps what was acknowledged, while a replica answers")
    if _is_on(told, "log_bin"):
        return limit(
            "replicas",
            "if there are any, none is waited for: a failover may lose the last writes",
            "turn on semi-synchronous or group replication",
        )
    return note("replicas", "none can follow: there is no binary log")
