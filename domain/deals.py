"""Deals: recorded, corrected, busted, amended; their cost and the cash they move."""

from decimal import Decimal
from typing import Any, Final

import msgspec

from domain import money
from domain.accounts import find_account, unknown_account
from domain.commands import (
    AmendDealTerms,
    AssignLots,
    BustDeal,
    CorrectDeal,
    RecordDeal,
    RecordFees,
    Request,
)
from domain.currencies import CURRENCIES
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, View
from domain.entities import Account, Alias, Deal, Fact, Instrument, Order
from domain.events import (
    CashLeg,
    DealBusted,
    DealCorrected,
    DealFields,
    DealRecorded,
    DealTermsAmended,
    FeesRecorded,
    LotsAssigned,
    Terms,
)
from domain.orders import fill_flags, resolve_order, unfill_order
from domain.times import local_day

WAITING: Final = "waiting"
"""Flag of a bust or reversal whose fact has not arrived."""
REVERSED_BEFORE_ARRIVAL: Final = "reversed_before_arrival"
"""Flag of a fact that was busted, corrected or reversed before it came: it has no effect."""
TERMS_ASSUMED: Final = "terms_assumed"
"""Flag of a deal booked with terms that nobody told, and that may still be amended."""
NO_EFFECT: Final = frozenset((REVERSED_BEFORE_ARRIVAL, "deal_busted"))

_DEAL_FIELDS: Final = DealFields.__struct_fields__
_ONE: Final = Decimal(1)
_CENT_ROUNDING: Final = Decimal("0.005")


def decide_deal(view: View, request: Request, content_hash: str) -> Decision:
    """Decide on a deal or on what comes after it.

    A fact from outside is refused only for an id that is taken by other content.
    """
    command = request.command
    account = find_account(view)
    if account is None:
        return unknown_account(request.key)
    match command:
        case CorrectDeal():
            decision = _correct(view, request, command, account, content_hash)
        case RecordDeal():
            decision = _record(view, request, command, account, content_hash)
        case BustDeal():
            decision = _bust(view, command, content_hash)
        case AmendDealTerms():
            decision = _amend(view, command)
        case RecordFees():
            decision = _late_fees(view, command, content_hash)
        case AssignLots():
            decision = _assign(view, command)
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about deals")
    if account.closed and isinstance(decision, Accepted):
        return Accepted(decision.event, (*decision.flags, "account_closed"))
    return decision


def find_chain(view: View, deal_id: str) -> tuple[str, Deal | None]:
    """Return the id of the chain that a deal id belongs to, and the chain if it is known."""
    entity = view.get("deal", deal_id)
    if isinstance(entity, Alias):
        deal_id = entity.target
        entity = view.get("deal", deal_id)
    return deal_id, entity if isinstance(entity, Deal) else None


def told_before(view: View, kind: str, fact_id: str, content_hash: str) -> Decision | None:
    """Return the answer for an id that was told before: known, or a conflict; None if it is new."""
    entity = view.get(kind, fact_id)
    match entity:
        case Deal() if not entity.told:
            return None
        case Fact() if entity.status == "waiting":
            return None
        case Alias() if not entity.content_hash:
            return None
        case Deal() | Fact() | Alias():
            if entity.content_hash == content_hash:
                return Known(entity.offset, entity.seq)
            return Refused("conflict", {"first_offset": str(entity.offset), "id": fact_id})
        case _:
            return None


def _record(
    view: View, request: Request, command: RecordDeal, account: Account, content_hash: str
) -> Decision:
    known = told_before(view, "deal", command.deal_id, content_hash)
    if known is not None:
        return known
    booked = _book(view, request, command, account)
    if isinstance(booked, Lacking):
        return booked
    fields, flags = booked
    chain = view.get("deal", command.deal_id)
    if isinstance(chain, Deal) and not chain.told:
        return Accepted(DealRecorded(**fields), (*flags, REVERSED_BEFORE_ARRIVAL))
    return Accepted(DealRecorded(**fields), (*flags, *_fill_flags(view, request, fields, None)))


