"""What each call of the contract says in SQL.

Each is the rule of the same name in ``kvflow.rules``, in one statement, judged on the row as it is once its lock is
had: under READ COMMITTED the conditions of an UPDATE are checked again on the newest version, while a subselect would
still see the old one. What always holds:

- The store's clock is ``statement_timestamp()``, which an index scan can begin at; ``clock_timestamp()`` could not.
- A statement that locks several rows locks them in the order of their ids, or skips those that are locked.
- Candidates come from a MATERIALIZED CTE: a subselect with LIMIT would be run again for each row, and lease too many.
- Each statement has one sensible plan, for a plan made while the tables were empty is kept when they have grown:
  ``= ANY (ARRAY[…])`` can be looked up in an index and joined by in no other way, ``IS NOT DISTINCT FROM`` keeps the
  index of leases out, and ORDER BY names all of an index's columns.
"""

from kvflow.checks import LATEST
from kvflow.stores.postgres_protocol import BOOL, BYTEA, INT8, TEXT, Statement, Type

_CLOCK = "floor(date_part('epoch', statement_timestamp()) * 1000)::bigint"

# Where claims count, a number that no kvflow has written must not go past the end of its type: it would stop them all.
_ATTEMPT = f"r.attempt + CASE WHEN r.token <> @token AND r.attempt < {LATEST} THEN 1 ELSE 0 END"
_SIZE = f"octet_length(snapshot) + LEAST(log_size, {LATEST})"

_TYPES: dict[str, Type] = {
    **dict.fromkeys(("run_id", "workflow", "status", "event", "held", "writer", "token", "ids", "tokens"), TEXT),
    **dict.fromkeys(("version", "wake_at", "created_at", "updated_at", "seen", "added", "added_size", "ttl"), INT8),
    **dict.fromkeys(("now", "limit", "seq", "place"), INT8),
    **dict.fromkeys(("snapshot", "record", "records"), BYTEA),
    **dict.fromkeys(("not_over", "progress", "wake"), BOOL),
}

SAVED = (
    "run_id", "workflow", "status", "version", "wake_at", "event", "created_at", "updated_at", "snapshot", "seen",
    "added", "added_size", "not_over", "progress", "held", "ttl", "writer",
)  # fmt: skip
"""The parameters of a save, and of ``SAVE_MANY`` as arrays of one length."""

_HEAD = """r.run_id, r.workflow, r.status, r.version, r.wake_at, r.event, r.attempt, r.created_at, r.updated_at,
    r.records, r.snapshot"""

# Where {v} gives the value of a parameter: "@" for one save, "e." for an entry of many.
_OVER = """version = {v}version, workflow = {v}workflow, status = {v}status, event = {v}event,
    created_at = {v}created_at, updated_at = {v}updated_at, snapshot = {v}snapshot, writer = {v}writer,
    records = r.records + {v}added, log_size = r.log_size + {v}added_size,
    wake_at = CASE WHEN {v}not_over AND r.records > {v}seen THEN LEAST({v}wake_at, {v}updated_at) ELSE {v}wake_at END,
    attempt = CASE WHEN {v}progress THEN 0 ELSE r.attempt END, token = {v}held,
    expires_at = CASE WHEN {v}held IS NULL THEN NULL
        WHEN r.expires_at - {clock} > {v}ttl / 2 AND r.expires_at - {clock} <= {v}ttl THEN r.expires_at
        ELSE {clock} + {v}ttl END"""
_MAY_SAVE = """r.version = {v}version - 1 AND r.records >= {v}seen
    AND CASE WHEN {v}writer IS NULL THEN r.token IS NULL OR r.expires_at <= {clock} ELSE r.token = {v}writer END"""
_BORN = """(run_id, workflow, status, version, wake_at, event, attempt, created_at, updated_at, snapshot, records,
        log_size, token, expires_at, writer)
    SELECT {v}run_id, {v}workflow, {v}status, 1, {v}wake_at, {v}event, 0, {v}created_at, {v}updated_at, {v}snapshot,
        {v}added, {v}added_size, {v}held, CASE WHEN {v}held IS NOT NULL THEN {clock} + {v}ttl END, {v}writer"""

_APPEND = """appended AS (
    INSERT INTO {p}_log (run_id, seq, record)
    SELECT @run_id, head.records - @added + n.seq, n.record
    FROM head CROSS JOIN unnest(@records) WITH ORDINALITY AS n (record, seq))
SELECT records FROM head"""
_APPEND_ONE = """appended AS (
    INSERT INTO {p}_log (run_id, seq, record) SELECT @run_id, head.records, @record FROM head)
SELECT records FROM head"""

_SAVE = (
    "WITH head AS (UPDATE {p}_run r SET "
    + _OVER
    + " WHERE r.run_id = @run_id AND "
    + _MAY_SAVE
    + " RETURNING r.records), "
)
_BIRTH = "WITH head AS (INSERT INTO {p}_run " + _BORN + " ON CONFLICT (run_id) DO NOTHING RETURNING records), "

