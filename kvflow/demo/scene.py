"""What there is to see of the demo at one moment."""

from msgspec import Struct

from kvflow.run import Status


class Note(Struct, frozen=True):
    """Something that happened, so many seconds after the beginning."""

    at: float
    kind: str
    text: str


class Place(Struct, frozen=True):
    """A worker, the calls that it has under way, and who took over its runs if it was killed."""

    name: str
    pid: int
    killed: bool
    calls: tuple[tuple[str, str], ...]
    taken: tuple[tuple[str, str | None], ...] = ()


class Scene(Struct, frozen=True):
    """All of it."""

    seconds: float
    store: str
    orders: int
    statuses: dict[Status, int]
    workers: tuple[Place, ...]
    notes: tuple[Note, ...]

    @property
    def over(self) -> int:
        return sum(count for status, count in self.statuses.items() if status.over)


def short(order: str) -> str:
    """An order's number, where there is no room for its name."""
    return order.removeprefix("order-")
