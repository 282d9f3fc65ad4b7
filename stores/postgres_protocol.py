"""Statements, sent and answered over libpq itself.

psycopg's cursors wait without end for a server that has frozen, and leave it to the connection's owner how values
travel, what a row is and when a transaction begins. The store needs one answer to all of that on connections that
are not its own, so it speaks through ``Connection.pgconn``, psycopg's thin wrapper of libpq. What always holds:

- All that a call sends goes out in one packet and is one transaction, committed before ``exchange`` returns.
- Parameters and results are binary; rows, types and ``autocommit`` of the connection play no part.
- Waiting ends: ``Patience`` runs out where no byte has come for as long as the caller would wait.
- A statement is known to the server by a hash of its text, so that no name can mean another text.
"""

import re
import select
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import ceil
from struct import Struct, calcsize, pack
from time import monotonic
from typing import Any

from psycopg import Connection, OperationalError, errors, pq
from psycopg.pq.abc import PGconn, PGresult

_int8 = Struct("!q").pack
_int4 = Struct("!i").pack
_array_head = Struct("!iiIii").pack
_empty_array = Struct("!iiI").pack
_PARAMETER = re.compile(r"@(\w+)")
_NULL = _int4(-1)
_BINARY = pq.Format.BINARY


def _text(value: str) -> bytes:
    return value.encode()


def _bytea(value: bytes) -> bytes:
    return value


def _bool(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


class Type:
    """A type of the server, and how its values travel: ``layout`` is struct's letter where all have one size."""

    def __init__(self, oid: int, array: int, encode: Callable[[Any], bytes], layout: str = "") -> None:
        self.oid = oid
        self.array = array
        self.encode = encode
        self._layout = layout

    def encode_array(self, values: Sequence[Any]) -> bytes:
        """The values as one array; None among them is NULL."""
        if not values:
            return _empty_array(0, 0, self.oid)
        nulls = None in values
        head = _array_head(1, nulls, self.oid, len(values), 1)
        if self._layout and not nulls:
            return head + self._packed(values)
        encode = self.encode
        parts = [head]
        for value in values:
            if value is None:
                parts.append(_NULL)
            else:
                encoded = encode(value)
                parts += _int4(len(encoded)), encoded
        return b"".join(parts)

    def _packed(self, values: Sequence[Any]) -> bytes:
        """Each value behind its size, in one go."""
        sized = [calcsize(self._layout)] * (2 * len(values))
        sized[1::2] = values
        return pack("!" + f"i{self._layout}" * len(values), *sized)


INT8 = Type(20, 1016, _int8, "q")
TEXT = Type(25, 1009, _text)
BYTEA = Type(17, 1001, _bytea)
BOOL = Type(16, 1000, _bool, "?")


class Call:
    """A statement with the values that it is to run with."""

    __slots__ = ("statement", "values")

    def __init__(self, statement: "Statement", values: list[bytes | None]) -> None:
        self.statement = statement
        self.values = values


class Statement:
    """SQL whose parameters are written ``@name``; a name in ``arrays`` stands for many values."""

    def __init__(self, sql: str, types: Mapping[str, Type] | None = None, arrays: Sequence[str] = ()) -> None:
        names = list(dict.fromkeys(_PARAMETER.findall(sql)))
        self.sql = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql).encode()
        self.name = b"kvflow_" + sha256(self.sql).hexdigest()[:24].encode()
        of = {name: types[name] for name in names} if types else {}
        self.oids = [of[name].array if name in arrays else of[name].oid for name in names]
        self.formats: list[int] = [_BINARY] * len(names)
        self._encoders = [(name, of[name].encode_array if name in arrays else of[name].encode) for name in names]

    def __call__(self, **values: Any) -> Call:
        return Call(
            self, [None if (value := values[name]) is None else encode(value) for name, encode in self._encoders]
        )


class Silence(OperationalError):
    """No byte has come from the server for as long as the caller would wait."""


class Patience:
    """How long a call may still wait. While bytes flow it does not run out."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = monotonic() + seconds

    def left(self) -> float:
        """The seconds left, 0 where there are none."""
        return max(0.0, self._end - monotonic())

    def renew(self) -> None:
        """The server was heard: the wait begins anew."""
        self._end = monotonic() + self._seconds


def exchange(
    conn: Connection[Any], calls: Sequence[Call], prepared: set[bytes] | None, patience: Patience
) -> list[PGresult]:
    """Run the calls as one transaction in one round trip, and give the result of each.

    ``prepared`` are the names that this connection's server knows, and is added to. With None every statement is
    sent whole, as it must be where a proxy may give each transaction another server.
    """
    try:
        parsed = _queue(conn.pgconn, calls, prepared)
        results = _answers(conn.pgconn, patience)
        conn.pgconn.exit_pipeline_mode()
    except BaseException:
        conn.close()
        raise
    return _sorted_out(results, parsed, prepared)


def _queue(pgconn: PGconn, calls: Sequence[Call], prepared: set[bytes] | None) -> list[bytes | None]:
    """For each result to come, the name that it prepares, or None where it is an answer."""
    parsed: list[bytes | None] = []
    pgconn.enter_pipeline_mode()
    for call in calls:
        statement = call.statement
        name = b"" if prepared is None else statement.name
        if prepared is None or name not in prepared:
            pgconn.send_prepare(name, statement.sql, statement.oids)
            parsed.append(name)
        pgconn.send_query_prepared(name, call.values, statement.formats, _BINARY)
        parsed.append(None)
    pgconn.pipeline_sync()
    return parsed


def _sorted_out(results: list[PGresult], parsed: list[bytes | None], prepared: set[bytes] | None) -> list[PGresult]:
    """The results of what was run; note what was prepared, and raise the first error."""
    answers: list[PGresult] = []
    for result, name in zip(results, parsed, strict=True):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)
        if name is None:
            answers.append(result)
        elif prepared is not None:
            prepared.add(name)
    return answers


def _answers(pgconn: PGconn, patience: Patience) -> list[PGresult]:
    """Send what was queued and gather all results up to the end of the transaction."""
    while pgconn.flush():
        if _wait(pgconn.socket, patience, to_write=True):
            pgconn.consume_input()
        patience.renew()
    results: list[PGresult] = []
    while True:
        while pgconn.is_busy():
            _wait(pgconn.socket, patience)
            pgconn.consume_input()
            patience.renew()
        result = pgconn.get_result()
        if result is None:
            if pgconn.status != pq.ConnStatus.OK:
                raise OperationalError(pgconn.get_error_message())
        elif result.status == pq.ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)


def _wait(socket: int, patience: Patience, to_write: bool = False) -> bool:
    """Wait until the socket has something to read, or takes something where that is wanted; whether it is to read."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(socket, select.POLLIN | select.POLLOUT if to_write else select.POLLIN)
        for _, events in poll.poll(ceil(patience.left() * 1000)):
            return bool(events & ~select.POLLOUT)
    else:
        readable, writable, _ = select.select([socket], [socket] if to_write else [], [], patience.left())
        if readable or writable:
            return bool(readable)
    raise Silence("the server has not answered")
