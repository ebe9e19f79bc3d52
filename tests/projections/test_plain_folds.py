"""Deals that were recognised and not decoded make the rows that their events make."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.commands import DefineInstrument, OpenAccount, RecordDeal
from domain.decisions import Stamped
from domain.events import Fee
from projections.cash.fold import PROJECTION as CASH
from projections.orders.fold import PROJECTION as ORDERS
from projections.plain import Folded, PlainDeal, whole
from projections.positions.fold import PROJECTION as POSITIONS
from schemas import codec
from schemas.envelope import Envelope, Record
from streams.plain_deals import plain_deals
from tests.domain.journal import Journal
from tests.projections.histories import HISTORIES, History, play
from tests.projections.row_store import fold_fresh, fold_in_batches, told
from tests.projections.test_incremental_folds import CUTS, cut


def record_of(one: Stamped) -> Record:
    """An event as its record would be; who asked for it is of no matter."""
    envelope = Envelope(
        id="01a1fd47-8514-7149-a6a7-3482588cca0d",
        type=codec.event_type(one.event),
        account=one.key,
        seq=one.seq,
        event_time=one.event_time,
        recorded_time=one.recorded_time,
        command_id=f"c{one.offset}",
        command_hash=one.content_hash,
        flags=one.flags,
        data=codec.encode_event(one.event),
    )
    return Record("events", one.partition, one.offset, one.key, codec.encode(envelope))


def recognised(events: Sequence[Stamped]) -> list[Folded]:
    """Events, but for plain deals in the place of those that are."""
    found = plain_deals([record_of(one) for one in events])
    return [one if plain is None else plain[0] for one, plain in zip(events, found, strict=True)]


@settings(max_examples=40)
@given(HISTORIES, CUTS, st.sets(st.integers(0, 8)))
def test_plain_deals_make_the_rows_of_their_events(
    history: History, cuts: list[int], restarts: set[int]
) -> None:
    events = play(history).events["events"]
    plain = recognised(events)
    assert whole(plain) == events
    for projection in (POSITIONS, CASH, ORDERS):
        store = fold_in_batches(projection, cut(plain, cuts), restarts)
        fresh = fold_fresh(projection, events)
        for table in projection.tables:
            assert told(table, store.rows(table)) == told(table, fresh.rows(table))


def test_an_ordinary_deal_is_recognised() -> None:
    journal = Journal()
    journal.accept(OpenAccount(base_currency="USD"))
    journal.accept(DefineInstrument(kind="equity", currency="USD"), key="X")
    fee = Fee(kind="commission", amount=Decimal("0.10"), currency="USD")
    deal = RecordDeal(
        deal_id="d1",
        instrument="X",
        side="sell",
        quantity=Decimal("1.50"),
        price=Decimal(-3),
        currency="USD",
        venue="XNYS",
        ids={"exec_id": "7", "trade_id": "8"},
        tags=("a", "b"),
    )
    journal.accept(deal)
    journal.accept(msgspec.structs.replace(deal, deal_id="d2", order_id="o1", fees=(fee,)))
    events = journal.events["events"]
    assert [type(one) for one in recognised(events)] == [Stamped, PlainDeal, PlainDeal]
    store = fold_in_batches(POSITIONS, [recognised(events)])
    fresh = fold_fresh(POSITIONS, events)
    for table in POSITIONS.tables:
        assert told(table, store.rows(table)) == told(table, fresh.rows(table))
