"""The decider: what a command comes to, and what an event leaves behind."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, get_args

from domain import commands, events
from domain.accounts import decide_account, evolve_account, find_account
from domain.cash import decide_cash, evolve_cash
from domain.commands import Request
from domain.deal_chains import evolve_deal
from domain.deals import decide_deal
from domain.decisions import Decision, EntityKey, Stamped, View
from domain.entities import Entity
from domain.orders import decide_order, evolve_orders
from domain.reference import decide_price, decide_reference, evolve_reference
from domain.transfers import decide_transfer, evolve_transfer

_REFERENCE = get_args(commands.ReferenceCommand)
Decide = Callable[[View, Request, str], Decision]
Evolve = Callable[[View, Stamped], list[tuple[str, str, Entity]]]

_DECIDERS: Final[dict[type, Decide]] = {
    **dict.fromkeys(get_args(commands.DealCommand), decide_deal),
    **dict.fromkeys(get_args(commands.OrderCommand), decide_order),
    **dict.fromkeys(get_args(commands.CashCommand), decide_cash),
    **dict.fromkeys(get_args(commands.TransferCommand), decide_transfer),
    **dict.fromkeys((commands.OpenAccount, commands.CloseAccount), decide_account),
    **dict.fromkeys(get_args(commands.ReferenceCommand), decide_reference),
    commands.RecordPrice: decide_price,
}


def _evolve_account(view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    return [("account", "", evolve_account(find_account(view), stamped))]


def _evolve_nothing(_view: View, _stamped: Stamped) -> list[tuple[str, str, Entity]]:
    return []


_EVOLVERS: Final[dict[type, Evolve]] = {
    **dict.fromkeys(get_args(events.ReferenceEvent), evolve_reference),
    **dict.fromkeys(get_args(events.AccountEvent), evolve_orders),
    **dict.fromkeys(
        (
            events.DealRecorded,
            events.DealCorrected,
            events.DealBusted,
            events.DealTermsAmended,
            events.FeesRecorded,
            events.LotsAssigned,
        ),
        evolve_deal,
    ),
    **dict.fromkeys(
        (
            events.CashMoved,
            events.CashReversed,
            events.PositionMoved,
            events.PositionMoveReversed,
        ),
        evolve_cash,
    ),
    **dict.fromkeys(
        (events.TransferSent, events.TransferReceived, events.TransferReturned), evolve_transfer
    ),
    **dict.fromkeys(
        (events.AccountOpened, events.AccountChanged, events.AccountClosed), _evolve_account
    ),
    **dict.fromkeys((events.PriceRecorded, events.CommandRefused), _evolve_nothing),
}
"""What is no other kind of an account's event is one of its orders'."""


def decide(view: View, request: Request, content_hash: str) -> Decision:
    """Return what a command comes to: one event, a refusal, or what it lacks.

    `content_hash` stands for the command's content by value: an id told again with the same one is
    known already, with another one a conflict.
    """
    return _DECIDERS[type(request.command)](view, request, content_hash)


def evolve(view: View, stamped: Stamped) -> list[tuple[str, str, Entity]]:
    """Return the entities, by kind and id, that a valid event leaves changed in its stream."""
    return _EVOLVERS[type(stamped.event)](view, stamped)


def keys_of(request: Request) -> Iterable[EntityKey]:
    """Return the entities that deciding a command will look at first, so that they can be fetched.

    A hint for fetching in bulk: what a decision looks at beyond them is fetched one by one.
    """
    command = request.command
    if isinstance(command, commands.RecordDeal):
        return _keys_of_deal(command)
    return _keys_of(command)


def _keys_of_deal(command: commands.RecordDeal) -> list[EntityKey]:
    keys = [("account", ""), ("deal", command.deal_id), ("instrument", command.instrument)]
    if command.order_id is not None:
        keys.append(("order", command.order_id))
    if isinstance(command, commands.CorrectDeal):
        keys.append(("deal", command.ref_deal_id))
    return keys


def _keys_of(command: commands.Command) -> Iterator[EntityKey]:
    if isinstance(command, commands.RecordPrice):
        return
    if isinstance(command, _REFERENCE):
        yield "instrument", ""
        return
    yield "account", ""
    match command:
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
