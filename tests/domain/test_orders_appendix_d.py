"""The order state change matrices of FIX 4.4, Volume 7 Appendix D, row by row.

Named by the letters of FIX 4.4; in brackets the numbers that the same matrices have in FIX 4.2.
Each row is what is recorded, then OrdStatus, CumQty, LeavesQty and AvgPx after it, `-` where there
is none. Where a report told its totals they must be ours. A row for a request shows the ledger's
own view: pending from when it was asked, until the venue tells another status.
"""

from decimal import Decimal
from typing import Any

import pytest

from domain.entities import Order
from domain.events import (
    OrderAccepted,
    OrderCalculated,
    OrderCanceled,
    OrderCancelRefused,
    OrderCancelRequested,
    OrderDoneForDay,
    OrderExpired,
    OrderPending,
    OrderRejected,
    OrderReplaced,
    OrderReplaceRefused,
    OrderRestated,
    OrderStopped,
    OrderSuspended,
)
from domain.orders import average_price, leaves_quantity
from tests.domain.order_stories import (
    DAY_2,
    Bust,
    Correct,
    Next,
    ask_replace,
    fill,
    part,
    pending,
    placed,
    refused,
    replaced,
    report,
    step,
    told,
    traded,
)

PENDING_NEW = report(OrderPending, what="new", told=told("pending_new", 0, 10000))
NEW = report(OrderAccepted, cl_ord_id="X", told=told("new", 0, 10000))
CANCEL = report(OrderCancelRequested, cl_ord_id="Y", orig_cl_ord_id="X")
NEW_ROWS = [
    (placed(), "pending_new 0 10000 -"),
    (PENDING_NEW, "pending_new 0 10000 -"),
    (NEW, "new 0 10000 -"),
]
GTC_ROWS = [
    (placed(time_in_force="gtc"), "pending_new 0 10000 -"),
    (NEW, "new 0 10000 -"),
    (fill(2000, 50, told=told("partially_filled", 2000, 8000)), "partially_filled 2000 8000 50"),
    (report(OrderDoneForDay, told=told("done_for_day", 2000, 8000)), "done_for_day 2000 8000 50"),
]
RENEWED = report(
    OrderRestated,
    at=DAY_2,
    reason="gt_renewal",
    told=told("partially_filled", 2000, 8000),
)


