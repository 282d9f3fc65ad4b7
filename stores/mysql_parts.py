"""Much, in parts that the server can take.

A statement may be no longer than a packet, and name no more than some hundred rows; what is written or read in one
go should be bounded too, for both sides hold it in memory.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

ROWS = 500
"""The most rows that one statement names: beyond a thousand values, some optimizers give up an index."""

BATCH = 4 * 2**20
"""The bytes of records that are read, or of heads and records that are written, at once."""


def in_parts(items: Iterable[T], weigh: Callable[[T], int], room: int) -> Iterator[list[T]]:
    """As few lists as hold all items, each of ``ROWS`` items and of this weight at most.

    An item that is alone heavier makes a list that is too, for its sender to refuse.
    """
    part: list[T] = []
    weight = 0
    for item in items:
        more = weigh(item)
        if part and (weight + more > room or len(part) == ROWS):
            yield part
            part, weight = [], 0
        part.append(item)
        weight += more
    if part:
        yield part
