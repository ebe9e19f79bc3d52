"""Facts that are refused today, and that a log may hold from before: no fold stands still."""

from decimal import Decimal

import msgspec
import pytest

from domain import money
from domain.commands import (
    BustDeal,
    Command,
    CorrectDeal,
    DefineInstrument,
    IdentifyInstrument,
    MovePosition,
    OpenAccount,
    RecordDeal,
    RecordFees,
    RecordPrice,
)
from domain.decisions import Stamped
from domain.events import DealCorrected, Fee, LotTold, TransferSent, UnitLeg
from projections.cash.fold import PROJECTION as CASH_PROJECTION
from projections.cash.tables import CASH_LEGS
from projections.instruments.fold import IDENTIFIERS
from projections.instruments.fold import PROJECTION as INSTRUMENTS_PROJECTION
from projections.positions.fold import PROJECTION
from projections.positions.tables import DEALS, LOTS, MOVEMENTS, POSITIONS
from projections.prices.fold import PRICES
from projections.prices.fold import PROJECTION as PRICES_PROJECTION
from tests.domain.journal import Journal, at
from tests.projections.row_store import fold_fresh, fold_in_batches, told

D = Decimal
LARGEST = 2**63 - 1


@pytest.fixture
def journal() -> Journal:
    """An account that has bought 10 at 1."""
    opened = Journal()
    opened.accept(OpenAccount(base_currency="USD"))
    opened.accept(DefineInstrument(), key="X")
    opened.accept(deal("d1"))
    return opened


def deal(deal_id: str, sequence: int = 0) -> RecordDeal:
    return RecordDeal(
        deal_id=deal_id,
        instrument="X",
        side="buy",
        quantity=D(10),
        price=D(1),
        currency="USD",
        sequence=sequence,
    )


def leg(quantity: int, *lots: LotTold) -> tuple[UnitLeg, ...]:
    return (UnitLeg(instrument="X", quantity=D(quantity), currency="USD", lots=lots),)


def test_a_lot_without_units_moves_nothing(journal: Journal) -> None:
    lots = (LotTold(lot="L", quantity=D(0)), LotTold(lot="d1", quantity=D(-5)))
    out = MovePosition(movement_id="m1", reason="adjustment", legs=leg(-5, *lots))
    journal.accept(out, at_time=at(1))
    journal.accept(MovePosition(movement_id="m2", reason="adjustment", legs=leg(0)))
    made = fold_fresh(PROJECTION, journal.events["events"])
    (row,) = made.rows(POSITIONS)
    assert (row.quantity, row.cost_basis, row.flags) == (5, 5, [])


def test_a_place_beyond_64_bits_is_the_last_there_is(journal: Journal) -> None:
    journal.accept(deal("d2", sequence=10**25))
    journal.accept(deal("d3", sequence=-(10**25)))
    journal.accept(MovePosition(movement_id="m1", reason="opening", legs=leg(1), sequence=10**25))
    history = journal.events["events"]
    fresh, store = (
        fold_fresh(PROJECTION, history),
        fold_in_batches(PROJECTION, [[one] for one in history]),
    )
    for table in PROJECTION.tables:
        assert told(table, store.rows(table)) == told(table, fresh.rows(table))
    places = [row.sequence for table in (DEALS, MOVEMENTS) for row in fresh.rows(table)]
    assert sorted(places) == [-LARGEST - 1, 0, LARGEST, LARGEST]
    assert [lot.lot_id for lot in sorted(fresh.rows(LOTS), key=lambda lot: lot.ordinal)] == [
        *("d3", "d1", "d2", "m1/1"),
    ]


def test_what_was_sent_leaves_at_its_cost_here_whatever_was_told(journal: Journal) -> None:
    untrue = LotTold(lot="elsewhere", quantity=D(5), opened_at=at(-9), cost=D(500))
    sent = Stamped(
        event=TransferSent(transfer_id="t1", to_account="A2", legs=leg(5, untrue)),
        key="A1",
        seq=3,
        offset=3,
        event_time=at(2),
        recorded_time=at(10**7),
    )
    (row,) = fold_fresh(PROJECTION, [*journal.events["events"], sent]).rows(POSITIONS)
    assert (row.quantity, row.cost_basis, row.realised_pnl) == (5, 5, 0)
    assert row.flags == ["lots_unmatched"]


def correction(deal_id: str, ref: str) -> CorrectDeal:
    return CorrectDeal(
        deal_id=deal_id,
        ref_deal_id=ref,
        instrument="F",
        side="buy",
        quantity=D(1),
        price=D(1),
        currency="USD",
    )


def fee(fee_id: str, ref: str) -> RecordFees:
    told_as = Fee(kind="commission", amount=D("2.5"), currency="USD")
    return RecordFees(fee_id=fee_id, deal_id=ref, fees=(told_as,))


@pytest.mark.parametrize(
    ("story", "charged"),
    [
        ([correction("c2", "c1"), fee("f1", "c1"), correction("c1", "d9")], "2.5"),
        ([fee("fee/1", "c1"), correction("c2", "c1"), correction("c1", "d9")], "2.5"),
        ([BustDeal(deal_id="b1", ref_deal_id="d9"), fee("f1", "c1"), correction("c1", "d9")], "0"),
    ],
)
def test_a_late_fee_of_a_future_is_the_same_in_cash_as_in_positions(
    story: list[Command], charged: str
) -> None:
    """A future moves no cash of its own that would tell whether a correction came before."""
    journal = Journal()
    journal.accept(OpenAccount(base_currency="USD"))
    journal.accept(DefineInstrument(kind="future", multiplier=D(5)), key="F")
    for command in story:
        journal.accept(command)
    history = [without_heir(one) for one in journal.events["events"]]
    fees = [row.fees for row in fold_fresh(PROJECTION, history).rows(POSITIONS)]
    fresh, store = (
        fold_fresh(CASH_PROJECTION, history),
        fold_in_batches(CASH_PROJECTION, [[one] for one in history], range(1, len(history))),
    )
    for made in (fresh, store):
        legs = money.add(leg.amount for leg in made.rows(CASH_LEGS))
        assert (money.add(fees), legs) == (D(charged), -D(charged))


def without_heir(one: Stamped) -> Stamped:
    """An event as it was before `continues_as`."""
    if not isinstance(one.event, DealCorrected):
        return one
    event = msgspec.structs.replace(one.event, continues_as=None)
    return msgspec.structs.replace(one, event=event)


def test_a_name_that_no_index_takes_is_cut() -> None:
    price = RecordPrice(price=D(1), currency="USD", source="s" * 9000)
    told_as = IdentifyInstrument(scheme="x" * 9000, value="v" * 9000)
    journal = Journal()
    journal.accept(price, key="X")
    journal.accept(told_as, key="X")
    journal.accept(IdentifyInstrument(scheme="x" * 9000, value="v" * 9001), key="X")
    (row,) = fold_fresh(PRICES_PROJECTION, journal.events["prices"]).rows(PRICES)
    named, alike = fold_fresh(INSTRUMENTS_PROJECTION, journal.events["reference"]).rows(IDENTIFIERS)
    assert (named.scheme, named.value[:300]) == (alike.scheme, alike.value[:300])
    key = (named.instrument, named.scheme, named.value, named.from_date)
    for values in (key, (row.instrument, row.source)):
        assert sum(4 * len(value) for value in values) < 2704
