"""CSV files as facts: each kind of table, what its rows come to, and ids that stay."""

import gzip
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import pytest

from api.importing import table_reading
from api.importing.csv_files import read_csv
from api.importing.lines import Fact, Options, Problem
from api.importing.table_reading import read_table
from api.importing.tables import TABLES, recognise
from domain import commands
from domain.events import CashLeg, Fee, LotPick, LotTold, Relation, UnitLeg
from tests.api.csv_lines import OPTIONS, Read, facts, one, problem, reader

DEALS = "account,deal_id,instrument,quantity,price,currency,event_time"


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path / "table.csv")


def test_deal_with_all_its_columns(read: Read) -> None:
    columns = {
        "account": "A1",
        "instrument": "ESH4",
        "quantity": "2",
        "currency": "USD",
        "event_time": "2024-01-02T09:30:00.5-05:00",
        "price": "4750.25",
        "deal_id": "d1",
        "side": "sell",
        "order_id": "o1",
        "fee": "4.10",
        "fee_currency": "EUR",
        "settlement_date": "2024-01-04",
        "kind": "future",
        "multiplier": "50",
        "effect": "close",
        "short": "exempt",
        "lots": "l:1:1.5;l2:0.5",
        "venue": "XCME",
        "broker": "B",
        "trader": "T",
        "strategy": "S",
        "tags": "a; b",
        "trade_date": "2024-01-03",
    }
    fact = one(read(",".join(columns) + "\n" + ",".join(columns.values()) + "\n"))
    command = fact.request.command
    assert isinstance(command, commands.RecordDeal)
    assert fact.line == 2
    assert fact.request.key == "A1"
    assert fact.request.event_time == "2024-01-02T14:30:00.500000000Z"
    assert fact.request.source == commands.Source(digest="ab" * 32, line=2)
    assert command == commands.RecordDeal(
        time_precision="milli",
        deal_id="d1",
        instrument="ESH4",
        side="sell",
        quantity=Decimal(2),
        currency="USD",
        price=Decimal("4750.25"),
        fees=(Fee(kind="commission", amount=Decimal("4.10"), currency="EUR"),),
        order_id="o1",
        trade_date="2024-01-03",  # type: ignore[arg-type]
        settlement_date="2024-01-04",  # type: ignore[arg-type]
        effect="close",
        short="exempt",
        lots=(
            LotPick(lot="l:1", quantity=Decimal("1.5")),
            LotPick(lot="l2", quantity=Decimal("0.5")),
        ),
        venue="XCME",
        broker="B",
        trader="T",
        strategy="S",
        tags=("a", "b"),
        kind="future",
        multiplier=Decimal(50),
    )
    assert fact.opens == commands.OpenAccount(base_currency="USD")
    assert fact.defines == (
        (
            "ESH4",
            commands.DefineInstrument(kind="future", currency="USD", multiplier=Decimal(50)),
        ),
    )


def test_side_is_the_sign_where_it_is_not_told_and_quantities_stay_exact(read: Read) -> None:
    quantity = "-" + "1234567890" * 3 + ".12345678"
    fact = one(read(f"{DEALS}\nA1,d1,X,{quantity},-37.63,USD,2024-01-02T14:30:00Z\n"))
    command = fact.request.command
    assert isinstance(command, commands.RecordDeal)
    assert (command.side, str(command.quantity)) == ("sell", quantity[1:])
    assert command.price == Decimal("-37.63")


def test_net_may_stand_for_a_price(read: Read) -> None:
    header = "account,instrument,quantity,currency,trade_date,net"
    command = one(read(f"{header}\nA1,X,5,USD,2024-01-02,-100.50\n")).request.command
    assert isinstance(command, commands.RecordDeal)
    assert (command.price, command.net) == (None, Decimal("-100.50"))


@pytest.mark.parametrize("columns", ["event_time", "trade_date"])
def test_date_alone_is_the_end_of_the_day_in_the_accounts_zone(read: Read, columns: str) -> None:
    def zone_of(kind: str, name: str) -> str | None:
        return "America/New_York" if (kind, name) == ("account", "A1") else None

    text = (
        f"account,deal_id,instrument,quantity,price,currency,{columns}\n"
        "A1,d1,X,1,1,USD,2024-01-02\nA2,d2,X,1,1,USD,2024-01-02\n"
    )
    first, second = facts(read(text, Options(digest="0", zone_of=zone_of)))
    assert first.request.event_time == "2024-01-03T04:59:59.999999999Z"
    assert second.request.event_time == "2024-01-02T23:59:59.999999999Z"
    for fact in (first, second):
        assert isinstance(fact.request.command, commands.RecordDeal)
        assert fact.request.command.time_precision == "day"
        assert fact.request.command.trade_date == "2024-01-02"