def _correct(
    view: View, request: Request, command: CorrectDeal, account: Account, content_hash: str
) -> Decision:
    known = told_before(view, "deal", command.deal_id, content_hash)
    if known is not None:
        return known
    booked = _book(view, request, command, account)
    if isinstance(booked, Lacking):
        return booked
    fields, flags = booked
    chain_id, chain = find_chain(view, command.ref_deal_id)
    own = view.get("deal", command.deal_id)
    if chain is None:
        flags = (*flags, "unknown_deal")
    elif chain.status in ("busted", WAITING):
        flags = (*flags, REVERSED_BEFORE_ARRIVAL if chain.status == WAITING else "deal_busted")
    if isinstance(own, Deal) and own.status == WAITING:
        flags = (*flags, REVERSED_BEFORE_ARRIVAL)
    if NO_EFFECT.isdisjoint(flags):
        flags = (*flags, *_fill_flags(view, request, fields, chain))
    event = DealCorrected(**fields, ref_deal_id=command.ref_deal_id, chain_id=chain_id)
    return Accepted(event, flags)


def _bust(view: View, command: BustDeal, content_hash: str) -> Decision:
    known = told_before(view, "deal", command.deal_id, content_hash)
    if known is not None:
        return known
    chain_id, chain = find_chain(view, command.ref_deal_id)
    flags: tuple[str, ...] = ()
    if chain is None:
        flags = (WAITING,)
    elif chain.status in ("busted", WAITING):
        flags = ("deal_busted",)
    return Accepted(DealBusted(**msgspec.structs.asdict(command), chain_id=chain_id), flags)


def _amend(view: View, command: AmendDealTerms) -> Decision:
    chain_id, chain = find_chain(view, command.deal_id)
    if chain is None or not chain.quantity:
        return Lacking("unknown_deal", f"no deal {command.deal_id!r} is known")
    if chain.assumed is None:
        return Refused("terms_were_told", {"id": command.deal_id})
    cost, legs, flags = cost_and_legs(chain.assumed, command.terms)
    event = DealTermsAmended(
        **msgspec.structs.asdict(command), chain_id=chain_id, cost=cost, legs=legs
    )
    return Accepted(event, flags)


def _late_fees(view: View, command: RecordFees, content_hash: str) -> Decision:
    known = told_before(view, "fee", command.fee_id, content_hash)
    if known is not None:
        return known
    chain_id, chain = find_chain(view, command.deal_id)
    legs = tuple(
        CashLeg(
            currency=fee.currency,
            amount=-fee.amount,
            settlement_date=fee.settlement_date,
        )
        for fee in command.fees
    )
    flags: tuple[str, ...] = () if chain is not None and chain.told else ("unknown_deal",)
    if chain is not None and chain.status == "busted":
        flags = ("deal_busted",)
    event = FeesRecorded(**msgspec.structs.asdict(command), chain_id=chain_id, legs=legs)
    return Accepted(event, flags)


def _assign(view: View, command: AssignLots) -> Decision:
    chain_id, chain = find_chain(view, command.deal_id)
    if chain is None or not chain.quantity:
        return Lacking("unknown_deal", f"no deal {command.deal_id!r} is known")
    picked = money.add(pick.quantity for pick in command.lots)
    if picked > chain.quantity:
        numbers = {"picked": money.to_plain(picked), "quantity": money.to_plain(chain.quantity)}
        return Refused("more_than_the_deal", numbers)
    return Accepted(LotsAssigned(**msgspec.structs.asdict(command), chain_id=chain_id))


