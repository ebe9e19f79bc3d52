"""Deals: recorded, corrected, busted, amended."""

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
from domain.deal_amounts import cost_and_legs, terms_of
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, View
from domain.entities import Account, Alias, Deal, Entity, Fact, Instrument, Order
from domain.events import (
    CashLeg,
    DealBusted,
    DealCorrected,
    DealFields,
    DealRecorded,
    DealTermsAmended,
    FeesRecorded,
    LotsAssigned,
)
from domain.orders import fill_flags, order_told_flags, resolve_order, unfill_order
from domain.times import local_day

WAITING: Final = "waiting"
"""Flag of a bust or reversal whose fact has not arrived."""
REVERSED_BEFORE_ARRIVAL: Final = "reversed_before_arrival"
"""Flag of a fact that was busted, corrected or reversed before it came: it has no effect."""
TERMS_ASSUMED: Final = "terms_assumed"
"""Flag of a deal booked with terms that nobody told, and that may still be amended."""
NO_EFFECT: Final = frozenset((REVERSED_BEFORE_ARRIVAL, "deal_busted"))

_COMMAND_ALONE: Final = tuple(
    name for name in CorrectDeal.__struct_fields__ if name not in DealFields.__struct_fields__
)


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
            decision = _bust(view, request, command, content_hash)
        case AmendDealTerms():
            decision = _amend(view, request, command)
        case RecordFees():
            decision = _late_fees(view, request, command, account, content_hash)
        case AssignLots():
            decision = _assign(view, request, command)
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about deals")
    if account.closed and isinstance(decision, Accepted):
        return Accepted(decision.event, (*decision.flags, "account_closed"))
    return decision


def find_chain(view: View, deal_id: str) -> tuple[str, Deal | None]:
    """Return the id of the chain that a deal id belongs to, and the chain if it is known."""
    entity = view.get("deal", deal_id)
    while isinstance(entity, Alias):
        deal_id = entity.target
        entity = view.get("deal", deal_id)
    return deal_id, entity if isinstance(entity, Deal) else None


def told_before(view: View, kind: str, fact_id: str, content_hash: str) -> Decision | None:
    """Return the answer for an id that was told before: known, or a conflict; None if it is new."""
    entity = view.get(kind, fact_id)
    return None if entity is None else _told_again(entity, fact_id, content_hash)


def _told_again(entity: Entity, fact_id: str, content_hash: str) -> Decision | None:
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
            return Refused("conflict", {"first_seq": str(entity.seq), "id": fact_id})
        case _:
            return None


def _record(
    view: View, request: Request, command: RecordDeal, account: Account, content_hash: str
) -> Decision:
    own = view.get("deal", command.deal_id)
    known = None if own is None else _told_again(own, command.deal_id, content_hash)
    if known is not None:
        return known
    booked = _book(view, request, command, account)
    if isinstance(booked, Lacking):
        return booked
    fields, flags = booked
    event = DealRecorded(**fields)
    if own is not None:
        return Accepted(event, (*flags, REVERSED_BEFORE_ARRIVAL))
    if event.order_id is not None:
        flags = (*flags, *_fill_flags(view, request, event, None))
    return Accepted(event, flags)


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
    own_id, own = find_chain(view, command.deal_id)
    if chain_id == own_id:
        return Refused("corrects_itself", {"id": command.deal_id})
    if chain is not None and chain.status in ("busted", WAITING):
        flags = (*flags, REVERSED_BEFORE_ARRIVAL if chain.status == WAITING else "deal_busted")
        if own is not None and own.status == "corrected":
            # A correction of it came first, and went on without knowing of the bust.
            chain_id = own_id
    elif own is not None:
        flags = (*flags, REVERSED_BEFORE_ARRIVAL)
    goes_on = own is not None and own.status == "corrected" and own_id != chain_id
    event = DealCorrected(
        **fields,
        ref_deal_id=command.ref_deal_id,
        chain_id=chain_id,
        continues_as=own_id if goes_on else None,
    )
    if chain is None:
        flags = (*flags, "unknown_deal")
    if NO_EFFECT.isdisjoint(flags):
        flags = (*flags, *_fill_flags(view, request, event, chain))
    return Accepted(event, flags)


