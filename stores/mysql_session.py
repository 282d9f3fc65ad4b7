"""One connection, set as the store needs it, that is told several things at once.

However the connection was made, from here on it commits each statement by itself unless told BEGIN, reads what is
committed, is strict, keeps UTC, waits a second for a lock and not a minute, and never longer for the
server than it was told. The server ends a session that is silent for ``IDLE`` seconds: a client that froze within a
transaction would hide its rows from every claim for as long as that.

Several statements go in one packet where the connection was opened for that (``CLIENT.MULTI_STATEMENTS``), else one by
one: slower, and otherwise the same. No packet is ever sent that is over the server's ``max_allowed_packet``,
for the server would answer by hanging up.
"""

import itertools
import math
import re
import select
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kvflow.errors import Corrupt, KvflowError, NotSupported, TooLarge
from kvflow.stores.mysql_driver import (
    CLIENT,
    CR,
    ER,
    SERVER_STATUS,
    Connection,
    Cursor,
    InterfaceError,
    MySQLError,
    decoders,
)
from kvflow.stores.mysql_parts import in_parts

Row = tuple[Any, ...]

IDLE = 30
"""Seconds of silence after which the server ends a session."""

LOCK_WAIT = 1
"""Seconds after which the server gives up a wait for a lock; the store then asks again."""

_LEAST = {"MySQL": (8, 0, 1), "MariaDB": (10, 6, 0)}

_MARGIN = 64

_SETTINGS = [
    "SELECT VERSION(), @@max_allowed_packet",
    (
        "SET SESSION autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',"
        f" wait_timeout = {IDLE}, lock_wait_timeout = {LOCK_WAIT}, innodb_lock_wait_timeout = {LOCK_WAIT},"
        " sql_safe_updates = 0, sql_select_limit = DEFAULT"
    ),
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
]

_GONE = {
    *(CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR),
    *(ER.SERVER_SHUTDOWN, 1927, 4031),  # the server hung up: killed, or silent for too long
    *(1290, 1836),  # it has become read-only: after a failover, another is to be had at the same address
}
_TOO_LARGE = {
    *(ER.NET_PACKET_TOO_LARGE, ER.DATA_TOO_LONG, ER.TOO_BIG_ROWSIZE, ER.TRANS_CACHE_FULL),
    *(ER.WARN_ALLOWED_PACKET_OVERFLOWED,),
}

_REFUSED = {
    ER.DBACCESS_DENIED_ERROR: "grant it to this user",
    ER.TABLEACCESS_DENIED_ERROR: "grant it to this user",
    ER.COLUMNACCESS_DENIED_ERROR: "grant it to this user",
    ER.BAD_FIELD_ERROR: "make the tables from store.schema()",
    ER.NO_SUCH_TABLE: "make the tables from store.schema(), and open the store anew",
    ER.PARSE_ERROR: "use a server that kvflow's documentation names",
}
_FOREIGN = {3819, 4025, ER.ROW_IS_REFERENCED_2, ER.NO_REFERENCED_ROW_2, ER.WARN_DATA_OUT_OF_RANGE, 1690}
"""A constraint is not kept: a CHECK of MySQL's or of MariaDB's, or a foreign key either way; or a stored number is so
large that no more can be added to it."""


def code_of(error: MySQLError) -> int:
    """The number by which server and driver name an error; 0 where they do not."""
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def words_of(error: MySQLError) -> str:
    """What an error says, with its number."""
    return f"{error.args[1]} ({code_of(error)})" if len(error.args) > 1 else f"{type(error).__name__} {error}"


def is_in_the_way(error: MySQLError) -> bool:
    """Whether somebody else's transaction kept this one from its locks, and the same may succeed now."""
    return code_of(error) in (ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK)


def wait_of(error: MySQLError) -> float:
    """The seconds that the same may take to fail again."""
    return LOCK_WAIT if code_of(error) == ER.LOCK_WAIT_TIMEOUT else 0.0


def is_taken(error: MySQLError) -> bool:
    """Whether a row to be inserted is there already."""
    return code_of(error) == ER.DUP_ENTRY


def lasting(error: MySQLError) -> KvflowError | None:
    """What to tell of an error that the same call will always meet; None where another time may do."""
    if is_taken(error):  # a birth has met that already, so it is the place of a record
        return Corrupt(f"a log has more records than its head counts: {words_of(error)}")
    if code_of(error) in _FOREIGN:
        return Corrupt(f"the tables hold, or demand, what kvflow did not write: {words_of(error)}")
    if code_of(error) in _TOO_LARGE:
        return TooLarge(f"the server refuses it, and nothing was written: {words_of(error)}")
    if (remedy := _REFUSED.get(code_of(error))) is not None:
        return NotSupported(f"the server refuses a statement of kvflow's: {words_of(error)}: {remedy}")
    return None


