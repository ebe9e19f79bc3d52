"""Each query of the command line, in each format, now and as of the past."""

import csv
import io
import json
import re
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from api.questions import known_at_from
from tests.api.command_line import CommandLine
from tests.api.conftest import NewDaybook

FIELDS = {
    "positions": "account instrument currency quantity cost_basis average_cost realised_pnl fees"
    " mark market_value unrealised_pnl",
    "lots": "account instrument currency lot_id deal_id opened_at quantity remaining cost",
    "orders": "account order_id ids cl_ord_id instrument side order_type status quantity"
    " limit_price cum_quantity leaves_quantity average_price flags",
    "deals": "account deal_id ids order_id instrument side quantity price currency net fees status"
    " event_time trade_date settlement_date recorded_time flags",
    "balances": "account currency balance settled",
    "cash": "account cash_id kind amount currency event_time booked_date status",
    "accounts": "account base_currency",
    "movements": "account movement_id reason quantity",
    "instruments": "instrument kind currency",
    "prices": "instrument price currency event_time kind",
}
NUMBERS = {
    *("quantity", "cost_basis", "average_cost", "realised_pnl", "fees", "mark", "market_value"),
    *("unrealised_pnl", "remaining", "cost", "limit_price", "cum_quantity", "leaves_quantity"),
    *("average_price", "price", "net", "balance", "settled", "amount", "multiplier", "strike"),
}
PLAIN = re.compile(r"-?\d+(\.\d+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")

FILES = {
    "portfolios.csv": "portfolio,parent\nTOP,\nLEFT,TOP\nRIGHT,TOP\n",
    "accounts.csv": "account,base_currency,portfolio,method\nA1,USD,LEFT,fifo\n"
    "A2,EUR,RIGHT,average\n",
    "instruments.csv": "instrument,kind,currency,symbol\nAAPL,equity,USD,AAPL\n"
    "SAP,equity,EUR,SAP\n",
    "orders.csv": "account,order_id,instrument,side,quantity,order_type,event_time,limit_price\n"
    "A1,o1,AAPL,buy,10,limit,2024-01-02T14:00:00Z,186.00\n"
    "A1,o2,AAPL,buy,7,market,2024-01-02T14:00:00Z,\n",
    "deals.csv": "account,deal_id,order_id,instrument,side,quantity,price,currency,event_time,"
    "settlement_date,fee,fee_currency\n"
    "A1,d1,o1,AAPL,buy,10,185.50,USD,2024-01-02T14:30:00Z,2024-01-04,1.00,USD\n"
    "A1,d2,,AAPL,buy,5,190,USD,2024-01-03T14:30:00Z,2024-01-05,1.00,USD\n"
    "A1,d3,,AAPL,sell,12,200.25,USD,2024-01-04T14:30:00.123456789Z,2024-01-08,1,USD\n"
    "A2,d1,,SAP,buy,3,100,EUR,2024-01-04T14:30:00Z,2024-01-08,,\n"
    "A2,d2,,SAP,sell,3,100.10,EUR,2024-01-05T14:30:00Z,2024-01-09,,\n",
    "cash.csv": "account,kind,amount,currency,event_time,cash_id\n"
    "A1,deposit,10000,USD,2024-01-01T00:00:00Z,c1\nA2,deposit,5000.50,EUR,2024-01-01T00:00:00Z,c1\n",
    "movements.csv": "account,movement_id,reason,event_time,quantity,instrument,currency,lot_id,"
    "opened_at,cost,cost_currency\n"
    "A2,m1,opening,2024-01-01,7,MSFT,,L1,2020-05-05T10:00:00Z,700.70,USD\n",
    "prices.csv": "instrument,price,currency,event_time\n"
    "AAPL,199,USD,2024-01-03T21:00:00Z\nAAPL,201.5,USD,2024-01-05T21:00:00Z\n",
}


@pytest.fixture(scope="module")
def book(new_daybook: NewDaybook) -> CommandLine:
    """A small book; no test of this module changes it."""
    made = new_daybook()
    names = [made.write(name, content) for name, content in FILES.items()]
    counts = made.good("import", *names, "--json").json
    assert (counts["read"], counts["accepted"], counts["problems"]) == (19, 19, [])
    return made


def keyed(rows: list[dict[str, Any]], *key: str) -> dict[Any, dict[str, Any]]:
    return {tuple(row[name] for name in key): row for row in rows}


@pytest.mark.parametrize("query", FIELDS)
def test_every_query_has_its_fields_and_plain_values(book: CommandLine, query: str) -> None:
    rows = book.rows(query)
    assert rows
    for row in rows:
        assert set(FIELDS[query].split()) <= set(row)
        for name, value in row.items():
            if name in NUMBERS and value is not None and query != "accounts":
                assert isinstance(value, str)
                assert PLAIN.fullmatch(value), (name, value)
            if name.endswith(("_time", "_at")) and value is not None:
                assert TIME.fullmatch(value), (name, value)
    keys = [tuple(str(row[name]) for name in FIELDS[query].split()[:2]) for row in rows]
    assert keys == sorted(keys)