# The entries come in the order of their ids. Births after updates, so that two batches wait in one order.
_SAVE_MANY = (
    """WITH entry AS MATERIALIZED (SELECT * FROM unnest({arrays}) AS e ({names})),
locked AS MATERIALIZED (
    SELECT e.* FROM entry e CROSS JOIN LATERAL (
        SELECT FROM {p}_run r WHERE r.run_id = e.run_id AND """
    + _MAY_SAVE
    + """ FOR UPDATE) r
    WHERE e.version > 1),
updated AS (UPDATE {p}_run r SET """
    + _OVER
    + """ FROM locked e WHERE r.run_id = ANY (ARRAY[e.run_id]) RETURNING r.run_id, r.records - e.added AS before),
born AS (INSERT INTO {p}_run """
    + _BORN
    + """ FROM entry e
    WHERE e.version = 1 AND e.seen = 0 AND (SELECT count(*) FROM updated) >= 0
    ON CONFLICT (run_id) DO NOTHING RETURNING run_id, 0::bigint AS before),
done AS (SELECT * FROM updated UNION ALL SELECT * FROM born),
appended AS (
    INSERT INTO {p}_log (run_id, seq, record)
    SELECT d.run_id, d.before + n.seq, n.record
    FROM unnest(@ids, @seq, @records) AS n (run_id, seq, record) JOIN done d ON d.run_id = n.run_id)
SELECT run_id, before FROM done"""
)

_PLACES = {
    "wake": ("wake_at", "token IS NULL AND wake_at IS NOT NULL", "@now"),
    "lease": ("expires_at", "token IS NOT NULL", _CLOCK),
}


def _workflows(line: str, named: bool) -> str:
    """The workflows to look at: those asked for, or all in the index, found by leaps from one to the next."""
    if named:
        return f"{line}_workflow (workflow) AS (SELECT n.workflow FROM unnest(@workflow) AS n (workflow))"
    at, there, _ = _PLACES[line]
    order = f"ORDER BY workflow, {at}, run_id LIMIT 1"
    return f"""{line}_workflow (workflow) AS (
    (SELECT workflow FROM {{p}}_run WHERE {there} {order})
    UNION ALL
    SELECT (SELECT r.workflow FROM {{p}}_run r WHERE {there} AND r.workflow > before.workflow {order})
    FROM {line}_workflow before WHERE before.workflow IS NOT NULL)"""


def _first(line: str, limit: str, lock: bool = False) -> str:
    """The first places of one workflow ``n`` that are due; locked, but for those that somebody else has locked."""
    at, there, until = _PLACES[line]
    columns = f"{_SIZE} AS size" if lock else "workflow"
    return f"""SELECT {at} AS at, run_id, {columns} FROM {{p}}_run
        WHERE {there} AND workflow = n.workflow AND {at} <= {until}
        ORDER BY workflow, {at}, run_id LIMIT {limit}{" FOR UPDATE SKIP LOCKED" if lock else ""}"""


def _due(named: bool) -> str:
    """The first ``@limit`` due runs, of which nothing is locked: leases that ran out, then wakes."""
    return f"""WITH RECURSIVE {_workflows("lease", named)}, {_workflows("wake", named)},
due AS MATERIALIZED (
    SELECT 0 AS line, c.* FROM lease_workflow n CROSS JOIN LATERAL ({_first("lease", "@limit")}) c
    UNION ALL
    SELECT 1, c.* FROM wake_workflow n CROSS JOIN LATERAL ({_first("wake", "@limit")}) c
    ORDER BY line, at, run_id LIMIT @limit)"""


def _claim(named: bool) -> str:
    """Of each workflow as many as it has among the first, but those that nobody else is just claiming."""
    return f"""{_due(named)},
share AS MATERIALIZED (SELECT line, workflow, count(*) AS runs FROM due GROUP BY line, workflow),
target AS MATERIALIZED (
    SELECT n.line, c.* FROM share n CROSS JOIN LATERAL ({_first("lease", "n.runs", lock=True)}) c WHERE n.line = 0
    UNION ALL
    SELECT n.line, c.* FROM share n CROSS JOIN LATERAL ({_first("wake", "n.runs", lock=True)}) c WHERE n.line = 1),
leased AS (
    UPDATE {{p}}_run r SET token = @token, expires_at = {_CLOCK} + @ttl,
        attempt = {_ATTEMPT}
    WHERE r.run_id = ANY (ARRAY(SELECT run_id FROM target)))
SELECT run_id, size FROM target ORDER BY line, at, run_id"""


def _next_wake(named: bool) -> str:
    return f"""WITH RECURSIVE {_workflows("lease", named)}, {_workflows("wake", named)}
SELECT LEAST(
    (SELECT min(c.at) FROM lease_workflow n CROSS JOIN LATERAL ({_first("lease", "1")}) c),
    (SELECT min(c.at) FROM wake_workflow n CROSS JOIN LATERAL ({_first("wake", "1")}) c))"""


_ACQUIRE = """UPDATE {p}_run r SET token = @token, expires_at = {clock} + @ttl,
    attempt = {attempt}
WHERE r.run_id = @run_id AND (r.token IS NULL OR r.token = @token OR r.expires_at <= {clock})
RETURNING r.run_id, {size}"""