def test_time_without_a_zone_takes_the_one_of_the_options(read: Read) -> None:
    options = Options(digest="0", zone="America/New_York")
    text = f"{DEALS}\nA1,d1,X,1,1,USD,2024-07-01 09:30:00\n"
    assert one(read(text, options)).request.event_time == "2024-07-01T13:30:00.000000000Z"
    # The clocks of New York were put forward over the one, and back over the other.
    for time, how_often in (("2024-03-10T02:30:00", "never"), ("2024-11-03T01:30:00", "twice")):
        found = problem(read(f"{DEALS}\nA1,d1,X,1,1,USD,{time}\n", options))
        assert (found.field, found.value) == ("event_time", time)
        assert "America/New_York" in found.reason
        assert how_often in found.reason
        assert one(read(f"{DEALS}\nA1,d1,X,1,1,USD,{time}-05:00\n", options)).request


def test_bust_and_correct(read: Read) -> None:
    text = (
        f"{DEALS},action,ref_deal_id\n"
        "A1,b1,,,,,2024-01-02T14:30:00Z,bust,d1\n"
        "A1,c1,X,3,10.5,USD,2024-01-02T14:30:00Z,correct,d2\n"
    )
    bust, correct = facts(read(text))
    assert bust.request.command == commands.BustDeal(
        time_precision="second", deal_id="b1", ref_deal_id="d1"
    )
    assert isinstance(correct.request.command, commands.CorrectDeal)
    assert correct.request.command.ref_deal_id == "d2"
    assert bust.defines == ()


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("A1,b1,,,,,2024-01-02T14:30:00Z,bust,", "ref_deal_id"),
        ("A1,c1,X,3,10.5,USD,2024-01-02T14:30:00Z,correct,", "ref_deal_id"),
        ("A1,c1,X,3,10.5,USD,2024-01-02T14:30:00Z,new,d1", "ref_deal_id"),
        ("A1,c1,X,3,,USD,2024-01-02T14:30:00Z,,", "price"),
        ("A1,c1,,3,1,USD,2024-01-02T14:30:00Z,,", "instrument"),
        ("A1,c1,X,3,1,USD,,,", "event_time"),
        (",c1,X,3,1,USD,2024-01-02T14:30:00Z,,", "account"),
    ],
)
def test_deal_that_lacks_or_has_what_its_action_forbids(read: Read, row: str, field: str) -> None:
    found = problem(read(f"{DEALS},action,ref_deal_id\n{row}\n"))
    assert (found.line, found.field) == (2, field)
    assert found.reason.startswith("expected ")


def test_rows_without_an_id_get_one_of_content_and_ordinal(read: Read) -> None:
    header = "account,instrument,quantity,price,currency,event_time"
    row = "A1,X,5,10,USD,2024-01-02T14:30:00Z"
    ids = [
        fact.request.command.deal_id  # type: ignore[union-attr]
        for fact in facts(read(f"{header}\n{row}\n{row}\n{row.replace('5', '5.0', 1)}\n"))
    ]
    assert len(set(ids)) == 3
    assert [name.rpartition("-")[2] for name in ids] == ["1", "2", "3"]
    other_order = "currency,account,price,instrument,quantity,event_time"
    again = one(read(f"{other_order}\nUSD,A1,10.00,X,5,2024-01-02T15:30:00+01:00\n"))
    assert again.request.command.deal_id == ids[0]  # type: ignore[union-attr]


def test_reading_twice_gives_the_same_commands_and_other_content_another(read: Read) -> None:
    text = f"{DEALS}\nA1,d1,X,1,1,USD,2024-01-02T14:30:00Z\n"
    first, second = one(read(text)), one(read(text))
    other = one(read(text.replace("X,1,1", "X,1,2")))
    assert first == second
    assert first.request.command_id != other.request.command_id