def _book(
    view: View, request: Request, command: RecordDeal, account: Account
) -> tuple[dict[str, Any], tuple[str, ...]] | Lacking:
    """Return the fields of the deal as booked and its flags: its terms, cost, legs and dates."""
    instrument = view.get("instrument", command.instrument)
    if not isinstance(instrument, Instrument):
        return Lacking("unknown_instrument", f"no instrument {command.instrument!r} is defined")
    terms = terms_of(command, instrument)
    if terms.kind == "fx" and terms.base_currency is None:
        return Lacking("unknown_instrument", f"{command.instrument!r} does not say its currencies")
    if command.price is None and command.gross is None and command.net is None:
        return Lacking("no_amount", f"deal {command.deal_id!r} tells neither price nor amount")
    cost, legs, flags = cost_and_legs(command, terms)
    fields: dict[str, Any] = {name: getattr(command, name) for name in _DEAL_FIELDS}
    if command.trade_date is None:
        zone_name = instrument.terms.time_zone or account.settings.time_zone
        fields["trade_date"] = local_day(request.event_time, zone_name)
        fields["trade_date_derived"] = True
    if command.order_id is not None:
        fields["order_id"], _ = resolve_order(view, command.order_id, command.ids)
    fields.update(
        terms=terms,
        cost=cost,
        legs=legs,
        capitalise_fees=account.settings.fees == "capitalised",
    )
    if instrument.assumed and command.kind is None:
        flags = (*flags, TERMS_ASSUMED)
    return fields, (*request.flags, *flags)


def _fill_flags(
    view: View, request: Request, fields: dict[str, Any], replaced: Deal | None
) -> tuple[str, ...]:
    """Return what a person should look at in the order that a deal fills.

    The fill of the chain that the deal takes the place of is taken out first.
    """
    order_id = fields["order_id"]
    if order_id is None:
        return ()
    order = view.get("order", order_id)
    known = order if isinstance(order, Order) else None
    if known is not None and replaced is not None and replaced.order_id == order_id:
        known = unfill_order(known, replaced.quantity, replaced.price)
    assert isinstance(request.command, DealFields)
    return fill_flags(known, order_id, request.command, request.event_time)


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
    own_fees = money.add(fee.amount for fee in deal.fees if fee.currency == deal.currency)
    extras = money.add((own_fees, _signed(sign, deal.accrued_interest or money.ZERO)))
    computed = None
    if deal.price is not None:
        computed = money.multiply(deal.price, deal.quantity, terms.multiplier, terms.price_unit)
    net = deal.net
    if net is not None and computed is None and deal.gross is None and sign * net > 0:
        net = -net
        flags.append("net_sign_assumed")
    if deal.gross is not None:
        cost = deal.gross
        if cost < 0 and (deal.price is None or deal.price >= 0):
            cost = -cost
    elif net is not None and (computed is None or terms.cash_style == "paid"):
        cost = _signed(-sign, money.add((net, extras)))
    else:
        cost = computed if computed is not None else money.ZERO
    if computed is not None and _differs(cost, computed):
        flags.append("gross_differs")
    own_cash = -money.add((_signed(sign, cost), extras))
    if terms.cash_style == "margined":
        own_cash = -own_fees
    elif net is not None:
        if _differs(net, own_cash):
            flags.append("net_differs")
        own_cash = net
    return cost, _legs(deal, terms, sign, own_cash), tuple(flags)


def _signed(sign: int, amount: Decimal) -> Decimal:
    return amount if sign > 0 else -amount


def _differs(told: Decimal, computed: Decimal) -> bool:
    """Tell whether two amounts differ by more than the rounding of the told one explains."""
    exponent = told.as_tuple().exponent
    unit = _ONE.scaleb(exponent) if isinstance(exponent, int) else _ONE
    difference = money.EXACT.subtract(told, computed)
    return abs(difference) > max(unit, _CENT_ROUNDING)


def _legs(deal: DealFields, terms: Terms, sign: int, own_cash: Decimal) -> tuple[CashLeg, ...]:
    legs: list[CashLeg] = []
    if terms.base_currency is not None:
        legs.append(
            CashLeg(
                currency=terms.base_currency,
                amount=_signed(sign, deal.quantity),
                settlement_date=deal.settlement_date,
            )
        )
    currency, amount = deal.currency, own_cash
    if deal.settlement_currency is not None and deal.settlement_amount is not None:
        currency, amount = deal.settlement_currency, _signed(-sign, abs(deal.settlement_amount))
    if amount:
        legs.append(CashLeg(currency=currency, amount=amount, settlement_date=deal.settlement_date))
    legs.extend(
        CashLeg(
            currency=fee.currency,
            amount=-fee.amount,
            settlement_date=fee.settlement_date or deal.settlement_date,
        )
        for fee in deal.fees
        if fee.currency != deal.currency and fee.amount
    )
    return tuple(legs)
