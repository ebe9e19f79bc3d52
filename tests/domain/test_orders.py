"""Orders: what is asked and refused, and which order a request or report belongs to."""

from decimal import Decimal
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from domain import commands
from domain.commands import CancelOrder, PlaceOrder, ReplaceOrder, Request
from domain.decisions import Accepted, Decision, Known, Lacking, Refused
from domain.entities import Account, Entity, Instrument, Order
from domain.events import (
    AccountOpened,
    InstrumentFields,
    OrderAccepted,
    OrderPlaced,
    OrderReplaced,
    OrderReport,
)
from domain.orders import (
    decide_order,
    evolve_orders,
    fill_order,
    order_row,
    resolve_order,
)
from domain.times import Instant
from tests.domain.order_stories import DAY_1, DAY_2, ORDER_ID, fill, stamped


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
