"""The server as the store sees it: a call is made, again where that is safe, and fails with an error of kvflow's.

What always holds:

- A call takes no longer than the timeout unless bytes are flowing: on the server a wait for a lock ends a little
  earlier, so that the connection is still good, and here the wait for a server that says nothing.
- Each transaction sets for itself, and for itself alone, what its plans depend on. Every statement of the store is
  written so that an index leads it; a plan that was made while the tables were empty and reads them whole
  would be kept, and used beside a million rows.
- A connection that turns out dead is replaced and the call made again; whoever called is told that it may have
  happened twice. A deadlock or a failed serialization has happened not at all, and is only made again, until
  the timeout is over, however often the server was heard.
- Every error of the driver becomes one of kvflow's here and nowhere else.
"""

import random
from collections.abc import Sequence
from time import monotonic, sleep
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import Connection, errors, pq
from psycopg.pq.abc import PGresult

from kvflow.errors import Corrupt, KvflowError, NotSupported, StoreUnavailable, TooLarge
from kvflow.stores.postgres_connections import Connections
from kvflow.stores.postgres_protocol import Call, Patience, Statement, exchange

PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}
_BEGIN_READ = Statement("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")()
_COMMIT = Statement("COMMIT")()

_ROLLED_BACK = (errors.SerializationFailure, errors.DeadlockDetected)
_NAMES_LOST = (errors.InvalidSqlStatementName, errors.DuplicatePreparedStatement)
_GOING_AWAY = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
    errors.ReadOnlySqlTransaction,
)

_prepared: WeakKeyDictionary[Connection[Any], set[bytes]] = WeakKeyDictionary()
"""The names that each connection's server knows: all stores on a user's pool share them, as they are hashes."""


class Answer:
    """The results of the calls, and whether an earlier attempt may have run them already."""

    __slots__ = ("again", "results")

    def __init__(self, results: list[PGresult], again: bool) -> None:
        self.results = results
        self.again = again


class Server:
    """Runs calls on the connections that it is given."""

    def __init__(self, connections: Connections, timeout: float) -> None:
        self._connections = connections
        self._timeout = timeout
        self._statements_last = True
        settings = {"lock_timeout": f"{max(1, int(timeout * 900))}ms", **PLANS}
        self._settings = _set_locally(settings)
        self._settings_and_encoding = _set_locally({"client_encoding": "UTF8", **settings})

    def write(self, *calls: Call, found: Call | None = None) -> Answer:
        """The calls as one transaction.

        ``found`` finds what an earlier attempt has left, where there may have been one: if it did, that is the answer.
        """
        return self._run(calls, read=False, found=found)

    def read(self, *calls: Call) -> Answer:
        """The calls on one snapshot."""
        return self._run(calls, read=True)

    def close(self) -> None:
        self._connections.close()

    def _run(self, calls: Sequence[Call], read: bool, found: Call | None = None) -> Answer:
        patience = Patience(self._timeout)
        try:
            return self._persist(calls, read, found, patience)
        except psycopg.Error as error:
            raise self._translated(error) from error

    def _persist(self, calls: Sequence[Call], read: bool, found: Call | None, patience: Patience) -> Answer:
        deaths = 0
        end = monotonic() + self._timeout
        while True:
            conn = self._connections.lend(patience)
            try:
                if deaths and found and (left := self._exchange(conn, (found,), read, patience))[0].ntuples:
                    return Answer(left, again=True)
                return Answer(self._exchange(conn, calls, read, patience), again=deaths > 0)
            except psycopg.Error as error:
                if not patience.left():
                    raise
                if isinstance(error, _NAMES_LOST):
                    self._statements_last = False
                elif isinstance(error, _ROLLED_BACK) and monotonic() < end:
                    sleep(random.uniform(0.001, 0.02))
                elif _is_dead(conn, error) and deaths < self._connections.spare:
                    deaths += 1
                    self._connections.distrust()
                else:
                    raise
            finally:
                self._connections.take_back(conn)

    def _exchange(self, conn: Connection[Any], calls: Sequence[Call], read: bool, patience: Patience) -> list[PGresult]:
        known = self._known(conn)
        encoding = conn.pgconn.parameter_status(b"client_encoding")
        settings = self._settings if encoding == b"UTF8" else self._settings_and_encoding
        try:
            if read:
                return exchange(conn, (_BEGIN_READ, settings, *calls, _COMMIT), known, patience)[2:-1]
            return exchange(conn, (settings, *calls), known, patience)[1:]
        except _GOING_AWAY:
            conn.close()
            raise

    def _known(self, conn: Connection[Any]) -> set[bytes] | None:
        """The statements that this connection has prepared; None where none of that lasts."""
        if not self._statements_last:
            return None
        known = _prepared.get(conn)
        if known is None:
            known = _prepared[conn] = set()
        return known

    def _translated(self, error: psycopg.Error) -> KvflowError:
        said = str(error).strip()
        if isinstance(error, errors.InsufficientPrivilege):
            return NotSupported(f"{said}: grant it to this role; the tables can be made beforehand from schema()")
        if isinstance(error, errors.ProgramLimitExceeded):
            return TooLarge(f"PostgreSQL has a limit that this is over: {said}; nothing was written")
        if isinstance(error, (errors.IntegrityError, errors.NumericValueOutOfRange)):
            return Corrupt(f"the tables hold, or demand, what kvflow did not write: {said}")
        if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, errors.ReadOnlySqlTransaction)):
            return StoreUnavailable(f"PostgreSQL did not do it within {self._timeout:g} s: {said}")
        return NotSupported(f"PostgreSQL refuses a statement of kvflow's, on this server or these tables: {said}")


def _is_dead(conn: Connection[Any], error: psycopg.Error) -> bool:
    return conn.pgconn.status != pq.ConnStatus.OK or isinstance(error, _GOING_AWAY)


def _set_locally(settings: dict[str, str]) -> Call:
    return Statement("SELECT " + ", ".join(f"set_config('{name}', '{to}', true)" for name, to in settings.items()))()
