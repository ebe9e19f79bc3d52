"""Flex files that are made up: cancels and corrections, broken XML, bad values, mutations."""

import gzip
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.importing.flex import read_flex
from api.importing.lines import Fact, Line, Listed, Options, Problem, UnreadableFile
from domain.commands import BustDeal, CorrectDeal, MovePosition, RecordDeal

OPTIONS = Options(digest="d" * 64)
HEAD = (
    '<FlexQueryResponse queryName="Q" type="AF">\n<FlexStatements count="1">\n'
    '<FlexStatement accountId="U1" fromDate="20240101" toDate="20240131">\n'
)
FOOT = "</FlexStatement>\n</FlexStatements>\n</FlexQueryResponse>\n"
TRADE = {
    "accountId": "U1",
    "currency": "USD",
    "fxRateToBase": "1",
    "assetCategory": "STK",
    "symbol": "ABC",
    "conid": "42",
    "tradeID": "7",
    "transactionID": "70",
    "dateTime": "20240102;103000",
    "tradeDate": "20240102",
    "reportDate": "20240102",
    "transactionType": "ExchTrade",
    "quantity": "10",
    "tradePrice": "5",
    "tradeMoney": "50",
    "proceeds": "-50",
    "ibCommission": "-1",
    "ibCommissionCurrency": "USD",
    "netCash": "-51",
    "buySell": "BUY",
    "notes": "",
}
CASH = {
    "currency": "USD",
    "dateTime": "20240103",
    "amount": "1.50",
    "type": "Dividends",
    "description": "a payment",
}


def element(tag: str, fields: dict[str, str], **changes: str) -> str:
    told = {**fields, **changes}
    return f"<{tag} " + " ".join(f'{name}="{value}"' for name, value in told.items()) + " />\n"


def statement(*elements: str, section: str = "Trades") -> str:
    return f"{HEAD}<{section}>\n{''.join(elements)}</{section}>\n{FOOT}"


def read(folder: Path, text: str | bytes, options: Options = OPTIONS) -> list[Line]:
    path = folder / "statement.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_flex(str(path), options))


def commands(lines: list[Line]) -> list[object]:
    return [each.request.command for each in lines if isinstance(each, Fact)]


def test_a_cancelled_trade_is_busted_and_what_replaces_it_is_another_deal(tmp_path: Path) -> None:
    cancel = {
        "tradeID": "",
        "transactionID": "71",
        "origTradeID": "7",
        "transactionType": "TradeCancel",
        "notes": "Ca",
        "buySell": "BUY (Ca.)",
        "quantity": "-10",
        "reportDate": "20240103",
    }
    rebooked = {"transactionID": "72", "quantity": "9"}
    lines = read(
        tmp_path,
        statement(
            element("Trade", TRADE),
            element("Trade", TRADE, **cancel),
            element("Trade", TRADE, **rebooked),
        ),
    )
    deal, bust, other = commands(lines)
    assert isinstance(deal, RecordDeal)
    assert isinstance(bust, BustDeal)
    assert isinstance(other, RecordDeal)
    assert (deal.deal_id, bust.deal_id, bust.ref_deal_id) == ("7", "transaction/71", "7")
    assert bust.action_time == "2024-01-04T04:59:59.999999999Z"
    assert (other.deal_id, other.quantity) == ("7/72", Decimal(9))


def test_a_time_that_the_clocks_showed_twice_is_flagged_and_one_they_skipped_a_problem(
    tmp_path: Path,
) -> None:
    twice, plain, never = read(
        tmp_path,
        statement(
            element("Trade", TRADE, dateTime="20241103;013000"),
            element("Trade", TRADE, dateTime="20241103;023000", tradeID="8"),
            element("Trade", TRADE, dateTime="20240310;023000", tradeID="9"),
        ),
    )
    assert isinstance(twice, Fact)
    assert twice.request.event_time == "2024-11-03T05:30:00.000000000Z"
    assert "time_ambiguous" in twice.request.flags
    assert isinstance(plain, Fact)
    assert "time_ambiguous" not in plain.request.flags
    assert isinstance(never, Problem)
    assert (never.field, never.value) == ("dateTime", "2024-03-10T02:30:00")


