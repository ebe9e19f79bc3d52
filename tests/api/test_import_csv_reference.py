"""CSV tables of prices, accounts, portfolios, instruments and corporate actions as facts."""

from decimal import Decimal
from pathlib import Path

import pytest

from api.commands_json import fact_from_object
from api.importing.lines import Options
from domain import commands
from domain.errors import InvalidValue
from domain.events import CorporateActionOption
from domain.times import Day
from tests.api.csv_lines import Read, facts, one, problem, reader


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return reader(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("told", "currency", "unit"),
    [
        ("GBP,", "GBP", "1"),
        ("GBX,", "GBP", "0.01"),
        ("GBp,", "GBP", "0.01"),
        ("GBP,GBX", "GBP", "0.01"),
        ("ZAR,ZAc", "ZAR", "0.01"),
        ("ILS,1/100", "ILS", "0.01"),
        ("EUR,percent", "EUR", "0.01"),
    ],
)
def test_prices_and_their_units(read: Read, told: str, currency: str, unit: str) -> None:
    text = f"instrument,price,event_time,currency,unit\nX,350.5,2024-01-02,{told}\n"
    fact = one(read(text))
    assert fact.request.key == "X"
    assert fact.request.command == commands.RecordPrice(
        time_precision="day",
        price=Decimal("350.5"),
        currency=currency,
        unit=Decimal(unit),
        price_date="2024-01-02",  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("told", "field"),
    [("USD,GBX", "unit"), ("GBX,1", "unit"), ("GBPX,", "currency"), ("GBP,0", "unit")],
)
def test_price_whose_unit_does_not_fit(read: Read, told: str, field: str) -> None:
    text = f"instrument,price,event_time,currency,unit\nX,350.5,2024-01-02,{told}\n"
    assert problem(read(text)).field == field


@pytest.mark.parametrize(
    ("pair", "kind"), [("EUR/USD", "fx"), ("BTC/USD", "crypto"), ("A/B", "equity")]
)
def test_price_of_a_pair_defines_it(read: Read, pair: str, kind: str) -> None:
    fact = one(read(f"instrument,price,currency,event_time\n{pair},1.1,USD,2024-01-02\n"))
    ((name, definition),) = fact.defines
    assert (name, definition.kind, definition.currency) == (pair, kind, "USD")


def test_price_of_a_pair_is_in_its_second_currency(read: Read) -> None:
    found = problem(read("instrument,price,currency,event_time\nEUR/USD,1.1,EUR,2024-01-02\n"))
    assert found.field == "currency"
    assert "USD for one EUR" in found.reason


def test_date_of_a_price_is_in_the_instruments_zone(read: Read) -> None:
    options = Options(
        digest="0", zone_of=lambda kind, name: "Asia/Tokyo" if kind == "instrument" else None
    )
    text = "instrument,price,currency,event_time\n7203,1,JPY,2024-01-02\n"
    assert one(read(text, options)).request.event_time == "2024-01-02T14:59:59.999999999Z"


def test_accounts_portfolios_instruments(read: Read) -> None:
    header = "account,base_currency,from,method,time_zone,actions,fees"
    account = one(read(f"{header}\nA1,EUR,2024-01-01,lifo,Europe/Paris,booked,capitalised\n"))
    assert account.request.event_time == "2023-12-31T23:00:00.000000000Z"
    assert account.request.command == commands.OpenAccount(
        base_currency="EUR",
        from_date="2024-01-01",  # type: ignore[arg-type]
        method="lifo",
        time_zone="Europe/Paris",
        actions="booked",
        fees="capitalised",
    )
    portfolio = one(read("portfolio,parent\nP1,P0\n"))
    assert portfolio.request.key == "P1"
    assert portfolio.request.event_time == "1970-01-01T00:00:00.000000000Z"
    assert portfolio.request.command == commands.DefinePortfolio(parent="P0")
    header = "instrument,kind,currency,price_unit,multiplier,expiry,strike,right,underlying"
    option = one(read(f"{header}\nO1,option,GBX,,1000,2024-06-21,12.5,call,X\n"))
    assert option.request.command == commands.DefineInstrument(
        kind="option",
        currency="GBP",
        price_unit=Decimal("0.01"),
        multiplier=Decimal(1000),
        expiry="2024-06-21",  # type: ignore[arg-type]
        strike=Decimal("12.5"),
        right="call",
        underlying="X",
    )


def test_settings_are_told_when_their_date_has_come_and_parents_before(read: Read) -> None:
    day = "2200-01-01"
    for text in (f"account,base_currency,from\nA1,USD,{day}\n",
                 f"instrument,kind,currency,from\nX,equity,USD,{day}\n"):  # fmt: skip
        found = problem(read(text))
        assert (found.field, found.value) == ("from", day)
        assert "holds at once" in found.reason
    parent = one(read(f"portfolio,parent,from\nP1,P0,{day}\n"))
    assert parent.request.command == commands.DefinePortfolio(parent="P0", from_date=Day(day))
    for kind, owner in (("OpenAccount", "account"), ("DefineInstrument", "key")):
        told = {"command_id": "c", "type": kind, owner: "N", "event_time": "2024-01-02T00:00:00Z"}
        with pytest.raises(InvalidValue, match=f"data.from_date: '{day}'"):
            fact_from_object(told | {"data": {"from_date": day}})


ACTIONS = (
    "instrument,action_id,kind,ex_date,ratio_new,ratio_old,amount,currency,option,action,"
    "ref_action_id\n"
)


def test_options_of_a_corporate_action_are_one_fact(read: Read) -> None:
    text = (
        ACTIONS + "X,a1,merger,2024-05-01,3,7,,,stock,announce,\n"
        "X,a1,merger,2024-05-01,,,12.50,USD,cash,,\n"
        "X,a2,merger,2024-05-02,3,7,,,,correct,a1\n"
        "X,a3,,2024-05-02,,,,,,cancel,a1\n"
    )
    announced, corrected, cancelled = facts(read(text))
    assert announced.request.key == "X"
    assert announced.request.event_time == "2024-05-01T00:00:00.000000000Z"
    assert announced.request.command == commands.AnnounceCorporateAction(
        action_id="a1",
        kind="merger",
        ex_date="2024-05-01",  # type: ignore[arg-type]
        options=(
            CorporateActionOption(option="stock", ratio_new=Decimal(3), ratio_old=Decimal(7)),
            CorporateActionOption(option="cash", amount=Decimal("12.50"), currency="USD"),
        ),
    )
    assert isinstance(corrected.request.command, commands.CorrectCorporateAction)
    assert cancelled.request.command == commands.CancelCorporateAction(
        action_id="a3", ref_action_id="a1"
    )


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("X,a1,split,2024-05-01,3,,,,,,", "ratio_old"),
        ("X,a1,cash_dividend,2024-05-01,,,1,,,,", "currency"),
        ("X,a1,split,,2,1,,,,,", "ex_date"),
        ("X,a1,split,2024-05-01,2,1,,,,correct,", "ref_action_id"),
        ("X,a1,split,2024-05-01,2,1,,,,,a0", "ref_action_id"),
        ("X,a1,slit,2024-05-01,2,1,,,,,", "kind"),
    ],
)
def test_corporate_action_that_is_not_whole(read: Read, row: str, field: str) -> None:
    found = problem(read(f"{ACTIONS}{row}\n"))
    assert (found.line, found.field) == (2, field)
