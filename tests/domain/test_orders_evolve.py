"""What deals and reports make of an order: its row, its flags, and what always holds."""

from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from domain import commands, events
from domain.commands import CancelOrder, ReplaceOrder
from domain.entities import Order, OrderStatus
from domain.events import (
    OrderAccepted,
    OrderAcceptedForBidding,
    OrderCanceled,
    OrderCancelRequested,
    OrderPending,
    OrderTold,
)
from domain.order_reports import evolve_order
from domain.order_states import PRECEDENCE
from domain.orders import (
    average_price,
    fill_flags,
    fill_order,
    leaves_quantity,
    order_row,
    order_status,
    order_told_flags,
    unfill_order,
)
from domain.times import Instant
from tests.domain.order_stories import DAY_1, DAY_2, ORDER_ID, fill, placed, report, stamped, step


def test_an_over_fill_is_flagged_until_it_is_busted() -> None:
    order = step(None, placed(100))
    order = step(order, fill(80))
    assert fill_flags(order, ORDER_ID, fill(30)) == ("over_fill",)
    order = step(order, fill(30))
    assert order.flags == ("over_fill",)
    assert order.status == "filled"
    assert leaves_quantity(order) == 0
    assert unfill_order(order, Decimal(30), Decimal(50)).flags == ()


@pytest.mark.parametrize("how", ["Canceled", "Expired", "Rejected"])
def test_a_fill_on_an_order_that_is_over_counts_and_is_flagged(how: str) -> None:
    order = step(step(None, placed(100)), report(getattr(events, f"Order{how}")))
    flag = f"fill_on_{how.lower()}_order"
    assert fill_flags(order, ORDER_ID, fill(40)) == (flag,)
    order = step(order, fill(40))
    assert order.cum_quantity == 40
    assert leaves_quantity(order) == 0
    assert flag in order.flags


def test_a_fill_of_an_unknown_order_makes_an_order_of_unknown_quantity() -> None:
    order = fill_order(None, "O9", fill(40))
    row = order_row("A1", order)
    assert (row.instrument, row.side, row.quantity, row.leaves_quantity) == (
        "XYZ",
        "buy",
        None,
        None,
    )
    assert (row.status, row.cum_quantity, row.average_price) == ("partially_filled", 40, 50)
    assert row.flags == ("unknown_order",)


def test_a_fill_of_another_instrument_or_side_is_flagged() -> None:
    order = step(None, placed(100))
    assert fill_flags(order, ORDER_ID, fill(10, side="sell")) == ("fill_differs",)
    assert fill_flags(order, ORDER_ID, fill(10, instrument="ABC")) == ("fill_differs",)


def test_totals_told_that_are_not_ours_are_flagged_one_by_one() -> None:
    order = step(step(None, placed(100)), fill(40))
    agreeing = OrderTold(
        status="partially_filled",
        cum_quantity=Decimal(40),
        leaves_quantity=Decimal(60),
        average_price=Decimal("50.00"),
    )
    assert order_told_flags(order, agreeing) == ()
    for name, value in [
        ("status", "filled"),
        ("cum_quantity", Decimal(41)),
        ("leaves_quantity", Decimal(0)),
        ("average_price", Decimal("50.01")),
    ]:
        told = replace(agreeing, **{name: value})
        assert order_told_flags(order, told) == (f"told_{name}_differs",)
    flagged = step(order, fill(1, told=replace(agreeing, cum_quantity=Decimal(45))))
    assert "told_cum_quantity_differs" in flagged.flags


def test_an_average_told_may_be_rounded() -> None:
    order = step(step(step(None, placed(100)), fill(1, 10)), fill(2, 11))
    assert average_price(order) == Decimal("10.6666666667")
    for text in ("10.67", "10.66", "10.6666", "10.6666666667"):
        assert order_told_flags(order, OrderTold(average_price=Decimal(text))) == ()
    assert order_told_flags(order, OrderTold(average_price=Decimal("10.68"))) != ()


def test_a_fill_without_a_price_leaves_no_average() -> None:
    order = step(step(None, placed(100)), fill(10, None))
    assert average_price(order) is None
    assert average_price(unfill_order(order, Decimal(10), None)) is None
    assert average_price(step(unfill_order(order, Decimal(10), None), fill(5, 7))) == 7


def test_a_partial_cancel_shrinks_what_an_order_leaves_and_it_lives_on() -> None:
    order = step(step(None, placed(100, pending=False)), fill(10))
    order = step(order, report(OrderCanceled, quantity=Decimal(30)))
    assert (order.status, order.quantity, leaves_quantity(order)) == ("partially_filled", 100, 60)
    order = step(order, fill(60))
    assert (order.status, leaves_quantity(order), order.flags) == ("filled", 0, ())