def test_a_cancel_that_names_nothing_is_the_opposite_deal_flagged(tmp_path: Path) -> None:
    cancel = {
        "tradeID": "",
        "transactionID": "71",
        "notes": "Ca",
        "buySell": "BUY (Ca.)",
        "quantity": "-10",
        "tradeMoney": "-50",
        "proceeds": "50",
        "ibCommission": "1",
        "netCash": "51",
    }
    (fact,) = read(tmp_path, statement(element("Trade", TRADE, **cancel)))
    assert isinstance(fact, Fact)
    deal = fact.request.command
    assert isinstance(deal, RecordDeal)
    assert fact.request.flags == ("cancels_unnamed_deal",)
    assert (deal.side, deal.quantity, deal.gross, deal.net) == (
        "sell",
        Decimal(10),
        Decimal(50),
        Decimal(51),
    )
    assert deal.fees[0].amount == Decimal(-1)


def test_a_corrected_trade_takes_the_place_of_the_one_it_names(tmp_path: Path) -> None:
    told = {"transactionType": "TradeCorrect", "tradeID": "8", "origTradeID": "7"}
    (correction,) = commands(read(tmp_path, statement(element("Trade", TRADE, **told))))
    assert isinstance(correction, CorrectDeal)
    assert (correction.deal_id, correction.ref_deal_id) == ("8", "7")


def test_a_worthless_option_expires(tmp_path: Path) -> None:
    told = {
        "assetCategory": "OPT",
        "multiplier": "100",
        "transactionType": "BookTrade",
        "notes": "Ep",
        "quantity": "-2",
        "buySell": "SELL",
        "tradePrice": "0",
        "tradeMoney": "0",
        "proceeds": "0",
        "ibCommission": "0",
        "netCash": "0",
    }
    (movement,) = commands(read(tmp_path, statement(element("Trade", TRADE, **told))))
    assert isinstance(movement, MovePosition)
    assert (movement.reason, movement.cash) == ("expiry", ())
    assert movement.legs[0].quantity == Decimal(-2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity", "NaN"),
        ("quantity", "Infinity"),
        ("quantity", "0"),
        ("quantity", ""),
        ("tradePrice", "1e400"),
        ("netCash", "1" * 60),
        ("currency", "XXQ"),
        ("currency", ""),
        ("dateTime", "20241301;000000"),
        ("dateTime", "99990101;000000"),
        ("dateTime", "00010101;000000"),
        ("dateTime", "20240102;103000 CEST"),
        ("tradeID", "x" * 10_000),
        ("conid", "x" * 10_000),
        ("symbol", "x" * 10_000),
        ("assetCategory", "CFD"),
        ("buySell", "SELL"),
        ("ibCommission", "--1"),
        ("ibCommissionCurrency", "GBX"),
    ],
)
def test_a_bad_value_is_a_problem_and_reading_goes_on(
    tmp_path: Path, field: str, value: str
) -> None:
    lines = read(
        tmp_path,
        statement(element("Trade", TRADE, **{field: value}), element("Trade", TRADE, tradeID="9")),
    )
    problem, good = lines
    assert isinstance(problem, Problem)
    assert (problem.line, problem.field) == (5, field)
    assert problem.reason
    assert len(problem.value) < 200
    assert isinstance(good, Fact)


def test_a_negative_price_is_legal(tmp_path: Path) -> None:
    told = {"tradePrice": "-5", "tradeMoney": "-50", "proceeds": "50", "netCash": "49"}
    (deal,) = commands(read(tmp_path, statement(element("Trade", TRADE, **told))))
    assert isinstance(deal, RecordDeal)
    assert (deal.price, deal.gross, deal.net) == (Decimal(-5), Decimal(-50), Decimal(49))


def test_numbers_keep_all_their_digits(tmp_path: Path) -> None:
    told = {"tradeMoney": "12345678901234567890.123456789012345678", "proceeds": "", "netCash": ""}
    text = statement(element("Trade", TRADE, quantity="-10", buySell="SELL", **told))
    (deal,) = commands(read(tmp_path, text))
    assert isinstance(deal, RecordDeal)
    assert deal.gross is not None
    assert str(deal.gross.copy_abs()) == "12345678901234567890.123456789012345678"


