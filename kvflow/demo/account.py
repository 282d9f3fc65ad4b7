"""The account: what the journal shows of all orders, each held against what the store says of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from kvflow.demo.book import Book, Twice
from kvflow.demo.journal import Journal
from kvflow.demo.orders import Order
from kvflow.info import RunInfo


class Account(Struct, frozen=True, kw_only=True):
    """What it comes to. With a fault, or an event lost, kvflow has not kept its promise."""

    orders: int
    finished: int
    shipped: int
    undone: int
    steps_run: int
    tried_again: int
    run_twice: tuple[Twice, ...]
    killed: tuple[str, ...]
    events_sent: int
    events_lost: int
    faults: tuple[str, ...]

    @property
    def all_finished(self) -> bool:
        return self.finished == self.orders

    @property
    def sound(self) -> bool:
        return not self.faults and self.events_lost == 0 and self.all_finished


def account(
    orders: Sequence[Order],
    journal: Journal,
    runs: Mapping[str, RunInfo | None],
    workers: Mapping[int, str],
    killed: Collection[int],
    faults: Iterable[str] = (),
) -> Account:
    """Work it out."""
    books = [Book(order, journal, runs.get(order.id), workers, killed) for order in orders]
    known = {order.id for order in orders}
    strangers = sorted({call.begun.order for call in journal.calls.values()} - known)
    return Account(
        orders=len(orders),
        finished=sum(book.finished for book in books),
        shipped=sum(book.shipped for book in books),
        undone=sum(book.finished and not book.shipped for book in books),
        steps_run=len(journal.calls),
        tried_again=sum(book.tried_again for book in books),
        run_twice=tuple(twice for book in books for twice in book.run_twice),
        killed=tuple(workers.get(pid, f"pid {pid}") for pid in killed),
        events_sent=len(journal.approvals),
        events_lost=sum(book.events_lost for book in books),
        faults=(
            *faults,
            *(f"{order} was called for, and nobody had ordered it" for order in strangers),
            *(fault for book in books for fault in book.faults()),
        ),
    )
