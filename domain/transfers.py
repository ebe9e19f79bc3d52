"""Transfers between accounts: sent, then received by the other or returned to the sender.

Two accounts are two streams. A process manager carries a transfer from one to the other with
command ids derived from the transfer's id, so that a crash between the two never doubles it.
"""

from typing import Literal

from domain.accounts import find_account, unknown_account
from domain.cash import dated
from domain.commands import ReceiveTransfer, Request, ReturnTransfer, SendTransfer
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped, View
from domain.entities import Entity, Transfer
from domain.events import TransferReceived, TransferReturned, TransferSent
from domain.money import to_plain


def decide_transfer(view: View, request: Request, content_hash: str) -> Decision:
    """Decide on one side of a transfer."""
    account = find_account(view)
    command = request.command
    if account is None:
        # Recorded, because the sender gets it back: the same asking, told late, must not receive.
        is_receiving = isinstance(command, ReceiveTransfer)
        return Refused("unknown_account") if is_receiving else unknown_account(request.key)
    fields = dated(request, account)
    match command:
        case SendTransfer():
            refusal = _refuse_send(request.key, command)
            if refusal is None and account.closed:
                refusal = Refused("account_closed")
            event: TransferSent | TransferReceived = TransferSent(**fields)
        case ReceiveTransfer():
            refusal = Refused("account_closed") if account.closed else None
            event = TransferReceived(**fields)
        case ReturnTransfer():
            return _return(view, request, command, TransferReturned(**fields))
        case _:
            raise AssertionError(f"{type(command).__name__} is not a command about transfers")
    transfer = view.get("transfer", command.transfer_id)
    if isinstance(transfer, Transfer):
        if transfer.content_hash == content_hash:
            return Known(transfer.offset, transfer.seq)
        return Refused("conflict", {"first_seq": str(transfer.seq)})
    return refusal or Accepted(event, request.flags)


def _refuse_send(account_id: str, command: SendTransfer) -> Refused | None:
    if command.to_account == account_id:
        return Refused("to_itself", {"to_account": command.to_account})
    if not command.cash and not command.legs:
        return Refused("empty_transfer")
    amounts = [leg.amount for leg in command.cash] + [leg.quantity for leg in command.legs]
    smallest = min(amounts)
    if smallest <= 0:
        return Refused("not_positive", {"amount": to_plain(smallest)})
    for lot in (lot for leg in command.legs for lot in leg.lots):
        if lot.cost is not None or lot.opened_at is not None:
            # What leaves has the cost and the date that it had here: the book knows them.
            return Refused("cost_told", {"lot": lot.lot})
    return None


def _return(
    view: View, request: Request, command: ReturnTransfer, event: TransferReturned
) -> Decision:
    transfer = view.get("transfer", command.transfer_id)
    if not isinstance(transfer, Transfer):
        return Lacking("unknown_transfer", f"no transfer {command.transfer_id!r} was sent")
    if transfer.status == "returned":
        return Known(transfer.offset, transfer.seq)
    if transfer.status != "sent":
        return Refused("not_sent_from_here", {"status": transfer.status})
    return Accepted(event, request.flags)


def evolve_transfer(_view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the transfer after one of its events."""
    event = stamped.event
    match event:
        case TransferSent():
            return [_entity(stamped, event.transfer_id, "sent", event.to_account, event)]
        case TransferReceived():
            return [_entity(stamped, event.transfer_id, "received", event.from_account, event)]
        case TransferReturned():
            return [_entity(stamped, event.transfer_id, "returned", event.to_account, event)]
        case _:
            raise AssertionError(f"{type(event).__name__} is not an event of a transfer")


def _entity(
    stamped: Stamped,
    transfer_id: str,
    status: Literal["sent", "received", "returned"],
    other_account: str,
    event: TransferSent | TransferReceived | TransferReturned,
) -> tuple[str, str, Entity]:
    transfer = Transfer(
        status=status,
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
        other_account=other_account,
        cash=event.cash,
        legs=event.legs,
    )
    return "transfer", transfer_id, transfer