def test_a_partial_cancel_of_all_that_is_left_ends_the_order() -> None:
    order = step(step(None, placed(100, pending=False)), fill(10))
    order = step(order, report(OrderCanceled, quantity=Decimal(90)))
    assert (order.status, leaves_quantity(order), order.flags) == ("canceled", 0, ())


def test_a_partial_cancel_of_more_than_is_left_is_flagged() -> None:
    order = step(None, placed(100, pending=False))
    order = step(order, report(OrderCanceled, quantity=Decimal(101)))
    assert (order.status, order.flags) == ("canceled", ("over_cancel",))


def test_a_fill_without_told_totals_leaves_a_cancel_pending() -> None:
    order = step(step(None, placed(100)), report(OrderCancelRequested, cl_ord_id="Y"))
    order = step(order, fill(10))
    assert (order.status, order.cum_quantity) == ("pending_cancel", 10)


def test_a_report_that_comes_late_changes_nothing_and_is_flagged() -> None:
    order = step(step(None, placed(100)), report(OrderCanceled))
    for late in (
        report(OrderAccepted),
        report(OrderPending, what="cancel"),
        report(OrderCancelRequested),
    ):
        after = step(order, late)
        assert after.status == "canceled"
        assert after.flags == ("late_report",)


def test_an_order_accepted_for_bidding_is_new_once_it_is_accepted() -> None:
    order = step(step(None, placed(100)), report(OrderAcceptedForBidding))
    assert order.status == "accepted_for_bidding"
    assert step(order, report(OrderAccepted)).status == "new"


STATUSES = get_args(OrderStatus)
QUANTITIES = st.decimals("0.000000000000000001", "1000000", places=18)
PRICES = st.decimals("-1000", "100000", places=8)
TOLD = st.none() | st.builds(
    OrderTold,
    status=st.none() | st.sampled_from(STATUSES),
    cum_quantity=st.none() | QUANTITIES,
    leaves_quantity=st.none() | QUANTITIES,
    average_price=st.none() | PRICES,
)
CL_ORD_IDS = st.none() | st.sampled_from(["X", "Y", "Z"])


def reports() -> st.SearchStrategy[Any]:
    kinds = []
    for command in (*get_args(commands.OrderReportCommand), CancelOrder, ReplaceOrder):
        event = command.__base__
        more: dict[str, Any] = {}
        if event is OrderPending:
            more["what"] = st.sampled_from(["new", "cancel", "replace"])
        if "quantity" in event.__struct_fields__:
            more["quantity"] = st.none() | QUANTITIES
        kinds.append(
            st.builds(
                event,
                order_id=st.just(ORDER_ID),
                cl_ord_id=CL_ORD_IDS,
                orig_cl_ord_id=CL_ORD_IDS,
                told=TOLD,
                reason=st.none() | st.sampled_from(["duplicate_order", "gt_corporate_action"]),
                **more,
            )
        )
    return st.one_of(kinds)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(reports(), st.sampled_from([DAY_1, DAY_2])), max_size=12), st.booleans())
def test_no_sequence_of_reports_fails_and_each_leaves_a_status(
    told: list[tuple[Any, Instant]], is_placed: bool
) -> None:
    order = step(None, placed(100)) if is_placed else None
    for event, at in told:
        order = evolve_order(order, stamped(event, at))
        assert order.status in PRECEDENCE
        assert order.status == order_status(order)
        leaves = leaves_quantity(order)
        assert leaves is None or leaves >= 0
        assert asdict(order_row("A1", order))["status"] == order.status
    assert set(PRECEDENCE) == set(STATUSES)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_filled_is_the_sum_of_the_effective_fills(data: st.DataObject) -> None:
    order: Order | None = step(None, placed(100)) if data.draw(st.booleans()) else None
    effective: list[Any] = []
    for _ in range(data.draw(st.integers(1, 12))):
        act = data.draw(st.sampled_from(["fill", "bust", "correct"] if effective else ["fill"]))
        if act != "fill":
            old = effective.pop(data.draw(st.integers(0, len(effective) - 1)))
            assert order is not None
            order = unfill_order(order, old.quantity, old.price)
        if act != "bust":
            correction = act == "correct"
            new = fill(data.draw(QUANTITIES), data.draw(PRICES), correction=correction)
            effective.append(new)
            order = fill_order(order, ORDER_ID, new)
    assert order is not None
    total = sum((to_int(deal.quantity, 18) for deal in effective), 0)
    notional = sum((to_int(deal.quantity, 18) * to_int(deal.price, 8) for deal in effective), 0)
    assert to_int(order.cum_quantity, 18) == total
    assert to_int(order.cum_notional, 26) == notional
    assert (average_price(order) is None) == (not effective)


def to_int(number: Decimal, scale: int) -> int:
    """The number as a count of 10**-scale, by its digits alone."""
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    count = int("".join(map(str, digits))) * 10 ** (exponent + scale)
    return -count if sign else count
