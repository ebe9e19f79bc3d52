"""IBKR Flex statements: every line of the ten real ones, and what no statement should be."""

from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from api.importing.flex import read_flex
from api.importing.lines import Fact, Line, Listed, Options, Problem
from domain.commands import MoveCash, MovePosition, RecordDeal, RecordPrice
from domain.events import CashLeg, Fee, LotTold, Relation, UnitLeg
from domain.times import Day, Instant

OPTIONS = Options(digest="d" * 64)
FRAMES = ("FlexQueryResponse", "FlexStatements", "FlexStatement")

# Counted by hand in the files: facts by command, and lines listed by tag. No line is a problem.
FACTS = {
    "01": {"RecordDeal": 14, "MovePosition": 3, "MoveCash": 7},
    "02": {"RecordDeal": 7, "MovePosition": 1, "MoveCash": 4},
    "05": {"RecordDeal": 2, "MoveCash": 1},
    "06": {"RecordDeal": 2, "MoveCash": 1},
    "12": {"RecordDeal": 4, "MoveCash": 14},
    "14": {"RecordDeal": 8, "MovePosition": 1, "MoveCash": 2, "RecordPrice": 720},
    "16": {"RecordDeal": 2},
    "20": {"RecordDeal": 1, "MovePosition": 1, "MoveCash": 2, "RecordPrice": 2},
    "23": {"MovePosition": 1, "MoveCash": 2},
    "26": {"RecordDeal": 1, "MoveCash": 3},
}
LISTED = {
    "01": {"FxTransaction": 15, "CorporateAction": 2},
    "02": {"AccountInformation": 1, "Trade": 1},
    "05": {"CashTransaction": 1},
    "06": {"AccountInformation": 1, "CashTransaction": 1},
    "12": {"AccountInformation": 1},
    "14": {"CashReportCurrency": 2},
    "16": {},
    "20": {
        "AccountInformation": 1,
        "CashReportCurrency": 4,
        "AssetSummary": 1,
        "SymbolSummary": 1,
        "Order": 1,
        "ChangeInDividendAccrual": 2,
        "OpenDividendAccrual": 2,
    },
    "23": {"AccountInformation": 1},
    "26": {"AccountInformation": 2},
}


