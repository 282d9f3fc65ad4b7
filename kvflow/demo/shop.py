"""The world outside of the workflow: a warehouse, a bank and a carrier, each call of which is noted in the journal.

It does what it is told as often as it is told, so that the journal shows every repeat. A real one would look at
the key and, for one that it knows, give the answer that it gave before.
"""

import os
import time
from pathlib import Path

from kvflow.demo.journal import Journal, Line

JOURNAL = "KVFLOW_DEMO_JOURNAL"
"""The environment variable that says where the journal is."""

NOWHERE = "the Moon"

UNDOES = {"refund": "charge", "release": "reserve"}
"""Which call takes back what another did."""

LONG_STEP = "pack"
"""The step that takes long enough for its process to be killed in the middle."""

SECONDS = {"reserve": 0.2, "charge": 0.3, "pack": 1.0, "ship": 0.3, "refund": 0.2, "release": 0.2}


def reserve(order: str, key: str) -> str:
    return _answered(_begun("reserve", order, key))


def charge(order: str, key: str, amount: int) -> str:
    call = _begun("charge", order, key)
    if amount % 4 == 1 and _first(call):
        raise _refused(call, ConnectionError("the bank's line is bad"))
    return _answered(call)


def pack(order: str, key: str, approvals: list[str]) -> str:
    return _answered(_begun("pack", order, key, *approvals))


def ship(order: str, key: str, to: str) -> str:
    call = _begun("ship", order, key)
    if to == NOWHERE:
        raise _refused(call, ValueError(f"nobody delivers to {to}"))
    return _answered(call)


def refund(order: str, key: str, receipt: str) -> None:
    _answered(_begun("refund", order, key, receipt))


def release(order: str, key: str, receipt: str) -> None:
    _answered(_begun("release", order, key, receipt))


def _begun(step: str, order: str, key: str, *shown: str) -> Line:
    call = _journal().begin(order, step, key, shown)
    time.sleep(SECONDS[step])
    return call


def _answered(call: Line) -> str:
    """A receipt, which no other call gets."""
    receipt = f"{call.step} {call.call}"
    _journal().end(call, "ended", receipt)
    return receipt


def _refused(call: Line, error: Exception) -> Exception:
    _journal().end(call, "failed", str(error))
    return error


def _first(call: Line) -> bool:
    journal = _journal()
    journal.read()
    return next(known.begun for known in journal.calls.values() if known.begun.key == call.key) == call


def _journal() -> Journal:
    return Journal(Path(os.environ[JOURNAL]))
