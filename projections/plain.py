"""Deals that need no decoding to be folded: most of a long log, and read in bulk."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from domain.decisions import Stamped
from domain.times import Instant
from projections.positions.facts import PositionKey


class Unread(Protocol):
    """The records that plain deals stand in."""

    def stamped(self, number: int) -> Stamped:
        """Return one of them decoded, as a fold takes it."""
        ...


class PlainDeal(Struct, frozen=True, gc=False):
    """A DealRecorded with an effect, at most one fee and one leg of cash, and no named lots.

    In place of the event stands what folds make of it. `place` is where it stands in trade order.
    `quantity` is signed and at 10**18, costs and fees are at 10**36, as facts of positions are;
    `amount` is what the leg of cash moves, '' where there is none. `line` and `leg_line` are the
    rows of the deal and of its leg, as COPY's text has them.
    """

    key: str
    seq: int
    offset: int
    place: tuple[Instant, int, int]
    position: PositionKey
    deal_id: str
    has_order: bool
    quantity: int
    cost36: int
    fees36: int
    capitalise_fees: bool
    terms: tuple[Decimal, Decimal]
    leg_currency: str
    amount: str
    settlement_date: str
    line: str
    leg_line: str
    records: Unread
    number: int

    @property
    def event_time(self) -> Instant:
        """Return when the deal was made."""
        return self.place[0]

    def stamped(self) -> Stamped:
        """Return the event itself, decoded."""
        return self.records.stamped(self.number)


Folded = Stamped | PlainDeal


def whole(batch: Iterable[Folded]) -> list[Stamped]:
    """Return a batch with every event decoded."""
    return [one.stamped() if isinstance(one, PlainDeal) else one for one in batch]