def test_the_figures_are_those_of_the_book(book: CommandLine) -> None:
    positions = keyed(book.rows("positions"), "account", "instrument")
    held = positions["A1", "AAPL"]
    # 12 sold at 200.25: ten that cost 185.50 and two that cost 190.
    assert {name: held[name] for name in FIELDS["positions"].split()[2:]} == {
        "currency": "USD",
        "quantity": "3",
        "cost_basis": "570",
        "average_cost": "190.0000000000",
        "realised_pnl": "168",
        "fees": "3",
        "mark": "201.5",
        "market_value": "604.5",
        "unrealised_pnl": "34.5",
    }
    closed = positions["A2", "SAP"]
    assert (closed["quantity"], closed["cost_basis"], closed["realised_pnl"]) == ("0", "0", "0.3")
    assert ("A2", "SAP") not in keyed(book.rows("positions", "--open"), "account", "instrument")
    balances = keyed(book.rows("balances"), "account", "currency")
    assert Decimal(balances["A1", "USD"]["balance"]) == 9595
    assert Decimal(balances["A2", "EUR"]["balance"]) == Decimal("5000.80")
    orders = keyed(book.rows("orders"), "order_id")
    assert (orders["o1",]["status"], orders["o1",]["average_price"]) == ("filled", "185.5000000000")
    assert (orders["o2",]["status"], orders["o2",]["leaves_quantity"]) == ("new", "7")
    lots = keyed(book.rows("lots", "--account", "A1"), "lot_id")
    assert (lots["d2",]["quantity"], lots["d2",]["remaining"], lots["d2",]["cost"]) == (
        *("5", "3", "570"),
    )
    assert [lot["lot_id"] for lot in book.rows("lots", "--open", "--account", "A1")] == ["d2"]


def test_rows_are_chosen_by_account_portfolio_and_instrument(book: CommandLine) -> None:
    def named(*options: str) -> set[tuple[str, str]]:
        return {(row["account"], row["instrument"]) for row in book.rows("positions", *options)}

    everything = {("A1", "AAPL"), ("A2", "SAP"), ("A2", "MSFT")}
    assert named("--portfolio", "TOP") == everything
    assert named("--portfolio", "RIGHT") == {("A2", "SAP"), ("A2", "MSFT")}
    assert named("--portfolio", "TOP", "--account", "A1") == {("A1", "AAPL")}
    assert named("--instrument", "SAP") == {("A2", "SAP")}
    assert named("--portfolio", "NONE") == named("--account", "NONE") == set()
    assert [row["account"] for row in book.rows("balances", "--portfolio", "LEFT")] == ["A1"]
    assert [row["account"] for row in book.rows("accounts", "--portfolio", "LEFT")] == ["A1"]


def test_a_date_compares_business_dates_and_an_instant_instants(book: CommandLine) -> None:
    def at(time: str) -> dict[str, Any]:
        (row,) = book.rows("positions", "--account", "A1", "--as-of", time)
        return row

    assert (at("2024-01-03")["quantity"], at("2024-01-03")["mark"]) == ("15", "199")
    assert at("2024-01-03T14:29:59.999999999Z")["quantity"] == "10"
    assert at("2024-01-03T15:30:00+01:00")["quantity"] == "15"
    assert at("2024-01-04T14:30:00.123456788Z")["quantity"] == "15"
    assert at("2024-01-04T14:30:00.123456789Z")["quantity"] == "3"
    assert book.rows("positions", "--account", "A1", "--as-of", "2024-01-01") == []
    (balance,) = book.rows("balances", "--account", "A1", "--as-of", "2024-01-04")
    assert (balance["balance"], balance["settled"]) == ("9595.00", "8144.00")
    placed = book.rows("orders", "--as-of", "2024-01-02T14:15:00Z")
    assert {row["status"] for row in placed} == {"new"}
    assert [row["deal_id"] for row in book.rows("deals", "--as-of", "2024-01-02")] == ["d1"]
    assert len(book.rows("prices", "--as-of", "2024-01-04")) == 1


def test_another_method_is_a_what_if(book: CommandLine) -> None:
    results = {
        method: [
            (row["cost_basis"], row["realised_pnl"])
            for row in book.rows("positions", "--account", "A1", "--method", method)
        ]
        for method in ("fifo", "lifo", "hifo", "average", "specific")
    }
    # Last in, first out: five at 190 and seven at 185.50; what is left cost 3 x 185.50.
    assert results["fifo"] == results["specific"] == [("570", "168")]
    assert results["lifo"] == results["hifo"] == [("556.5", "154.5")]
    assert results["average"] == [("561", "159")]
    assert book.rows("lots", "--account", "A1", "--method", "lifo", "--open")[0]["lot_id"] == "d1"


