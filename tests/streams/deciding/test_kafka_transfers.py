"""Transfers where the log is in Kafka: carried to their end once, as on Postgres."""

import contextlib
import itertools
from collections.abc import Iterator
from decimal import Decimal

import pytest

from domain import commands
from domain.commands import Request
from domain.events import CashLeg
from infra import postgres
from schemas import codec
from schemas.partitioning import partition_of
from streams.deciding.front import KafkaLedger
from streams.deciding.transfers import KafkaBook
from streams.kafka_log import KafkaLog
from streams.ledger import Ledger
from streams.migrate_log import migrate_log
from streams.postgres_log import PostgresLog
from streams.transfers import Settled, settle_transfers
from tests.streams.deciding.deciders import ThreadDecider, deciding, events_of, wait_for
from tests.streams.deciding.test_decider_failures import parking
from tests.streams.deciding.test_decider_service import (
    PATIENCE_S,
    decider,
    ledger,
    log,
    opening,
)
from tests.streams.kafka_homes import KafkaHome, forget, home, new_home
from tests.streams.sample_book import at

__all__ = ["decider", "home", "ledger", "log"]


def send(number: int, to: str, by: str = "A1") -> Request:
    command = commands.SendTransfer(
        transfer_id=f"t{number}",
        to_account=to,
        cash=(CashLeg(amount=Decimal(5), currency="USD"),),
    )
    return Request(command_id=f"s{number}", key=by, event_time=at(number), command=command)


@pytest.fixture
def book(ledger: KafkaLedger, dsn: str, schema: str) -> Iterator[KafkaBook]:
    connection = postgres.connect(dsn)
    connection.execute(f"CREATE SCHEMA {schema}".encode())
    connection.close()
    with KafkaBook.of(ledger, dsn, schema) as opened:
        yield opened


def test_each_transfer_is_received_or_returned_once(
    log: KafkaLog, ledger: KafkaLedger, decider: ThreadDecider, book: KafkaBook
) -> None:
    ledger.submit([opening("A1"), opening("B"), send(1, "B"), send(2, "nobody"), send(3, "B")])
    settled = settle_transfers(ledger, lambda _: (), book)
    assert sorted(settled, key=lambda one: one.transfer_id) == [
        Settled("t1", "A1", "B", "received"),
        Settled("t2", "A1", "nobody", "returned", "unknown_account"),
        Settled("t3", "A1", "B", "received"),
    ]
    assert settle_transfers(ledger, lambda _: (), book) == []
    ledger.submit([opening("nobody"), send(4, "nobody")])
    assert [one.outcome for one in settle_transfers(ledger, lambda _: (), book)] == ["received"]
    streams = events_of(log)
    assert [one.type for one in streams["events/A1"]] == [
        "AccountOpened",
        *["TransferSent"] * 3,
        "TransferReturned",
        "TransferSent",
    ]
    assert [one.type for one in streams["events/B"]] == ["AccountOpened", *["TransferReceived"] * 2]


def test_one_that_died_in_between_is_finished_by_the_next(
    log: KafkaLog, ledger: KafkaLedger, decider: ThreadDecider, book: KafkaBook
) -> None:
    ledger.submit([opening("A1"), opening("B"), send(1, "B")])

    class Dying:
        def submit(self, requests: list[Request]) -> list[object]:
            ledger.submit(requests)
            raise ConnectionError("died after the command, before it was marked")

    with pytest.raises(ConnectionError):
        settle_transfers(Dying(), lambda _: (), book)  # type: ignore[arg-type]
    (settled,) = settle_transfers(ledger, lambda _: (), book)
    assert settled.outcome == "received"
    assert [one.type for one in events_of(log)["events/B"]] == ["AccountOpened", "TransferReceived"]


@contextlib.contextmanager
def books(log: KafkaLog, dsn: str, schema: str) -> Iterator[tuple[KafkaLedger, KafkaBook]]:
    """The ledger and the transfers of a log that a decider decides for."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(deciding(log))
        ledger = KafkaLedger(log, patience_s=PATIENCE_S)
        stack.callback(ledger.close)
        yield ledger, stack.enter_context(KafkaBook.of(ledger, dsn, schema))


def test_they_go_on_where_the_log_was_moved_to_kafka(
    home: KafkaHome, dsn: str, schema: str
) -> None:
    """The read models stay where they are, and with them the tables of the log that was there."""
    before = PostgresLog.open(dsn, schema, partitions=home.partitions)
    embedded = Ledger(before)
    embedded.submit([opening("A1"), opening("B"), send(1, "B")])
    assert len(settle_transfers(embedded, lambda _: ())) == 1
    embedded.submit([send(2, "B")])
    embedded.close()
    migrate_log(before, f"kafka://{home.hosts}/{home.namespace}")
    before.close()
    moved = home.open()
    with books(moved, dsn, schema) as (ledger, book):
        ledger.submit([send(3, "B")])
        settled = settle_transfers(ledger, lambda _: (), book)
        assert {(one.transfer_id, one.outcome) for one in settled} == {
            (name, "received") for name in ("t1", "t2", "t3")
        }
        assert book.is_idle()
    received = [one.type for one in events_of(moved)["events/B"]]
    assert received == ["AccountOpened", *["TransferReceived"] * 3]


def test_those_of_another_log_in_the_same_store_are_others(
    kafka_bootstrap: str, dsn: str, schema: str
) -> None:
    story = [opening("A1"), opening("B"), send(1, "B")]
    for fresh in (new_home(kafka_bootstrap), new_home(kafka_bootstrap)):
        try:
            opened = fresh.open()
            with books(opened, dsn, schema) as (asking, its_book):
                asking.submit(story)
                (settled,) = settle_transfers(asking, lambda _: (), its_book)
            assert settled.outcome == "received"
            assert events_of(opened)["events/B"][-1].type == "TransferReceived"
        finally:
            forget(fresh)


def test_a_sender_that_stands_still_holds_up_no_other(
    home: KafkaHome, log: KafkaLog, ledger: KafkaLedger, decider: ThreadDecider, book: KafkaBook
) -> None:
    halted = partition_of("A1", log.partitions)
    names = (f"O{number}" for number in itertools.count())
    one, other = itertools.islice(
        (name for name in names if partition_of(name, log.partitions) != halted), 2
    )
    ledger.submit([opening("A1"), opening(one), opening(other), send(1, one)])
    offset = home.produce(halted, b"A1", b"not JSON")
    wait_for(lambda: decider.counted("daybook_decider_halted_partitions") == 1)
    ledger.submit([send(2, other, by=one)])
    assert settle_transfers(ledger, lambda _: (), book) == [Settled("t2", one, other, "received")]
    assert not book.is_idle()
    log.append("events", halted, [parking(offset, codec.record_hash(b"not JSON"))])
    wait_for(lambda: decider.counted("daybook_decider_halted_partitions") == 0)
    wait_for(lambda: settle_transfers(ledger, lambda _: (), book) != [])
    assert book.is_idle()
    assert events_of(log)[f"events/{one}"][-1].type == "TransferReceived"
