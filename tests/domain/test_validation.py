"""What no command may say, whoever asks: numbers and places that the books could not hold."""

from decimal import Decimal
from typing import Any

import pytest

from domain.commands import (
    AmendDealTerms,
    AssignLots,
    Command,
    CorrectDeal,
    DefineInstrument,
    IdentifyInstrument,
    MovePosition,
    ReceiveTransfer,
    RecordDeal,
    RecordPrice,
    SendTransfer,
)
from domain.errors import InvalidValue
from domain.events import LotPick, LotTold, Terms, UnitLeg
from domain.validation import check_command

D = Decimal


def deal(kind: type[RecordDeal] = RecordDeal, **told: Any) -> RecordDeal:
    fields = {"side": "buy", "quantity": D(1), "currency": "USD", "price": D(1), **told}
    return kind(deal_id="d", instrument="X", **fields)


def legs(**told: Any) -> tuple[UnitLeg, ...]:
    lot = LotTold(**{"lot": "L", "quantity": D(5), **told})
    return (UnitLeg(instrument="X", quantity=D(5), currency="USD", lots=(lot,)),)


def move(sequence: int = 0, **told: Any) -> MovePosition:
    return MovePosition(movement_id="m", reason="opening", legs=legs(**told), sequence=sequence)


def picks(quantity: str) -> tuple[LotPick, ...]:
    return (LotPick(lot="L", quantity=D(quantity)),)


BAD: list[tuple[Command, str]] = [
    (move(quantity=D(0)), "legs[0].lots[0].quantity"),
    (
        SendTransfer(transfer_id="t", to_account="B", legs=legs(quantity=D("0.0"))),
        "legs[0].lots[0].quantity",
    ),
    (move(quantity=D("NaN")), "legs[0].lots[0].quantity"),
    (move(cost=D("NaN")), "legs[0].lots[0].cost"),
    (move(cost=D("1E-37")), "legs[0].lots[0].cost"),
    (move(cost=D("1E+200")), "legs[0].lots[0].cost"),
    (deal(lots=picks("0")), "lots[0].quantity"),
    (AssignLots(deal_id="d", lots=picks("-5")), "lots[0].quantity"),
    (deal(sequence=2**63), "sequence"),
    (move(sequence=-(2**63) - 1), "sequence"),
    (deal(quantity=D(0)), "quantity"),
    (deal(multiplier=D(0)), "multiplier"),
    (deal(CorrectDeal, ref_deal_id="c", price_unit=D(-1)), "price_unit"),
    (DefineInstrument(multiplier=D(-100)), "multiplier"),
    (DefineInstrument(price_unit=D(0)), "price_unit"),
    (RecordPrice(price=D(1), currency="USD", unit=D(0)), "unit"),
    (RecordPrice(price=D(1), currency="USD", source="s" * 129), "source"),
    (IdentifyInstrument(scheme="isin", value="v" * 129), "value"),
    (IdentifyInstrument(scheme="\n", value="v"), "scheme"),
    (AmendDealTerms(deal_id="d", terms=Terms(multiplier=D(0))), "terms.multiplier"),
    (AmendDealTerms(deal_id="d", terms=Terms(kind="fx")), "terms.base_currency"),
    (AmendDealTerms(deal_id="d", terms=Terms(base_currency="EUR")), "terms.base_currency"),
]


@pytest.mark.parametrize(("command", "field"), BAD)
def test_what_no_book_can_hold_is_named(command: Command, field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_command(command)
    assert refused.value.field == field


GOOD: list[Command] = [
    RecordPrice(price=D(1), currency="USD"),
    move(quantity=D(-5), cost=D("-0.123456789012345678901234567890123456")),
    move(sequence=2**63 - 1, cost=D(9) * 10**27),
    deal(sequence=-(2**63), multiplier=D("0.01"), lots=picks("0.5")),
    AmendDealTerms(deal_id="d", terms=Terms(kind="fx", base_currency="EUR")),
    # What was bought at a price of ten decimals in lots of nine has a cost of nineteen.
    ReceiveTransfer(transfer_id="t", from_account="A", legs=legs(cost=D("0.1387007409372007481"))),
]


@pytest.mark.parametrize("command", GOOD)
def test_what_books_can_hold_is_left_as_it_is(command: Command) -> None:
    assert check_command(command) == command
