"""The tables of the MySQL store, and who makes them.

One row for a run, one for each of its records. What must never be stored, the server refuses by itself:
a lease is a token with an expiry, what is not over has something that will wake it, a record belongs to
a run. ``due_at`` is the wake of a run that nobody holds: so the index that claims read holds nobody who
is being driven, and a sleeper costs a claim nothing.

Tables are made on first use, by several processes at once where that happens, and the row that says
their version comes last: where it can be read, there is nothing to make and no right to make it is needed.
"""

from kvflow.errors import NotSupported, SchemaTooNew
from kvflow.run import Status
from kvflow.stores.mysql_driver import ER, MySQLError
from kvflow.stores.mysql_session import Session, code_of

VERSION = 1

_STATUSES = ", ".join(f"'{status}'" for status in Status)
_DENIED = {ER.TABLEACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR}


def definitions(prefix: str) -> list[str]:
    """The statements that make what is not there yet."""
    return [
        f"""\
CREATE TABLE IF NOT EXISTS {prefix}_runs (
    id          BIGINT         NOT NULL AUTO_INCREMENT,
    run_id      VARBINARY(800) NOT NULL,
    workflow    VARBINARY(800) NOT NULL,
    status      VARCHAR(9)     CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version     BIGINT         NOT NULL,
    wake_at     BIGINT         NULL,
    event       VARBINARY(800) NULL,
    attempt     BIGINT         NOT NULL,
    created_at  BIGINT         NOT NULL,
    updated_at  BIGINT         NOT NULL,
    snapshot    LONGBLOB       NOT NULL,
    records     BIGINT         NOT NULL,
    log_bytes   BIGINT         NOT NULL,
    token       VARBINARY(800) NULL,
    expires_at  BIGINT         NULL,
    writer      VARBINARY(800) NULL,
    due_at      BIGINT         GENERATED ALWAYS AS (IF(token IS NULL, wake_at, NULL)) STORED,
    PRIMARY KEY (id),
    UNIQUE KEY run_id (run_id),
    KEY due (workflow, due_at, run_id),
    KEY held (workflow, expires_at, run_id),
    KEY born (created_at, run_id),
    CONSTRAINT {prefix}_named CHECK (run_id <> '' AND workflow <> '' AND status IN ({_STATUSES})),
    CONSTRAINT {prefix}_counted CHECK (version >= 1 AND records >= 0 AND log_bytes >= 0 AND attempt >= 0),
    CONSTRAINT {prefix}_timed CHECK (wake_at >= 0 AND created_at >= 0 AND updated_at >= 0),
    CONSTRAINT {prefix}_leased CHECK ((token IS NULL) = (expires_at IS NULL)),
    CONSTRAINT {prefix}_wakes CHECK (
        wake_at IS NOT NULL OR status NOT IN ('running', 'suspended') OR (status = 'running' AND token IS NOT NULL))
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4""",
        f"""\
CREATE TABLE IF NOT EXISTS {prefix}_log (
    id          BIGINT         NOT NULL,
    seq         BIGINT         NOT NULL,
    record      LONGBLOB       NOT NULL,
    PRIMARY KEY (id, seq),
    CONSTRAINT {prefix}_of_run FOREIGN KEY (id) REFERENCES {prefix}_runs (id) ON DELETE CASCADE,
    CONSTRAINT {prefix}_in_order CHECK (seq >= 0)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4""",
        f"""\
CREATE TABLE IF NOT EXISTS {prefix}_schema (
    one         BIGINT         NOT NULL DEFAULT 1,
    version     BIGINT         NOT NULL,
    PRIMARY KEY (one),
    CONSTRAINT {prefix}_one CHECK (one = 1)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4""",
        f"INSERT IGNORE INTO {prefix}_schema (version) VALUES ({VERSION})",
    ]


def ddl(prefix: str) -> str:
    """All that the store needs, to be run as often as one likes."""
    return "".join(f"{statement};\n" for statement in definitions(prefix))


def drop(session: Session, prefix: str) -> None:
    """Take the tables away, and all runs with them; records first, for they refer to runs.

    Where there are none, no right to drop any is needed.
    """
    ours = ", ".join(f"'{prefix}_{table}'" for table in ("log", "runs", "schema"))
    if session.ask(
        f"SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ({ours})"
    ):
        session.run([f"DROP TABLE IF EXISTS {prefix}_log, {prefix}_runs, {prefix}_schema"])


def prepare(session: Session, prefix: str) -> None:
    """Make the tables unless they are there; refuse those of a newer kvflow."""
    version = _stored_version(session, prefix)
    if version is None:
        _make(session, prefix)
        version = _stored_version(session, prefix)
    if version is not None and version > VERSION:
        raise SchemaTooNew(
            f"the tables {prefix}_* are of schema version {version}, and this kvflow knows up to {VERSION}:"
            " use a newer kvflow"
        )


def _stored_version(session: Session, prefix: str) -> int | None:
    try:
        rows = session.ask(f"SELECT version FROM {prefix}_schema")
    except MySQLError as error:
        if code_of(error) == ER.NO_SUCH_TABLE:
            return None
        raise
    return rows[0][0] if rows else None


def _make(session: Session, prefix: str) -> None:
    try:
        for statement in definitions(prefix):
            session.run([statement])
    except MySQLError as error:
        if code_of(error) in _DENIED:
            raise NotSupported(
                f"the tables {prefix}_* are not there and this user may not create them ({error.args[1]}):"
                " let one who may run what store.schema() gives"
            ) from error
        raise
