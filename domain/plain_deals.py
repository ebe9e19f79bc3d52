"""Plain deals, decided with few questions: most of what is ever recorded.

A deal is plain that tells its price and no other amount, fills no order and takes the terms of its
instrument as they are; its account is open, and nobody named its id before. What `domain.deals`
and `domain.deal_chains` make of it is made here too, and a property compares them; whatever is not
plain is left to them. What an instrument means for its deals is worked out once.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import compress
from operator import is_not
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import astuple, fields, replace

from domain import money
from domain.commands import RecordDeal
from domain.deals import TERMS_ASSUMED
from domain.entities import Account, Deal, Instrument
from domain.events import CashLeg, DealFields, DealRecorded, Terms
from domain.times import Instant, local_day

_TOLD: Final = DealFields.__struct_fields__
_DEFAULTS: Final = tuple(told.default for told in fields(RecordDeal))
_REST: Final = _TOLD.index("booked_date")
_RARER: Final = _TOLD[_REST:]
_NOTHING_MORE: Final = _DEFAULTS[_REST:]
_MOST_DIGITS: Final = money.COST_SCALE
"""A cost that is written with no more characters needs no rounding."""
_ONE: Final = "1"
_add: Final = money.EXACT.add
_subtract: Final = money.EXACT.subtract
_multiply: Final = money.EXACT.multiply


class PlainTerms(Struct, frozen=True, gc=False):
    """What an instrument means for its plain deals.

    `factor` is what price x quantity is multiplied by, None for one. `assumed` while nobody has
    told the terms.
    """

    terms: Terms
    factor: Decimal | None
    time_zone: str | None
    assumed: bool


def plain_terms(instrument: Instrument) -> PlainTerms | None:
    """Return what an instrument means for its plain deals; None where it has none."""
    defined = instrument.terms
    if defined.kind == "fx":
        return None
    terms = Terms(
        kind=defined.kind,
        multiplier=defined.multiplier,
        price_unit=defined.price_unit,
        cash_style="margined" if defined.kind == "future" else "paid",
    )
    factor = money.multiply(terms.multiplier, terms.price_unit)
    return PlainTerms(
        terms,
        None if str(factor) == _ONE else factor,
        defined.time_zone,
        instrument.assumed,
    )


def plain_deal(
    command: RecordDeal, event_time: Instant, account: Account, booked: PlainTerms
) -> DealRecorded | None:
    """Return the event of a plain deal on an open account; None where it is not plain."""
    price = command.price
    if price is None or command.gross is not None or command.net is not None:
        return None
    values = astuple(command)
    bare = values[_REST:] == _NOTHING_MORE
    if not (bare or _keeps_terms(command)):
        return None
    if command.accrued_interest is not None or command.order_id is not None:
        return None
    fees = money.ZERO
    for fee in command.fees:
        if fee.currency != command.currency or fee.settlement_date is not None:
            return None
        fees = _add(fees, fee.amount)
    cost = _cost(price, command.quantity, booked)
    if cost is None:
        return None
    if booked.terms.cash_style == "margined":
        cash = money.negated(fees)
    else:
        cash = _subtract(money.negated(cost) if command.side == "buy" else cost, fees)
    if not (cost.is_finite() and cash.is_finite()):
        return None
    legs: tuple[CashLeg, ...] = ()
    if cash:
        settles = command.settlement_date
        legs = (CashLeg(currency=command.currency, amount=cash, settlement_date=settles),)
    trade_date = command.trade_date
    if trade_date is None:
        zone_name = booked.time_zone or account.settings.time_zone
        trade_date = local_day(event_time, zone_name)
    event = DealRecorded(
        time_precision=command.time_precision,
        sequence=command.sequence,
        action_time=command.action_time,
        deal_id=command.deal_id,
        instrument=command.instrument,
        side=command.side,
        quantity=command.quantity,
        currency=command.currency,
        price=price,
        fees=command.fees,
        ids=command.ids,
        identifiers=command.identifiers,
        trade_date=trade_date,
        terms=booked.terms,
        cost=cost,
        legs=legs,
        trade_date_derived=command.trade_date is None,
        capitalise_fees=account.settings.fees == "capitalised",
    )
    return event if bare else replace(event, **dict(_rarer(values)))


def _cost(price: Decimal, quantity: Decimal, booked: PlainTerms) -> Decimal | None:
    """Return what a deal comes to, None where that is to be rounded or written otherwise."""
    cost = _multiply(price, quantity)
    if booked.factor is not None:
        cost = _multiply(cost, booked.factor)
    written = str(cost)
    if len(written) > _MOST_DIGITS or "E" in written:
        return None
    if written[-1] == "0" and "." in written:
        terms = booked.terms
        return money.shortened(cost, price, quantity, terms.multiplier, terms.price_unit)
    return cost


def _keeps_terms(command: RecordDeal) -> bool:
    """Tell whether a deal is booked with its instrument's terms, and paid in its own currency."""
    if command.kind is not None or command.settlement_amount is not None:
        return False
    return command.multiplier is None and command.price_unit is None


def _rarer(values: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Return those of the rarer fields of a deal that are told."""
    told = values[_REST : len(_TOLD)]
    return compress(zip(_RARER, told, strict=True), map(is_not, told, _NOTHING_MORE))


def plain_chain(
    event: DealRecorded, content_hash: str, offset: int, seq: int, flags: tuple[str, ...]
) -> Deal:
    """Return the chain that a plain deal begins."""
    return Deal(
        status="effective",
        content_hash=content_hash,
        offset=offset,
        seq=seq,
        quantity=event.quantity,
        price=event.price,
        assumed=event if TERMS_ASSUMED in flags else None,
    )
