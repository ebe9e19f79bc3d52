"""Commands through real deciders on a real broker: the same books, once each, whoever decides."""

import contextlib
import threading
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from domain import commands
from domain.commands import Request
from infra.errors import ServerUnavailable
from schemas.envelope import GENESIS_HASH
from streams.deciding.front import KafkaLedger
from streams.deciding.index import RocksStore
from streams.kafka_log import KafkaLog
from streams.ledger import Ledger
from streams.log import command_ref
from tests.beside import beside
from tests.streams.deciding.deciders import ThreadDecider, deciding, events_of, told, wait_for
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.sample_book import at, sample_requests

__all__ = ["home"]

PATIENCE_S = 180
"""A decider on a busy machine may lose its partitions for being late, more than once."""


@pytest.fixture
def log(home: KafkaHome) -> Iterator[KafkaLog]:
    opened = home.open()
    yield opened
    opened.close()


@pytest.fixture
def ledger(log: KafkaLog) -> Iterator[KafkaLedger]:
    opened = KafkaLedger(log, patience_s=PATIENCE_S, overload_s=0)
    yield opened
    opened.close()


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Whatever a test begins and has to end, however the test ends."""
    with contextlib.ExitStack() as entered:
        yield entered


@pytest.fixture
def decider(log: KafkaLog) -> Iterator[ThreadDecider]:
    running = ThreadDecider(log)
    yield running
    running.stop()


def cash(number: int, account: str = "A1", amount: str = "1") -> Request:
    command = commands.MoveCash(
        cash_id=f"k{number}", kind="deposit", amount=Decimal(amount), currency="USD"
    )
    return Request(command_id=f"c{number}", key=account, event_time=at(number), command=command)


def opening(account: str = "A1") -> Request:
    command = commands.OpenAccount(base_currency="USD")
    return Request(command_id=f"open-{account}", key=account, event_time=at(0), command=command)


def test_the_same_commands_give_the_same_books_as_embedded(
    log: KafkaLog, ledger: KafkaLedger, decider: ThreadDecider, request: pytest.FixtureRequest
) -> None:
    requests = sample_requests(400)
    embedded: Ledger = request.getfixturevalue("embedded_ledger")
    expected, answers = embedded.submit(requests), ledger.submit(requests)
    for one, other in zip(expected, answers, strict=True):
        assert (one.status, one.command_id, one.topic, one.seq, one.event_type) == (
            other.status,
            other.command_id,
            other.topic,
            other.seq,
            other.event_type,
        )
        assert (one.flags, one.reason, one.detail, one.replayed) == (
            other.flags,
            other.reason,
            other.detail,
            other.replayed,
        )
        if other.offset is not None and not other.replayed and other.status != "duplicate":
            (record,) = log.read(other.topic, other.partition, other.offset, 1)
            assert record.value == other.event
    here, there = events_of(log), events_of(embedded.log)
    assert here.keys() == there.keys()
    for stream, events in here.items():
        assert [told(one) for one in events] == [told(one) for one in there[stream]], stream
        assert events[0].prev_hash == GENESIS_HASH


def test_asked_again_a_command_gets_its_first_answer(
    log: KafkaLog, ledger: KafkaLedger, decider: ThreadDecider
) -> None:
    first = ledger.submit([opening(), cash(1), cash(2)])
    again = ledger.submit([cash(2), opening(), replace(cash(1), command_id="c9")])
    assert [one.status for one in first] == ["accepted"] * 3
    assert [(one.status, one.replayed) for one in again] == [
        ("duplicate", True),
        ("duplicate", True),
        ("duplicate", False),
    ]
    assert [one.offset for one in again] == [first[2].offset, first[0].offset, first[1].offset]
    assert [one.event for one in again] == [first[2].event, first[0].event, first[1].event]
    (conflict,) = ledger.submit([cash(2, amount="7")])
    assert (conflict.status, conflict.reason) == ("conflict", "conflict")
    (lacking,) = ledger.submit([cash(1, account="nobody")])
    assert (lacking.status, lacking.reason, lacking.offset) == ("lacking", "unknown_account", None)
    assert len(events_of(log)["events/A1"]) == 3


def test_a_refusal_is_recorded_and_told_again(ledger: KafkaLedger, decider: ThreadDecider) -> None:
    ledger.submit([opening()])
    same = commands.SendTransfer(transfer_id="t1", to_account="A1")
    asked = Request(command_id="t1", key="A1", event_time=at(1), command=same)
    first, again = ledger.submit([asked, asked])
    assert (first.status, first.reason, first.replayed) == ("refused", "to_itself", False)
    assert (again.status, again.reason, again.replayed) == ("refused", "to_itself", True)
    assert first.offset == again.offset


def test_thousands_from_several_threads_keep_their_order(
    log: KafkaLog, ledger: KafkaLedger, decider: ThreadDecider
) -> None:
    accounts = [f"A{n}" for n in range(4)]
    ledger.submit([opening(account) for account in accounts])

    def work(account: str) -> None:
        told = [replace(cash(n, account), command_id=f"{account}-{n}") for n in range(700)]
        # Where the group is divided anew meanwhile, some are asked twice.
        assert {one.status for one in ledger.submit(told)} <= {"accepted", "duplicate"}

    with beside(*(partial(work, account) for account in accounts)):
        pass
    streams = events_of(log)
    for account in accounts:
        ids = [one.command_id for one in streams[f"events/{account}"][1:]]
        assert ids == [f"{account}-{n}" for n in range(700)]


def test_an_entity_is_looked_up_after_what_was_asked_before(
    ledger: KafkaLedger, decider: ThreadDecider
) -> None:
    ledger.submit([opening()])
    partition = ledger.submit([cash(1)])[0].partition
    found = ledger.fetch_entity(("events", partition), ("A1", "cash", "k1"))
    assert getattr(found, "status", None) == "effective"
    assert ledger.fetch_entity(("events", partition), ("A1", "cash", "k2")) is None


def test_a_deal_waits_for_the_instrument_that_another_process_defined(
    home: KafkaHome, ledger: KafkaLedger, decider: ThreadDecider, stack: contextlib.ExitStack
) -> None:
    """Neither knows what the other was told: the owner looks at the reference log for itself."""
    other = stack.enter_context(contextlib.closing(KafkaLedger(home.open())))
    ledger.submit([opening()])
    for number in range(20):
        define = Request(
            command_id=f"def{number}",
            key=f"I{number}",
            event_time=at(0),
            command=commands.DefineInstrument(currency="USD"),
        )
        deal = commands.RecordDeal(
            deal_id=f"d{number}",
            instrument=f"I{number}",
            side="buy",
            quantity=Decimal(1),
            price=Decimal(2),
            currency="USD",
            settlement_date="2024-01-04",
        )
        other.submit([define])
        (answer,) = ledger.submit(
            [Request(command_id=f"d{number}", key="A1", event_time=at(1), command=deal)]
        )
        assert answer.status == "accepted", answer


def test_nobody_answers(log: KafkaLog) -> None:
    with (
        contextlib.closing(KafkaLedger(log, patience_s=1)) as ledger,
        pytest.raises(ServerUnavailable, match=r"no answer in 1 s .*daybook decider"),
    ):
        ledger.submit([opening()])


def test_a_rehearsal_is_refused(ledger: KafkaLedger) -> None:
    with pytest.raises(ServerUnavailable, match="rehears"), ledger.rehearsal():
        pass


def test_too_many_commands_are_turned_away_in_order(log: KafkaLog) -> None:
    decider = ThreadDecider(log, queue=50)
    hasty = KafkaLedger(log, patience_s=PATIENCE_S, overload_s=0)
    patient = KafkaLedger(log, patience_s=PATIENCE_S, overload_s=PATIENCE_S)
    try:
        hasty.submit([opening(), opening("B")])
        answers = hasty.submit([cash(n) for n in range(1000)])
        statuses = [(one.status, one.reason) for one in answers]
        away = statuses.index(("lacking", "overloaded"))
        assert set(statuses[:away]) == {("accepted", None)}
        assert set(statuses[away:]) == {("lacking", "overloaded")}
        assert answers[away].detail == "too many commands are waiting; try again"
        again = patient.submit([cash(n) for n in range(1000)])
        assert {one.status for one in again} == {"accepted", "duplicate"}
        ids = [one.command_id for one in events_of(log)["events/A1"]]
        assert ids == ["open-A1", *(f"c{n}" for n in range(1000))]
        assert decider.counted("daybook_commands_total", status="overloaded") > 0
    finally:
        hasty.close()
        patient.close()
        decider.stop()


def test_two_deciders_share_the_partitions_and_hand_over(
    log: KafkaLog, ledger: KafkaLedger, stack: contextlib.ExitStack
) -> None:
    first = stack.enter_context(deciding(log, "first"))
    wait_for(lambda: first.owned() == {0, 1})
    accounts = [f"A{n}" for n in range(8)]
    ledger.submit([opening(account) for account in accounts])
    second = stack.enter_context(deciding(log, "second"))
    stopping = threading.Event()
    accepted: list[str] = []

    def work() -> None:
        number = 0
        while not stopping.is_set():
            asked = [
                replace(cash(number, account), command_id=f"{account}-{number}")
                for account in accounts
            ]
            accepted.extend(one.command_id for one in ledger.submit(asked))
            number += 1

    with beside(work, over=stopping):
        wait_for(lambda: len(first.owned()) == 1 and len(second.owned()) == 1)
        before = len(accepted)
        wait_for(lambda: len(accepted) > before + 100)
        first.stop()
        wait_for(lambda: second.owned() == {0, 1})
        before = len(accepted)
        wait_for(lambda: len(accepted) > before + 100)
    found = [one.command_id for told in events_of(log).values() for one in told]
    assert sorted(found) == sorted([*(f"open-{one}" for one in accounts), *accepted])


def test_an_index_is_gone_on_with_and_made_again_when_lost(
    log: KafkaLog, ledger: KafkaLedger, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    with contextlib.closing(RocksStore.open(folder)) as store, deciding(log, store=store):
        ledger.submit([opening(), cash(1)])
    for again in (False, True):
        if again:
            RocksStore.open(folder).destroy()
        with (
            contextlib.closing(RocksStore.open(folder)) as store,
            deciding(log, store=store) as decider,
        ):
            (answer,) = ledger.submit([cash(1)])
            assert (answer.status, answer.replayed) == ("duplicate", True)
            assert decider.decider is not None
            follower = decider.decider.followers["events", answer.partition]
            assert follower.index.offsets([command_ref("events", "A1", "c1")]) == [answer.offset]
