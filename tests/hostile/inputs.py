"""Hostile input: garbage, what decodes to nonsense, and valid bytes with a few of them wrong."""

import pickle
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis.strategies import DrawFn, SearchStrategy

from kvflow.records import (
    AnyRecord,
    Born,
    CancelAsked,
    ChildOver,
    Ended,
    Got,
    Head,
    Joined,
    Open,
    Posted,
    Retried,
    RunError,
    Slept,
    Spawned,
    StepDone,
    StepLost,
    TimedOut,
    Tries,
    UndoFailure,
    Undoing,
    Undone,
    encode_head,
    encode_record,
)

EVIL = (
    "'; DROP TABLE kvflow_run; --",
    "\\'; SELECT SLEEP(9); -- ",
    "\xbf\x27 OR 1=1 -- ",
    '"',
    "\\",
    "`",
    "%s%n%(a)s",
    "_%",
    "$1",
    "@run_id",
    ":run_id",
    "?",
    "*",
    "[a-z]*",
    "{tag}",
    "}{",
    "{0.__class__}",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    ".run",
    "\u202eevil",
    "\u2028line",
    "[red]markup[/red]",
    "é\U0001f600",
    "e\u0301",
    "A",
    "a ",
    " a",
    "--help",
    "-",
    "x" * 200,
    "\U0001f600" * 200,
    "__import__('os').system('false')",
    "\ufeffa",
    "\xa0",
)
"""Text that means something to somebody; every one of it is a name that kvflow takes."""

REFUSED = ("", "\0", "a\0b", "a\nb", "\r", "\t", "\x1b[2J\x1b]0;owned\x07", "\x9b31m", "x" * 201, "\ud800", "\x7f")
"""Text that is no name."""

NAMES = st.sampled_from(["a", "b", "c", "m", "order", "good"]) | st.sampled_from(EVIL + REFUSED[:-3])
NUMBERS = st.sampled_from([0, 1, 2, 1000, 2**53, 2**63 - 1, 2**64 - 1, -1, -(2**63), 2**31, 2**62])


class Bomb:
    """What a pickle could do: it runs code, though harmless code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('os').getpid()",)


SPECIAL = (
    b"",
    pickle.dumps(Bomb()),
    pickle.dumps(Bomb(), protocol=0),
    b"\x91" * 50_000 + b"\x01",
    b"\x81\xa1a" * 20_000 + b"\x01",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x05",
    b"\xdd\x08\x00\x00\x00" * 200,
    b"\xdc\xff\xff" * 900,
    b"\xa1\xff",
    b"\x81\xa1\xff\x01",
    b"\x81\x80\x01",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xd7\xff" + b"\xff" * 8,
    b"\xc1",
    b"\xff" * 100,
    b"\x94\xa4join\x01\xa1x\xdd\xff\xff\xff\xff",
    b"\x94\xa4join\x01\xa1x\xdd\x0f\x00\x00\x00",
    b"\x1f\x8b\x08\x00" + b"\0" * 50,
    b"null",
    b"{}",
)
"""Bytes that are bad for some decoder or other: length headers, nesting, bad text and times, pickles."""

VALUES: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | st.floats()
    | NAMES.filter(lambda name: name.isprintable())
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES.filter(str.isprintable), inner, max_size=3),
    max_leaves=6,
)
PACKED = VALUES.map(msgspec.msgpack.encode)
RAW = (PACKED | st.sampled_from(SPECIAL[5:])).map(msgspec.Raw)
"""A value's bytes within a record; those that are none break the whole record, as any garbage would."""

_ERRORS = st.builds(
    RunError,
    type=NAMES,
    message=NAMES,
    traceback=NAMES,
    undo=st.lists(st.builds(UndoFailure, NAMES, NAMES, NAMES), max_size=2).map(tuple),
)
_OF: dict[Any, SearchStrategy[Any]] = {
    int: NUMBERS,
    str: NAMES,
    bool: st.booleans(),
    str | None: st.none() | NAMES,
    int | None: st.none() | NUMBERS,
    msgspec.Raw: RAW,
    RunError: _ERRORS,
    RunError | None: st.none() | _ERRORS,
    tuple[str, ...]: st.lists(NAMES, max_size=3).map(tuple),
}
KINDS: tuple[type, ...] = (
    *(Born, StepDone, StepLost, Slept, Got, TimedOut, Spawned, Joined, Posted, CancelAsked),
    *(ChildOver, Undoing, Undone, Retried, Ended),
)


def _built(kind: type) -> SearchStrategy[Any]:
    return st.builds(kind, **{field.name: _OF[field.type] for field in msgspec.structs.fields(kind)})


RECORDS: SearchStrategy[AnyRecord] = st.sampled_from(KINDS).flatmap(_built)
"""Records that decode, and that no run of sense would have together."""

_OF[dict[str, Open]] = st.dictionaries(NAMES, _built(Open), max_size=2)
_OF[dict[str, Tries]] = st.dictionaries(NAMES, _built(Tries), max_size=2)
HEADS: SearchStrategy[Head] = _built(Head)


@st.composite
def mutated(draw: DrawFn, valid: SearchStrategy[bytes]) -> bytes:
    """Bytes that were valid, with some changed, left out, doubled, or put in between."""
    data = bytearray(draw(valid))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 8))
        what = draw(st.sampled_from(["flip", "cut", "end", "insert", "double", "zero"]))
        if what == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif what == "cut":
            del data[at : at + length]
        elif what == "end":
            del data[at:]
        elif what == "insert":
            data[at:at] = draw(st.binary(max_size=8) | st.sampled_from(SPECIAL[5:20]))
        elif what == "double":
            data[at:at] = data[at : at + length]
        else:
            data[at : at + length] = bytes(len(data[at : at + length]))
    return bytes(data)


GARBAGE = st.binary(max_size=120) | st.sampled_from(SPECIAL) | PACKED


def hostile(valid: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Anything: valid bytes, those with a few wrong, and garbage."""
    return st.one_of(valid, mutated(valid), GARBAGE)


SNAPSHOTS = hostile(HEADS.map(encode_head))
LOGS = st.lists(hostile(RECORDS.map(encode_record)), max_size=4).map(tuple)
GOOD_LOGS = st.lists(RECORDS.map(encode_record), max_size=6).map(tuple)
"""Logs of which every record decodes: what they say contradicts itself all the same."""
