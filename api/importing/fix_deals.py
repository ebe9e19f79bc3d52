"""What a FIX message says of an instrument and of an execution."""

from decimal import Decimal
from typing import Any, Final

from msgspec.structs import replace

from api.importing.fix_codes import (
    EFFECTS,
    FEE_KINDS,
    ID_SOURCES,
    KINDS,
    PERCENT,
    RIGHTS,
    SHORTS,
    SIDES,
)
from api.importing.fix_message import FixMessage, label, parse_number
from api.importing.reading import Reading, assumed_instrument, pair_of
from domain.commands import DefineInstrument
from domain.currencies import CURRENCIES, check_currency, price_unit_of
from domain.errors import InvalidValue
from domain.events import Fee
from domain.identifiers import check_id
from domain.money import check_decimal, multiply, negated
from domain.times import parse_day

_NOT_TOLD: Final = "[N/A]"
COMMISSION_NOT_BOOKED: Final = "commission_not_booked"
"""Flag of a commission that is told on a basis from which no amount follows."""


def instrument_of(message: FixMessage) -> tuple[str, DefineInstrument]:
    """Return the instrument's id and what the message says of it.

    The id is the symbol, and for a future or option also its maturity, right and strike, which the
    symbol does not hold: `AAPL 20240119 C 150`. A currency pair is `EUR/USD`.
    """
    symbol = message.name(55)
    if symbol in (None, _NOT_TOLD):
        symbol = message.name(48)
    if symbol is None:
        raise InvalidValue(label(55), "", "the instrument, here or in SecurityID(48)")
    told = message.text(167)
    kind = KINDS.get(told) if told else None
    instrument = symbol
    if kind == "fx" and len(symbol) == 6 and {symbol[:3], symbol[3:]} <= CURRENCIES:
        instrument = f"{symbol[:3]}/{symbol[3:]}"
    elif kind in ("future", "option"):
        instrument = check_id(" ".join((symbol, *_contract(message))), label(55))
    currency = _currency(message, instrument)
    pair = pair_of(instrument)
    ((_, terms),) = assumed_instrument(
        instrument, pair[1] if pair else currency, kind, message.number(231)
    )
    maturity = message.text(541)
    return instrument, replace(
        terms,
        symbol=symbol,
        mic=message.name(207),
        isin=message.name(48) if message.text(22) == "4" else None,
        price_unit=PERCENT if kind == "bond" else terms.price_unit,
        expiry=parse_day(maturity, label(541)) if maturity else None,
        strike=message.number(202),
        right=message.code(201, RIGHTS),
        underlying=instrument if kind == "fx" else None,
    )


def _contract(message: FixMessage) -> list[str]:
    maturity = message.name(541) or message.name(200)
    right = message.code(201, RIGHTS)
    parts = (maturity, right and right[0].upper(), message.name(202))
    return [part for part in parts if part]


def _currency(message: FixMessage, instrument: str) -> str | None:
    code = message.text(15)
    if code is None:
        return None
    pair = pair_of(instrument)
    if pair is not None and code == pair[1]:
        expected = f"{pair[0]}: a quantity of {instrument} is read in its first currency"
        raise InvalidValue(label(15), code, expected)
    told = price_unit_of(code)
    return told[0] if told else check_currency(code, label(15))


def side_fields(message: FixMessage) -> dict[str, Any]:
    """Return the side of a deal, and whether it sells short."""
    return {
        "side": message.need_code(54, SIDES),
        "short": SHORTS.get(message.need(54)),
    }


def deal_fields(message: FixMessage, reading: Reading) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the fields of a deal that an execution report tells, and the flags it deserves.

    Commission is taken as this fill's, as the standard has it on a fill. NetMoney has no sign in
    FIX; it is the cash of the account, so that a purchase is negative.
    """
    instrument, terms = instrument_of(message)
    code = message.text(15)
    told_currency = terms.currency if code or pair_of(instrument) else None
    currency = reading.currency_of(instrument, told_currency)
    unit = price_unit_of(code) if code else None
    sides = side_fields(message)
    net = message.number(118)
    fields: dict[str, Any] = {
        "instrument": instrument,
        **sides,
        "quantity": message.positive(32),
        "price": message.need_number(31),
        "currency": currency,
        "gross": message.number(381),
        "net": negated(net) if net is not None and sides["side"] == "buy" else net,
        "accrued_interest": message.number(159),
        "identifiers": _identifiers(message),
        "trade_date": message.day(75),
        "settlement_date": message.day(64),
        "settlement_currency": message.currency(120),
        "settlement_amount": message.number(119),
        "settlement_rate": message.number(155),
        "effect": EFFECTS.get(message.text(77) or ""),
        "capacity": message.name(528),
        "venue": message.name(30) or message.name(207),
        "kind": KINDS.get(message.text(167) or ""),
        "multiplier": message.number(231),
        "price_unit": PERCENT if message.text(423) == "1" or (unit and unit[1] < 1) else None,
    }
    commission, flags = _commission(message, fields)
    return {**fields, "fees": (*commission, *_other_fees(message, currency))}, flags


def _identifiers(message: FixMessage) -> dict[str, str]:
    told = {
        "symbol": message.name(55),
        "mic": message.name(207),
        ID_SOURCES.get(message.text(22) or "", "security_id"): message.name(48),
    }
    return {scheme: value for scheme, value in told.items() if value and value != _NOT_TOLD}


def _commission(
    message: FixMessage, fields: dict[str, Any]
) -> tuple[tuple[Fee, ...], tuple[str, ...]]:
    told, basis = message.number(12), message.text(13)
    if not told:
        return (), ()
    currency = message.currency(479) or fields["currency"]
    match basis:
        case None | "3":
            amount = told
        case "1":
            amount = multiply(told, fields["quantity"])
        case "2" if fields["gross"] is not None:
            amount = multiply(told, fields["gross"])
        case _:
            return (), (COMMISSION_NOT_BOOKED,)
    amount = check_decimal(amount, label(12))
    return (Fee(kind="commission", amount=amount, currency=currency),), ()


def _other_fees(message: FixMessage, currency: str) -> tuple[Fee, ...]:
    """Return the fees of the group NoMiscFees: an amount, then its currency and type."""
    groups: list[dict[int, str]] = []
    for tag, value in message.groups:
        if tag == 137:
            groups.append({})
        elif not groups or tag in groups[-1]:
            raise InvalidValue(label(tag), value, "MiscFeeAmt(137) first, then each field once")
        groups[-1][tag] = value
    return tuple(
        Fee(
            kind=FEE_KINDS.get(group.get(139, ""), "other"),
            amount=amount,
            currency=check_currency(group.get(138, currency), label(138)),
        )
        for group in groups
        if (amount := _amount(group))
    )


def _amount(group: dict[int, str]) -> Decimal:
    return parse_number(group[137], 137)
