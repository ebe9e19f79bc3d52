"""The Kafka log on a real broker: the contract of every log, and what only Kafka can get wrong."""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from domain.events import LogCreated
from domain.times import from_ns
from infra.errors import ServerUnavailable
from schemas import codec
from schemas.envelope import Envelope
from schemas.partitioning import partition_of
from schemas.validity import Void
from streams.kafka_log import KafkaLog
from streams.kafka_topics import LARGEST_APPEND, ensure_topics, plans
from streams.log import TOPICS, Draft, LogError
from streams.reader import fresh_state, read_valid
from tests.streams.kafka_homes import KafkaHome, forget, home, new_home
from tests.streams.log_contract import LogContract, draft, numbers, whole

__all__ = ["home"]

_SPAWN = multiprocessing.get_context("spawn")


class TestKafkaLog(LogContract):
    @pytest.fixture
    def log_home(self, kafka_bootstrap: str) -> Iterator[KafkaHome]:
        fresh = new_home(kafka_bootstrap, partitions=8)
        yield fresh
        forget(fresh)

    @pytest.mark.skip(reason="Kafka has no conditional append: that is the owner's to see to")
    def test_a_command_is_answered_once(self) -> None:
        """Not honoured."""


@pytest.fixture
def log(home: KafkaHome) -> Iterator[KafkaLog]:
    opened = home.open()
    yield opened
    opened.close()


@given(key=st.text(min_size=1), partitions=st.integers(1, 100))
def test_a_key_belongs_where_kafkas_default_partitioner_has_it(key: str, partitions: int) -> None:
    every = list(range(partitions))
    assert DefaultPartitioner()(key.encode(), every, every) == partition_of(key, partitions)