STORIES: dict[str, list[tuple[Any, str]]] = {
    "A.1.a filled order (D1)": [
        *NEW_ROWS,
        part(2000, 2000),
        part(1000, 3000),
        (traded(7000, "filled", 10000, 0), "filled 10000 0 50"),
    ],
    "A.1.a new order rejected": [
        (placed(), "pending_new 0 10000 -"),
        (report(OrderRejected, told=told("rejected", 0, 0)), "rejected 0 0 -"),
    ],
    "A.1.b part-filled day order, done for day (D2)": [
        *NEW_ROWS,
        part(2000, 2000),
        part(1000, 3000),
        (report(OrderDoneForDay, told=told("done_for_day", 3000, 0)), "done_for_day 3000 0 50"),
    ],
    "B.1.a cancel of a zero-filled order (D3)": [
        *NEW_ROWS,
        (CANCEL, "pending_cancel 0 10000 -"),
        (pending("cancel", "Y", 0, 10000), "pending_cancel 0 10000 -"),
        (
            report(OrderCanceled, cl_ord_id="Y", orig_cl_ord_id="X", told=told("canceled", 0, 0)),
            "canceled 0 0 -",
        ),
    ],
    "B.1.a cancel of a zero-filled order is refused, before and after it is pending": [
        *NEW_ROWS,
        (CANCEL, "pending_cancel 0 10000 -"),
        (refused(OrderCancelRefused, "Y", "new", "broker_option"), "new 0 10000 -"),
        (report(OrderCancelRequested, cl_ord_id="Z"), "pending_cancel 0 10000 -"),
        (pending("cancel", "Z", 0, 10000), "pending_cancel 0 10000 -"),
        (refused(OrderCancelRefused, "Z", "new"), "new 0 10000 -"),
    ],
    "B.1.b cancel of a part-filled order, executions whilst it is active (D4)": [
        *NEW_ROWS,
        part(2000, 2000),
        (CANCEL, "pending_cancel 2000 8000 50"),
        part(3000, 5000),
        (pending("cancel", "Y", 5000, 5000), "pending_cancel 5000 5000 50"),
        (traded(1000, "pending_cancel", 6000, 4000), "pending_cancel 6000 4000 50"),
        (
            report(OrderCanceled, cl_ord_id="Y", told=told("canceled", 6000, 0)),
            "canceled 6000 0 50",
        ),
    ],
    "B.1.c order is filled before the cancel can be accepted (D5)": [
        *NEW_ROWS,
        part(2000, 2000),
        (CANCEL, "pending_cancel 2000 8000 50"),
        part(3000, 5000),
        (pending("cancel", "Y", 5000, 5000), "pending_cancel 5000 5000 50"),
        (traded(5000, "pending_cancel", 10000, 0), "pending_cancel 10000 0 50"),
        (refused(OrderCancelRefused, "Y", "filled"), "filled 10000 0 50"),
    ],
    "C.1.a replace to increase a zero-filled order (D6)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 11000), "pending_replace 0 10000 -"),
        (pending("replace", "Y", 0, 10000), "pending_replace 0 10000 -"),
        (replaced("Y", "X", 11000, "new", 0, 11000), "new 0 11000 -"),
        (traded(1000, "partially_filled", 1000, 10000), "partially_filled 1000 10000 50"),
    ],
    "C.1.b replace to increase a part-filled order, execution whilst pending (D7)": [
        *NEW_ROWS,
        part(1000, 1000),
        (ask_replace("Y", "X", 12000), "pending_replace 1000 9000 50"),
        (pending("replace", "Y", 1000, 9000), "pending_replace 1000 9000 50"),
        (traded(100, "pending_replace", 1100, 8900), "pending_replace 1100 8900 50"),
        (
            replaced("Y", "X", 12000, "partially_filled", 1100, 10900),
            "partially_filled 1100 10900 50",
        ),
        (traded(10900, "filled", 12000, 0), "filled 12000 0 50"),
    ],
    "C.1.c replace to increase a filled order (D8)": [
        *NEW_ROWS,
        (traded(10000, "filled", 10000, 0), "filled 10000 0 50"),
        (ask_replace("Y", "X", 12000), "pending_replace 10000 0 50"),
        (pending("replace", "Y", 10000, 0), "pending_replace 10000 0 50"),
        (
            replaced("Y", "X", 12000, "partially_filled", 10000, 2000),
            "partially_filled 10000 2000 50",
        ),
        (traded(2000, "filled", 12000, 0), "filled 12000 0 50"),
    ],
    "C.2.a replace not for quantity is refused as a fill has occurred (D9)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", limit_price=Decimal(55)), "pending_replace 0 10000 -"),
        (traded(10000, "filled", 10000, 0), "filled 10000 0 50"),
        (refused(OrderReplaceRefused, "Y", "filled"), "filled 10000 0 50"),
    ],
    "C.3.a replace to decrease, requested quantity exceeds what is filled (D10)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 8000), "pending_replace 0 10000 -"),
        part(1000, 1000),
        (pending("replace", "Y", 1000, 9000), "pending_replace 1000 9000 50"),
        (replaced("Y", "X", 8000, "partially_filled", 1000, 7000), "partially_filled 1000 7000 50"),
        (traded(7000, "filled", 8000, 0), "filled 8000 0 50"),
    ],
    "C.3.b replace to decrease, requested quantity equals what is filled (D11)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 7000), "pending_replace 0 10000 -"),
        part(7000, 7000),
        (pending("replace", "Y", 7000, 3000), "pending_replace 7000 3000 50"),
        (replaced("Y", "X", 7000, "filled", 7000, 0), "filled 7000 0 50"),
    ],
    "C.3.c replace to decrease, requested quantity is below what is filled (D12)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 7000), "pending_replace 0 10000 -"),
        part(8000, 8000),
        (pending("replace", "Y", 8000, 2000), "pending_replace 8000 2000 50"),
        (report(OrderReplaced, cl_ord_id="Y", told=told("filled", 8000, 0)), "filled 8000 0 50"),
    ],
    "D.1.a one replace is accepted, then another (D13)": [
        *NEW_ROWS,
        part(1000, 1000),
        (ask_replace("Y", "X", 12000), "pending_replace 1000 9000 50"),
        (pending("replace", "Y", 1000, 9000), "pending_replace 1000 9000 50"),
        (
            replaced("Y", "X", 12000, "partially_filled", 1000, 11000),
            "partially_filled 1000 11000 50",
        ),
        (ask_replace("Z", "Y", 13000), "pending_replace 1000 11000 50"),
        (pending("replace", "Z", 1000, 11000, "Y"), "pending_replace 1000 11000 50"),
        (
            replaced("Z", "Y", 13000, "partially_filled", 1000, 12000),
            "partially_filled 1000 12000 50",
        ),
    ],
    "D.1.b a replace is refused before it is pending, another is accepted (D14)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 8000), "pending_replace 0 10000 -"),
        (refused(OrderReplaceRefused, "Y", "new"), "new 0 10000 -"),
        (ask_replace("Z", "X", 9000), "pending_replace 0 10000 -"),
        (pending("replace", "Z", 0, 10000), "pending_replace 0 10000 -"),
        (replaced("Z", "X", 9000, "new", 0, 9000), "new 0 9000 -"),
    ],
    "D.1.c a replace is refused after it is pending, another is accepted (D15)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 8000), "pending_replace 0 10000 -"),
        (pending("replace", "Y", 0, 10000), "pending_replace 0 10000 -"),
        (refused(OrderReplaceRefused, "Y", "new"), "new 0 10000 -"),
        (ask_replace("Z", "X", 9000), "pending_replace 0 10000 -"),
        (replaced("Z", "X", 9000, "new", 0, 9000), "new 0 9000 -"),
    ],
    "D.2.a two replaces at once, processed one after the other (D16)": [
        *NEW_ROWS,
        part(1000, 1000),
        (ask_replace("Y", "X", 8000), "pending_replace 1000 9000 50"),
        (ask_replace("Z", "Y", 7000), "pending_replace 1000 9000 50"),
        (pending("replace", "Y", 1000, 9000), "pending_replace 1000 9000 50"),
        (replaced("Y", "X", 8000, "partially_filled", 1000, 7000), "partially_filled 1000 7000 50"),
        (pending("replace", "Z", 1000, 7000, "Y"), "pending_replace 1000 7000 50"),
        (replaced("Z", "Y", 7000, "partially_filled", 1000, 6000), "partially_filled 1000 6000 50"),
    ],
    "D.2.b two replaces at once, both pending before either is replaced": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 8000), "pending_replace 0 10000 -"),
        (ask_replace("Z", "Y", 7000), "pending_replace 0 10000 -"),
        (pending("replace", "Y", 0, 10000), "pending_replace 0 10000 -"),
        (pending("replace", "Z", 0, 10000, "Y"), "pending_replace 0 10000 -"),
        (replaced("Y", "X", 8000, "pending_replace", 0, 8000), "pending_replace 0 8000 -"),
        (replaced("Z", "Y", 7000, "new", 0, 7000), "new 0 7000 -"),
    ],
    "D.2.c two replaces at once, the second is refused as the order is pending replace (D17)": [
        *NEW_ROWS,
        (ask_replace("Y", "X", 8000), "pending_replace 0 10000 -"),
        (ask_replace("Z", "Y", 7000), "pending_replace 0 10000 -"),
        (pending("replace", "Y", 0, 10000), "pending_replace 0 10000 -"),
        (
            refused(OrderReplaceRefused, "Z", "pending_replace", "already_pending"),
            "pending_replace 0 10000 -",
        ),
        (replaced("Y", "X", 8000, "new", 0, 8000), "new 0 8000 -"),
    ],
    "E.1.a telephoned order (D18)": [
        (placed(pending=False), "new 0 10000 -"),
        part(2000, 2000),
        (traded(8000, "filled", 10000, 0), "filled 10000 0 50"),
    ],
    "E.1.b unsolicited cancel of a part-filled order (D19)": [
        *NEW_ROWS,
        part(2000, 2000),
        (
            report(OrderCanceled, cl_ord_id="X", told=told("canceled", 2000, 0)),
            "canceled 2000 0 50",
        ),
    ],
    "E.1.c unsolicited replacement of a part-filled order (D20)": [
        *NEW_ROWS,
        part(1000, 1000),
        (
            report(
                OrderRestated,
                quantity=Decimal(9000),
                reason="verbal_change",
                told=told("partially_filled", 1000, 8000),
            ),
            "partially_filled 1000 8000 50",
        ),
        (traded(8000, "filled", 9000, 0), "filled 9000 0 50"),
    ],
    "E.1.d unsolicited reduction of quantity by the sell-side (D21)": [
        *NEW_ROWS,
        (
            report(
                OrderRestated,
                quantity=Decimal(9000),
                reason="partial_decline",
                told=told("new", 0, 9000),
            ),
            "new 0 9000 -",
        ),
        (traded(9000, "filled", 9000, 0), "filled 9000 0 50"),
    ],
    "F.1.b order rejected as it was already submitted verbally (D23)": [
        (placed(), "pending_new 0 10000 -"),
        (
            report(OrderRejected, reason="duplicate_of_verbal", told=told("rejected", 0, 0)),
            "rejected 0 0 -",
        ),
    ],
    "H.1.a GTC order part-filled, renewed, part-filled the next day (D27)": [
        *GTC_ROWS,
        (RENEWED, "partially_filled 2000 8000 50"),
        (Next(traded(3000, "partially_filled", 5000, 5000, 60)), "partially_filled 5000 5000 56"),
    ],
    "H.1.a GTC order that is not renewed, part-filled the next day": [
        *GTC_ROWS,
        (Next(traded(1000, "partially_filled", 3000, 7000)), "partially_filled 3000 7000 50"),
    ],
    "H.1.b GTC order, part-filled, a 2:1 split, then filled (D28)": [
        *GTC_ROWS,
        (
            report(
                OrderRestated,
                at=DAY_2,
                reason="gt_corporate_action",
                quantity=Decimal(20000),
                told=told("partially_filled", 4000, 16000),
            ),
            "partially_filled 4000 16000 25",
        ),
        (Next(traded(5000, "partially_filled", 9000, 11000, 25)), "partially_filled 9000 11000 25"),
        (Next(traded(11000, "filled", 20000, 0, 25)), "filled 20000 0 25"),
    ],
    "H.1.c GTC order part-filled, renewed and canceled the next day (D29)": [
        *GTC_ROWS,
        (RENEWED, "partially_filled 2000 8000 50"),
        (CANCEL, "pending_cancel 2000 8000 50"),
        (pending("cancel", "Y", 2000, 8000), "pending_cancel 2000 8000 50"),
        (
            report(OrderCanceled, cl_ord_id="Y", told=told("canceled", 2000, 0)),
            "canceled 2000 0 50",
        ),
    ],
    "H.1.d GTC order part-filled, renewed, then replaced to increase (D30)": [
        *GTC_ROWS,
        (RENEWED, "partially_filled 2000 8000 50"),
        (ask_replace("Y", "X", 15000), "pending_replace 2000 8000 50"),
        (pending("replace", "Y", 2000, 8000), "pending_replace 2000 8000 50"),
        (
            replaced("Y", "X", 15000, "partially_filled", 2000, 13000),
            "partially_filled 2000 13000 50",
        ),
    ],
    "I.1.a fill-or-kill order that cannot be filled (D32)": [
        (placed(time_in_force="fok"), "pending_new 0 10000 -"),
        (NEW, "new 0 10000 -"),
        (report(OrderCanceled, told=told("canceled", 0, 0)), "canceled 0 0 -"),
    ],
    "I.1.b immediate-or-cancel order that is hit in part (D33)": [
        (placed(time_in_force="ioc"), "pending_new 0 10000 -"),
        (NEW, "new 0 10000 -"),
        part(1000, 1000),
        (report(OrderCanceled, told=told("canceled", 1000, 0)), "canceled 1000 0 50"),
    ],
    "J.1.a filled order, then corrections and cancels of its executions (D34)": [
        *NEW_ROWS,
        (traded(1000, "partially_filled", 1000, 9000), "partially_filled 1000 9000 50"),
        (traded(9000, "filled", 10000, 0), "filled 10000 0 50"),
        (Bust(fill(9000), told("partially_filled", 1000, 9000)), "partially_filled 1000 9000 50"),
        (Correct(fill(1000), fill(1000, 51, correction=True)), "partially_filled 1000 9000 51"),
        (Bust(fill(1000, 51), told("new", 0, 10000)), "new 0 10000 -"),
    ],
    "J.1.b canceled order, then a busted execution and a new one (D35)": [
        *NEW_ROWS,
        part(5000, 5000),
        (report(OrderCanceled, told=told("canceled", 5000, 0)), "canceled 5000 0 50"),
        (Bust(fill(5000), told("canceled", 0, 0)), "canceled 0 0 -"),
        (traded(4000, "canceled", 4000, 0), "canceled 4000 0 50"),
    ],
    "J.1.c GTC order, renewed, part-filled, both quantities corrected (D36)": [
        *GTC_ROWS,
        (RENEWED, "partially_filled 2000 8000 50"),
        (Next(traded(5000, "partially_filled", 7000, 3000)), "partially_filled 7000 3000 50"),
        (Correct(fill(5000), fill(4000, correction=True)), "partially_filled 6000 4000 50"),
        (Correct(fill(2000), fill(1000, correction=True)), "partially_filled 5000 5000 50"),
    ],
    "K.1.a trading halt, the order is reinstated": [
        *NEW_ROWS,
        (report(OrderSuspended, told=told("suspended", 0, 10000)), "suspended 0 10000 -"),
        (report(OrderRestated, reason="trading_halt", told=told("new", 0, 10000)), "new 0 10000 -"),
    ],
    "K.1.b trading halt, the order is canceled": [
        *NEW_ROWS,
        part(1000, 1000),
        (
            report(OrderCanceled, reason="trading_halt", told=told("canceled", 1000, 0)),
            "canceled 1000 0 50",
        ),
    ],
    "L.1.a guarantee of execution before the execution (D37)": [
        *NEW_ROWS,
        (report(OrderStopped, told=told("stopped", 0, 10000)), "stopped 0 10000 -"),
        part(1000, 1000),
        (traded(9000, "filled", 10000, 0), "filled 10000 0 50"),
    ],
    "Volume 4: an order expires, and a filled one is calculated": [
        *NEW_ROWS,
        (traded(10000, "filled", 10000, 0), "filled 10000 0 50"),
        (report(OrderCalculated, told=told("calculated", 10000, 0)), "calculated 10000 0 50"),
    ],
    "Volume 4: a good-till order expires after it was done for the day": [
        *GTC_ROWS,
        (report(OrderExpired, told=told("expired", 2000, 0)), "expired 2000 0 50"),
    ],
}


