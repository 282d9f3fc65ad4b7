"""The workflow of the demo: an order is reserved, charged, approved, packed and shipped, or undone."""

from datetime import timedelta

from msgspec import Struct

from kvflow import Context, Retry, workflow
from kvflow.demo import shop

BAD_LINE = Retry(5, delay=timedelta(milliseconds=300), on=ConnectionError)


class Order(Struct, frozen=True):
    """What somebody wants, where it shall go, and how many have to approve it."""

    id: str
    amount: int
    to: str
    approvals: int = 0


@workflow
def order(ctx: Context, order: Order) -> str:
    """Each step is called once and recorded. Whoever goes on after a crash finds the records and calls the rest."""

    def release(reservation: str) -> None:
        shop.release(order.id, ctx.key("undo/reserve"), reservation)

    def refund(receipt: str) -> None:
        shop.refund(order.id, ctx.key("undo/charge"), receipt)

    # The key is the same however often a step is called: it lets the other side tell a repeat from a second wish.
    ctx.step("reserve", shop.reserve, order.id, ctx.key("reserve"), compensate=release)
    ctx.step("charge", shop.charge, order.id, ctx.key("charge"), order.amount, retry=BAD_LINE, compensate=refund)
    ctx.sleep("cool off", timedelta(milliseconds=500))  # or a month: a run that rests holds no thread

    approvals: list[str] = []
    for number in range(order.approvals):
        approval = ctx.wait_for_event(f"approval {number}", "approved", timeout=timedelta(minutes=2), type=str)
        if approval is None:
            raise TimeoutError("nobody approved it in time")  # an error undoes what is done, latest first
        approvals.append(approval)

    ctx.step("pack", shop.pack, order.id, ctx.key("pack"), approvals)
    return ctx.step("ship", shop.ship, order.id, ctx.key("ship"), order.to)


def order_book(count: int) -> list[Order]:
    """So many orders: every third wants one approval or two, and every sixth goes where nobody delivers."""
    return [
        Order(
            id=f"order-{number:02}",
            amount=20 + 7 * number,  # the bank's line is bad for some of these
            to=shop.NOWHERE if number % 6 == 5 else "the Earth",
            approvals=1 + number // 3 % 2 if number % 3 == 1 else 0,
        )
        for number in range(1, count + 1)
    ]
