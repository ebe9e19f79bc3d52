"""Orders: what is asked and refused, what is reported and flagged, and what always holds."""

from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from domain import commands, events
from domain.commands import CancelOrder, PlaceOrder, ReplaceOrder, Request
from domain.decisions import Accepted, Decision, Known, Lacking, Refused
from domain.entities import Account, Entity, Instrument, Order, OrderStatus
from domain.events import (
    AccountOpened,
    InstrumentFields,
    OrderAccepted,
    OrderAcceptedForBidding,
    OrderCanceled,
    OrderCancelRequested,
    OrderPending,
    OrderPlaced,
    OrderReplaced,
    OrderReport,
    OrderTold,
)
from domain.order_reports import evolve_order
from domain.order_states import PRECEDENCE
from domain.orders import (
    average_price,
    decide_order,
    evolve_orders,
    fill_flags,
    fill_order,
    leaves_quantity,
    order_row,
    order_status,
    order_told_flags,
    resolve_order,
    unfill_order,
)
from domain.times import Instant
from tests.domain.order_stories import DAY_1, DAY_2, ORDER_ID, fill, placed, report, stamped, step


class Book:
    """The entities of one account, as a decider sees them and its events change them."""

    def __init__(self) -> None:
        settings = AccountOpened(base_currency="USD")
        terms = InstrumentFields()
        self.entities: dict[tuple[str, str], Entity] = {
            ("account", ""): Account(settings=settings, offset=1, seq=1),
            ("instrument", "XYZ"): Instrument(terms=terms, partition=0, offset=1, seq=1),
        }
        self.seq = 1

    def get(self, kind: str, entity_id: str) -> Entity | None:
        return self.entities.get((kind, entity_id))

    def order(self, order_id: str = ORDER_ID) -> Order:
        order = self.entities["order", order_id]
        assert isinstance(order, Order)
        return order

    def submit(
        self,
        command: Any,
        event_time: Instant = DAY_1,
        content_hash: str = "h",
        flags: tuple[str, ...] = (),
    ) -> Decision:
        request = Request(
            command_id="c", key="A1", event_time=event_time, command=command, flags=flags
        )
        decision = decide_order(self, request, content_hash)
        if isinstance(decision, Accepted):
            self.seq += 1
            event = replace(
                stamped(decision.event, event_time, flags=decision.flags),
                content_hash=content_hash,
                seq=self.seq,
                offset=self.seq,
            )
            for kind, entity_id, entity in evolve_orders(self, event):
                self.entities[kind, entity_id] = entity
        return decision

    def fill(self, quantity: int, price: int = 50) -> None:
        self.entities["order", ORDER_ID] = fill_order(self.order(), ORDER_ID, fill(quantity, price))


def place(quantity: int | str = 100, order_id: str = ORDER_ID, **fields: Any) -> PlaceOrder:
    terms: dict[str, Any] = {"order_type": "market", "cl_ord_id": "X", **fields}
    return PlaceOrder(
        order_id=order_id, instrument="XYZ", side="buy", quantity=Decimal(quantity), **terms
    )


def accepted(decision: Decision) -> Accepted:
    assert isinstance(decision, Accepted), decision
    return decision


def refused(decision: Decision) -> Refused:
    assert isinstance(decision, Refused), decision
    return decision


def test_placing_an_order_again_is_known_and_with_other_content_a_conflict() -> None:
    book = Book()
    event = accepted(book.submit(place())).event
    assert type(event) is OrderPlaced
    assert book.submit(place()) == Known(offset=2, seq=2)
    conflict = refused(book.submit(place(101), content_hash="other"))
    assert conflict.reason == "conflict"
    assert conflict.numbers == {"first_seq": "2", "id": ORDER_ID}


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (place(0), "quantity_not_positive"),
        (place(-5), "quantity_not_positive"),
        (place(order_type="limit"), "limit_price_missing"),
        (place(order_type="limit_on_close"), "limit_price_missing"),
        (place(order_type="stop"), "stop_price_missing"),
        (place(order_type="stop_limit", limit_price=Decimal(1)), "stop_price_missing"),
    ],
)
def test_an_order_that_cannot_be_is_refused(command: PlaceOrder, reason: str) -> None:
    assert refused(Book().submit(command)).reason == reason


def test_a_negative_price_is_legal() -> None:
    book = Book()
    accepted(book.submit(place(order_type="limit", limit_price=Decimal("-37.63"))))
    assert book.order().limit_price == Decimal("-37.63")


def test_an_account_or_instrument_that_is_not_known_is_lacking() -> None:
    book = Book()
    del book.entities["instrument", "XYZ"]
    assert isinstance(book.submit(place()), Lacking)
    del book.entities["account", ""]
    assert isinstance(book.submit(place()), Lacking)


def test_a_closed_account_takes_no_orders_but_all_reports() -> None:
    book = Book()
    accepted(book.submit(place()))
    account = book.entities["account", ""]
    assert isinstance(account, Account)
    book.entities["account", ""] = replace(account, closed=True)
    assert refused(book.submit(CancelOrder(order_id=ORDER_ID))).reason == "account_closed"
    report = accepted(book.submit(commands.ReportOrderCanceled(order_id=ORDER_ID)))
    assert "account_closed" in report.flags