class Statements:
    """The real files, read once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, list[Line]] = {}

    def path(self, name: str) -> str:
        return str(self._folder / f"flex-{name}.xml")

    def lines(self, name: str) -> list[Line]:
        if name not in self._read:
            self._read[name] = list(read_flex(self.path(name), OPTIONS))
        return self._read[name]

    def fact(self, name: str, line: int) -> Fact:
        (found,) = (each for each in self.lines(name) if each.line == line)
        assert isinstance(found, Fact)
        return found

    def command(self, name: str, line: int) -> Any:
        return self.fact(name, line).request.command


@pytest.fixture(scope="module")
def statements(shared_data: Path) -> Statements:
    return Statements(shared_data / "ibkr-flex")


@pytest.mark.parametrize("name", sorted(FACTS))
def test_every_kind_of_line_is_counted(statements: Statements, name: str) -> None:
    lines = statements.lines(name)
    facts = Counter(type(each.request.command).__name__ for each in lines if isinstance(each, Fact))
    listed = Counter(each.kind for each in lines if isinstance(each, Listed))
    assert facts == FACTS[name]
    assert listed == LISTED[name]
    assert not [each for each in lines if isinstance(each, Problem)]


@pytest.mark.parametrize("name", sorted(FACTS))
def test_every_line_of_the_file_is_accounted_for_once(statements: Statements, name: str) -> None:
    told = etree.parse(statements.path(name)).xpath("//*[@*]")
    expected = sorted(each.sourceline for each in told if each.tag not in FRAMES)
    assert sorted(each.line for each in statements.lines(name)) == expected


@pytest.mark.parametrize("name", sorted(FACTS))
def test_ids_are_unique_and_the_same_when_read_again(statements: Statements, name: str) -> None:
    facts = [each for each in statements.lines(name) if isinstance(each, Fact)]
    ids = [each.request.command_id for each in facts]
    assert len(set(ids)) == len(ids)
    again = [each for each in read_flex(statements.path(name), OPTIONS) if isinstance(each, Fact)]
    assert again == facts


@pytest.mark.parametrize("name", sorted(FACTS))
def test_names_and_aliases_are_nowhere(statements: Statements, name: str) -> None:
    held = repr([each.request for each in statements.lines(name) if isinstance(each, Fact)])
    assert "Mustermann" not in held
    assert "John Doe" not in held
    assert "XXXXXXXX XXXXXXXXXX" not in held


@pytest.mark.parametrize(
    ("name", "account", "currency"),
    [
        ("01", "U123456", "CHF"),
        ("02", "U1234567", "EUR"),
        ("05", "U1234567", "EUR"),
        ("06", "U1234567", "EUR"),
        ("12", "XXXXXUSD", "EUR"),
        ("14", "U000000", "CHF"),
        ("16", "U12345678", "USD"),
        ("20", "U1234567", "EUR"),
        ("23", "UXXXXXXX", "EUR"),
    ],
)
def test_accounts_are_opened_as_the_statement_says(
    statements: Statements, name: str, account: str, currency: str
) -> None:
    facts = [each for each in statements.lines(name) if isinstance(each, Fact)]
    of_account = [each for each in facts if not isinstance(each.request.command, RecordPrice)]
    assert {each.request.key for each in of_account} == {account}
    settings = {(each.opens.base_currency, each.opens.actions) for each in of_account if each.opens}
    assert settings == {(currency, "booked")}


def test_a_trade_is_a_deal_as_told(statements: Statements) -> None:
    fact = statements.fact("01", 5)
    deal = fact.request.command
    assert isinstance(deal, RecordDeal)
    assert fact.request.event_time == "2013-04-01T13:34:06.000000000Z"
    assert (deal.deal_id, deal.instrument, deal.side) == ("855937427", "conid:80845553", "buy")
    assert (deal.quantity, deal.price, deal.gross, deal.net) == (
        Decimal(5000),
        Decimal("0.27"),
        Decimal(1350),
        Decimal("-1356.75"),
    )
    assert deal.fees == (
        Fee(
            kind="commission",
            amount=Decimal("6.75"),
            currency="CAD",
            settlement_date=Day("2013-04-01"),
        ),
    )
    assert (deal.trade_date, deal.booked_date, deal.settlement_date) == (
        "2013-04-01",
        "2013-04-01",
        "2013-04-04",
    )
    assert deal.ids["ibOrderID"] == "437137993"
    assert deal.order_id is None
    assert deal.identifiers == {
        "conid": "80845553",
        "isin": "CA38501D2041",
        "symbol": "GCM",
    }


def test_what_is_unique_for_a_day_is_qualified_by_it(statements: Statements) -> None:
    told = [statements.command("01", line).ids["extExecID"] for line in (8, 16, 17)]
    assert told == ["2013-01-02/5173.UUU.B", "2013-01-03/212.UUU.B", "2013-02-19/261.UUU.B"]


def test_one_symbol_is_two_instruments(statements: Statements) -> None:
    split = statements.command("01", 40)
    assert statements.command("01", 5).identifiers["symbol"] == "GCM"
    assert [leg.instrument for leg in split.legs] == ["conid:129258970", "conid:80845553"]


def test_an_option_is_defined_with_its_terms(statements: Statements) -> None:
    ((instrument, terms),) = statements.fact("02", 7).defines
    assert instrument == "conid:268828466"
    assert (terms.kind, terms.right, terms.strike, terms.expiry, terms.multiplier) == (
        "option",
        "put",
        Decimal(50),
        "2017-09-15",
        Decimal(100),
    )
    assert terms.underlying == "conid:272800"
    assert statements.command("02", 7).gross == Decimal(53)
    assert statements.command("02", 7).net == Decimal("49.5")


def test_an_assignment_moves_the_option_and_what_it_delivers(statements: Statements) -> None:
    fact = statements.fact("02", 6)
    movement = fact.request.command
    assert isinstance(movement, MovePosition)
    assert fact.request.event_time == "2017-09-15T20:20:00.000000000Z"
    assert fact.request.flags == ("net_differs",)
    assert movement.reason == "assignment"
    assert movement.cash == (
        CashLeg(currency="USD", amount=Decimal(-5000), settlement_date=Day("2017-09-19")),
    )
    assert [(leg.instrument, leg.quantity) for leg in movement.legs] == [
        ("conid:272800", Decimal(100)),
        ("conid:268828466", Decimal(1)),
    ]
    assert [lot.cost for leg in movement.legs for lot in leg.lots] == [Decimal(5000), Decimal(0)]
    (other,) = (each for each in statements.lines("02") if each.line == 8)
    assert other == Listed(8, "Trade", "part of a movement that an earlier line tells")


def test_a_tender_a_split_and_a_merger_are_movements(statements: Statements) -> None:
    tender, split, merger = (statements.command("01", line) for line in (38, 40, 42))
    assert tender.legs == (
        UnitLeg(instrument="conid:44924734", quantity=Decimal(-12000), currency="CAD"),
        UnitLeg(instrument="conid:123720813", quantity=Decimal(12000), currency="CAD"),
    )
    assert [leg.quantity for leg in split.legs] == [Decimal(480), Decimal(-12000)]
    assert merger.legs == (
        UnitLeg(instrument="conid:123720813", quantity=Decimal(-12000), currency="CAD"),
    )
    assert merger.cash == (CashLeg(currency="CAD", amount=Decimal(34320)),)
    assert merger.booked_date == "2013-10-25"
    assert statements.fact("01", 42).request.event_time == "2013-10-24T00:25:00.000000000Z"
    liquidation = statements.command("23", 6)
    assert liquidation.cash == (CashLeg(currency="USD", amount=Decimal("405.4249")),)
    assert [leg.quantity for leg in liquidation.legs] == [Decimal(-367)]


def test_units_bought_equal_units_tendered(statements: Statements) -> None:
    """An independent sum: UUU and GCM bought in F01 are what the actions took away."""
    told = etree.parse(statements.path("01"))
    bought = sum(Decimal(each) for each in told.xpath("//Trade[@symbol='UUU']/@quantity"))
    assert bought == -statements.command("01", 38).legs[0].quantity


def test_a_deal_without_a_price_has_the_net_its_cost_is(statements: Statements) -> None:
    fact, deal = statements.fact("12", 8), statements.command("12", 8)
    assert (deal.price, deal.gross, deal.net) == (None, None, Decimal("-4545.5"))
    assert [fee.amount for fee in deal.fees] == [Decimal(2)]
    assert fact.request.flags == ("net_from_cost",)


def test_two_equal_fees_are_two(statements: Statements) -> None:
    first, second = statements.command("12", 22), statements.command("12", 23)
    assert first.amount == second.amount == Decimal("-1.34")
    assert first.cash_id.removesuffix("-1") == second.cash_id.removesuffix("-2")


def test_a_balance_changes_when_it_was_booked(statements: Statements) -> None:
    fact = statements.fact("23", 9)
    cash = fact.request.command
    assert isinstance(cash, MoveCash)
    assert fact.request.event_time == "2020-02-18T04:59:59.999999999Z"
    assert (cash.booked_date, cash.time_precision) == ("2020-02-17", "day")
    assert cash.relates_to == Relation(date=Day("2019-05-15"))
    assert (cash.kind, cash.amount) == ("withholding", Decimal("8.97"))
    assert fact.note is not None
    assert fact.note.startswith("JMLP(US67075E1082)")


def test_a_payment_and_its_opposite_are_both_told(statements: Statements) -> None:
    told = [statements.command("20", line) for line in (20, 21)]
    assert [(each.cash_id, each.amount) for each in told] == [
        ("1453669036", Decimal("28.5")),
        ("1453669038", Decimal("-28.5")),
    ]


def test_currencies_exchanged_are_a_deal_in_a_pair(statements: Statements) -> None:
    deal = statements.command("14", 16)
    assert (deal.instrument, deal.kind, deal.side) == ("CHF/USD", "fx", "sell")
    assert (deal.quantity, deal.gross, deal.net) == (Decimal(1200), Decimal("1301.04"), None)
    assert [(fee.amount, fee.currency) for fee in deal.fees] == [(Decimal("1.84194"), "CHF")]


def test_a_rate_is_a_price_of_a_pair(statements: Statements) -> None:
    fact = statements.fact("14", 24)
    assert (fact.request.key, fact.opens) == ("MXN/CHF", None)
    assert fact.request.command == RecordPrice(
        price=Decimal("0.048833"),
        currency="CHF",
        price_date=Day("2023-02-01"),
        source="ibkr-flex",
        time_precision="day",
    )


@pytest.mark.parametrize("currency", ["CHF", "USD"])
def test_the_cash_report_is_met_to_the_last_digit(statements: Statements, currency: str) -> None:
    """Opening, deals and payments, summed from the facts, are the file's own ending balances."""
    balance, settled = _folded(statements.lines("14"), settled_by="2023-02-28")
    told = etree.parse(statements.path("14"))
    (report,) = told.xpath(f"//CashReportCurrency[@currency='{currency}']")
    assert balance[currency] == Decimal(report.get("endingCash"))
    assert settled[currency] == Decimal(report.get("endingSettledCash"))


