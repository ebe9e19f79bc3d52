"""FIX messages as facts, and whatever else a file may hold."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.importing.lines import Fact, Line, Listed, Problem
from domain import commands
from domain.commands import (
    BustDeal,
    CancelOrder,
    CorrectDeal,
    PlaceOrder,
    RecordDeal,
    ReplaceOrder,
)
from domain.events import Fee, OrderTold
from tests.api.fix_lines import (
    EXECUTION,
    ORDER,
    changed,
    execution,
    fill,
    message,
    only,
    order,
    read,
)


def problem(lines: list[Line]) -> Problem:
    assert len(lines) == 1
    assert isinstance(lines[0], Problem), lines[0]
    return lines[0]


def test_a_new_order_is_placed_pending(tmp_path: Path) -> None:
    (fact,) = read(tmp_path, order(t15="USD", t207="XNAS", t167="CS"))
    assert isinstance(fact, Fact)
    assert fact.request.command == PlaceOrder(
        order_id="2024-01-02/a1",
        instrument="AAPL",
        side="buy",
        quantity=Decimal(100),
        order_type="limit",
        limit_price=Decimal("185.50"),
        pending=True,
        cl_ord_id="a1",
        time_precision="milli",
    )
    assert fact.request.key == "A1"
    assert fact.request.event_time == "2024-01-02T14:30:00.123000000Z"
    assert fact.request.source == commands.Source(digest="d" * 64, line=1)
    assert fact.opens == commands.OpenAccount(base_currency="USD")
    ((instrument, terms),) = fact.defines
    assert (instrument, terms.kind, terms.mic, terms.symbol) == ("AAPL", "equity", "XNAS", "AAPL")


def test_both_ends_of_fields_are_read_alike(tmp_path: Path) -> None:
    told = order(t58="a text with a | in it")
    by_pipe = order(t58="a text").replace(b"\x01", b"|")
    (first,) = read(tmp_path, told)
    (second,) = read(tmp_path, by_pipe)
    (crlf,) = read(tmp_path, told + b"\r")
    assert isinstance(first, Fact)
    assert first == second == crlf


def test_the_time_is_that_of_the_transaction_else_of_sending(tmp_path: Path) -> None:
    sent = "20240102-14:31:00.000000001"
    (fact,) = read(tmp_path, order(t60=None, t52=sent))
    assert isinstance(fact, Fact)
    assert fact.request.event_time == "2024-01-02T14:31:00.000000001Z"
    (resent,) = read(tmp_path, order(t60=None, t52="20240105-08:00:00", t43="Y", t122=sent))
    assert isinstance(resent, Fact)
    assert resent.request.event_time == fact.request.event_time


def test_the_account_is_the_messages_else_its_orders_else_the_users(tmp_path: Path) -> None:
    keys = [
        line.request.key
        for line in read(
            tmp_path,
            order(),
            execution("0", t1=None),
            order(t11="b1", t1=None),
            account="MINE",
        )
        if isinstance(line, Fact)
    ]
    assert keys == ["A1", "A1", "MINE"]
    missing = problem(read(tmp_path, order(t1=None)))
    assert missing == Problem(1, "Account(1)", "", "expected an account here, or --account")


REQUEST = changed(ORDER, {"t11": "a2", "t41": "a1", "t40": None, "t44": None, "t59": None})


def test_requests_belong_to_the_order_their_chain_began_with(tmp_path: Path) -> None:
    replace = message("G", changed(REQUEST, {"t38": 150, "t44": "186", "t40": 2}))
    again = message("G", changed(REQUEST, {"t11": "a3", "t41": "a2", "t38": 160}))
    cancel = message("F", changed(REQUEST, {"t11": "a4", "t41": "a3"}))
    _, first, second, third = read(tmp_path, order(), replace, again, cancel)
    assert isinstance(first, Fact)
    assert isinstance(second, Fact)
    assert isinstance(third, Fact)
    assert first.request.command == ReplaceOrder(
        order_id="2024-01-02/a1",
        cl_ord_id="a2",
        orig_cl_ord_id="a1",
        quantity=Decimal(150),
        limit_price=Decimal(186),
        order_type="limit",
        time_precision="milli",
    )
    asked, canceled = second.request.command, third.request.command
    assert isinstance(asked, ReplaceOrder)
    assert isinstance(canceled, CancelOrder)
    assert (asked.order_id, asked.quantity) == ("2024-01-02/a1", 160)
    assert (canceled.order_id, canceled.cl_ord_id) == ("2024-01-02/a1", "a4")


def test_a_chain_that_began_before_the_file_goes_by_the_first_id_seen(tmp_path: Path) -> None:
    report = execution("5", t11="z9", t41="z8", t39=0, t14=0, t151=100)
    assumed, replaced = read(tmp_path, report)
    assert isinstance(assumed, Fact)
    assert isinstance(replaced, Fact)
    placing = assumed.request.command
    assert isinstance(placing, PlaceOrder)
    assert assumed.request.flags == ("assumed",)
    assert (placing.order_id, placing.cl_ord_id) == ("2024-01-02/z8", "z8")
    assert (placing.order_type, placing.quantity) == ("other", 100)
    assert isinstance(replaced.request.command, commands.ReportOrderReplaced)
    assert replaced.request.command.order_id == "2024-01-02/z8"
    assert replaced.request.flags == ()


def test_a_next_day_report_of_an_order_in_the_file_is_the_same_order(tmp_path: Path) -> None:
    lines = read(tmp_path, order(t59=1), execution("D", t60="20240103-14:30:00", t378=1))
    command = only(lines)
    assert isinstance(command, commands.ReportOrderRestated)
    assert (command.order_id, command.reason) == ("2024-01-02/a1", "gt_renewal")


def test_a_report_without_cl_ord_ids_goes_by_the_venues_order_id(tmp_path: Path) -> None:
    lines = read(tmp_path, order(), execution("0"), execution("4", t11=None, t17="e2"))
    command = only(lines)
    assert isinstance(command, commands.ReportOrderCanceled)
    assert command.order_id == "2024-01-02/a1"
    alone = only(read(tmp_path, execution("0", t11=None)))
    assert isinstance(alone, commands.ReportOrderAccepted)
    assert alone.order_id == "2024-01-02/V1"


@pytest.mark.parametrize(
    ("exec_type", "report", "more"),
    [
        ("0", commands.ReportOrderAccepted, {}),
        ("3", commands.ReportOrderDoneForDay, {}),
        ("4", commands.ReportOrderCanceled, {"quantity": None}),
        ("5", commands.ReportOrderReplaced, {"quantity": Decimal(100)}),
        ("6", commands.ReportOrderPending, {"what": "cancel"}),
        ("7", commands.ReportOrderStopped, {}),
        ("8", commands.ReportOrderRejected, {"reason": "duplicate_order"}),
        ("9", commands.ReportOrderSuspended, {}),
        ("A", commands.ReportOrderPending, {"what": "new"}),
        ("B", commands.ReportOrderCalculated, {}),
        ("C", commands.ReportOrderExpired, {}),
        ("D", commands.ReportOrderRestated, {"quantity": Decimal(100)}),
        ("E", commands.ReportOrderPending, {"what": "replace"}),
    ],
)
def test_each_exec_type_is_its_report(
    tmp_path: Path, exec_type: str, report: type[Any], more: dict[str, Any]
) -> None:
    told = execution(exec_type, t39=1, t14=30, t151=70, t6="185.4", t103=6)
    command: Any = only(read(tmp_path, order(), told))
    assert type(command) is report
    assert command.told == OrderTold(
        status="partially_filled",
        cum_quantity=Decimal(30),
        leaves_quantity=Decimal(70),
        average_price=Decimal("185.4"),
    )
    assert command.ids == {"OrderID": "V1", "ExecID": "e1"}
    assert {name: getattr(command, name) for name in more} == more


def test_a_refusal_is_of_a_cancel_or_of_a_replace(tmp_path: Path) -> None:
    pairs = [(1, "A1"), (11, "a2"), (41, "a1"), (37, "NONE"), (39, 2), (102, 0)]
    for kind, report in [
        (1, commands.ReportCancelRefused),
        (2, commands.ReportReplaceRefused),
    ]:
        command: Any = only(read(tmp_path, order(), message("9", [*pairs, (434, kind)])))
        assert type(command) is report
        assert (command.order_id, command.reason) == ("2024-01-02/a1", "too_late")
        assert command.told == OrderTold(status="filled")
        assert command.ids == {}


def test_a_fill_is_a_deal_of_its_order(tmp_path: Path) -> None:
    told = fill(
        30, "185.40", t15="USD", t75="20240102", t64="20240104", t30="XNAS", t12="0.50", t13=3,
        t39=1, t14=30, t151=70, t77="O", t528="A", t22=4, t48="US0378331005", t118="5562.50",
    )  # fmt: skip
    command = only(read(tmp_path, order(), told))
    assert command == RecordDeal(
        deal_id="2024-01-02/e1",
        instrument="AAPL",
        side="buy",
        quantity=Decimal(30),
        price=Decimal("185.40"),
        currency="USD",
        net=Decimal("-5562.50"),
        fees=(Fee(kind="commission", amount=Decimal("0.50"), currency="USD"),),
        order_id="2024-01-02/a1",
        ids={"ExecID": "e1", "OrderID": "V1", "ClOrdID": "a1"},
        identifiers={"symbol": "AAPL", "isin": "US0378331005"},
        trade_date="2024-01-02",
        settlement_date="2024-01-04",
        effect="open",
        capacity="A",
        venue="XNAS",
        told=OrderTold(
            status="partially_filled", cum_quantity=Decimal(30), leaves_quantity=Decimal(70)
        ),
        time_precision="milli",
    )


@pytest.mark.parametrize("exec_type", ["1", "2"])
def test_fills_by_their_older_exec_types_are_deals_too(tmp_path: Path, exec_type: str) -> None:
    told = execution(exec_type, t32=5, t31="-37.63")
    command = only(read(tmp_path, order(), told))
    assert isinstance(command, RecordDeal)
    assert command.price == Decimal("-37.63")


@pytest.mark.parametrize(
    ("fields", "fees", "flags"),
    [
        ({"t12": "0.01", "t13": 1}, [("commission", "0.30")], ()),
        ({"t12": "0.001", "t13": 2, "t381": "5562.00"}, [("commission", "5.562")], ()),
        ({"t12": "0.001", "t13": 2}, [], ("commission_not_booked",)),
        ({"t12": "5", "t13": 4}, [], ("commission_not_booked",)),
        ({"t12": "0", "t13": 3}, [], ()),
        ({"t12": "-0.25"}, [("commission", "-0.25")], ()),
        ({"t136": 1, "t137": "1.25", "t139": 4}, [("exchange", "1.25")], ()),
    ],
)
def test_commission_and_fees_of_a_fill(
    tmp_path: Path, fields: dict[str, Any], fees: list[tuple[str, str]], flags: tuple[str, ...]
) -> None:
    lines = read(tmp_path, order(), fill(30, "185.40", **fields))
    command = only(lines)
    assert isinstance(command, RecordDeal)
    assert [(fee.kind, fee.amount) for fee in command.fees] == [
        (kind, Decimal(amount)) for kind, amount in fees
    ]
    assert isinstance(lines[-1], Fact)
    assert lines[-1].request.flags == flags


def test_fees_of_a_group_are_each_a_fee(tmp_path: Path) -> None:
    pairs = changed(EXECUTION, {"t150": "F", "t32": 30, "t31": 185})
    group = [(136, 2), (137, "1.25"), (138, "EUR"), (139, 4), (137, "0.75"), (139, 2)]
    command = only(read(tmp_path, order(), message("8", [*pairs, *group])))
    assert isinstance(command, RecordDeal)
    assert command.fees == (
        Fee(kind="exchange", amount=Decimal("1.25"), currency="EUR"),
        Fee(kind="tax", amount=Decimal("0.75"), currency="USD"),
    )


def test_busts_and_corrections_keep_the_time_of_their_deal(tmp_path: Path) -> None:
    correct = fill(30, "185.35", t150="G", t17="e2", t19="e1", t60="20240103-09:00:00")
    bust = execution("H", t17="e3", t19="e2", t60="20240103-10:00:00")
    *_, corrected, busted = read(tmp_path, order(), fill(30, "185.40"), correct, bust)
    assert isinstance(corrected, Fact)
    assert isinstance(busted, Fact)
    new, gone = corrected.request.command, busted.request.command
    assert isinstance(new, CorrectDeal)
    assert (new.deal_id, new.ref_deal_id) == ("2024-01-03/e2", "2024-01-02/e1")
    assert new.price == Decimal("185.35")
    assert new.action_time == "2024-01-03T09:00:00.000000000Z"
    assert isinstance(gone, BustDeal)
    assert (gone.deal_id, gone.ref_deal_id) == ("2024-01-03/e3", "2024-01-03/e2")
    assert gone.order_id == "2024-01-02/a1"
    for fact in (corrected, busted):
        assert fact.request.event_time == "2024-01-02T14:30:01.500000000Z"


def test_a_bust_of_a_deal_that_is_not_in_the_file_names_it_by_trade_date(tmp_path: Path) -> None:
    bust = execution("H", t17="e3", t19="e0", t75="20240101")
    command = only(read(tmp_path, bust))
    assert isinstance(command, BustDeal)
    assert command.ref_deal_id == "2024-01-01/e0"


@pytest.mark.parametrize(
    ("code", "side", "short"),
    [("1", "buy", None), ("2", "sell", None), ("5", "sell", "short"), ("6", "sell", "exempt")],
)
def test_a_short_sale_is_a_sale(tmp_path: Path, code: str, side: str, short: str | None) -> None:
    command = only(read(tmp_path, order(), fill(1, 1, t54=code)))
    assert isinstance(command, RecordDeal)
    assert (command.side, command.short) == (side, short)


@pytest.mark.parametrize(
    ("fields", "instrument", "kind", "currency"),
    [
        ({"t167": "FUT", "t55": "ES", "t200": "202403", "t231": 50}, "ES 202403", "future", "USD"),
        (
            {"t167": "OPT", "t541": "20240119", "t201": 1, "t202": "150"},
            "AAPL 20240119 C 150",
            "option",
            "USD",
        ),
        ({"t167": "FOR", "t55": "EURJPY", "t15": "EUR"}, "EUR/JPY", "fx", "JPY"),
        ({"t55": "EUR/USD"}, "EUR/USD", "fx", "USD"),
        ({"t55": "[N/A]", "t48": "US0378331005", "t22": 4}, "US0378331005", "equity", "USD"),
        ({"t167": "CORP", "t15": "EUR"}, "AAPL", "bond", "EUR"),
        ({"t15": "GBX"}, "AAPL", "equity", "GBP"),
    ],
)
def test_instruments_of_other_kinds(
    tmp_path: Path, fields: dict[str, Any], instrument: str, kind: str, currency: str
) -> None:
    lines = read(tmp_path, order(), fill(1, 1, **fields))
    command = only(lines)
    assert isinstance(command, RecordDeal)
    assert (command.instrument, command.currency) == (instrument, currency)
    assert isinstance(lines[-1], Fact)
    ((name, terms),) = lines[-1].defines
    assert (name, terms.kind, terms.currency) == (instrument, kind, currency)


def test_a_price_in_pence_or_percent_has_its_unit(tmp_path: Path) -> None:
    for fields in ({"t15": "GBX"}, {"t423": 1}):
        command = only(read(tmp_path, order(), fill(1, 1, **fields)))
        assert isinstance(command, RecordDeal)
        assert command.price_unit == Decimal("0.01")


def test_the_currency_that_the_ledger_knows_is_taken_where_none_is_told(tmp_path: Path) -> None:
    command = only(read(tmp_path, order(), fill(1, 1), currency_of=lambda _: "CHF"))
    assert isinstance(command, RecordDeal)
    assert command.currency == "CHF"


def test_other_messages_are_listed_with_a_reason(tmp_path: Path) -> None:
    lines = read(
        tmp_path,
        message("0", []),
        message("H", [(11, "a1")]),
        execution("I", t17=0),
        message("AE", [(571, "x")]),
        b"",
    )
    assert [line.kind for line in lines if isinstance(line, Listed)] == [
        "Heartbeat",
        "MsgType H",
        "ExecType I",
        "MsgType AE",
    ]
    assert len(lines) == 4


def test_free_text_is_not_kept(tmp_path: Path) -> None:
    (fact,) = read(tmp_path, order(t58="Call Jane Doe on 555-0100"))
    assert "Jane" not in repr(fact)