def test_asking_about_an_order_that_is_not_known_is_refused() -> None:
    asked = refused(Book().submit(CancelOrder(order_id="nope")))
    assert asked == Refused("unknown_order", {"order_id": "nope"})


def test_asking_about_an_order_that_is_over_is_refused_with_its_numbers() -> None:
    book = Book()
    accepted(book.submit(place()))
    book.fill(100)
    asked = refused(book.submit(CancelOrder(order_id=ORDER_ID)))
    assert asked.reason == "too_late"
    assert asked.numbers == {"status": "filled", "cum_quantity": "100", "quantity": "100"}
    same = ReplaceOrder(order_id=ORDER_ID, limit_price=Decimal(5))
    assert refused(book.submit(same)).reason == "too_late"
    accepted(book.submit(ReplaceOrder(order_id=ORDER_ID, quantity=Decimal(150))))


def test_a_canceled_order_cannot_even_be_increased() -> None:
    book = Book()
    accepted(book.submit(place()))
    accepted(book.submit(commands.ReportOrderCanceled(order_id=ORDER_ID)))
    increase = ReplaceOrder(order_id=ORDER_ID, quantity=Decimal(150))
    assert refused(book.submit(increase)).reason == "too_late"


def test_replacing_below_what_is_filled_is_refused() -> None:
    book = Book()
    accepted(book.submit(place()))
    book.fill(60)
    asked = refused(book.submit(ReplaceOrder(order_id=ORDER_ID, quantity=Decimal(59))))
    assert asked == Refused("below_filled", {"quantity": "59", "cum_quantity": "60"})
    accepted(book.submit(ReplaceOrder(order_id=ORDER_ID, quantity=Decimal(60))))


def test_replacing_a_market_order_by_a_limit_order_needs_the_limit() -> None:
    book = Book()
    accepted(book.submit(place()))
    to_limit = ReplaceOrder(order_id=ORDER_ID, order_type="limit")
    assert refused(book.submit(to_limit)).reason == "limit_price_missing"


@pytest.mark.parametrize("report_type", get_args(commands.OrderReportCommand))
def test_no_report_on_an_unknown_order_is_refused(report_type: type[OrderReport]) -> None:
    book = Book()
    decision = accepted(book.submit(report_type(order_id="2024-01-02/ghost", cl_ord_id="ghost")))
    assert "unknown_order" in decision.flags
    assert type(decision.event) is report_type.__base__
    row = order_row("A1", book.order("2024-01-02/ghost"))
    assert row.quantity is None
    assert "unknown_order" in row.flags


def test_an_order_placed_after_its_reports_keeps_what_they_told() -> None:
    book = Book()
    accepted(book.submit(commands.ReportOrderAccepted(order_id=ORDER_ID, cl_ord_id="X")))
    book.fill(40)
    accepted(book.submit(place(pending=True)))
    row = order_row("A1", book.order())
    assert (row.status, row.cum_quantity, row.leaves_quantity) == ("partially_filled", 40, 60)
    assert row.flags == ()


def test_an_order_assumed_from_a_report_is_known_where_it_was_placed() -> None:
    book = Book()
    accepted(book.submit(place()))
    assumed = book.submit(place(order_type="other"), content_hash="other", flags=("assumed",))
    assert assumed == Known(offset=2, seq=2)


def test_an_assumed_order_takes_its_terms_when_they_are_told() -> None:
    book = Book()
    accepted(book.submit(place(90, order_type="limit"), content_hash="a", flags=("assumed",)))
    assert "assumed_order" in book.order().flags
    accepted(book.submit(place(100), content_hash="b"))
    assert book.order().quantity == 100
    assert book.order().flags == ()
    assert refused(book.submit(place(90), content_hash="c")).reason == "conflict"


def test_an_order_is_found_by_any_cl_ord_id_of_its_chain() -> None:
    book = Book()
    accepted(book.submit(place()))
    accepted(book.submit(ReplaceOrder(order_id=ORDER_ID, cl_ord_id="Y", quantity=Decimal(120))))
    report = commands.ReportOrderReplaced(order_id="2024-01-02/Y", cl_ord_id="Z")
    event = accepted(book.submit(report)).event
    assert isinstance(event, OrderReplaced)
    assert event.order_id == ORDER_ID
    assert resolve_order(book, "2024-01-02/Z", {})[0] == ORDER_ID
    assert resolve_order(book, "2024-01-03/Z", {}) == ("2024-01-03/Z", None)


def test_a_good_till_order_is_found_by_its_order_id_on_a_later_day() -> None:
    book = Book()
    accepted(book.submit(place(time_in_force="gtc", ids={"OrderID": "V1"})))
    report = commands.ReportOrderAccepted(
        order_id="2024-01-03/X", cl_ord_id="X", ids={"OrderID": "V1"}
    )
    event = accepted(book.submit(report, DAY_2)).event
    assert isinstance(event, OrderAccepted)
    assert event.order_id == ORDER_ID
    accepted(book.submit(commands.ReportOrderCanceled(order_id=ORDER_ID)))
    assert resolve_order(book, "2024-01-04/X", {"OrderID": "V1"})[1] is None


def test_a_day_order_is_not_found_by_an_order_id_that_a_venue_may_use_again() -> None:
    book = Book()
    accepted(book.submit(place(ids={"OrderID": "V1"})))
    assert resolve_order(book, "2024-01-03/X", {"OrderID": "V1"})[1] is None


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