@pytest.mark.parametrize("currency", ["AUD", "CAD", "EUR", "USD"])
def test_a_cut_statement_lacks_what_its_report_says_was_cut(
    statements: Statements, currency: str
) -> None:
    """F20 has lost its dividends and most of its tax: exactly those are missing from the book."""
    balance, _ = _folded(statements.lines("20"), settled_by="2023-05-24")
    told = etree.parse(statements.path("20"))
    (report,) = told.xpath(f"//CashReportCurrency[@currency='{currency}']")
    lost = Decimal(report.get("dividends")) + Decimal(report.get("withholdingTax"))
    assert balance[currency] + lost == Decimal(report.get("endingCash"))


def _folded(lines: list[Line], settled_by: str) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    balance: dict[str, Decimal] = defaultdict(Decimal)
    settled: dict[str, Decimal] = defaultdict(Decimal)

    def post(currency: str, amount: Decimal, date: str | None) -> None:
        balance[currency] += amount
        if date is None or date <= settled_by:
            settled[currency] += amount

    for line in lines:
        command = line.request.command if isinstance(line, Fact) else None
        match command:
            case MovePosition():
                for leg in command.cash:
                    post(leg.currency, leg.amount, leg.settlement_date)
            case MoveCash():
                post(command.currency, command.amount, command.settlement_date)
            case RecordDeal():
                sign = 1 if command.side == "buy" else -1
                assert command.gross is not None
                post(command.currency, -sign * command.gross, command.settlement_date)
                if command.kind == "fx":
                    base = command.instrument.partition("/")[0]
                    post(base, sign * command.quantity, command.settlement_date)
                for fee in command.fees:
                    post(fee.currency, -fee.amount, fee.settlement_date)
    return balance, settled


