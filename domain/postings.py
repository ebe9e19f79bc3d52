"""Every event as double entry: its postings sum to zero for each currency and each instrument.

Places: `cash` and `units` are what the account holds; `trading` is what a deal exchanged, `fees`
and `interest` what it cost beside, `transit` what is on its way between accounts, `world` where
everything else comes from and goes to. `difference` is what told amounts leave unexplained: such a
deal is flagged `net_differs`.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from domain import events, money
from domain.events import CashLeg, DealRecorded, Event, UnitLeg

Place = Literal["cash", "units", "trading", "fees", "interest", "transit", "world", "difference"]


class Posting(Struct, frozen=True):
    """An amount of a currency, or a quantity of an instrument, that a place gains."""

    place: Place
    unit: str
    amount: Decimal


def postings(event: Event) -> tuple[Posting, ...]:
    """Return what an event posts. Events that move nothing, and reversals, post nothing.

    A reversal takes back the postings of the event it names.
    """
    match event:
        case DealRecorded():
            return tuple(_deal(event))
        case events.FeesRecorded():
            return tuple(_against(event.legs, (), "fees"))
        case events.CashMoved():
            return (
                Posting("cash", event.currency, event.amount),
                Posting("world", event.currency, money.EXACT.minus(event.amount)),
            )
        case events.PositionMoved():
            return tuple(_against(event.cash, event.legs, "world"))
        case events.TransferReceived() | events.TransferReturned():
            return tuple(_against(event.cash, event.legs, "transit"))
        case events.TransferSent():
            received = _against(event.cash, event.legs, "transit")
            return tuple(
                Posting(one.place, one.unit, money.EXACT.minus(one.amount)) for one in received
            )
        case _:
            return ()


def balance(posted: Iterable[Posting]) -> dict[str, Decimal]:
    """Return the sum of postings for each currency and instrument: all are zero, or it is wrong."""
    totals: dict[str, Decimal] = defaultdict(lambda: money.ZERO)
    for one in posted:
        totals[one.unit] = money.EXACT.add(totals[one.unit], one.amount)
    return dict(totals)


def _deal(event: DealRecorded) -> Iterable[Posting]:
    sign = 1 if event.side == "buy" else -1
    quantity = event.quantity if sign > 0 else money.EXACT.minus(event.quantity)
    cost = event.cost if sign > 0 else money.EXACT.minus(event.cost)
    explained: dict[str, Decimal] = defaultdict(lambda: money.ZERO)
    for leg in event.legs:
        yield Posting("cash", leg.currency, leg.amount)
        explained[leg.currency] = money.EXACT.add(explained[leg.currency], leg.amount)
    beside: list[Posting] = []
    base = event.terms.base_currency
    if base is not None:
        beside.append(Posting("trading", base, money.EXACT.minus(quantity)))
    else:
        yield Posting("units", event.instrument, quantity)
        yield Posting("trading", event.instrument, money.EXACT.minus(quantity))
    if event.terms.cash_style == "paid":
        beside.append(Posting("trading", event.currency, cost))
        if event.accrued_interest:
            interest = event.accrued_interest
            amount = interest if sign > 0 else money.EXACT.minus(interest)
            beside.append(Posting("interest", event.currency, amount))
    beside.extend(Posting("fees", fee.currency, fee.amount) for fee in event.fees)
    for one in beside:
        yield one
        explained[one.unit] = money.EXACT.add(explained[one.unit], one.amount)
    for currency, rest in explained.items():
        if rest:
            place: Place = "trading" if event.settlement_currency else "difference"
            yield Posting(place, currency, money.EXACT.minus(rest))


def _against(cash: Iterable[CashLeg], legs: Iterable[UnitLeg], place: Place) -> Iterable[Posting]:
    for leg in cash:
        yield Posting("cash", leg.currency, leg.amount)
        yield Posting(place, leg.currency, money.EXACT.minus(leg.amount))
    for unit in legs:
        yield Posting("units", unit.instrument, unit.quantity)
        yield Posting(place, unit.instrument, money.EXACT.minus(unit.quantity))
