"""The decider: what a command comes to, and what an event leaves behind."""

from collections.abc import Iterable
from typing import get_args

from domain import commands, events
from domain.accounts import decide_account, evolve_account, find_account
from domain.cash import decide_cash, evolve_cash
from domain.commands import Request
from domain.deal_chains import evolve_deal
from domain.deals import decide_deal
from domain.decisions import Accepted, Decision, EntityKey, Stamped, View
from domain.entities import Entity
from domain.orders import decide_order, evolve_orders
from domain.reference import decide_price, decide_reference, evolve_reference
from domain.transfers import decide_transfer, evolve_transfer

_ORDERS = get_args(commands.OrderCommand)
_DEALS = get_args(commands.DealCommand)
_CASH = get_args(commands.CashCommand)
_TRANSFERS = get_args(commands.TransferCommand)
_REFERENCE = get_args(commands.ReferenceCommand)
_DEAL_EVENTS = (
    events.DealRecorded,
    events.DealBusted,
    events.DealTermsAmended,
    events.FeesRecorded,
    events.LotsAssigned,
)
_CASH_EVENTS = (
    events.CashMoved,
    events.CashReversed,
    events.PositionMoved,
    events.PositionMoveReversed,
)
_TRANSFER_EVENTS = (events.TransferSent, events.TransferReceived, events.TransferReturned)
_ORDER_EVENTS = (events.OrderPlaced, events.OrderReport)
_ACCOUNT_EVENTS = (events.AccountOpened, events.AccountChanged, events.AccountClosed)


def decide(view: View, request: Request, content_hash: str) -> Decision:
    """Return what a command comes to: one event, a refusal, or what it lacks.

    `content_hash` stands for the command's content by value: an id told again with the same one is
    known already, with another one a conflict.
    """
    command = request.command
    if isinstance(command, _DEALS):
        return decide_deal(view, request, content_hash)
    if isinstance(command, _ORDERS):
        return decide_order(view, request, content_hash)
    if isinstance(command, _CASH):
        return decide_cash(view, request, content_hash)
    if isinstance(command, _TRANSFERS):
        return decide_transfer(view, request, content_hash)
    if isinstance(command, commands.OpenAccount | commands.CloseAccount):
        return decide_account(view, request, command)
    if isinstance(command, _REFERENCE):
        return decide_reference(view, request, content_hash)
    return decide_price(request)


def evolve(view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the entities, by kind and id, that a valid event leaves changed in its stream."""
    event = stamped.event
    if isinstance(event, _DEAL_EVENTS):
        return evolve_deal(view, stamped)
    if isinstance(event, _ORDER_EVENTS):
        return evolve_orders(view, stamped)
    if isinstance(event, _CASH_EVENTS):
        return evolve_cash(view, stamped)
    if isinstance(event, _TRANSFER_EVENTS):
        return evolve_transfer(stamped)
    if isinstance(event, _ACCOUNT_EVENTS):
        return [("account", "", evolve_account(find_account(view), stamped))]
    if isinstance(event, events.PriceRecorded | events.CommandRefused):
        return []
    return evolve_reference(stamped)


def keys_of(request: Request) -> Iterable[EntityKey]:
    """Yield the entities that deciding a command will look at first, so that they can be fetched.

    A hint for fetching in bulk: what a decision looks at beyond them is fetched one by one.
    """
    command = request.command
    if isinstance(command, commands.RecordPrice):
        return
    if isinstance(command, _REFERENCE):
        yield "instrument", ""
        return
    yield "account", ""
    match command:
        case commands.RecordDeal():
            yield "deal", command.deal_id
            yield "instrument", command.instrument
            if command.order_id is not None:
                yield "order", command.order_id
            if isinstance(command, commands.CorrectDeal):
                yield "deal", command.ref_deal_id
        case commands.PlaceOrder():
            yield "order", command.order_id
            yield "instrument", command.instrument
        case events.OrderReport():
            yield "order", command.order_id
        case commands.BustDeal():
            yield "deal", command.deal_id
            yield "deal", command.ref_deal_id
        case commands.MoveCash():
            yield "cash", command.cash_id
        case commands.MovePosition():
            yield "movement", command.movement_id
        case _:
            return


__all__ = ["Accepted", "decide", "evolve", "keys_of"]
