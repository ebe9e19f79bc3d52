"""Cash and units that move without a deal, and their reversals."""

from typing import Any, Final

import msgspec

from domain.accounts import find_account, unknown_account
from domain.commands import MoveCash, MovePosition, Request, ReverseCash, ReversePositionMove
from domain.deals import REVERSED_BEFORE_ARRIVAL, WAITING, told_before
from domain.decisions import Accepted, Decision, Refused, Stamped, View
from domain.entities import Account, Entity, Fact
from domain.events import (
    CashMoved,
    CashReversed,
    PositionMoved,
    PositionMoveReversed,
)
from domain.times import local_day

TRANSFER_IDS: Final = "transfer/"
"""How the ids start under which transfers stand among an account's movements."""


def decide_cash(view: View, request: Request, content_hash: str) -> Decision:
    """Decide on a movement of cash or units, or on its reversal.

    Facts from outside are refused only for an id that is taken by other content. A reversal that
    comes before its movement waits for it, flagged.
    """
    account = find_account(view)
    if account is None:
        return unknown_account(request.key)
    command = request.command
    fields = dated(request, account)
    match command:
        case MoveCash():
            decision = _moved(view, "cash", command.cash_id, content_hash)
            event: CashMoved | PositionMoved | CashReversed | PositionMoveReversed = CashMoved(
                **fields
            )
        case MovePosition():
            decision = _moved(view, "movement", command.movement_id, content_hash)
            if command.movement_id.startswith(TRANSFER_IDS):
                decision = Refused("id_reserved", {"id": command.movement_id})
            event = PositionMoved(**fields)
        case ReverseCash():
            decision = _reversed(view, "cash", command.cash_id, command.ref_cash_id, content_hash)
            event = CashReversed(**fields)
        case ReversePositionMove():
            own_id, ref_id = command.movement_id, command.ref_movement_id
            decision = _reversed(view, "movement", own_id, ref_id, content_hash)
            if ref_id.startswith(TRANSFER_IDS):
                decision = Refused("id_reserved", {"id": ref_id})
            event = PositionMoveReversed(**fields)
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about cash or units")
    if not isinstance(decision, tuple):
        return decision
    flags = (*request.flags, *decision)
    return Accepted(event, (*flags, "account_closed") if account.closed else flags)


def dated(request: Request, account: Account) -> dict[str, Any]:
    """Return a command's fields with its booked date: as told, else the account's local date."""
    fields = msgspec.structs.asdict(request.command)
    if fields["booked_date"] is None:
        fields["booked_date"] = local_day(request.event_time, account.settings.time_zone)
    return fields


def _moved(view: View, kind: str, fact_id: str, content_hash: str) -> Decision | tuple[str, ...]:
    """Return the answer for a fact that was told before, else the flags of the new one."""
    known = told_before(view, kind, fact_id, content_hash)
    if known is not None:
        return known
    waiting = view.get(kind, fact_id)
    return () if waiting is None else (REVERSED_BEFORE_ARRIVAL,)


def _reversed(
    view: View, kind: str, own_id: str, ref_id: str, content_hash: str
) -> Decision | tuple[str, ...]:
    known = told_before(view, kind, own_id, content_hash)
    if known is not None:
        return known
    target = view.get(kind, ref_id)
    if own_id == ref_id:
        return Refused("reverses_itself", {"id": own_id})
    if not isinstance(target, Fact):
        return (WAITING,)
    return () if target.status == "effective" else ("reversed_already",)


def evolve_cash(view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the entities that a movement or a reversal changes."""
    event = stamped.event
    match event:
        case CashMoved():
            return [_fact(stamped, "cash", event.cash_id)]
        case PositionMoved():
            return [_fact(stamped, "movement", event.movement_id)]
        case CashReversed():
            return _reversal(view, stamped, "cash", event.cash_id, event.ref_cash_id)
        case PositionMoveReversed():
            own_id, ref_id = event.movement_id, event.ref_movement_id
            return _reversal(view, stamped, "movement", own_id, ref_id)
        case _:
            raise AssertionError(f"{type(event).__name__} is not an event of cash or units")


def _fact(stamped: Stamped, kind: str, fact_id: str) -> tuple[str, str, Entity]:
    reversed_before = REVERSED_BEFORE_ARRIVAL in stamped.flags
    fact = Fact(
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
        status="reversed" if reversed_before else "effective",
    )
    return kind, fact_id, fact


def _reversal(
    view: View, stamped: Stamped, kind: str, own_id: str, ref_id: str
) -> list[tuple[str, str, Entity]]:
    target = view.get(kind, ref_id)
    if isinstance(target, Fact):
        after = msgspec.structs.replace(
            target, status="waiting" if target.status == "waiting" else "reversed"
        )
    else:
        after = Fact(content_hash="", offset=0, seq=0, status="waiting")
    # What is taken back cannot be brought again by taking back its reversal.
    own = Fact(
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
        status="reversed",
    )
    return [(kind, own_id, own), (kind, ref_id, after)]
