"""What may go wrong around a decider: kills, pauses, poison, nonsense, a damaged index."""

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from msgspec.structs import replace

from domain.events import RecordParked
from domain.times import from_ns
from infra.errors import ServerUnavailable
from schemas import codec
from schemas.envelope import Envelope
from schemas.partitioning import partition_of
from streams.deciding import wire
from streams.deciding.front import KafkaLedger
from streams.deciding.group import Group
from streams.deciding.index import RocksStore
from streams.deciding.replying import Replying
from streams.deciding.wire import ASK, REPLY_TO, decode_reply, encode_request
from streams.kafka_log import KafkaLog
from streams.kafka_reading import Reading
from streams.log import Draft
from tests.streams.deciding.deciders import (
    ProcessDecider,
    ThreadDecider,
    deciding,
    events_of,
    wait_for,
)
from tests.streams.deciding.test_decider_service import cash, ledger, log, opening
from tests.streams.kafka_homes import KafkaHome, home

__all__ = ["home", "ledger", "log"]


class Load:
    """Commands asked one batch after the other, from a thread; what was acknowledged."""

    def __init__(self, ledger: KafkaLedger, accounts: int = 4) -> None:
        self.acknowledged: list[str] = []
        self._ledger = ledger
        self._accounts = [f"A{n}" for n in range(accounts)]
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        ledger.submit([opening(account) for account in self._accounts])
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        number = 0
        try:
            while not self._stopping.is_set():
                asked = [
                    replace(cash(number, account), command_id=f"{account}-{number}")
                    for account in self._accounts
                ]
                for answer in self._ledger.submit(asked):
                    assert answer.status in ("accepted", "duplicate"), answer
                    self.acknowledged.append(answer.command_id)
                number += 1
        except BaseException as error:
            self._error = error

    def go_on(self, more: int = 40) -> None:
        """Wait until more was acknowledged."""
        wanted = len(self.acknowledged) + more
        wait_for(lambda: self._error is not None or len(self.acknowledged) >= wanted)
        assert self._error is None, self._error

    def end(self) -> None:
        """Stop asking."""
        self._stopping.set()
        self._thread.join()
        assert self._error is None, self._error

    def check(self, log: KafkaLog) -> None:
        """Every acknowledged command is in the log, once."""
        found = [
            one.command_id
            for told in events_of(log).values()
            for one in told
            if one.type == "CashMoved"
        ]
        assert len(found) == len(set(found))
        assert set(self.acknowledged) == set(found)


@pytest.fixture
def processes(home: KafkaHome, tmp_path: Path, log: KafkaLog) -> Iterator[list[ProcessDecider]]:
    """Two deciders on one home; the first has partitions."""
    started: list[ProcessDecider] = []
    try:
        for _ in range(2):
            started.append(ProcessDecider(home, tmp_path))
            wait_for(started[-1].has_partitions)
        yield started
    finally:
        for one in started:
            one.end()


def test_a_killed_decider_is_replaced_and_nothing_is_lost(
    log: KafkaLog, ledger: KafkaLedger, processes: list[ProcessDecider]
) -> None:
    load = Load(ledger)
    load.go_on()
    processes[0].process.kill()
    load.go_on()
    load.end()
    load.check(log)


def test_a_decider_told_to_end_hands_over(
    log: KafkaLog, ledger: KafkaLedger, processes: list[ProcessDecider]
) -> None:
    load = Load(ledger)
    load.go_on()
    processes[0].process.send_signal(signal.SIGTERM)
    assert processes[0].process.wait(timeout=120) == 0
    load.go_on()
    load.end()
    load.check(log)
    assert "handed over" in processes[0].said.read_text()


def test_a_decider_that_was_paused_comes_back_deposed(
    log: KafkaLog, ledger: KafkaLedger, processes: list[ProcessDecider]
) -> None:
    load = Load(ledger)
    load.go_on()
    processes[0].process.send_signal(signal.SIGSTOP)
    load.go_on()
    processes[0].process.send_signal(signal.SIGCONT)
    load.go_on(80)
    processes[1].process.kill()
    load.go_on()
    load.end()
    load.check(log)


