"""A PostgreSQL server as an operator sees it: what its settings promise, the tables to make and to drop.

All settings that are read here, every role may read, and they are those of the role, the database and the URL that
runs will be written with. Nothing is written but by ``drop``.
"""

from kvflow.findings import Finding, bad, good, limit, note
from kvflow.stores import postgres_schema
from kvflow.stores.postgres_connections import OwnConnections, connector
from kvflow.stores.postgres_protocol import Statement
from kvflow.stores.postgres_server import Server

_LEAST = 120000

_SETTINGS = (
    *("server_version", "server_version_num", "fsync", "full_page_writes", "synchronous_commit"),
    *("synchronous_standby_names", "autovacuum", "default_transaction_read_only"),
)
_ASK = Statement(
    "SELECT pg_is_in_recovery()::text, (SELECT count(*) FROM pg_stat_replication)::text, "
    + ", ".join(f"current_setting('{name}')" for name in _SETTINGS)
)


class PostgresUpkeep:
    """One prefix in one database."""

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        self._prefix = prefix
        self._connect = connector(url, timeout)
        self._timeout = timeout

    @property
    def names(self) -> str:
        return f"the tables {self._prefix}_run, {self._prefix}_log and {self._prefix}_schema"

    def ddl(self) -> str:
        return postgres_schema.ddl(self._prefix)

    def drop(self) -> None:
        server = self._server()
        try:
            postgres_schema.drop(server, self._prefix)
        finally:
            server.close()

    def findings(self) -> list[Finding]:
        server = self._server()
        try:
            (row,) = server.read(_ASK()).results
        finally:
            server.close()
        told = [(row.get_value(0, column) or b"").decode() for column in range(row.nfields)]
        return [
            found
            for each in (_version, _writable, _disk, _commits, _replicas, _vacuum)
            if (found := each(dict(zip(("replica", "replicas", *_SETTINGS), told, strict=True)))) is not None
        ]

    def _server(self) -> Server:
        return Server(OwnConnections(self._connect, 1), self._timeout)


Told = dict[str, str]


def _version(told: Told) -> Finding:
    version = f"PostgreSQL {told['server_version']}"
    if int(told["server_version_num"]) < _LEAST:
        return bad("version", f"{version} is too old", "use PostgreSQL 12 or later")
    return good("version", version)


def _writable(told: Told) -> Finding | None:
    if told["replica"] == "true":
        return bad("role", "this is a replica, which takes no writes", "give the address of the primary")
    if told["default_transaction_read_only"] == "on":
        return bad("role", "default_transaction_read_only is on for this role or database", "set it to off")
    return None


def _disk(told: Told) -> Finding:
    if told["fsync"] == "off":
        return limit("fsync", "off: a crash of the machine may take the whole database with it", "set fsync = on")
    if told["full_page_writes"] == "off":
        return limit(
            "full_page_writes",
            "off: a crash of the machine may leave pages half written",
            "set full_page_writes = on, unless the disk writes 8 kB at once or not at all",
        )
    return good("fsync", "on: what is committed is on the disk")


def _commits(told: Told) -> Finding:
    if told["synchronous_commit"] == "off":
        return limit(
            "synchronous_commit",
            "off: the last moments before a crash of the server are lost, whole saves at"
            " a time, and steps recorded in them run again",
            "set synchronous_commit = on for this role",
        )
    return good("synchronous_commit", f"{told['synchronous_commit']}: an acknowledged write survives a crash")


def _replicas(told: Told) -> Finding:
    waits = told["synchronous_commit"] in ("on", "remote_write", "remote_apply")
    if told["synchronous_standby_names"] and waits:
        return good("replicas", "synchronous: what was acknowledged survives a failover to one of them")
    if told["replicas"] == "0":
        return note("replicas", "none is connected; a failover inside the provider's storage is not seen from here")
    return limit(
        "replicas",
        f"{told['replicas']} connected, and none is waited for: a failover may lose the last writes",
        "set synchronous_standby_names, and synchronous_commit = on",
    )


def _vacuum(told: Told) -> Finding | None:
    if told["autovacuum"] == "off":
        return limit("autovacuum", "off: each wake leaves a dead entry, and claims slow down", "set autovacuum = on")
    return None