class Answer(NamedTuple):
    """What the server said to one statement."""

    changed: int
    rows: Sequence[Row]


def rows_of(answers: Iterable[Answer]) -> Iterator[Row]:
    """The rows of several answers, one after the other."""
    return itertools.chain.from_iterable(answer.rows for answer in answers)


class Session:
    """A connection to run statements on, by one thread at a time."""

    def __init__(self, connection: "Connection[Any]", seconds: float) -> None:
        self._connection = connection
        self._many = bool(connection.client_flag & CLIENT.MULTI_STATEMENTS)
        self._seconds = 0.0
        self.limit(seconds)
        self.lost = False
        self._poll = _watched(connection)
        connection.use_unicode = True
        connection.decoders = dict(decoders)
        connection.set_character_set("utf8mb4")
        self._room = 1024
        version, packet = self.run(_SETTINGS)[0].rows[0]
        check_version(version)
        self._room = int(packet) - _MARGIN

    @property
    def room(self) -> int:
        """The bytes of the longest statement that the server takes."""
        return self._room

    def limit(self, seconds: float) -> None:
        """Wait no longer than this for the server, each time that it is waited for."""
        seconds = max(0.05, math.ceil(seconds * 20) / 20)
        if seconds != self._seconds:
            self._seconds = seconds
            # PyMySQL takes these when it connects only; but a pooled connection serves calls with less time left.
            vars(self._connection).update(_read_timeout=seconds, _write_timeout=seconds)

    def run(self, statements: Iterable[str]) -> list[Answer]:
        """The answers to these statements, sent in as few packets as they fit into."""
        answers: list[Answer] = []
        with self._connection.cursor(Cursor) as cursor:
            for packet in self._packets(list(statements)):
                cursor.execute(packet)
                answers.append(_answer(cursor))
                while cursor.nextset():
                    answers.append(_answer(cursor))
        return answers

    def ask(self, statement: str) -> Sequence[Row]:
        """The rows that one statement gives."""
        return self.run([statement])[0].rows

    def _packets(self, statements: list[str]) -> list[str]:
        """The statements, joined as far as the connection and the server take that."""
        together = ";".join(statements)
        if self._many and len(together) <= self._room:
            return [together] if statements else []
        for statement in statements:
            self._check_fits(statement)
        if not self._many:
            return statements
        return [";".join(part) for part in in_parts(statements, lambda statement: len(statement) + 1, self._room)]

    def _check_fits(self, statement: str) -> None:
        """Refuse what the server would answer by hanging up."""
        if len(statement) > self._room:
            raise TooLarge(
                f"a statement of {len(statement)} bytes for a server whose max_allowed_packet is"
                f" {self._room + _MARGIN}: bytes travel as two digits each, so keep a head or a record below half of"
                " that, or raise max_allowed_packet"
            )

    @property
    def in_transaction(self) -> bool:
        return bool(vars(self._connection)["server_status"] & SERVER_STATUS.SERVER_STATUS_IN_TRANS)

    def settle(self) -> None:
        """End what a failed call has left open, so that nothing stays locked."""
        if self.in_transaction:
            self.run(["ROLLBACK"])

    def failed(self, error: MySQLError) -> None:
        """Note whether this error means that the server is not there any more."""
        gone = isinstance(error, InterfaceError) or code_of(error) in _GONE
        self.lost = self.lost or gone or not self._connection.open

    def quiet(self) -> bool:
        """Whether the connection stands: a server says nothing unasked but good-bye."""
        return self._connection.open and not (self._poll and self._poll.poll(0))

    def close(self) -> None:
        if self._connection.open:
            self._connection.close()


def _answer(cursor: Cursor) -> Answer:
    return Answer(cursor.rowcount, cursor.fetchall())


def _watched(connection: "Connection[Any]") -> Any:
    """Something that says whether there is anything to read; None where the platform has no ``poll``."""
    if not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(vars(connection)["_sock"], select.POLLIN)
    return poll


def check_version(version: str) -> None:
    """Refuse servers without SKIP LOCKED, as early as it can be known."""
    server = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    least = _LEAST[server]
    if found is None or tuple(int(part or 0) for part in found.groups()) < least:
        raise NotSupported(f"the server is {server} {version}: kvflow needs MySQL 8.0.1, or MariaDB 10.6, or later")
