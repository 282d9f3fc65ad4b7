"""The tables: what they look like, and how they come to be there.

Ids are compared byte by byte (``COLLATE "C"``). The constraints keep out a status that is none, half a lease, and
a run that nothing would ever wake. They are few, because PostgreSQL parses each anew for every statement, and a
dozen of them take as long as the writing. What always holds of the indexes:

- Each is as narrow as its question. Vacuum is asked to come early, for each wake leaves dead entries.
- A save under a lease changes no column of any, so PostgreSQL writes it beside the old row and touches no index.
- None but the primary key can look up a run id: the index of births has it in another collation (the same order by
  another name). On an empty table it would look as good, and a plan made then would go on scanning all of it.
"""

from kvflow.errors import NotSupported, SchemaTooNew
from kvflow.stores.postgres_protocol import TEXT, Statement
from kvflow.stores.postgres_server import Server

VERSION = 1

_TABLES = (
    """CREATE TABLE IF NOT EXISTS {p}_run (
    run_id text COLLATE "C" PRIMARY KEY,
    workflow text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    wake_at bigint,
    event text,
    attempt bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    token text COLLATE "C",
    expires_at bigint CHECK ((token IS NULL) = (expires_at IS NULL)),
    writer text COLLATE "C",
    records bigint NOT NULL,
    log_size bigint NOT NULL,
    snapshot bytea NOT NULL,
    CHECK (status IN ('waiting', 'completed', 'failed', 'cancelled')
        OR status IN ('running', 'suspended') AND (wake_at IS NOT NULL OR token IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_limit = 2000)""",
    """CREATE TABLE IF NOT EXISTS {p}_log (
    run_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.05)""",
    """CREATE INDEX IF NOT EXISTS {p}_run_wake ON {p}_run (workflow, wake_at, run_id)
    WHERE token IS NULL AND wake_at IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS {p}_run_lease ON {p}_run (workflow, expires_at, run_id) WHERE token IS NOT NULL""",
    """CREATE INDEX IF NOT EXISTS {p}_run_birth ON {p}_run (created_at, run_id COLLATE "POSIX")""",
    """CREATE TABLE IF NOT EXISTS {p}_schema (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version integer NOT NULL CHECK (version >= 1)
)""",
    """INSERT INTO {p}_schema (version) VALUES ({version}) ON CONFLICT DO NOTHING""",
)
_ENCODINGS = ("UTF8", "SQL_ASCII")


def _statements(prefix: str) -> list[str]:
    return [sql.format(p=prefix, version=VERSION) for sql in _TABLES]


def ddl(prefix: str) -> str:
    """All that the store needs, to be run as often as one likes."""
    return "".join(sql + ";\n" for sql in _statements(prefix))


def drop(server: Server, prefix: str) -> None:
    """Take the tables away, and all runs with them."""
    server.write(Statement(f"DROP TABLE IF EXISTS {prefix}_run, {prefix}_log, {prefix}_schema")())


def ensure(server: Server, prefix: str) -> None:
    """Make the tables where there are none; refuse those of a newer kvflow."""
    found = Statement(
        f"SELECT to_regclass('{prefix}_schema') IS NULL, current_setting('server_encoding')::text COLLATE \"C\""
    )
    (result,) = server.read(found()).results
    if (encoding := (result.get_value(0, 1) or b"").decode()) not in _ENCODINGS:
        raise NotSupported(f"this database's encoding is {encoding}: run ids need one that is UTF8")
    if result.get_value(0, 0) == b"\x01" or (version := _version(server, prefix)) is None:
        version = _make(server, prefix)
    if version > VERSION:
        raise SchemaTooNew(
            f"the tables {prefix}_* are of schema version {version}, and this kvflow knows {VERSION}: upgrade it"
        )


def _version(server: Server, prefix: str) -> int | None:
    (result,) = server.read(_select_version(prefix)()).results
    return int.from_bytes(result.get_value(0, 0) or b"") if result.ntuples else None


def _select_version(prefix: str) -> Statement:
    return Statement(f"SELECT version FROM {prefix}_schema")


def _make(server: Server, prefix: str) -> int:
    """One maker at a time: IF NOT EXISTS alone does not stop two from making the same table at once."""
    alone = Statement("SELECT pg_advisory_xact_lock(hashtext('kvflow schema ' || @prefix))", {"prefix": TEXT})
    calls = [alone(prefix=prefix), *(Statement(sql)() for sql in _statements(prefix)), _select_version(prefix)()]
    return int.from_bytes(server.write(*calls).results[-1].get_value(0, 0) or b"")
