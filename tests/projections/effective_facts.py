"""What is in force after a history, told by a rule of its own: no fold, no decider's memory.

Ids that name each other are one chain. A bust of any of them ends it for good, whatever came first.
Else its current version is what came last, but for what something else had already replaced when
it came. Fees that came after a deal stay with its chain until a bust.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from domain import events
from domain.decisions import Stamped
from domain.events import CashLeg, Fee, LotPick, Terms
from domain.money import COST_SCALE, QUANTITY_SCALE, to_scaled
from domain.times import Instant, to_ns
from projections.positions.facts import CashLeg as FactCash
from projections.positions.facts import Deal, Fact, Movement, NamedLot, PositionKey, UnitLeg


class Chain(Struct):
    """A chain of deal, corrections and bust, as far as it has been told."""

    current: Stamped | None = None
    seq: int = 0
    claimed: bool = False
    ended: bool = False
    terms: Terms | None = None
    cost: Decimal = Decimal(0)
    legs: tuple[CashLeg, ...] = ()
    lots: tuple[LotPick, ...] = ()
    late_fees: list[tuple[Fee, ...]] = []


class Book:
    """One account's chains, movements and cash, by the rule above."""

    def __init__(self, recorded: Iterable[Stamped]) -> None:
        self.chains: dict[str, Chain] = {}
        self.moved: dict[str, Stamped] = {}
        self.cash: dict[str, events.CashMoved] = {}
        self.transfers: list[Stamped] = []
        self.method = "fifo"
        self._taken_back: set[tuple[str, str]] = set()
        for one in recorded:
            self._take(one)

    def _take(self, one: Stamped) -> None:
        match one.event:
            case events.AccountOpened(method=method) | events.AccountChanged(method=method):
                self.method = method or self.method
            case events.DealCorrected() as event:
                self._correct(one, event)
            case events.DealRecorded() as event:
                chain = self._chain(event.deal_id)
                if not chain.claimed:
                    _tell(chain, one, event)
            case events.DealBusted() as event:
                chain = self._chain(event.ref_deal_id)
                chain.claimed = chain.ended = True
                self.chains[event.deal_id] = chain
            case events.FeesRecorded() as event:
                chain = self._chain(event.deal_id)
                if not chain.ended:
                    chain.late_fees = [*chain.late_fees, event.fees]
            case events.DealTermsAmended() as event:
                chain = self._chain(event.deal_id)
                chain.terms, chain.cost, chain.legs = event.terms, event.cost, event.legs
            case events.LotsAssigned() as event:
                self._chain(event.deal_id).lots = event.lots
            case _:
                self._take_other(one)

    def _take_other(self, one: Stamped) -> None:
        match one.event:
            case events.CashMoved() as event:
                self.cash[event.cash_id] = event
            case events.CashReversed() as event:
                self._taken_back.add(("cash", event.ref_cash_id))
            case events.PositionMoved() as event:
                self.moved[event.movement_id] = one
            case events.PositionMoveReversed() as event:
                self._taken_back.add(("movement", event.ref_movement_id))
            case events.TransferSent() | events.TransferReceived() | events.TransferReturned():
                self.transfers.append(one)
            case _:
                pass

    def _chain(self, deal_id: str) -> Chain:
        return self.chains.setdefault(deal_id, Chain())

    def _correct(self, one: Stamped, event: events.DealCorrected) -> None:
        replaced, own = self._chain(event.ref_deal_id), self._chain(event.deal_id)
        if not own.claimed and own.current is None:
            replaced.claimed = True
            replaced.late_fees = [*replaced.late_fees, *own.late_fees]
            if not replaced.ended:
                _tell(replaced, one, event)
            self.chains[event.deal_id] = replaced
            return
        own.ended = own.ended or replaced.ended
        own.late_fees = [*own.late_fees, *replaced.late_fees]
        for deal_id, chain in self.chains.items():
            if chain is replaced:
                self.chains[deal_id] = own

    # --- what it comes to ----------------------------------------------------------------------

    def effective(self) -> list[Chain]:
        """The chains in force that have a deal."""
        found = {id(chain): chain for chain in self.chains.values()}
        return [one for one in found.values() if one.current is not None and not one.ended]

    def effective_movements(self) -> list[Stamped]:
        """The movements and transfers in force."""
        kept = [
            one
            for movement_id, one in self.moved.items()
            if ("movement", movement_id) not in self._taken_back
        ]
        return kept + self.transfers

    def balances(self) -> dict[str, Decimal]:
        """The cash that all that is in force has moved, by currency."""
        found = {id(chain): chain for chain in self.chains.values() if not chain.ended}
        legs = [leg for chain in found.values() for leg in chain.legs]
        totals: dict[str, Decimal] = defaultdict(Decimal)
        for leg in legs:
            totals[leg.currency] += leg.amount
        for chain in found.values():
            for fee in (fee for fees in chain.late_fees for fee in fees):
                totals[fee.currency] -= fee.amount
        for cash_id, moved in self.cash.items():
            if ("cash", cash_id) not in self._taken_back:
                totals[moved.currency] += moved.amount
        for one in self.effective_movements():
            sign = -1 if isinstance(one.event, events.TransferSent) else 1
            for leg in one.event.cash:
                totals[leg.currency] += sign * leg.amount
        return {currency: total for currency, total in totals.items() if total}

    def facts(self) -> list[Fact]:
        """What is in force as the reference fold takes it, in trade order."""
        deals = [_deal(chain) for chain in self.effective()]
        movements = [_movement(one) for one in self.effective_movements() if one.event.legs]
        facts: list[Fact] = [fact for fact in deals if fact is not None]
        facts += movements
        return sorted(facts, key=lambda fact: (fact.event_time, fact.sequence, fact.seq))