def test_orders(read: Read) -> None:
    text = (
        "account,order_id,instrument,side,quantity,order_type,event_time,limit_price,"
        "time_in_force,expire_time,parent_id\n"
        "A1,o1,X,buy,100,limit,2024-01-02T14:30:00Z,9.99,gtd,2024-01-05,p1\n"
    )
    command = one(read(text)).request.command
    assert command == commands.PlaceOrder(
        time_precision="second",
        order_id="o1",
        instrument="X",
        side="buy",
        quantity=Decimal(100),
        order_type="limit",
        limit_price=Decimal("9.99"),
        time_in_force="gtd",
        expire_time="2024-01-05T23:59:59.999999999Z",  # type: ignore[arg-type]
        parent_id="p1",
    )


def test_fees_are_told_from_cash(read: Read) -> None:
    header = "account,deal_id,kind,amount,currency,event_time"
    fee = one(read(f"{header}\nA1,d1,sec_fee,0.02,USD,2024-01-02T14:30:00Z\n")).request.command
    assert isinstance(fee, commands.RecordFees)
    assert fee.fees == (Fee(kind="sec_fee", amount=Decimal("0.02"), currency="USD"),)
    tax = one(read(f"{header}\nA1,d1,tax,0.02,USD,2024-01-02T14:30:00Z\n")).request.command
    assert isinstance(tax, commands.RecordFees)
    # Taken from the account as cash, given to it as a fee: which it is must be said.
    found = problem(read(f"{header}\nA1,d1,tax,-5.00,USD,2024-01-02T14:30:00Z\n"))
    assert (found.field, found.value) == ("amount", "-5.00")
    assert "fee_id" in found.reason
    assert "cash_id" in found.reason
    rebate = f"{header},fee_id\nA1,d1,tax,-5.00,USD,2024-01-02T14:30:00Z,\n"
    assert isinstance(one(read(rebate)).request.command, commands.RecordFees)
    dividend = f"{header}\nA1,d1,dividend,5,USD,2024-01-02T14:30:00Z\n"
    assert "cash_id" in problem(read(dividend)).reason
    with_id = dividend.replace("time\n", "time,cash_id\n").replace("Z\n", "Z,\n")
    assert isinstance(one(read(with_id)).request.command, commands.MoveCash)


def test_cash_keeps_its_note_out_of_the_command(read: Read) -> None:
    header = "account,kind,amount,currency,event_time,cash_id,relates_to,deal_id,note"
    row = 'A1,fee,-1.25,EUR,2024-01-02,c1,2019-05-01,d1,"Miller, J.\nsecond line"'
    fact = one(read(f"{header}\r\n{row}\r\n"))
    assert fact.note == "Miller, J.\nsecond line"
    assert fact.request.command == commands.MoveCash(
        time_precision="day",
        cash_id="c1",
        kind="fee",
        amount=Decimal("-1.25"),
        currency="EUR",
        booked_date="2024-01-02",  # type: ignore[arg-type]
        relates_to=Relation(date="2019-05-01", deal_id="d1"),  # type: ignore[arg-type]
    )


def test_cash_taken_back(read: Read) -> None:
    header = "account,kind,amount,currency,event_time,cash_id,action,ref_cash_id"
    fact = one(read(f"{header}\nA1,,,,2024-01-02T10:00:00Z,r1,reverse,c1\n"))
    assert isinstance(fact.request.command, commands.ReverseCash)
    assert fact.request.command.ref_cash_id == "c1"


def test_equal_cash_rows_differ_by_ordinal_and_not_by_note(read: Read) -> None:
    header = "account,kind,amount,currency,event_time,note"
    text = f"{header}\nA1,fee,-1,USD,2024-01-02,x\nA1,fee,-1,USD,2024-01-02,y\n"
    first, second = (fact.request.command.cash_id for fact in facts(read(text)))  # type: ignore[union-attr]
    assert (first[:-2], first[-2:], second[-2:]) == (second[:-2], "-1", "-2")


MOVEMENTS = (
    "account,movement_id,reason,event_time,quantity,instrument,currency,lot_id,opened_at,cost,"
    "cost_currency\n"
)


