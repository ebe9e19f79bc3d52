"""Transfers between two streams: received or returned, once, whenever it is interrupted."""

import contextlib
from collections.abc import Iterator, Sequence
from decimal import Decimal

import psycopg
import pytest
from msgspec.structs import replace

from domain.commands import CloseAccount, Request, Topic
from domain.errors import InvalidValue
from domain.events import (
    LotTold,
    RecordParked,
    TransferReceived,
    TransferReturned,
    TransferSent,
    UnitLeg,
)
from schemas.codec import encode, record_hash
from schemas.envelope import Recorded
from schemas.partitioning import partition_of
from streams import transfers
from streams.answers import Answer
from streams.ledger import Ledger
from streams.log import Draft, LogHalted
from streams.postgres_log import PostgresLog
from streams.transfers import PostgresBook, Settled, settle_transfers
from tests.schemas.chains import make_envelope
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


@pytest.mark.parametrize(
    "error", [LogHalted("events", 1, 2, "decoded"), InvalidValue("quantity", "0", "another")]
)
def test_one_that_cannot_be_read_holds_up_no_other(
    two: Ledger, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(transfers, "_CHUNK", 2)
    told = [send(f"s{n}", "A", f"t{n}", "B", units="3") for n in range(6)]
    two.submit(told)

    def legs_of(sent: Recorded) -> tuple[UnitLeg, ...]:
        assert isinstance(sent.event, TransferSent)
        if sent.event.transfer_id in ("t0", "t1", "t4"):
            raise error
        return with_cost(sent)

    assert [one.transfer_id for one in settle_transfers(two, legs_of)] == ["t2", "t3", "t5"]
    assert settle_transfers(two, legs_of) == []
    assert [one.transfer_id for one in settle_transfers(two, with_cost)] == ["t0", "t1", "t4"]


def test_a_partition_that_stands_still_holds_up_no_other(two: Ledger) -> None:
    two.submit([open_account("C"), open_account("D")])
    still = partition_of("B", two.log.partitions)
    assert still not in {partition_of(name, two.log.partitions) for name in "ACD"}
    two.submit([send(f"s{name}", "A", f"t{name}", name) for name in "BCD"])
    offset = two.log.append("events", still, [Draft("B", b"junk")])
    assert [one.to_account for one in settle_transfers(two, with_cost)] == ["C", "D"]
    assert settle_transfers(two, with_cost) == []
    parked = RecordParked(offset=offset, digest=record_hash(b"junk"))
    two.log.append("events", still, [Draft(None, encode(make_envelope(parked, 9, 0, {})))])
    assert [one.to_account for one in settle_transfers(two, with_cost)] == ["B"]


class Counting(Ledger):
    """A ledger that counts what is submitted to it at a time."""

    def __init__(self, log: PostgresLog) -> None:
        super().__init__(log)
        self.sizes: list[int] = []

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        if requests:
            self.sizes.append(len(requests))
        return super().submit(requests)


@pytest.fixture
def counting(log: PostgresLog) -> Iterator[Counting]:
    ledger = Counting(log)
    yield ledger
    ledger.close()


@pytest.mark.parametrize(("topic", "sizes"), [("events", [8, 5]), ("reference", [8])])
def test_what_stands_still_is_found_out_once(
    two: Ledger,
    counting: Counting,
    caplog: pytest.LogCaptureFixture,
    topic: Topic,
    sizes: list[int],
) -> None:
    """However many accounts have to do with it, and whichever partition it is."""
    partitions = two.log.partitions
    names = [f"R{number}" for number in range(200)]
    still = partition_of("R0", partitions)
    there = [name for name in names if partition_of(name, partitions) == still][:3]
    others = [name for name in names if partition_of(name, partitions) != still][:5]
    two.submit([open_account(name) for name in there + others])
    two.submit([send(f"s{name}", "A", f"t{name}", name) for name in there + others])
    two.log.append(topic, still, [Draft("R0", b"junk")])
    settled = settle_transfers(counting, with_cost)
    assert {one.to_account for one in settled} == set(others if topic == "events" else [])
    assert counting.sizes == sizes
    (told,) = (one.getMessage() for one in caplog.records if "left on" in one.getMessage())
    assert told.startswith(f"{8 - len(settled)} transfers are left on their way: {topic}/{still}:")


def test_rounds_in_which_nothing_ends_hold_up_no_other(
    two: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "_CHUNK", 2)
    still = partition_of("B", two.log.partitions)
    assert still not in {partition_of(name, two.log.partitions) for name in "AC"}
    to = "BBBBC"
    sent = [send(f"s{n}", "A", f"t{n}", name) for n, name in enumerate(to)]
    two.submit([open_account("C"), *sent])
    two.log.append("events", still, [Draft("B", b"junk")])
    assert [one.transfer_id for one in settle_transfers(two, with_cost)] == ["t4"]


def test_who_lost_the_lock_settles_no_more(two: Ledger, log: PostgresLog) -> None:
    """The connection that comes instead has no lock."""
    with (
        contextlib.closing(PostgresBook(two)) as book,
        contextlib.closing(log.connect()) as other,
        book.alone(),
    ):
        book.check_alone()
        ended = other.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_locks"
            " WHERE locktype = 'advisory' AND granted AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert ended.fetchone() == (1,)
        for _ in range(2):
            with pytest.raises(psycopg.OperationalError):
                book.check_alone()
            assert book.is_idle()


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