@pytest.mark.parametrize("query", ["positions", "deals", "orders", "cash"])
def test_every_format_holds_the_same(book: CommandLine, query: str, tmp_path: Path) -> None:
    rows = book.rows(query)
    written = {}
    for kind in ("csv", "arrow", "parquet", "json", "table"):
        path = tmp_path / f"out.{kind}"
        assert book.good(query, "--format", kind, "-o", str(path)).out == ""
        written[kind] = path.read_bytes()
    assert json.loads(written["json"]) == rows
    cells = list(csv.DictReader(io.StringIO(written["csv"].decode())))
    assert [list(row) for row in cells] == [list(row) for row in rows]
    arrow = pa.ipc.open_stream(written["arrow"]).read_all()
    parquet = pq.read_table(io.BytesIO(written["parquet"]))
    assert arrow.to_pylist() == parquet.to_pylist()
    for row, cell, typed in zip(rows, cells, arrow.to_pylist(), strict=True):
        for name in NUMBERS & set(row):
            assert cell[name] == (row[name] or "")
            assert typed[name] == (None if row[name] is None else Decimal(row[name]))
    for name in NUMBERS & set(arrow.column_names):
        assert pa.types.is_decimal128(arrow.schema.field(name).type)
    table = written["table"].decode()
    assert all(row["account"] in table for row in rows)
    assert list(tmp_path.glob(".*")) == []


def test_a_time_with_a_space_is_no_vector_of_positions() -> None:
    assert known_at_from("2024-01-05 15:00:00Z") == known_at_from("2024-01-05T15:00:00Z")


def test_what_was_known_is_the_same_after_any_correction(new_daybook: NewDaybook) -> None:
    book = new_daybook()
    book.imported("deals.csv", FILES["deals.csv"])
    book.imported("cash.csv", FILES["cash.csv"])
    book.imported("prices.csv", FILES["prices.csv"])
    then = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    time.sleep(0.002)
    asked = book.good("positions", "--known-at", then, "--format", "json")
    told = re.search(r"known at (\S+)", asked.err)
    assert told, asked.err
    vector = told[1]
    queries = ("positions", "lots", "deals", "balances")

    def answers(known_at: str) -> list[str]:
        asked = (book.good(one, "--known-at", known_at, "--format", "json") for one in queries)
        return [done.out for done in asked]

    before = answers(vector)
    assert before == answers(then)
    book.imported(
        "corrections.csv",
        "account,deal_id,ref_deal_id,action,instrument,side,quantity,price,currency,event_time\n"
        "A1,d1c,d1,correct,AAPL,buy,11,180,USD,2024-01-02T14:30:00Z\n"
        "A1,d2b,d2,bust,AAPL,buy,5,190,USD,2024-01-03T14:30:00Z\n"
        "A1,d0,,new,AAPL,buy,1,1,USD,2023-01-03T14:30:00Z\n",
    )
    book.imported(
        "revised.csv", "instrument,price,currency,event_time\nAAPL,999,USD,2024-01-05T21:00:00Z\n"
    )
    assert answers(vector) == before == answers(then)
    (now,) = book.rows("positions", "--account", "A1")
    # Bought 11 at 180 and one at 1, all sold at 200.25.
    assert (now["quantity"], now["realised_pnl"], now["cost_basis"]) == ("0", "422", "0")
    statuses = {row["deal_id"]: row["status"] for row in book.rows("deals", "--account", "A1")}
    assert statuses == {"d0": "effective", "d1": "corrected", "d2": "busted", "d3": "effective"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--as-of", "tomorrow"), "--as-of: 'tomorrow' is not valid; expected a date such as"),
        (("--as-of", "2024-02-30"), "--as-of: '2024-02-30'"),
        (("--as-of", "2024-01-02T10:00:00"), "with a zone"),
        (("--as-of", "0001-01-01"), "1678 to 2261"),
        (("--known-at", "3"), "--known-at: '3'"),
        (("--known-at", "tomorrow"), "or positions such as 0:12,3:55"),
        (("--known-at", "16:0"), "partitions from 0 to 15"),
        (("--known-at", "0:999"), "no further than 0:"),
        (("--known-at", "0:0,0:1"), "one for each partition"),
        (("--method", "newest"), "one of fifo, lifo, hifo, average, specific"),
        (("--format", "xml"), "xml"),
        (("-o", "/no/such/folder/out"), "-o: '/no/such/folder/out' is not valid; expected a file"),
        (("--account", ""), "--account: '' is not valid"),
    ],
)
def test_options_that_make_no_sense(book: CommandLine, options: tuple[str, ...], said: str) -> None:
    done = book("positions", *options)
    assert done.code == 2
    assert said in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("positions", "--account", "NONE"), "the ledger knows no account 'NONE'"),
        (("deals", "--portfolio", "NONE"), "the ledger knows no account in portfolio 'NONE'"),
        (("lots", "--instrument", "NONE"), "the ledger knows no instrument 'NONE'"),
        (("orders", "--method", "fifo"), "--method makes no difference to orders"),
        (("prices", "--account", "A1"), "--account makes no difference to prices"),
        (("positions", "--account", "A1", "--as-of", "1999-01-01"), ""),
    ],
)
def test_what_a_question_names_in_vain_is_told(
    book: CommandLine, words: tuple[str, ...], said: str
) -> None:
    done = book.good(*words)
    assert done.err == (f"daybook: {said}\n" if said else "")