def test_lines_of_another_account_are_listed(statements: Statements) -> None:
    (other,) = (each for each in statements.lines("05") if each.line == 10)
    assert isinstance(other, Listed)
    assert "U2379850" in other.reason
    asked = Options(digest="d" * 64, account="U2379850")
    facts = [each for each in read_flex(statements.path("05"), asked) if isinstance(each, Fact)]
    assert [(each.line, each.request.key) for each in facts] == [(10, "U2379850")]


def test_a_file_of_two_statements_is_of_two_accounts(statements: Statements) -> None:
    facts = [each for each in statements.lines("26") if isinstance(each, Fact)]
    opened = [(each.request.key, each.opens.base_currency) for each in facts if each.opens]
    assert opened == [("U1234567", "USD")] * 2 + [("U1234568", "EUR")] * 2
    asked = Options(digest="d" * 64, account="U1234568")
    only = [each for each in read_flex(statements.path("26"), asked) if isinstance(each, Fact)]
    assert [each.line for each in only] == [12, 13]


def test_a_lot_is_told_with_the_deal_that_made_it(statements: Statements) -> None:
    stock = statements.command("02", 6).legs[0]
    assert stock.lots == (
        LotTold(
            lot="1908991475",
            quantity=Decimal(100),
            opened_at=Instant("2017-09-15T20:20:00.000000000Z"),
            cost=Decimal(5000),
        ),
    )
