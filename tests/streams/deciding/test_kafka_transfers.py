"""Transfers where the log is in Kafka: carried to their end once, as on Postgres."""

from collections.abc import Iterator
from decimal import Decimal

import pytest

from domain import commands
from domain.commands import Request
from domain.events import CashLeg
from infra import postgres
from streams.deciding.front import KafkaLedger
from streams.deciding.transfers import KafkaBook
from streams.kafka_log import KafkaLog
from streams.transfers import Settled, settle_transfers
from tests.streams.deciding.deciders import ThreadDecider, events_of
from tests.streams.deciding.test_decider_service import decider, ledger, log, opening
from tests.streams.kafka_homes import home
from tests.streams.sample_book import at

__all__ = ["decider", "home", "ledger", "log"]


def send(number: int, to: str) -> Request:
    command = commands.SendTransfer(
        transfer_id=f"t{number}",
        to_account=to,
        cash=(CashLeg(amount=Decimal(5), currency="USD"),),
    )
    return Request(command_id=f"s{number}", key="A1", event_time=at(number), command=command)


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
