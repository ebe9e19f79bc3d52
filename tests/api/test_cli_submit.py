"""Commands by `daybook submit`: what is answered, the story of an order, transfers to their end."""

import json
import re
import signal
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from schemas.partitioning import partition_of
from tests.api.command_line import CommandLine, command, json_line
from tests.api.conftest import NewDaybook
from tests.waiting import until

NOON = "2024-01-02T12:00:00Z"


def opened(account: str) -> dict[str, Any]:
    return command(f"open {account}", "OpenAccount", account, NOON, base_currency="USD")


def deal(command_id: str, deal_id: str, quantity: Any = "10", **told: Any) -> dict[str, Any]:
    """A deal of account S: a buy of AAPL at 100 unless told otherwise."""
    data = {"instrument": "AAPL", "side": "buy", "price": "100", "currency": "USD", **told}
    when = data.pop("event_time", NOON)
    return command(command_id, "RecordDeal", "S", when, deal_id=deal_id, quantity=quantity, **data)


def outcomes(answers: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["command_id"], one["status"], one["event"], one["reason"]) for one in answers]


def test_each_command_gets_one_answer(daybook: CommandLine) -> None:
    answers = daybook.submitted(
        deal("c1", "d1"),
        deal("c1", "d1", "10.0"),
        deal("c1", "d1", "11"),
        deal("c2", "d1"),
        deal("c3", "d1", "11"),
        command("c4", "PlaceOrder", "S", NOON, order_id="o", instrument="AAPL", side="buy",
                quantity="-1", order_type="market"),
        command("c5", "CancelOrder", "S", NOON, order_id="unknown"),
    )  # fmt: skip
    assert outcomes(answers) == [
        ("c1", "accepted", "DealRecorded", None),
        ("c1", "duplicate", "DealRecorded", None),
        ("c1", "refused", None, "conflict"),
        ("c2", "duplicate", "DealRecorded", None),
        ("c3", "refused", "CommandRefused", "conflict"),
        ("c4", "refused", "CommandRefused", "quantity_not_positive"),
        ("c5", "refused", "CommandRefused", "unknown_order"),
    ]
    positions = [one["position"] for one in answers]
    assert positions[0] == positions[1] == positions[3]
    assert positions[2] is None
    assert all(re.fullmatch(r"\d+:\d+", position) for position in positions if position)
    again = daybook.submitted(deal("c1", "d1"), deal("c3", "d1", "11"))
    assert [(one["status"], one["position"]) for one in again] == [
        ("duplicate", positions[0]),
        ("refused", positions[4]),
    ]
    refused = [
        line for line in daybook.good("log", "--account", "S").lines
        if line["type"] == "CommandRefused"
    ]  # fmt: skip
    assert [line["data"]["reason"] for line in refused] == [
        *("conflict", "quantity_not_positive", "unknown_order"),
    ]
    assert refused[0]["data"]["asked"]["quantity"] == "11"
    assert daybook.good("verify").code == 0


BAD_LINES = [
    ("not json", "command", "JSON"),
    ("[1]", "command", "a JSON object"),
    (json_line(deal("c", "d")).replace('"type"', '"kind"'), "kind", "one of"),
    (json_line(deal("c", "d")).replace("RecordDeal", "MakeMoney"), "type", "RecordDeal"),
    (json_line(deal("c", "d")).replace("RecordDeal", "ReceiveTransfer"), "type", "one of"),
    (json_line(deal("c", "d", "0")), "quantity", "above 0"),
    (json_line(deal("c", "d", "1e400")), "quantity", "38 digits"),
    (json_line(deal("c", "d", "NaN")), "quantity", "decimal"),
    (json_line(deal("c", "d", "1" * 60)), "quantity", "38 digits"),
    (json_line(deal("c", "d", currency="XXQ")), "currency", "ISO 4217"),
    (json_line(deal("c", "d", colour="red")), "data.colour", "one of"),
    (json_line(deal("c", "d", side="hold")), "data.side", "side"),
    (json_line(deal("c", "i" * 10_000)), "deal_id", "1 to 128 characters"),
    (json_line(deal("c", "a\nb")), "deal_id", "no control characters"),
    (json_line(deal("c", "d", event_time="2024-01-02T12:00:00")), "event_time", "with a zone"),
    (json_line(deal("c", "d", event_time="0001-01-01T00:00:00Z")), "event_time", "1678"),
    (json_line(deal("c", "d", event_time="9999-01-01T00:00:00Z")), "event_time", "2261"),
]


@pytest.fixture(scope="module")
def bad_lines(new_daybook: NewDaybook) -> dict[str, dict[str, Any]]:
    """The answer to each bad line, all submitted at once between two good ones."""
    texts = [text for text, _, _ in BAD_LINES]
    daybook = new_daybook()
    lines = [json_line(deal("first", "d0")), *(f"{text.strip()}\n" for text in texts)]
    done = daybook("submit", "-", given="".join([*lines, "\n", json_line(deal("last", "d9"))]))
    assert done.code == 1
    first, *answers, last = done.lines
    assert (first["status"], last["status"]) == ("accepted", "accepted")
    assert [answer["line"] for answer in answers] == list(range(2, len(texts) + 2))
    daybook.good("verify")
    return dict(zip(texts, answers, strict=True))