def _tell(chain: Chain, one: Stamped, event: events.DealRecorded) -> None:
    chain.seq = one.seq if chain.current is None else chain.seq
    chain.current, chain.terms, chain.cost = one, event.terms, event.cost
    chain.legs, chain.lots = event.legs, event.lots


def _deal(chain: Chain) -> Deal | None:
    assert chain.current is not None
    assert chain.terms is not None
    event = chain.current.event
    assert isinstance(event, events.DealRecorded)
    if chain.terms.kind == "fx":
        return None
    sign = 1 if event.side == "buy" else -1
    fees = [*event.fees, *(fee for fees in chain.late_fees for fee in fees)]
    own_fees = sum((fee.amount for fee in fees if fee.currency == event.currency), Decimal(0))
    deal_id = event.chain_id if isinstance(event, events.DealCorrected) else event.deal_id
    return Deal(
        PositionKey(chain.current.key, event.instrument, event.currency),
        deal_id,
        chain.current.event_time,
        event.sequence,
        chain.seq,
        sign * to_scaled(event.quantity, QUANTITY_SCALE),
        sign * to_scaled(chain.cost, COST_SCALE),
        to_scaled(own_fees, COST_SCALE),
        event.capitalise_fees,
        tuple(NamedLot(pick.lot, to_scaled(pick.quantity, QUANTITY_SCALE)) for pick in chain.lots),
        told_ns=to_ns(chain.current.recorded_time),
    )


def _movement(one: Stamped) -> Movement:
    event = one.event
    sign, reason, movement_id = 1, "transfer", ""
    match event:
        case events.PositionMoved():
            reason, movement_id = event.reason, event.movement_id
        case events.TransferSent():
            sign, movement_id = -1, f"transfer/{event.transfer_id}/sent"
        case events.TransferReceived():
            movement_id = f"transfer/{event.transfer_id}/received"
        case events.TransferReturned():
            movement_id = f"transfer/{event.transfer_id}/returned"
    legs = tuple(
        UnitLeg(
            PositionKey(one.key, leg.instrument, leg.currency),
            sign * to_scaled(leg.quantity, QUANTITY_SCALE),
            tuple(
                NamedLot(
                    lot.lot,
                    sign * to_scaled(lot.quantity, QUANTITY_SCALE),
                    None if lot.opened_at is None else Instant(lot.opened_at),
                    None if lot.cost is None else sign * to_scaled(lot.cost, COST_SCALE),
                )
                for lot in leg.lots
                if lot.quantity
            ),
        )
        for leg in event.legs
    )
    cash = tuple(
        FactCash(leg.currency, sign * to_scaled(leg.amount, COST_SCALE)) for leg in event.cash
    )
    told_ns = to_ns(one.recorded_time)
    return Movement(
        movement_id, reason, one.event_time, event.sequence, one.seq, legs, cash, told_ns
    )