def test_a_record_no_one_can_read_stands_in_the_way_until_it_is_parked(
    home: KafkaHome, log: KafkaLog, ledger: KafkaLedger
) -> None:
    decider = ThreadDecider(log)
    try:
        ledger.submit([opening(), cash(1)])
        partition = partition_of("A1", log.partitions)
        offset = home.produce(partition, b"A1", b"not JSON") if partition == 0 else None
        offset = offset if offset is not None else home.produce(partition, b"A1", b"not JSON")
        wait_for(lambda: decider.counted("daybook_decider_halted_partitions") == 1)
        (answer,) = ledger.submit([cash(2)])
        assert (answer.status, answer.reason) == ("lacking", "halted")
        assert f"events/{partition}:{offset}" in (answer.detail or "")
        log.append("events", partition, [parking(offset, codec.record_hash(b"not JSON"))])
        wait_for(lambda: decider.counted("daybook_decider_halted_partitions") == 0)
        wait_for(lambda: ledger.submit([cash(2)])[0].status in ("accepted", "duplicate"))
        (answer,) = ledger.submit([cash(3)])
        assert answer.status == "accepted"
        assert [one.command_id for one in events_of(log)["events/A1"]] == [
            "open-A1",
            "c1",
            "c2",
            "c3",
        ]
    finally:
        decider.stop()


def parking(offset: int, digest: str) -> Draft:
    now_ns = time.time_ns()
    envelope = Envelope(
        id="parking",
        type="RecordParked",
        event_time=from_ns(now_ns),
        recorded_time=from_ns(now_ns),
        data=codec.encode_event(RecordParked(offset=offset, digest=digest)),
    )
    return Draft(None, codec.encode(envelope), now_ns)


NONSENSE = (
    (b"A1", b"not JSON", "malformed"),
    (b"A1", b'{"command_id":"x","type":"Steal","key":"A1","event_time":"x","data":{}}', "Steal"),
    (b"B2", encode_request(opening("A1")), "not 'A1'"),
    (b"A1", encode_request(opening("A1")).replace(b'"USD"', b'"USD","more":1'), "data.more"),
    (b"A1", encode_request(opening("A1")).replace(b"000Z", b"Z"), "UTC"),
)


def test_what_is_no_command_goes_to_the_dead_letters(
    home: KafkaHome, log: KafkaLog, ledger: KafkaLedger
) -> None:
    decider = ThreadDecider(log)
    try:
        replies = asyncio.run(_ask_nonsense(home, log.partitions))
        assert len(replies) == len(NONSENSE)
        for reply, (_, value, reason) in zip(replies, NONSENSE, strict=True):
            assert reply.answer is not None
            assert (reply.answer.status, reply.answer.reason) == ("lacking", "undecodable"), value
            assert reason in (reply.answer.detail or "")
        letters = asyncio.run(_records(home, "dead-letters", len(NONSENSE)))
        assert sorted(one.value for one in letters) == sorted(value for _, value, _ in NONSENSE)
        assert all(dict(one.headers)["daybook-reason"] for one in letters)
        assert decider.counted("daybook_dead_letters_total") == len(NONSENSE)
        assert [one.status for one in ledger.submit([opening(), cash(1)])] == ["accepted"] * 2
    finally:
        decider.stop()