def _bust(view: View, request: Request, command: BustDeal, content_hash: str) -> Decision:
    known = told_before(view, "deal", command.deal_id, content_hash)
    if known is not None:
        return known
    chain_id, chain = find_chain(view, command.ref_deal_id)
    if chain_id == command.deal_id:
        return Refused("busts_itself", {"id": command.deal_id})
    flags = request.flags
    if chain is None:
        flags = (*flags, WAITING)
    elif chain.status in ("busted", WAITING):
        flags = (*flags, "deal_busted")
    elif chain.order_id is not None:
        order = view.get("order", chain.order_id)
        if isinstance(order, Order):
            after = unfill_order(order, chain.quantity, chain.price, command.told)
            flags = (*flags, *order_told_flags(after, command.told))
    return Accepted(DealBusted(**msgspec.structs.asdict(command), chain_id=chain_id), flags)


def _amend(view: View, request: Request, command: AmendDealTerms) -> Decision:
    chain_id, chain = find_chain(view, command.deal_id)
    if chain is None or not chain.quantity:
        return Lacking("unknown_deal", f"no deal {command.deal_id!r} is known")
    if chain.status == "busted":
        return Refused("deal_busted", {"id": command.deal_id})
    if chain.assumed is None:
        return Refused("terms_were_told", {"id": command.deal_id})
    if command.terms.kind == "fx" and command.terms.base_currency is None:
        lacks = f"the terms of {command.deal_id!r} do not say which currency is exchanged"
        return Lacking("unknown_instrument", lacks)
    cost, legs, flags = cost_and_legs(chain.assumed, command.terms)
    event = DealTermsAmended(
        **msgspec.structs.asdict(command), chain_id=chain_id, cost=cost, legs=legs
    )
    return Accepted(event, (*request.flags, *flags))


def _late_fees(
    view: View, request: Request, command: RecordFees, account: Account, content_hash: str
) -> Decision:
    known = told_before(view, "fee", command.fee_id, content_hash)
    if known is not None:
        return known
    chain_id, chain = find_chain(view, command.deal_id)
    legs = tuple(
        CashLeg(
            currency=fee.currency,
            amount=money.negated(fee.amount),
            settlement_date=fee.settlement_date,
        )
        for fee in command.fees
    )
    flags = request.flags
    if chain is None:
        flags = (*flags, "unknown_deal")
    elif chain.status in ("busted", WAITING):
        flags = (*flags, "deal_busted")
    fields: dict[str, Any] = msgspec.structs.asdict(command)
    if command.booked_date is None:
        fields["booked_date"] = local_day(request.event_time, account.settings.time_zone)
    return Accepted(FeesRecorded(**fields, chain_id=chain_id, legs=legs), flags)


def _assign(view: View, request: Request, command: AssignLots) -> Decision:
    chain_id, chain = find_chain(view, command.deal_id)
    if chain is None or not chain.quantity:
        return Lacking("unknown_deal", f"no deal {command.deal_id!r} is known")
    picked = money.add(pick.quantity for pick in command.lots)
    if picked > chain.quantity:
        numbers = {"picked": money.to_plain(picked), "quantity": money.to_plain(chain.quantity)}
        return Refused("more_than_the_deal", numbers)
    flags = (*request.flags, "deal_busted") if chain.status == "busted" else request.flags
    return Accepted(LotsAssigned(**msgspec.structs.asdict(command), chain_id=chain_id), flags)


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
    fields: dict[str, Any] = msgspec.structs.asdict(command)
    for name in _COMMAND_ALONE:
        fields.pop(name, None)
    if command.trade_date is None:
        zone_name = instrument.terms.time_zone or account.settings.time_zone
        fields["trade_date"] = local_day(request.event_time, zone_name)
        fields["trade_date_derived"] = True
    if command.order_id is not None:
        fields["order_id"], _ = resolve_order(view, command.order_id, command.ids)
    fields["terms"] = terms
    fields["cost"] = cost
    fields["legs"] = legs
    fields["capitalise_fees"] = account.settings.fees == "capitalised"
    if instrument.assumed and command.kind is None:
        flags = (*flags, TERMS_ASSUMED)
    return fields, (*request.flags, *flags)


def _fill_flags(
    view: View, request: Request, event: DealRecorded, replaced: Deal | None
) -> tuple[str, ...]:
    """Return what a person should look at in the order that a deal fills.

    The fill of the chain that the deal takes the place of is taken out first.
    """
    order_id = event.order_id
    if order_id is None:
        return ()
    order = view.get("order", order_id)
    known = order if isinstance(order, Order) else None
    if known is not None and replaced is not None and replaced.order_id == order_id:
        known = unfill_order(known, replaced.quantity, replaced.price)
    return fill_flags(known, order_id, event, request.event_time)