def shown(order: Order) -> tuple[Any, ...]:
    return order.status, order.cum_quantity, leaves_quantity(order), average_price(order)


def parsed(row: str) -> tuple[Any, ...]:
    status, *amounts = row.split()
    return status, *(None if amount == "-" else Decimal(amount) for amount in amounts)


@pytest.mark.parametrize("name", STORIES)
def test_each_row_of_the_matrix_has_its_status_and_quantities(name: str) -> None:
    order: Order | None = None
    for number, (what, expected) in enumerate(STORIES[name], 1):
        order = step(order, what)
        assert shown(order) == parsed(expected), f"row {number}"
        differing = [flag for flag in order.flags if flag.startswith("told_")]
        assert differing == [], f"row {number}"


def test_f_1_a_a_rejected_repetition_leaves_the_order_as_it_is() -> None:
    """F.1.a (D22): the same ClOrdID is sent twice, and the venue rejects the second order."""
    order = None
    for what in (placed(), NEW, traded(1000, "partially_filled", 1000, 9000)):
        order = step(order, what)
    rejected = report(OrderRejected, reason="duplicate_order", told=told("rejected", 0, 0))
    order = step(order, rejected)
    assert shown(order) == ("partially_filled", 1000, 9000, 50)
    assert "duplicate_order" in order.flags
    order = step(order, traded(9000, "filled", 10000, 0))
    assert order.status == "filled"


def test_the_cl_ord_id_of_an_order_is_the_last_that_a_venue_accepted() -> None:
    order = None
    for what, *_ in STORIES["D.2.b two replaces at once, both pending before either is replaced"]:
        order = step(order, what)
    assert order is not None
    assert order.cl_ord_id == "Z"
    assert order.ids == {"ClOrdID": "X", "ClOrdID.2": "Y", "ClOrdID.3": "Z"}
    order = step(order, report(OrderCancelRequested, cl_ord_id="C", orig_cl_ord_id="Z"))
    order = step(order, report(OrderCanceled, cl_ord_id="C", orig_cl_ord_id="Z"))
    assert order.cl_ord_id == "Z"
    assert order.ids["ClOrdID.4"] == "C"
