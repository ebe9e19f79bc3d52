"""Deals that were booked with assumed terms, amended once their instrument is defined."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import json
from psycopg import sql

from api.wiring import Parts
from domain.commands import AmendDealTerms, RecordDeal, Request
from domain.deal_amounts import terms_of
from domain.deals import TERMS_ASSUMED
from domain.entities import Instrument
from domain.times import from_ns
from infra.errors import ServerUnavailable
from projections.positions.tables import DEALS, DealRow
from schemas.partitioning import partition_of

_ACTOR: Final = "assumptions"
_POSITIONS: Final = "positions"
_CHUNK: Final = 4096
_encode = json.Encoder(order="deterministic").encode


class NotAmended(ServerUnavailable):
    """Instruments were defined again, but deals in them cannot be found and amended yet.

    `answers` are those to all that was submitted together: it is recorded.
    """

    def __init__(self, instruments: Iterable[str], partition: int) -> None:
        super().__init__(
            "the read model of deals",
            f"what was defined is recorded, but deals of events/{partition} that were booked"
            " with assumed terms cannot be found and amended yet",
            "is `daybook worker` running? Then import or submit the definition again",
        )
        self.instruments = frozenset(instruments)
        self.answers: Sequence[Any] = ()


def amend_deals(parts: Parts, instruments: Iterable[str]) -> None:
    """Amend the deals in instruments just defined whose assumed terms turn out to be others.

    The read model only says where to look; the decider judges each. An amendment's command id is
    made of the deal and its terms, so that it is never done twice. Raises NotAmended where the
    workers have not projected all that was in the log.
    """
    names = sorted(instruments)
    heads = parts.log.heads("events")
    parts.projector.catch_up()
    if (behind := _behind(parts, heads)) is not None:
        raise NotAmended(names, behind)
    amendments = _amendments(parts, names)
    while requests := list(islice(amendments, _CHUNK)):
        parts.ledger.submit(requests)


def _behind(parts: Parts, heads: Sequence[int]) -> int | None:
    """Return a partition whose deals cannot all be found yet, unless it stands still for good."""
    checkpoints = parts.models.checkpoints()
    for partition, head in enumerate(heads):
        found = checkpoints.get((_POSITIONS, partition))
        if (found.next_offset if found else 0) < head and not (found and found.halted):
            return partition
    return None


def _amendments(parts: Parts, instruments: list[str]) -> Iterator[Request]:
    where = sql.SQL(" WHERE t.instrument = ANY(%s) AND %s = ANY(t.flags) AND t.status <> 'busted'")
    defined = {name: _instrument(parts, name) for name in instruments}
    for row in parts.models.scan(DEALS, where, (instruments, TERMS_ASSUMED)):
        instrument = defined[row.instrument]
        if instrument is not None and not instrument.assumed:
            yield from _amendment(row, instrument)


def _instrument(parts: Parts, name: str) -> Instrument | None:
    ledger = parts.ledger
    place = partition_of(name, ledger.log.partitions)
    entity = ledger.fetch_entity(("reference", place), (name, "instrument", ""))
    return entity if isinstance(entity, Instrument) else None


def _amendment(row: DealRow, instrument: Instrument) -> Iterator[Request]:
    deal = RecordDeal(
        deal_id=row.deal_id,
        instrument=row.instrument,
        side="buy",
        quantity=row.quantity,
        currency=row.currency,
    )
    terms = terms_of(deal, instrument)
    booked = (row.kind, row.multiplier, row.price_unit)
    if booked == (terms.kind, terms.multiplier, terms.price_unit):
        return
    if terms.kind == "fx" and terms.base_currency is None:
        return  # what is exchanged is not known yet
    told = _encode((row.account, row.deal_id, row.seq, terms))
    yield Request(
        command_id=f"amend:{hashlib.sha256(told).hexdigest()[:32]}",
        key=row.account,
        event_time=from_ns(row.event_time_ns),
        command=AmendDealTerms(deal_id=row.deal_id, terms=terms),
        actor=_ACTOR,
    )
