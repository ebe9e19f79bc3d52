"""Fold events about deals and moved units to their rows; a chain of corrections is one row."""

from decimal import Decimal
from typing import Any

import msgspec

from domain import money
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from domain.events import (
    DealCorrected,
    DealRecorded,
    Fee,
    PositionMoved,
    TransferReceived,
    TransferReturned,
    TransferSent,
    UnitLeg,
)
from domain.times import Instant, to_ns
from projections.positions.tables import DealRow, MovementRow

MovedEvent = PositionMoved | TransferSent | TransferReceived | TransferReturned
_DETAILS = (
    "ids",
    "identifiers",
    "tags",
    "effect",
    "short",
    "capacity",
    "trader",
    "strategy",
    "broker",
    "venue",
    "counterparty",
    "parent_id",
    "booked_date",
)


def deal_row(one: Stamped, event: DealRecorded, before: DealRow | None) -> DealRow:
    """Return the row of a deal, or of the chain `before` after a correction.

    A corrected deal keeps its place among equal times: the seq of the chain's first deal.
    """
    corrected = isinstance(event, DealCorrected)
    return DealRow(
        account=one.key,
        deal_id=event.chain_id if isinstance(event, DealCorrected) else event.deal_id,
        order_id=event.order_id,
        instrument=event.instrument,
        currency=event.currency,
        side=event.side,
        quantity=event.quantity,
        price=event.price,
        cost=event.cost,
        net=_net(event),
        fees=_fees(event),
        capitalise_fees=event.capitalise_fees,
        kind=event.terms.kind,
        multiplier=event.terms.multiplier,
        price_unit=event.terms.price_unit,
        status="corrected" if corrected else "effective",
        event_time_ns=to_ns(one.event_time),
        sequence=event.sequence,
        seq=before.seq if before else one.seq,
        trade_date=event.trade_date or one.event_time[:10],
        settlement_date=event.settlement_date,
        recorded_time_ns=to_ns(one.recorded_time),
        flags=_joined(before, one.flags),
        details=_details(event, before),
        changed_offset=one.offset,
    )


def _net(event: DealRecorded) -> Decimal:
    if event.net is not None and not event.settlement_currency:
        return event.net
    return money.add(leg.amount for leg in event.legs if leg.currency == event.currency)


def _fees(event: DealRecorded) -> Decimal:
    if not event.fees:
        return money.ZERO
    return money.add(fee.amount for fee in event.fees if fee.currency == event.currency)


def _joined(before: DealRow | None, flags: tuple[str, ...]) -> list[str]:
    if before is None:
        return list(flags)
    return [*before.flags, *(flag for flag in flags if flag not in before.flags)]


def _details(event: DealRecorded, before: DealRow | None) -> dict[str, Any] | None:
    details = {name: value for name in _DETAILS if (value := getattr(event, name))}
    if event.fees:
        details["fees"] = [_fee(fee) for fee in event.fees]
    if event.lots:
        details["lots"] = [[pick.lot, money.to_plain(pick.quantity)] for pick in event.lots]
    if event.accrued_interest is not None:
        details["accrued_interest"] = money.to_plain(event.accrued_interest)
    if event.settlement_currency:
        details["settlement_currency"] = event.settlement_currency
        if event.settlement_amount is not None:
            details["settlement_amount"] = money.to_plain(event.settlement_amount)
    if isinstance(event, DealCorrected):
        earlier = (before.details or {}).get("versions", []) if before else []
        details["versions"] = [*earlier, event.deal_id]
    if "tags" in details:
        details["tags"] = list(event.tags)
    return details or None


def _fee(fee: Fee) -> list[str]:
    return [fee.kind, money.to_plain(fee.amount), fee.currency]


def busted(one: Stamped, before: DealRow, ref: str) -> DealRow:
    """Return the row of a chain that a bust ended."""
    details = {**(before.details or {}), "busted_by": ref}
    return msgspec.structs.replace(
        before,
        status="busted",
        flags=_joined(before, one.flags),
        details=details,
        changed_offset=one.offset,
    )


def with_late_fees(one: Stamped, before: DealRow, fees: tuple[Fee, ...]) -> DealRow:
    """Return the row of a deal after fees that came later."""
    listed = [*(before.details or {}).get("fees", []), *(_fee(fee) for fee in fees)]
    late = money.add(fee.amount for fee in fees if fee.currency == before.currency)
    return msgspec.structs.replace(
        before,
        fees=money.EXACT.add(before.fees, late),
        net=money.EXACT.subtract(before.net, late),
        details={**(before.details or {}), "fees": listed},
        changed_offset=one.offset,
    )


def movement_id_of(event: MovedEvent) -> str:
    """Return the id under which an event's legs are kept."""
    match event:
        case PositionMoved():
            return event.movement_id
        case TransferSent():
            return f"transfer/{event.transfer_id}/sent"
        case TransferReceived():
            return f"transfer/{event.transfer_id}/received"
        case TransferReturned():
            return f"transfer/{event.transfer_id}/returned"


def movement_rows(one: Stamped, event: MovedEvent) -> list[MovementRow]:
    """Return one row a leg; what a transfer sends leaves the account."""
    sends = isinstance(event, TransferSent)
    reason, action_id = "transfer", None
    trade_date = event.booked_date or one.event_time[:10]
    if isinstance(event, PositionMoved):
        reason, action_id = event.reason, event.action_id
        trade_date = event.trade_date or trade_date
    units = [(leg.instrument, leg.currency, leg.quantity, _lots(leg)) for leg in event.legs]
    cash = [(None, leg.currency, leg.amount, None) for leg in event.cash]
    return [
        MovementRow(
            account=one.key,
            movement_id=movement_id_of(event),
            leg=number,
            reason=reason,
            instrument=instrument,
            currency=currency,
            quantity=-quantity if sends else quantity,
            lots=lots,
            action_id=action_id,
            status="effective" if has_effect(one.flags) else "reversed",
            event_time_ns=to_ns(one.event_time),
            sequence=event.sequence,
            seq=one.seq,
            trade_date=trade_date,
            recorded_time_ns=to_ns(one.recorded_time),
            flags=list(one.flags),
            changed_offset=one.offset,
        )
        for number, (instrument, currency, quantity, lots) in enumerate([*units, *cash], 1)
    ]


def _lots(leg: UnitLeg) -> list[list[Any]] | None:
    if not leg.lots:
        return None
    return [
        [
            lot.lot,
            money.to_plain(lot.quantity),
            None if lot.opened_at is None else Instant(lot.opened_at),
            None if lot.cost is None else money.to_plain(lot.cost),
        ]
        for lot in leg.lots
    ]
