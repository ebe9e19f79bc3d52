"""What deals, corrections and busts leave behind: chains of versions, and fills of orders."""

import msgspec

from domain import orders
from domain.deals import NO_EFFECT, TERMS_ASSUMED, find_chain
from domain.decisions import Stamped, View
from domain.entities import Alias, Deal, Entity, Fact, Order
from domain.events import (
    DealBusted,
    DealCorrected,
    DealRecorded,
    DealTermsAmended,
    FeesRecorded,
    LotsAssigned,
    OrderTold,
)

Changes = list[tuple[str, str, Entity]]


def has_effect(flags: tuple[str, ...]) -> bool:
    """Tell whether a deal or correction changes the books, or only the record."""
    return NO_EFFECT.isdisjoint(flags)


def evolve_deal(view: View, stamped: Stamped) -> Changes:
    """Return the entities that an event about a deal changes: its chain, its ids, its order."""
    event = stamped.event
    match event:
        case DealCorrected():
            return _corrected(view, stamped, event)
        case DealRecorded():
            return _recorded(view, stamped, event)
        case DealBusted():
            return _busted(view, stamped, event)
        case DealTermsAmended():
            _, chain = find_chain(view, event.chain_id)
            assert chain is not None
            return [("deal", event.chain_id, msgspec.structs.replace(chain, assumed=None))]
        case FeesRecorded():
            fact = Fact(content_hash=stamped.content_hash, offset=stamped.offset, seq=stamped.seq)
            return [("fee", event.fee_id, fact)]
        case LotsAssigned():
            return []
        case _:
            raise AssertionError(f"{type(event).__name__} is not an event about a deal")


def _recorded(view: View, stamped: Stamped, event: DealRecorded) -> Changes:
    if not has_effect(stamped.flags):
        return [_told(view, stamped, event.deal_id)]
    deal = Deal(
        status="effective",
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
        order_id=event.order_id,
        quantity=event.quantity,
        price=event.price,
        assumed=event if TERMS_ASSUMED in stamped.flags else None,
    )
    changes: Changes = [("deal", event.deal_id, deal)]
    if event.order_id is not None:
        changes.append(_filled(_order(view, event.order_id), event.order_id, stamped, event))
    return changes


def _told(view: View, stamped: Stamped, deal_id: str) -> tuple[str, str, Entity]:
    """Return what is known under the id of a fact that others had named before it came."""
    known = view.get("deal", deal_id)
    place = {
        "content_hash": stamped.content_hash,
        "offset": stamped.offset,
        "seq": stamped.seq,
    }
    if isinstance(known, Alias):
        return "deal", deal_id, msgspec.structs.replace(known, **place)
    assert isinstance(known, Deal)
    status = "busted" if known.status == "waiting" else known.status
    told = msgspec.structs.replace(known, told=True, status=status, **place)
    return "deal", deal_id, told


def _own_id(view: View, stamped: Stamped, deal_id: str, chain_id: str) -> tuple[str, str, Entity]:
    """Return what the id of a correction or bust stands for: the chain that it is about.

    Where a correction of it came first, that one's chain is what goes on under this id.
    """
    _, own = find_chain(view, deal_id)
    if own is not None and own.status == "corrected":
        return _told(view, stamped, deal_id)
    alias = Alias(
        target=chain_id,
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
    )
    return "deal", deal_id, alias


def _superseded(view: View, event: DealCorrected, chain: Deal | None) -> Changes:
    """Return the chain whose correction was itself taken back or corrected before it came."""
    changes = _unfill(view, chain)
    own_id, own = find_chain(view, event.deal_id)
    kept = chain or Deal(status="busted", told=False)
    if own is not None and own.status == "corrected" and own_id != event.chain_id:
        moved = Alias(
            target=own_id,
            content_hash=kept.content_hash,
            offset=kept.offset,
            seq=kept.seq,
        )
        return [("deal", event.chain_id, moved), *changes]
    return [("deal", event.chain_id, msgspec.structs.replace(kept, status="busted")), *changes]


def _corrected(view: View, stamped: Stamped, event: DealCorrected) -> Changes:
    _, chain = find_chain(view, event.chain_id)
    if event.chain_id == event.deal_id and chain is not None:
        _, deal_id, told = _told(view, stamped, event.deal_id)
        ended = msgspec.structs.replace(told, status="busted")
        return [("deal", deal_id, ended), *_unfill(view, chain)]
    changes: Changes = [_own_id(view, stamped, event.deal_id, event.chain_id)]
    if not has_effect(stamped.flags):
        if chain is None or chain.status != "busted":
            changes.extend(_superseded(view, event, chain))
        return changes
    after = Deal(
        status="corrected",
        content_hash=chain.content_hash if chain else "",
        offset=chain.offset if chain else 0,
        seq=chain.seq if chain else 0,
        told=chain.told if chain else False,
        order_id=event.order_id,
        quantity=event.quantity,
        price=event.price,
        assumed=event if TERMS_ASSUMED in stamped.flags else None,
    )
    changes.append(("deal", event.chain_id, after))
    unfilled = _unfill(view, chain)
    changes.extend(unfilled)
    if event.order_id is not None:
        current = _order(view, event.order_id)
        for _, order_id, entity in unfilled:
            if order_id == event.order_id and isinstance(entity, Order):
                current = entity
        changes.append(_filled(current, event.order_id, stamped, event))
    return changes


def _busted(view: View, stamped: Stamped, event: DealBusted) -> Changes:
    changes: Changes = [_own_id(view, stamped, event.deal_id, event.chain_id)]
    _, chain = find_chain(view, event.chain_id)
    if chain is None:
        changes.append(("deal", event.chain_id, Deal(status="waiting", told=False)))
    elif chain.status not in ("busted", "waiting"):
        busted = msgspec.structs.replace(chain, status="busted", assumed=None)
        changes.append(("deal", event.chain_id, busted))
        changes.extend(_unfill(view, chain, event.told))
    return changes


def _order(view: View, order_id: str) -> Order | None:
    entity = view.get("order", order_id)
    return entity if isinstance(entity, Order) else None


def _filled(
    order: Order | None, order_id: str, stamped: Stamped, deal: DealRecorded
) -> tuple[str, str, Entity]:
    return "order", order_id, orders.fill_order(order, order_id, deal, stamped.event_time)


def _unfill(view: View, chain: Deal | None, told: OrderTold | None = None) -> Changes:
    if chain is None or chain.order_id is None or chain.status in ("busted", "waiting"):
        return []
    order = _order(view, chain.order_id)
    if order is None:
        return []
    after = orders.unfill_order(order, chain.quantity, chain.price, told)
    return [("order", chain.order_id, after)]
