"""Transfers between two streams: received or returned, once, whenever it is interrupted."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import pytest
from msgspec.structs import replace

from domain.commands import CloseAccount, Request
from domain.events import LotTold, TransferReceived, TransferReturned, TransferSent, UnitLeg
from schemas.envelope import Recorded
from streams.answers import Answer
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from streams.transfers import Settled, settle_transfers
from tests.streams.books import valid_records
from tests.streams.requests import open_account, request, send


def with_cost(sent: Recorded) -> tuple[UnitLeg, ...]:
    assert isinstance(sent.event, TransferSent)
    return tuple(
        replace(leg, lots=(LotTold(lot="l1", quantity=leg.quantity, cost=Decimal("99.5")),))
        for leg in sent.event.legs
    )


def story(log: PostgresLog) -> list[tuple[str | None, str]]:
    found = [(r.envelope.stream, r.envelope.type) for r in valid_records(log)]
    return sorted((stream or "", kind) for stream, kind in found if "Transfer" in kind)


@pytest.fixture
def two(ledger: Ledger) -> Ledger:
    """A ledger with accounts A and B."""
    ledger.submit([open_account("A"), open_account("B")])
    return ledger


def test_what_was_sent_is_received_once(two: Ledger) -> None:
    two.submit([send("s1", "A", "t1", "B"), send("s2", "A", "t2", "B", units="7")])
    settled = settle_transfers(two, with_cost)
    assert settled == [Settled("t1", "A", "B", "received"), Settled("t2", "A", "B", "received")]
    assert settle_transfers(two, with_cost) == []
    received = [r for r in valid_records(two.log) if isinstance(r.event, TransferReceived)]
    cash, units = sorted((r.event for r in received), key=lambda event: event.transfer_id)
    assert isinstance(cash, TransferReceived)
    assert isinstance(units, TransferReceived)
    assert cash.cash[0].amount == 5
    assert units.from_account == "A"
    assert units.legs[0].lots == (LotTold(lot="l1", quantity=Decimal(7), cost=Decimal("99.5")),)
    sent = [r for r in valid_records(two.log) if isinstance(r.event, TransferSent)]
    assert {r.envelope.causation_id for r in received} == {r.envelope.id for r in sent}


@pytest.mark.parametrize("state", ["unknown", "closed"])
def test_what_cannot_be_received_is_returned_once(two: Ledger, state: str) -> None:
    to = "B" if state == "closed" else "nobody"
    two.submit([request("x", "B", CloseAccount()), send("s1", "A", "t1", to, units="3")])
    (settled,) = settle_transfers(two, with_cost)
    assert (settled.outcome, settled.to_account) == ("returned", to)
    assert settled.reason == ("account_closed" if state == "closed" else "unknown_account")
    (returned,) = [r.event for r in valid_records(two.log) if isinstance(r.event, TransferReturned)]
    assert returned.reason == settled.reason
    assert returned.legs[0].lots[0].cost == Decimal("99.5")
    two.submit([open_account("nobody")])
    assert settle_transfers(two, with_cost) == []
    assert story(two.log) == [("A", "TransferReturned"), ("A", "TransferSent")]


def test_the_same_id_from_two_senders_is_received_from_one(two: Ledger) -> None:
    two.submit([open_account("C"), send("s1", "A", "t", "B"), send("s2", "C", "t", "B")])
    outcomes = {(s.from_account, s.outcome, s.reason) for s in settle_transfers(two, with_cost)}
    assert outcomes == {("A", "received", None), ("C", "returned", "conflict")}


def test_more_than_fit_in_a_round_are_all_settled(two: Ledger) -> None:
    two.submit([send(f"s{n}", "A", f"t{n}", "B") for n in range(520)])
    assert len(settle_transfers(two, with_cost)) == 520
    assert len(story(two.log)) == 1040


class Dying(Ledger):
    """A ledger whose process ends before, or right after, one of its submits."""

    dies_at = 0
    after = False

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        self.dies_at -= 1
        if self.dies_at == 0 and not self.after:
            raise KeyboardInterrupt
        answers = super().submit(requests)
        if self.dies_at == 0:
            raise KeyboardInterrupt
        return answers


@pytest.fixture
def dying(log: PostgresLog) -> Iterator[Dying]:
    ledger = Dying(log)
    yield ledger
    ledger.close()


@pytest.mark.parametrize("dies_at", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_between_two_steps_is_finished_later(
    two: Ledger, dying: Dying, dies_at: int, after: bool
) -> None:
    two.submit([send("s1", "A", "t1", "B"), send("s2", "A", "t2", "nobody")])
    dying.dies_at, dying.after = dies_at, after
    with pytest.raises(KeyboardInterrupt):
        settle_transfers(dying, with_cost)
    settle_transfers(two, with_cost)
    assert story(two.log) == [
        ("A", "TransferReturned"),
        ("A", "TransferSent"),
        ("A", "TransferSent"),
        ("B", "TransferReceived"),
    ]
    assert settle_transfers(two, with_cost) == []