def test_a_record_is_a_cloud_event(home: KafkaHome, log: KafkaLog) -> None:
    now_ns = time.time_ns()
    envelope = Envelope(
        id="0190-x",
        type="DealRecorded",
        account="名",
        event_time=from_ns(1),
        recorded_time=from_ns(now_ns),
        data=codec.Raw(b"{}"),
    )
    value = codec.encode(envelope)
    log.append("events", 1, [Draft("名", value, now_ns), Draft(None, b"no envelope", now_ns)])
    event, other = asyncio.run(_consume(home, 1, 3))[1:]
    assert (event.key, event.value) == ("名".encode(), value)
    assert (event.timestamp, event.timestamp_type) == (now_ns // 1_000_000, 0)
    assert dict(event.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": b"0190-x",
        "ce_type": b"DealRecorded",
        "ce_source": f"/daybook/{home.topic()}".encode(),
        "ce_time": b"1970-01-01T00:00:00.000000001Z",
        "ce_recordedtime": from_ns(now_ns).encode(),
        "content-type": b"application/json",
    }
    assert (other.key, other.value) == (None, b"no envelope")
    assert [name for name, _ in other.headers] == ["ce_recordedtime"]


async def _consume(home: KafkaHome, partition: int, count: int):  # type: ignore[no-untyped-def]
    consumer = AIOKafkaConsumer(bootstrap_servers=home.hosts, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(home.topic(), partition)])
        return [await consumer.getone() for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.mark.parametrize("chunk", [1, 7, 50, 100, 350, 1000])
def test_a_partition_reads_the_same_in_chunks_of_any_size(log: KafkaLog, chunk: int) -> None:
    for start in range(0, 400, 50):
        log.append("events", 0, [draft("A", n) for n in range(start, start + 50)])
    found = []
    while records := log.read("events", 0, len(found), chunk):
        assert len(records) == min(chunk, 401 - len(found))
        found += records
    assert [record.offset for record in found] == list(range(401))
    assert numbers(found) == [("A", n) for n in range(400)]


def test_two_processes_that_create_at_once_make_one_log(home: KafkaHome) -> None:
    makers = [_SPAWN.Process(target=_open_and_close, args=(home,)) for _ in range(3)]
    for maker in makers:
        maker.start()
    try:
        for maker in makers:
            maker.join(200)
        assert [maker.exitcode for maker in makers] == [0, 0, 0]
    finally:
        for maker in makers:
            maker.kill()
    log = home.open()
    try:
        for topic in TOPICS:
            for partition in range(log.partitions):
                state = fresh_state(log, topic, partition)
                batch = read_valid(log, topic, partition, state, 100)
                (created,) = batch.records
                assert isinstance(created.event, LogCreated)
                assert created.event.log_id == log.log_id
                assert all(isinstance(void, Void) for void in batch.voids)
    finally:
        log.close()


def _open_and_close(home: KafkaHome) -> None:
    home.open().close()


def test_an_unfinished_creation_is_finished(home: KafkaHome) -> None:
    first = home.open()
    (created,) = first.read("events", 0, 0, 1)
    first.close()
    half = new_home(home.hosts)
    half.administer(lambda admin: _make_topics(admin, half))
    half.produce(0, None, created.value)
    log = half.open()
    try:
        assert log.log_id == first.log_id
        assert log.heads("events") == [1, 1]
        assert log.heads("reference") == [1, 1]
    finally:
        log.close()
        forget(half)


async def _make_topics(admin, home: KafkaHome) -> None:  # type: ignore[no-untyped-def]
    await ensure_topics(admin, home.namespace, home.partitions)


def test_a_topic_of_another_program_is_no_log(home: KafkaHome) -> None:
    home.administer(lambda admin: _make_topics(admin, home))
    home.produce(0, b"k", b"something else")
    with pytest.raises(LogError, match="not a log of Daybook"):
        home.open()


def test_a_topic_that_was_deleted_is_missed(home: KafkaHome, log: KafkaLog) -> None:
    home.administer(lambda admin: admin.delete_topics([home.topic("prices")]))
    with pytest.raises(LogError, match=r"\.prices is missing beside"):
        home.open()


def test_a_topic_made_again_is_not_taken_for_a_new_one(home: KafkaHome, log: KafkaLog) -> None:
    log.append("events", 1, [draft("A", 1)])
    home.administer(lambda admin: admin.delete_topics([home.topic("prices")]))

    async def make_again(admin) -> None:  # type: ignore[no-untyped-def]
        plan = next(p for p in plans(home.namespace, 2) if p.name == home.topic("prices"))
        settings = {**plan.required, "min.insync.replicas": "1"}
        await admin.create_topics([NewTopic(plan.name, 2, 1, topic_configs=settings)])

    home.administer(make_again)
    with pytest.raises(LogError, match=r"prices/0, .*prices/1: empty, and"):
        home.open()


def test_records_that_were_deleted_are_missed(home: KafkaHome, log: KafkaLog) -> None:
    log.append("events", 1, [draft("A", n) for n in range(5)])
    place = TopicPartition(home.topic(), 1)
    home.administer(lambda admin: admin.delete_records({place: RecordsToDelete(3)}))
    with pytest.raises(LogError, match=r"events/1: records below 3 were deleted"):
        log.read("events", 1, 0, 10)
    with pytest.raises(LogError, match=r"events/1: records below 3 were deleted"):
        home.open()


def test_an_append_over_the_limit_is_refused_whole(log: KafkaLog) -> None:
    big = [Draft("A", b"x" * (LARGEST_APPEND // 4))] * 5
    with pytest.raises(LogError, match="append fewer"):
        log.append("events", 0, big)
    with pytest.raises(LogError, match="append fewer"):
        log.append("events", 0, [Draft("A", b"x" * LARGEST_APPEND)])
    assert log.append("events", 0, big[:3]) == 1
    assert log.append("events", 0, [draft("A", 1)]) == 4
    assert len(whole(log, 0)) == 5


def test_appends_that_nobody_waits_for_land_in_order(log: KafkaLog) -> None:
    futures = [log.submit("events", 0, [draft("A", n)]) for n in range(200)]
    assert [future.result() for future in futures] == list(range(1, 201))
    assert numbers(whole(log, 0)) == [("A", n) for n in range(200)]


def test_a_broker_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ServerUnavailable, match=r"127\.0\.0\.1:1"):
        KafkaLog.open("127.0.0.1:1", "daybook", timeout_s=10)


def test_a_closed_log_says_so(home: KafkaHome) -> None:
    log = home.open()
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.heads("events")
    with pytest.raises(LogError, match="closed"):
        log.append("events", 0, [draft("A", 1)])
