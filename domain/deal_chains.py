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
        chain = view.get("deal", event.deal_id)
        assert isinstance(chain, Deal)
        told = msgspec.structs.replace(
            chain,
            told=True,
            content_hash=stamped.content_hash,
            offset=stamped.offset,
            seq=stamped.seq,
            status="busted" if chain.status == "waiting" else chain.status,
        )
        return [("deal", event.deal_id, told)]
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


def _corrected(view: View, stamped: Stamped, event: DealCorrected) -> Changes:
    alias = Alias(
        target=event.chain_id,
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
    )
    changes: Changes = [("deal", event.deal_id, alias)]
    _, chain = find_chain(view, event.chain_id)
    if not has_effect(stamped.flags):
        if chain is None or chain.status != "busted":
            kept = chain or Deal(status="busted", told=False)
            busted = msgspec.structs.replace(kept, status="busted")
            changes.append(("deal", event.chain_id, busted))
            changes.extend(_unfill(view, chain))
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
    alias = Alias(
        target=event.chain_id,
        content_hash=stamped.content_hash,
        offset=stamped.offset,
        seq=stamped.seq,
    )
    changes: Changes = [("deal", event.deal_id, alias)]
    _, chain = find_chain(view, event.chain_id)
    if chain is None:
        changes.append(("deal", event.chain_id, Deal(status="waiting", told=False)))
    elif chain.status not in ("busted", "waiting"):
        busted = msgspec.structs.replace(chain, status="busted")
        changes.append(("deal", event.chain_id, busted))
        changes.extend(_unfill(view, chain))
    return changes


def _order(view: View, order_id: str) -> Order | None:
    entity = view.get("order", order_id)
    return entity if isinstance(entity, Order) else None


def _filled(
    order: Order | None, order_id: str, stamped: Stamped, deal: DealRecorded
) -> tuple[str, str, Entity]:
    return "order", order_id, orders.fill_order(order, order_id, deal, stamped.event_time)


def _unfill(view: View, chain: Deal | None) -> Changes:
    if chain is None or chain.order_id is None or chain.status in ("busted", "waiting"):
        return []
    order = _order(view, chain.order_id)
    if order is None:
        return []
    after = orders.unfill_order(order, chain.quantity, chain.price)
    return [("order", chain.order_id, after)]