def test_rows_of_one_movement_are_one_fact(read: Read) -> None:
    text = (
        MOVEMENTS + "A1,m1,opening,2024-01-02,10,X,,l1,2020-05-01,1000.10,EUR\n"
        "A1,m1,opening,2024-01-02,-5,Y,,,,250,\n"
        "A1,m1,opening,2024-01-02,99.5,,CHF,,,,\n"
        "A2,m1,exercise,2024-01-03T10:00:00Z,1,X,,,,,\n"
    )
    first, second = facts(read(text))
    command = first.request.command
    assert isinstance(command, commands.MovePosition)
    assert first.request.event_time == "2024-01-02T00:00:00.000000000Z"
    assert command.legs == (
        UnitLeg(
            instrument="X",
            quantity=Decimal(10),
            currency="EUR",
            lots=(
                LotTold(
                    lot="l1",
                    quantity=Decimal(10),
                    opened_at="2020-05-01T00:00:00.000000000Z",  # type: ignore[arg-type]
                    cost=Decimal("1000.10"),
                ),
            ),
        ),
        UnitLeg(
            instrument="Y",
            quantity=Decimal(-5),
            currency="USD",
            lots=(LotTold(lot="m1/2", quantity=Decimal(-5), cost=Decimal(-250)),),
        ),
    )
    assert command.cash == (CashLeg(currency="CHF", amount=Decimal("99.5")),)
    assert (second.line, second.request.key) == (5, "A2")
    assert isinstance(second.request.command, commands.MovePosition)
    assert second.request.command.legs[0].currency == "EUR"


def test_currency_of_cost_is_the_instruments_where_the_ledger_knows_it(read: Read) -> None:
    options = Options(digest="0", currency_of=lambda name: "JPY" if name == "X" else None)
    text = MOVEMENTS + "A1,m1,expiry,2024-01-02,10,X,,,,,\n"
    command = one(read(text, options)).request.command
    assert isinstance(command, commands.MovePosition)
    assert command.legs[0].currency == "JPY"


def test_movement_with_one_bad_row_is_left_out_whole_and_named(read: Read) -> None:
    text = (
        MOVEMENTS + "A1,m1,opening,2024-01-02,10,X,,,,,\n"
        "A1,m1,opening,2024-01-02,0,Y,,,,,\n"
        "A1,m2,opening,2024-01-02,1,Y,,,,,\n"
    )
    bad, left_out, fact = read(text)
    assert isinstance(bad, Problem)
    assert isinstance(left_out, Problem)
    assert isinstance(fact, Fact)
    assert (bad.line, bad.field, left_out.line, left_out.value) == (3, "quantity", 2, "m1")
    assert (bad.counts, left_out.counts) == (True, False)


def test_movement_with_a_row_that_cannot_be_split_is_left_out(read: Read) -> None:
    text = (
        MOVEMENTS + "A1,m0,opening,2024-01-02,10,X,,,,,\n"
        'A1,m1,opening,2024-01-02,10,"X"x,,,,,\n'
        "A1,m1,opening,2024-01-02,1,Y,,,,,\n"
    )
    lines = read(text)
    assert [line.line for line in lines if isinstance(line, Fact)] == [2]
    found = [line for line in lines if isinstance(line, Problem)]
    assert [(line.line, line.counts) for line in found] == [(3, True), (4, False)]


def test_rows_of_a_movement_are_one_fact_wherever_they_stand(read: Read) -> None:
    rows = [f"A1,m{n % 3},opening,2024-01-02,{n + 1},X{n},,,,,\n" for n in range(7)]
    m1, m2, m0 = facts(read(MOVEMENTS + "".join(rows)))
    for fact, line, quantities in ((m0, 2, [1, 4, 7]), (m1, 3, [2, 5]), (m2, 4, [3, 6])):
        assert isinstance(fact.request.command, commands.MovePosition)
        assert fact.line == line
        assert [leg.quantity for leg in fact.request.command.legs] == quantities


