"""Fold events about deals and moved units to their rows; a chain of corrections is one row."""

from collections.abc import Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import msgspec

from domain import money
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from domain.events import (
    CashLeg,
    DealCorrected,
    DealRecorded,
    DealTermsAmended,
    Fee,
    LotsAssigned,
    PositionMoved,
    TransferReceived,
    TransferReturned,
    TransferSent,
    UnitLeg,
)
from domain.times import Instant
from projections.positions.tables import DealRow, MovementRow
from projections.rows import bounded, time_ns

MovedEvent = PositionMoved | TransferSent | TransferReceived | TransferReturned
_DETAILS: Final = (
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
_details_told: Final = attrgetter(*_DETAILS)


def deal_row(one: Stamped, event: DealRecorded, before: DealRow | None, status: str) -> DealRow:
    """Return the row of a deal, or of the chain `before` after a correction.

    A corrected deal keeps its place among equal times: the seq of the chain's first deal.
    """
    terms = event.terms
    # By position: there are many deals, and naming 25 fields doubles what one costs.
    return DealRow(
        one.key,
        event.chain_id if isinstance(event, DealCorrected) else event.deal_id,
        event.order_id,
        event.instrument,
        event.currency,
        event.side,
        event.quantity,
        event.price,
        event.cost,
        _sum_in(event.currency, event.legs),
        _sum_in(event.currency, event.fees),
        event.capitalise_fees,
        terms.kind,
        terms.multiplier,
        terms.price_unit,
        status,
        time_ns(one.event_time),
        bounded(event.sequence),
        before.seq if before else one.seq,
        event.trade_date or one.event_time[:10],
        event.settlement_date,
        time_ns(one.recorded_time),
        _joined(before, one.flags),
        _details(event, before),
        one.offset,
    )


def _sum_in(currency: str, parts: tuple[CashLeg, ...] | tuple[Fee, ...]) -> Decimal:
    if len(parts) == 1:
        return parts[0].amount if parts[0].currency == currency else money.ZERO
    return money.add(part.amount for part in parts if part.currency == currency)


def _joined(before: DealRow | None, flags: tuple[str, ...]) -> list[str]:
    if before is None:
        return list(flags)
    return [*before.flags, *(flag for flag in flags if flag not in before.flags)]


def _details(event: DealRecorded, before: DealRow | None) -> dict[str, Any] | None:
    told = _details_told(event)
    details = {}
    if any(told):
        details = {name: value for name, value in zip(_DETAILS, told, strict=True) if value}
    if event.fees:
        details["fees"] = [fee_told(fee) for fee in event.fees]
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


def fee_told(fee: Fee) -> list[str]:
    """Return a fee as details have it."""
    return [fee.kind, money.to_plain(fee.amount), fee.currency]


def fee_of(told: list[str]) -> Fee:
    """Return the fee that details tell."""
    kind, amount, currency = told
    return Fee(kind=kind, amount=money.parse_decimal(amount, "amount"), currency=currency)


def told_after_bust(one: Stamped, before: DealRow, event: DealCorrected) -> DealRow:
    """Return the row of a chain that a bust ended, after a correction that changes nothing."""
    details = before.details or {}
    return msgspec.structs.replace(
        before,
        flags=_joined(before, one.flags),
        details={**details, "versions": [*details.get("versions", []), event.deal_id]},
        changed_offset=one.offset,
    )


def amended(one: Stamped, before: DealRow, event: DealTermsAmended) -> DealRow:
    """Return the row of a deal whose assumed terms are now known."""
    late = late_fees(before)
    late_own = money.add(fee.amount for fee in late if fee.currency == before.currency)
    return msgspec.structs.replace(
        before,
        cost=event.cost,
        net=money.EXACT.subtract(_sum_in(before.currency, event.legs), late_own),
        kind=event.terms.kind,
        multiplier=event.terms.multiplier,
        price_unit=event.terms.price_unit,
        flags=[flag for flag in before.flags if flag != "terms_assumed"],
        changed_offset=one.offset,
    )


def assigned(one: Stamped, before: DealRow, event: LotsAssigned) -> DealRow:
    """Return the row of a sale whose lots were named after it."""
    lots = [[pick.lot, money.to_plain(pick.quantity)] for pick in event.lots]
    details = {**(before.details or {}), "lots": lots}
    return msgspec.structs.replace(before, details=details, changed_offset=one.offset)


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


def late_fees(row: DealRow) -> list[Fee]:
    """Return the fees of a deal that came after it."""
    return [fee_of(told) for told in (row.details or {}).get("late_fees", ())]


def with_late_fees(before: DealRow, fees: Sequence[Fee], offset: int) -> DealRow:
    """Return the row of a deal after fees that came later; the same where there are none."""
    if not fees:
        return before
    listed = [*(before.details or {}).get("late_fees", []), *map(fee_told, fees)]
    late = money.add(fee.amount for fee in fees if fee.currency == before.currency)
    return msgspec.structs.replace(
        before,
        fees=money.EXACT.add(before.fees, late),
        net=money.EXACT.subtract(before.net, late),
        details={**(before.details or {}), "late_fees": listed},
        changed_offset=offset,
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
    sign = money.EXACT.minus if sends else money.EXACT.plus
    units = [
        (leg.instrument, leg.currency, sign(leg.quantity), _lots(leg, sends)) for leg in event.legs
    ]
    cash = [(None, leg.currency, sign(leg.amount), None) for leg in event.cash]
    return [
        MovementRow(
            account=one.key,
            movement_id=movement_id_of(event),
            leg=number,
            reason=reason,
            instrument=instrument,
            currency=currency,
            quantity=quantity,
            lots=lots,
            action_id=action_id,
            status="effective" if has_effect(one.flags) else "reversed",
            event_time_ns=time_ns(one.event_time),
            sequence=bounded(event.sequence),
            seq=one.seq,
            trade_date=trade_date,
            recorded_time_ns=time_ns(one.recorded_time),
            flags=list(one.flags),
            changed_offset=one.offset,
        )
        for number, (instrument, currency, quantity, lots) in enumerate([*units, *cash], 1)
    ]


def reversed_leg(one: Stamped, before: MovementRow) -> MovementRow:
    """Return the row of a leg whose movement was taken back."""
    return msgspec.structs.replace(before, status="reversed", changed_offset=one.offset)


def _lots(leg: UnitLeg, sends: bool) -> list[list[Any]] | None:
    """Return the lots of a leg, signed like it: what is sent is told as positive.

    What is sent leaves at the cost that it has here, whatever somebody told.
    """
    if not leg.lots:
        return None
    if sends:
        return [
            [lot.lot, money.to_plain(money.negated(lot.quantity)), None, None] for lot in leg.lots
        ]
    return [
        [
            lot.lot,
            money.to_plain(lot.quantity),
            None if lot.opened_at is None else Instant(lot.opened_at),
            None if lot.cost is None else money.to_plain(lot.cost),
        ]
        for lot in leg.lots
    ]