_HELD = """SELECT run_id, {size} FROM {p}_run
WHERE token IS NOT NULL AND token = @token ORDER BY workflow, expires_at, run_id"""

# The ids come in order.
_RENEW = """WITH locked AS MATERIALIZED (
    SELECT n.run_id FROM unnest(@ids, @tokens) AS n (run_id, token) CROSS JOIN LATERAL (
        SELECT FROM {p}_run r WHERE r.run_id = n.run_id AND r.token IS NOT DISTINCT FROM n.token FOR UPDATE) r)
UPDATE {p}_run r SET expires_at = {clock} + @ttl
WHERE r.run_id = ANY (ARRAY(SELECT run_id FROM locked)) RETURNING r.run_id"""

_RELEASE = """UPDATE {p}_run r SET token = NULL, expires_at = NULL,
    wake_at = COALESCE(@wake_at, r.wake_at, CASE WHEN r.status = 'running' THEN r.updated_at END)
WHERE r.run_id = @run_id AND r.token IS NOT DISTINCT FROM @token"""

_PUT_OFF = """UPDATE {p}_run r SET token = NULL, expires_at = NULL,
    wake_at = LEAST(GREATEST(@now, {clock}) + @ttl, {latest})
WHERE r.run_id = @run_id AND r.token IS NOT DISTINCT FROM @token"""

_POST = """WITH head AS (
    UPDATE {p}_run r SET records = r.records + 1, log_size = r.log_size + octet_length(@record),
        wake_at = CASE WHEN @wake OR r.status = 'waiting' OR r.token IS NOT NULL
            THEN LEAST(r.wake_at, GREATEST(0, LEAST(@now, {clock}))) ELSE r.wake_at END
    WHERE r.run_id = @run_id AND r.status IN ('running', 'suspended', 'waiting') RETURNING r.records),
"""

_JUDGE = "SELECT " + _HEAD + ", r.token, r.expires_at, r.writer, {clock} FROM {p}_run r WHERE r.run_id = @run_id"

_HEADS = "SELECT " + _HEAD + " FROM unnest(@ids) AS n (run_id) JOIN {p}_run r ON r.run_id = ANY (ARRAY[n.run_id])"
_MINE = " AND r.token IS NOT DISTINCT FROM @token"
_LOGS = """SELECT n.place, l.seq, l.record FROM unnest(@ids) WITH ORDINALITY AS n (run_id, place)
CROSS JOIN LATERAL (SELECT seq, record FROM {p}_log WHERE run_id = n.run_id ORDER BY run_id, seq) l"""

_LIST = (
    "SELECT "
    + _HEAD
    + """ FROM {p}_run r
WHERE (r.created_at, r.run_id COLLATE "POSIX") < (@created_at, @run_id) AND (@status IS NULL OR r.status = @status)
ORDER BY r.created_at DESC, r.run_id COLLATE "POSIX" DESC LIMIT @limit"""
)


class Statements:
    """All statements of the store, for tables of one prefix."""

    def __init__(self, prefix: str) -> None:
        def made(sql: str, *arrays: str, v: str = "@", **parts: str) -> Statement:
            return Statement(
                sql.format(p=prefix, clock=_CLOCK, attempt=_ATTEMPT, size=_SIZE, latest=LATEST, v=v, **parts),
                _TYPES,
                arrays,
            )

        # Nearly every save brings one record, and that is cheaper without an array.
        self.save = made(_SAVE + _APPEND, "records")
        self.save_one = made(_SAVE + _APPEND_ONE)
        self.birth = made(_BIRTH + _APPEND, "records")
        self.birth_one = made(_BIRTH + _APPEND_ONE)
        self.save_many = made(
            _SAVE_MANY,
            *SAVED,
            "ids",
            "seq",
            "records",
            v="e.",
            names=", ".join(SAVED),
            arrays=", ".join(f"@{name}" for name in SAVED),
        )
        self.judge = made(_JUDGE)
        self.heads = made(_HEADS, "ids")
        self.heads_of_ours = made(_HEADS + _MINE, "ids")
        self.logs = made(_LOGS, "ids")
        # Two statements: one snapshot cannot see the records that were posted while it waited for the row.
        self.delete = made("DELETE FROM {p}_run WHERE run_id = @run_id")
        self.delete_log = made(
            "DELETE FROM {p}_log WHERE run_id = @run_id"
            " AND (SELECT version FROM {p}_run WHERE run_id = @run_id) IS NULL"
        )
        self.due = made(_due(named=False) + " SELECT run_id FROM due ORDER BY line, at, run_id")
        self.claim = made(_claim(named=False))
        self.claim_of = made(_claim(named=True), "workflow")
        self.held = made(_HELD)
        self.next_wake = made(_next_wake(named=False))
        self.next_wake_of = made(_next_wake(named=True), "workflow")
        self.acquire = made(_ACQUIRE)
        self.renew = made(_RENEW, "ids", "tokens")
        self.release = made(_RELEASE)
        self.put_off = made(_PUT_OFF)
        self.post = made(_POST + _APPEND_ONE)
        self.list = made(_LIST)