@pytest.mark.parametrize(("text", "field", "said"), BAD_LINES)
def test_what_is_no_command_is_answered_with_field_and_reason(
    bad_lines: dict[str, dict[str, Any]], text: str, field: str, said: str
) -> None:
    answer = bad_lines[text]
    assert (answer["status"], answer["reason"], answer["position"]) == ("refused", "invalid", None)
    assert answer["field"] == field
    assert said in answer["detail"]
    assert answer["command_id"] == ("c" if text.startswith("{") else None)


def test_numbers_may_be_json_numbers_and_keep_their_digits(daybook: CommandLine) -> None:
    line = json_line(deal("c", "d")).replace('"100"', "1234567890123.123456789012345678")
    assert daybook("submit", "-", given=line).lines[0]["status"] == "accepted"
    assert daybook.rows("deals")[0]["price"] == "1234567890123.123456789012345678"


def test_a_file_that_is_not_there_is_named(daybook: CommandLine) -> None:
    done = daybook("submit", "none.jsonl")
    assert done.code == 2
    assert "FILE: 'none.jsonl' is not valid; expected a file of commands" in done.err


def test_the_answer_comes_while_the_pipe_stays_open(daybook: CommandLine) -> None:
    with daybook.start("submit", "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdin.write(json_line(deal(f"c{number}", f"d{number}")))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["status"] == "accepted"
        process.stdin.write(json_line(deal("c9", "d9")).rstrip())
        process.stdin.close()
        assert json.loads(process.stdout.readline())["command_id"] == "c9"
        assert process.wait(120) == 0


def test_strict_assumes_nothing(daybook: CommandLine) -> None:
    given = json_line(deal("c", "d"))
    (answer,) = daybook("submit", "-", "--strict", given=given).lines
    assert (answer["status"], answer["reason"]) == ("refused", "unknown_account")
    daybook.submitted(opened("S"))
    price = command("p", "RecordPrice", "APPL", NOON, price="1", currency="USD")
    priced = json_line({"key": price.pop("account"), **price})
    answers = daybook("submit", "-", "--strict", given=given + priced).lines
    told = [(answer["reason"], answer["value"]) for answer in answers]
    assert told == [("unknown_instrument", "AAPL"), ("unknown_instrument", "APPL")]
    define = command("i", "DefineInstrument", "AAPL", NOON, currency="USD")
    define["key"] = define.pop("account")
    daybook.submitted(define)
    assert daybook.good("submit", "-", "--strict", given=given).lines[0]["status"] == "accepted"


def test_an_orders_story(daybook: CommandLine) -> None:
    def about(command_id: str, kind: str, **data: Any) -> dict[str, Any]:
        return command(command_id, kind, "S", NOON, order_id="o1", **data)

    def fill(number: int, quantity: str) -> dict[str, Any]:
        return deal(f"f{number}", f"f{number}", quantity, order_id="o1")

    place = {"instrument": "AAPL", "side": "buy", "order_type": "limit", "limit_price": "101"}
    steps: list[tuple[dict[str, Any], str, str, str]] = [
        (about("1", "PlaceOrder", quantity="10", cl_ord_id="a", **place), "new", "0", "10"),
        (fill(1, "4"), "partially_filled", "4", "6"),
        (
            about("2", "ReplaceOrder", quantity="12", cl_ord_id="b", orig_cl_ord_id="a"),
            *("pending_replace", "4", "6"),
        ),
        (fill(2, "1"), "pending_replace", "5", "5"),
        (
            about("3", "ReportOrderReplaced", cl_ord_id="b", orig_cl_ord_id="a"),
            *("partially_filled", "5", "7"),
        ),
        (about("4", "CancelOrder", cl_ord_id="c", orig_cl_ord_id="b"), "pending_cancel", "5", "7"),
        (
            about("5", "ReportCancelRefused", cl_ord_id="c", orig_cl_ord_id="b"),
            *("partially_filled", "5", "7"),
        ),
        (fill(3, "7"), "filled", "12", "0"),
        (
            command("6", "BustDeal", "S", NOON, deal_id="b3", ref_deal_id="f3"),
            *("partially_filled", "5", "7"),
        ),
        (about("7", "ReportOrderCanceled"), "canceled", "5", "0"),
    ]
    with daybook.start("submit", "-") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for asked, status, done, left in steps:
            process.stdin.write(json_line(asked))
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["status"] == "accepted", asked
            (order,) = daybook.rows("orders")
            found = (order["status"], order["cum_quantity"], order["leaves_quantity"])
            assert found == (status, done, left), asked
        process.stdin.close()
        assert process.wait(120) == 0
    assert (order["order_id"], order["average_price"]) == ("o1", "100.0000000000")
    assert order["cl_ord_id"] == "b"
    daybook.good("verify")


def send(transfer_id: str, to: str, **told: Any) -> dict[str, Any]:
    when = "2024-01-05T12:00:00Z"
    return command(
        f"send {transfer_id}", "SendTransfer", "S", when, transfer_id=transfer_id,
        to_account=to, **told,
    )  # fmt: skip


def funded(daybook: CommandLine) -> None:
    """Open S, with 1,000.50 dollars and two lots of AAPL, and R."""
    cash = {"cash_id": "c", "kind": "deposit", "amount": "1000.50", "currency": "USD"}
    answers = daybook.submitted(
        opened("S"),
        opened("R"),
        command("cash", "MoveCash", "S", NOON, **cash),
        deal("c1", "d1", "3", price="33.333333333333333333"),
        deal("c2", "d2", "10", price="20.25", event_time="2024-01-03T12:00:00Z"),
    )
    assert {one["status"] for one in answers} == {"accepted"}


UNITS = [{"instrument": "AAPL", "quantity": "5", "currency": "USD"}]
CASH = [{"currency": "USD", "amount": "100.25"}]


def test_a_transfer_brings_cash_and_lots_with_cost_and_dates(daybook: CommandLine) -> None:
    funded(daybook)
    (answer,) = daybook.submitted(send("t1", "R", cash=CASH, legs=UNITS))
    assert (answer["status"], answer["event"]) == ("accepted", "TransferSent")
    lots = [
        (row["account"], row["lot_id"], row["opened_at"], row["remaining"], row["cost"])
        for row in daybook.rows("lots", "--open")
    ]
    assert lots == [
        ("R", "d1", "2024-01-02T12:00:00Z", "3", "99.999999999999999999"),
        ("R", "d2", "2024-01-03T12:00:00Z", "2", "40.5"),
        ("S", "d2", "2024-01-03T12:00:00Z", "8", "162"),
    ]
    assert {row["realised_pnl"] for row in daybook.rows("positions")} == {"0"}
    (received,) = daybook.rows("balances", "--account", "R")
    assert received["balance"] == "100.25"
    types = [line["type"] for line in daybook.good("log", "--account", "R").lines]
    assert types == ["AccountOpened", "TransferReceived"]
    before = daybook.good("log").out
    assert daybook.submitted(send("t1", "R", cash=CASH, legs=UNITS))[0]["status"] == "duplicate"
    assert daybook.good("log").out == before
    daybook.good("verify")


def test_what_nobody_takes_comes_back_as_it_went(daybook: CommandLine) -> None:
    funded(daybook)
    before = (daybook.rows("positions"), daybook.rows("balances"), daybook.rows("lots", "--open"))
    answers = daybook.submitted(
        send("t1", "nobody", cash=CASH, legs=UNITS),
        send("t2", "S", cash=CASH),
        send("t3", "R", cash=[{"currency": "USD", "amount": "-1"}]),
        send("t4", "R"),
    )
    assert [one["reason"] for one in answers] == [
        None,
        "to_itself",
        "not_positive",
        "empty_transfer",
    ]
    held, cash, lots = before
    assert daybook.rows("positions") == held
    assert daybook.rows("balances") == cash
    costs = [
        sum(Decimal(row["cost"]) for row in rows) for rows in (lots, daybook.rows("lots", "--open"))
    ]
    assert costs == [Decimal("302.499999999999999999")] * 2
    dates = {row["opened_at"] for row in daybook.rows("lots", "--open")}
    assert dates == {"2024-01-02T12:00:00Z", "2024-01-03T12:00:00Z"}
    types = [line["type"] for line in daybook.good("log", "--account", "S").lines]
    assert types[4:] == ["TransferSent", *["CommandRefused"] * 3, "TransferReturned"]
    daybook.good("verify")


def test_a_kill_between_the_two_accounts_is_made_good_by_the_next_command(
    daybook: CommandLine,
) -> None:
    funded(daybook)
    url = daybook.environment["DAYBOOK_LOG_URL"]
    assert partition_of("S", 16) != partition_of("R", 16)
    with psycopg.connect(url) as locker:
        locker.execute(
            "SELECT 1 FROM daybook.log_partitions WHERE topic = 0 AND partition = %s FOR UPDATE",
            (partition_of("R", 16),),
        )
        with daybook.start("submit", "-") as process:
            assert process.stdin is not None
            process.stdin.write(json_line(send("t1", "R", cash=CASH, legs=UNITS)))
            process.stdin.flush()
            until(lambda: "TransferSent" in daybook.good("log", "--account", "S").out)
            process.send_signal(signal.SIGKILL)
    assert "TransferReceived" not in daybook.good("log", "--account", "R").out
    (received,) = daybook.rows("balances", "--account", "R")
    assert received["balance"] == "100.25"
    assert [row["remaining"] for row in daybook.rows("lots", "--account", "R")] == ["3", "2"]
    daybook.good("verify")