async def _ask_nonsense(home: KafkaHome, partitions: int) -> list:  # type: ignore[type-arg]
    consumer = AIOKafkaConsumer(
        home.topic("replies"), bootstrap_servers=home.hosts, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(bootstrap_servers=home.hosts)
    await consumer.start()
    await producer.start()
    try:
        for number, (key, value, _) in enumerate(NONSENSE):
            headers = [(ASK, b"%d" % number), (REPLY_TO, b"1")]
            partition = partition_of("A1", partitions)
            await producer.send_and_wait(
                home.topic("commands"), value, key, partition=partition, headers=headers
            )
        told = [await asyncio.wait_for(consumer.getone(), 120) for _ in NONSENSE]
    finally:
        await producer.stop()
        await consumer.stop()
    told.sort(key=lambda one: int(dict(one.headers)[ASK]))
    return [decode_reply(one.value) for one in told]


async def _records(home: KafkaHome, topic: str, count: int) -> list:  # type: ignore[type-arg]
    consumer = AIOKafkaConsumer(
        home.topic(topic), bootstrap_servers=home.hosts, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        return [await asyncio.wait_for(consumer.getone(), 120) for _ in range(count)]
    finally:
        await consumer.stop()


def test_a_command_the_rules_fail_with_is_buried_and_the_others_decided(
    home: KafkaHome, log: KafkaLog, ledger: KafkaLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were a number without end let through, it could not be recorded."""
    monkeypatch.setattr(wire, "check_command", lambda command: command)
    away = [errors.KafkaConnectionError("away"), TimeoutError()]
    bury = Replying.bury

    async def bury_later(*told: Any) -> None:
        if away:
            raise away.pop()
        await bury(*told)

    monkeypatch.setattr(Replying, "bury", bury_later)
    decider = ThreadDecider(log)
    try:
        ledger.submit([opening()])
        endless = cash(2)
        endless = replace(endless, command=replace(endless.command, amount=Decimal("1E+9999")))
        answers = ledger.submit([cash(1), endless, cash(3)])
        assert [one.status for one in answers] == ["accepted", "lacking", "accepted"]
        assert answers[1].reason == "undecidable"
        (letter,) = asyncio.run(_records(home, "dead-letters", 1))
        assert letter.value == encode_request(endless)
        assert away == []
        assert ledger.submit([cash(4)])[0].status == "accepted"
    finally:
        decider.stop()


def test_brokers_that_do_not_answer_at_the_start_are_asked_again(
    log: KafkaLog, ledger: KafkaLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = [TimeoutError(), TimeoutError()]
    beginnings = Reading.beginnings

    async def beginnings_later(*told: Any) -> list[int]:
        if away:
            raise away.pop()
        return await beginnings(*told)

    monkeypatch.setattr(Reading, "beginnings", beginnings_later)
    with deciding(log):
        assert [one.status for one in ledger.submit([opening(), cash(1)])] == ["accepted"] * 2
    assert away == []


def test_what_kafka_refuses_a_decider_that_runs_is_told_in_words(
    log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_group: Group) -> None:
        raise errors.KafkaTimeoutError("no metadata")

    monkeypatch.setattr(Group, "check", check)
    decider = ThreadDecider(log)
    with pytest.raises(ServerUnavailable, match="no metadata while deciding"):
        decider.wait()


def test_an_index_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "0"
    folder.write_text("in the way")
    with pytest.raises(ServerUnavailable, match=r"the decider's index is not .*disk"):
        RocksStore.open(folder)


def test_a_damaged_index_is_made_again(home: KafkaHome, log: KafkaLog, tmp_path: Path) -> None:
    decider = ProcessDecider(home, tmp_path)
    ledger = KafkaLedger(log)
    try:
        wait_for(decider.has_partitions)
        (_, first) = ledger.submit([opening(), cash(1)])
        decider.end()
        folder = tmp_path / "deciders" / "0" / log.log_id
        for file in folder.iterdir():
            if file.name.startswith(("MANIFEST", "CURRENT")):
                file.write_bytes(b"damaged")
        decider = ProcessDecider(home, tmp_path)
        wait_for(decider.has_partitions)
        (again,) = ledger.submit([cash(1)])
        assert (again.status, again.offset) == ("duplicate", first.offset)
        (accepted,) = ledger.submit([cash(2)])
        assert accepted.status == "accepted"
    finally:
        decider.end()
        ledger.close()
    RocksStore(folder).close()


def test_a_clock_that_goes_backwards(log: KafkaLog, ledger: KafkaLedger) -> None:
    times = itertools.count(10**18, -1_000_000_000)
    decider = ThreadDecider(log, clock=lambda: next(times))
    try:
        ledger.submit([opening(), *(cash(n) for n in range(50))])
        told = [one.recorded_time for one in events_of(log)["events/A1"]]
        assert told == sorted(told)
        assert len(set(told)) == len(told)
    finally:
        decider.stop()
