"""What a deal comes to: the terms it is booked with, its cost, and the cash it moves."""

from decimal import Decimal, Inexact, localcontext
from typing import Final

from domain import money
from domain.commands import RecordDeal
from domain.currencies import CURRENCIES
from domain.entities import Instrument
from domain.events import CashLeg, DealFields, Fee, Terms

_ONE: Final = Decimal(1)
_CENT_ROUNDING: Final = Decimal("0.005")


def terms_of(command: RecordDeal, instrument: Instrument) -> Terms:
    """Return the terms a deal is booked with: as told, else as the instrument is defined."""
    defined = instrument.terms
    kind = command.kind or defined.kind
    return Terms(
        kind=kind,
        multiplier=defined.multiplier if command.multiplier is None else command.multiplier,
        price_unit=defined.price_unit if command.price_unit is None else command.price_unit,
        cash_style="margined" if kind == "future" else "paid",
        base_currency=_base_currency(command, instrument) if kind == "fx" else None,
    )


def _base_currency(command: RecordDeal, instrument: Instrument) -> str | None:
    for candidate in (instrument.terms.underlying, command.instrument.replace(".", "/")):
        base = (candidate or "").partition("/")[0]
        if base in CURRENCIES:
            return base
    return None


def cost_and_legs(
    deal: DealFields, terms: Terms
) -> tuple[Decimal, tuple[CashLeg, ...], tuple[str, ...]]:
    """Return a deal's gross cost, the cash it moves, and flags where told amounts disagree.

    An amount told is a fact and beats price x quantity x multiplier x unit. `net` is the cash of
    the deal in its currency, into the account positive. The legs of the deal's own currency add
    up to `net` where it is told, so that cost, fees, accrued interest and cash sum to zero.
    """
    sign = 1 if deal.side == "buy" else -1
    flags: list[str] = []
    extras = own_fees = _own_fees(deal) if deal.fees else money.ZERO
    if deal.accrued_interest is not None:
        extras = money.EXACT.add(own_fees, _signed(sign, deal.accrued_interest))
    computed = None
    if deal.price is not None:
        factors = deal.price, deal.quantity, terms.multiplier, terms.price_unit
        computed = at_cost_scale(money.shortened(money.multiply(*factors), *factors))
    gross, net = deal.gross, deal.net
    if gross is not None and gross < 0 and (deal.price is None or deal.price >= 0):
        gross = money.negated(gross)
    known = computed if gross is None else gross
    if net is not None and _is_turned(net, sign, known, extras, terms):
        net = money.negated(net)
        flags.append("net_sign_assumed")
    if gross is not None:
        cost = gross
    elif net is not None and (computed is None or terms.cash_style == "paid"):
        cost = _signed(-sign, money.add((net, extras)))
    else:
        cost = computed if computed is not None else money.ZERO
    if computed is not None and cost is not computed and _differs(cost, computed):
        flags.append("gross_differs")
    own_cash = _cash(sign, cost, extras)
    if terms.cash_style == "margined":
        own_cash = money.negated(own_fees)
    elif net is not None:
        if _differs(net, own_cash):
            flags.append("net_differs")
        own_cash = net
    return cost, _legs(deal, terms, sign, own_cash), tuple(flags)


def _cash(sign: int, cost: Decimal, extras: Decimal) -> Decimal:
    """Return what a deal's cost and its fees and interest come to, into the account positive."""
    return money.EXACT.subtract(_signed(-sign, cost), extras)


def _is_turned(
    net: Decimal, sign: int, cost: Decimal | None, extras: Decimal, terms: Terms
) -> bool:
    """Tell whether a net has the sign of the other side: nothing else is told, or all but it fits.

    A fee may be more than a sale brings, so the sign alone says nothing where there is a cost.
    """
    if net * sign <= 0:
        return False
    if cost is None:
        return True
    expected = _cash(sign, cost, extras)
    fits = not _differs(money.negated(net), expected)
    return terms.cash_style == "paid" and fits and _differs(net, expected)


def _own_fees(deal: DealFields) -> Decimal:
    """Return the sum of a deal's fees in its own currency."""
    total = money.ZERO
    for fee in deal.fees:
        if fee.currency == deal.currency:
            total = money.EXACT.add(total, fee.amount)
    return total


def at_cost_scale(amount: Decimal) -> Decimal:
    """Return an amount that the ledger made, rounded half-even where it has over 36 decimals."""
    if money.exponent_of(amount) >= -money.COST_SCALE:
        return amount
    with localcontext(money.EXACT) as context:
        context.traps[Inexact] = False
        return amount.quantize(_ONE.scaleb(-money.COST_SCALE))


def _signed(sign: int, amount: Decimal) -> Decimal:
    return amount if sign > 0 else money.negated(amount)


def _differs(told: Decimal, computed: Decimal) -> bool:
    """Tell whether two amounts differ by more than the rounding of the told one explains."""
    unit = _ONE.scaleb(money.exponent_of(told))
    difference = money.EXACT.subtract(told, computed)
    return difference.copy_abs() > max(unit, _CENT_ROUNDING)


def _legs(deal: DealFields, terms: Terms, sign: int, own_cash: Decimal) -> tuple[CashLeg, ...]:
    """Return the legs of a deal: its cash, and beside it the fees that are settled apart."""
    settles = deal.settlement_date
    apart = [
        fee
        for fee in deal.fees
        if fee.amount and (fee.currency != deal.currency or _settled_apart(fee, deal))
    ]
    legs: list[CashLeg] = []
    if terms.base_currency is not None:
        amount = _signed(sign, deal.quantity)
        legs.append(CashLeg(currency=terms.base_currency, amount=amount, settlement_date=settles))
    currency, amount = deal.currency, own_cash
    for fee in apart:
        if fee.currency == currency:
            amount = money.EXACT.add(amount, fee.amount)
    if deal.settlement_amount is not None and _has_settlement(deal):
        currency = deal.settlement_currency or currency
        size = deal.settlement_amount.copy_abs()
        amount = _signed(1 if own_cash > 0 or (not own_cash and sign < 0) else -1, size)
    if amount:
        legs.append(CashLeg(currency=currency, amount=amount, settlement_date=settles))
    for fee in apart:
        due = fee.settlement_date or settles
        amount = money.negated(fee.amount)
        legs.append(CashLeg(currency=fee.currency, amount=amount, settlement_date=due))
    return tuple(legs)


def _has_settlement(deal: DealFields) -> bool:
    return deal.settlement_currency is not None and deal.settlement_amount is not None


def _settled_apart(fee: Fee, deal: DealFields) -> bool:
    """Tell whether a fee in the deal's currency has a leg of its own: it settles another day."""
    settles = fee.settlement_date
    if settles is None or settles == deal.settlement_date:
        return False
    return not _has_settlement(deal)