def test_the_cost_of_a_closing_trade_is_no_amount(tmp_path: Path) -> None:
    unpriced = {"tradePrice": "", "tradeMoney": "", "proceeds": "", "netCash": "", "cost": "9"}
    text = statement(element("Trade", TRADE, openCloseIndicator="C", **unpriced))
    (problem,) = read(tmp_path, text)
    assert isinstance(problem, Problem)
    assert problem.field == "netCash"


def test_zones_are_those_of_the_options_or_of_the_line(tmp_path: Path) -> None:
    berlin = Options(digest="d" * 64, zone="Europe/Berlin")
    (fact,) = read(tmp_path, statement(element("Trade", TRADE)), berlin)
    assert isinstance(fact, Fact)
    assert fact.request.event_time == "2024-01-02T09:30:00.000000000Z"
    (told,) = read(tmp_path, statement(element("Trade", TRADE, dateTime="20240702;103000 EDT")))
    assert isinstance(told, Fact)
    assert told.request.event_time == "2024-07-02T14:30:00.000000000Z"
    (wrong,) = read(tmp_path, statement(), Options(digest="d" * 64, zone="Nowhere/Land"))
    assert isinstance(wrong, Problem)
    assert wrong.field == "zone"


def test_an_account_that_is_not_named_is_a_problem(tmp_path: Path) -> None:
    text = statement(element("Trade", TRADE, accountId="")).replace('accountId="U1"', "")
    (problem,) = read(tmp_path, text)
    assert isinstance(problem, Problem)
    assert problem.field == "accountId"
    (fact,) = read(tmp_path, text, Options(digest="d" * 64, account="U9"))
    assert isinstance(fact, Fact)
    assert fact.request.key == "U9"


def test_what_an_account_began_with_is_told_once_a_file(tmp_path: Path) -> None:
    report = '<CashReportCurrency currency="USD" startingCash="{}" />\n'
    one = f"<CashReport>\n{report.format('100')}</CashReport>\n"
    two = f"<CashReport>\n{report.format('150')}</CashReport>\n"
    border = '</FlexStatement>\n<FlexStatement accountId="U1" fromDate="20240201">\n'
    fact, listed = read(tmp_path, HEAD + one + border + two + FOOT)
    assert isinstance(fact, Fact)
    assert isinstance(listed, Listed)
    opening = fact.request.command
    assert isinstance(opening, MovePosition)
    assert (opening.movement_id, opening.cash[0].amount) == ("opening-cash", Decimal(100))
    assert fact.request.event_time == "2024-01-01T05:00:00.000000000Z"
    (later,) = commands(read(tmp_path, HEAD + two + FOOT))
    assert isinstance(later, MovePosition)
    assert later.movement_id == opening.movement_id


def test_an_action_moves_as_one_whatever_stands_between_its_lines(tmp_path: Path) -> None:
    action = {"dateTime": "20240105;202500", "reportDate": "20240108", "currency": "USD"}
    out = {**action, "conid": "1", "symbol": "A", "quantity": "-10", "assetCategory": "STK"}
    into = {**out, "conid": "2", "symbol": "B", "quantity": "5"}
    other = {**out, "conid": "3", "symbol": "C", "quantity": "1"}
    lines = read(
        tmp_path,
        statement(
            element("CorporateAction", out, description="A(1) SPLIT (A, X (NEW) INC, 1)"),
            element("CorporateAction", other, description="C(3) BONUS (C, Y INC, 3)"),
            element("CorporateAction", into, description="A(1) SPLIT (B, X (NEW) INC, 2)"),
            section="CorporateActions",
        ),
    )
    split, bonus = commands(lines)
    assert isinstance(split, MovePosition)
    assert isinstance(bonus, MovePosition)
    assert [leg.instrument for leg in split.legs] == ["conid:1", "conid:2"]
    assert split.identifiers["symbol conid:2"] == "B"
    assert [each.line for each in lines if isinstance(each, Listed)] == [7]


def test_a_file_that_breaks_off_keeps_what_came_whole(tmp_path: Path) -> None:
    whole = statement(element("Trade", TRADE), element("Trade", TRADE, tradeID="8"))
    fact, problem = read(tmp_path, whole[: whole.index('tradeID="8"')])
    assert isinstance(fact, Fact)
    assert isinstance(problem, Problem)
    assert (problem.line, problem.field) == (6, "xml")