def test_a_movement_whose_rows_are_apart_or_disagree_is_left_out_whole(read: Read) -> None:
    text = (
        MOVEMENTS + "A1,m1,opening,2024-01-02,10,X,,,,,\n"
        "A1,m2,opening,2024-01-02,1,Y,,,,,\n"
        'A1,m1,opening,2024-01-02,10,"Z"z,,,,,\n'
        "A1,m3,opening,2024-01-02,1,Y,,,,,\nA1,m3,expiry,2024-01-02,1,Y,,,,,\n"
        "A1,m1,opening,2024-01-02,10,Z,USD,,,,\n"
    )
    lines = read(text)
    assert [line.line for line in lines if isinstance(line, Fact)] == [3]
    found = [line for line in lines if isinstance(line, Problem)]
    assert [(line.line, line.field, line.counts) for line in found] == [
        (4, "instrument", True),
        (6, "reason", True),
        (5, "movement_id", False),
        (7, "currency", False),
        (2, "movement_id", False),
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_row_that_cannot_be_split_spoils_its_movement_wherever_it_stands(
    read: Read, order: tuple[int, ...]
) -> None:
    rows = (
        "A1,m1,opening,2024-01-02,10,X,,,,,\n",
        "A1,m2,opening,2024-01-02,1,Y,,,,,\n",
        'A1,m1,opening,2024-01-02,10,"Z"z,,,,,\n',
    )
    lines = read(MOVEMENTS + "".join(rows[place] for place in order))
    (fact,) = (line for line in lines if isinstance(line, Fact))
    assert fact.line == 2 + order.index(1)
    found = [line for line in lines if isinstance(line, Problem)]
    assert {line.line for line in found} == {2 + order.index(0), 2 + order.index(2)}
    assert [line.counts for line in found] == [True, False]


def test_a_row_that_names_many_movements_counts_for_those_that_were_not_counted(
    read: Read,
) -> None:
    ids = [f"m{number}" for number in range(8)]
    bad = "".join(f"A1,{name},opening,2024-01-02,x,X,,,,,\n" for name in ids[1:])
    good = "A1,m0,opening,2024-01-02,1,X,,,,,\n"
    lines = read(f'{MOVEMENTS}{bad}{good}"{",".join(ids)}"x\n')
    found = [line.counts for line in lines if isinstance(line, Problem)]
    assert found == [True] * 8 + [False]


def test_movements_that_still_wait_at_the_end_are_told_of(read: Read) -> None:
    records = [(2, ["A1", "m1", "opening", "2024-01-02", "10", "X", "", "", "", "", ""])]
    other = (3, ["A1", "m2", *records[0][1][2:]])
    before = [records[0], other, records[0]]  # as it was when it was looked through
    header = MOVEMENTS.strip().split(",")
    lines = list(read_table(header, [records[0], other], lambda: before, OPTIONS))
    assert [(type(line), line.line) for line in lines] == [(Fact, 3), (Problem, 2)]


def test_a_table_of_which_too_much_cannot_be_split_is_refused(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_reading, "MOST_PARTS", 4)
    text = MOVEMENTS + 'A1,m1,opening,2024-01-02,10,"Z"z,,,,,\n'
    assert problem(read(text)).reason.startswith("expected records that can be split")


def test_more_rows_that_wait_for_others_than_memory_holds_are_refused(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_reading, "MOST_APART", 1)
    rows = "".join(f"A1,m{n % 2},opening,2024-01-02,1,X,,,,,\n" for n in range(4))
    assert problem(read(MOVEMENTS + rows)).value == "2 ids"


def test_movement_row_is_of_an_instrument_or_a_currency(read: Read) -> None:
    both = MOVEMENTS + "A1,m1,opening,2024-01-02,10,X,USD,,,,\n"
    neither = MOVEMENTS + "A1,m1,opening,2024-01-02,10,,,,,,\n"
    lot_of_cash = MOVEMENTS + "A1,m1,opening,2024-01-02,10,,USD,l1,,,\n"
    found = [problem(read(text)).field for text in (both, neither, lot_of_cash)]
    assert found == ["currency", "instrument", "lot_id"]


def test_gzipped_and_marked_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "deals.csv.gz"
    text = f"\ufeff{DEALS}\r\n\r\nA1,d1,X,1,1,USD,2024-01-02T14:30:00Z\r\n\r\n"
    path.write_bytes(gzip.compress(text.encode()))
    assert one(list(read_csv(str(path), OPTIONS))).line == 3


def test_header_alone_holds_nothing(read: Read) -> None:
    assert read(f"{DEALS}\n") == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_each_kind_is_recognised_by_what_it_must_have(table: object) -> None:
    header = (*table.header, *(pair[0] for pair in table.either))  # type: ignore[attr-defined]
    assert recognise(header) is table