def test_half_an_action_is_not_booked(tmp_path: Path) -> None:
    leg = {
        "conid": "1",
        "symbol": "A",
        "quantity": "-10",
        "currency": "USD",
        "dateTime": "20240105",
    }
    whole = statement(element("CorporateAction", leg), section="CorporateActions")
    lines = read(tmp_path, whole[: whole.index("</CorporateActions>")])
    assert [type(each) for each in lines] == [Problem, Problem]
    assert lines[0].line == 5


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>\n'
)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "xml"),
        ("not xml at all", "xml"),
        ("<html></html>", "root element"),
        ("<FlexStatementResponse><Status>Fail</Status></FlexStatementResponse>", "root element"),
        (BOMB + '<FlexQueryResponse queryName="&c;"></FlexQueryResponse>', "DOCTYPE"),
        (
            '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><FlexQueryResponse/>',
            "DOCTYPE",
        ),
        ("<FlexQueryResponse>" + "<a>" * 100, "xml"),
        ('<FlexQueryResponse a="' + "x" * 3_000_000, "xml"),
        ('<?xml version="1.0" encoding="klingon"?><FlexQueryResponse/>', None),
        ('<FlexQueryResponse a="1" a="2"/>', "xml"),
        ("<FlexQueryResponse>\x00</FlexQueryResponse>", "xml"),
    ],
)
def test_what_is_no_statement_is_one_problem(tmp_path: Path, text: str, field: str | None) -> None:
    (problem,) = read(tmp_path, text)
    assert isinstance(problem, Problem)
    assert field is None or problem.field == field
    assert problem.reason
    assert len(problem.value) < 200


def test_a_gzipped_statement_is_read_and_a_cut_one_said_to_be(tmp_path: Path) -> None:
    packed = gzip.compress(statement(element("Trade", TRADE)).encode())
    assert len(commands(read(tmp_path, packed))) == 1
    lines = read(tmp_path, packed[:-12])
    assert isinstance(lines[-1], Problem)


def test_a_file_that_cannot_be_opened_is_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.xml"):
        with pytest.raises(UnreadableFile):
            list(read_flex(str(path), OPTIONS))


GOOD = statement(
    element("Trade", TRADE),
    element("Trade", TRADE, assetCategory="CASH", symbol="CHF.USD", notes="Ca", tradeID=""),
    element("Trade", TRADE, transactionType="BookTrade", notes="A;P"),
    element("CashTransaction", CASH),
    element("CorporateAction", {**CASH, **TRADE}, actionID="5"),
    '<CashReportCurrency currency="USD" startingCash="1" />\n',
    '<ConversionRate reportDate="20240102" fromCurrency="EUR" toCurrency="USD" rate="1.1" />\n',
).encode()


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 30), st.binary(max_size=30)),
        max_size=6,
    )
)
def test_no_mutation_of_a_statement_raises(
    tmp_path: Path, edits: list[tuple[int, int, bytes]]
) -> None:
    text = GOOD
    for start, length, inserted in edits:
        text = text[:start] + inserted + text[start + length :]
    try:
        lines = read(tmp_path, text)
    except UnreadableFile:
        return
    assert all(each.line >= 1 for each in lines)


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    values=st.dictionaries(
        st.sampled_from([*TRADE, "openCloseIndicator", "settleDateTarget", "cost", "origTradeID"]),
        st.one_of(
            st.text(st.characters(exclude_categories=["C"], exclude_characters='<&"'), max_size=20),
            st.sampled_from(["0", "-0", "-5", "1e9", "--", "Ca", "A", "TradeCancel", "20240102"]),
            st.decimals(allow_nan=True, allow_infinity=True).map(str),
        ),
    ),
    tag=st.sampled_from(["Trade", "CashTransaction", "CorporateAction"]),
)
def test_any_value_of_a_field_gives_one_line(
    tmp_path: Path, values: dict[str, str], tag: str
) -> None:
    lines = read(tmp_path, statement(element(tag, {**CASH, **TRADE, **values})))
    assert len(lines) == 1
    assert lines[0].line == 5
