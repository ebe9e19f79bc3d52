"""Reading a stream by the index: the same records, without reading those of others."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from random import Random
from typing import Any

import pytest

from domain.commands import Topic
from infra import migrations, postgres
from projections.positions.tables import DEALS
from projections.registry import PROJECTIONS
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams import stream_index
from streams.kafka_log import KafkaLog
from streams.ledger import Ledger
from streams.log import Draft, Log
from streams.migrate_log import migrate_log
from streams.past import Past
from streams.positions import parse_vector
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.stream_index import IndexedLog
from tests.beside import beside
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.sample_book import ACCOUNTS, sample_requests
from tests.waiting import until

__all__ = ["home"]

PARTITIONS = 2


class Counting:
    """A log that counts what is read from it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.records = 0
        self.log_id, self.partitions = log.log_id, log.partitions
        self.append, self.heads = log.append, log.heads
        self.positions_at, self.close = log.positions_at, log.close

    def read(self, topic: Topic, partition: int, offset: int, limit: int) -> Sequence[Record]:
        records = self._log.read(topic, partition, offset, limit)
        self.records += len(records)
        return records

    def read_stream(
        self, topic: Topic, key: str, up_to_offset: int, from_offset: int = 0
    ) -> Iterator[Record]:
        return self._log.read_stream(topic, key, up_to_offset, from_offset)


@pytest.fixture
def log(dsn: str, schema: str) -> Iterator[PostgresLog]:
    opened = PostgresLog.open(dsn, schema, partitions=PARTITIONS)
    yield opened
    opened.close()


@pytest.fixture
def indexed(dsn: str, schema: str, log: PostgresLog) -> Iterator[IndexedLog]:
    opened = IndexedLog(Counting(log), dsn, schema)
    yield opened
    opened.close()


def fill(log: Log, random: Random, keys: Sequence[str], count: int) -> None:
    for number in range(count):
        key = random.choice(keys)
        drafts = [Draft(key, f"v{number}".encode())]
        if random.random() < 0.1:
            drafts.append(Draft(None, b"a term"))
        log.append("events", partition_of(key, PARTITIONS), drafts)


def test_a_stream_is_the_same_at_every_offset(
    log: PostgresLog, indexed: IndexedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_index, "_SCAN", 7)
    monkeypatch.setattr(stream_index, "_ROW_OFFSETS", 3)
    monkeypatch.setattr(stream_index, "_GAP", 4)
    monkeypatch.setattr(stream_index, "_CHUNK", 9)
    random = Random(1)
    keys = ["A", "B", "Ä ö", "rare"]
    for _ in range(4):
        fill(log, random, keys, 25)
        heads = log.heads("events")
        for key in (*keys, "never"):
            head = heads[partition_of(key, PARTITIONS)]
            for end in (0, 1, random.randrange(head), head, head + 5):
                expected = list(log.read_stream("events", key, end))
                assert list(indexed.read_stream("events", key, end)) == expected
        for partition, head in enumerate(heads):
            for end in (0, 1, random.randrange(head), head):
                unkeyed = log.read_unkeyed("events", partition, end)
                assert indexed.read_unkeyed("events", partition, end) == unkeyed
                begin = random.randrange(head)
                expected = [record for record in expected if record.offset >= begin]
                assert list(log.read_stream("events", key, end, begin)) == expected
                assert list(indexed.read_stream("events", key, end, begin)) == expected


def test_records_are_indexed_once(log: PostgresLog, dsn: str, schema: str) -> None:
    counting = Counting(log)
    indexed = IndexedLog(counting, dsn, schema)
    partition = partition_of("me", PARTITIONS)
    log.append("events", partition, [Draft("other", b"theirs")] * 1200 + [Draft("me", b"mine")])
    head = log.heads("events")[partition]
    assert [one.value for one in indexed.read_stream("events", "me", head)] == [b"mine"]
    assert counting.records == head + 1
    again = IndexedLog(counting, dsn, schema)
    counting.records = 0
    assert [one.value for one in again.read_stream("events", "me", head)] == [b"mine"]
    assert counting.records == 1
    indexed.close()
    again.close()


def test_a_key_in_a_partition_that_is_not_its_own_changes_nothing(
    log: PostgresLog, indexed: IndexedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_index, "_ROW_OFFSETS", 2)
    own = partition_of("A", PARTITIONS)
    log.append("events", own, [Draft("A", b"%d" % number) for number in range(5)])
    for partition in (own, 1 - own):
        indexed.catch_up("events", partition, 99)
    before = list(indexed.read_stream("events", "A", 99))
    log.append("events", 1 - own, [Draft("A", b"odd")] * 5)
    indexed.catch_up("events", 1 - own, 99)
    assert list(indexed.read_stream("events", "A", 99)) == before
    assert len(before) == 5


def test_an_index_of_another_log_does_not_count(
    dsn: str, schema: str, log: PostgresLog, indexed: IndexedLog
) -> None:
    fill(log, Random(3), ["A", "B"], 20)
    head = log.heads("events")[partition_of("A", PARTITIONS)]
    before = list(indexed.read_stream("events", "A", head))
    connection = postgres.connect(dsn, schema=schema)
    connection.execute("UPDATE stream_index_reached SET log_id = 'another'")
    connection.execute("UPDATE stream_index SET offsets = ARRAY[first_offset]")
    connection.close()
    assert list(indexed.read_stream("events", "A", head)) == before


def test_an_older_program_that_is_indexing_is_waited_for(
    dsn: str, schema: str, log: PostgresLog, indexed: IndexedLog
) -> None:
    fill(log, Random(5), ["A"], 9)
    part = partition_of("A", PARTITIONS)
    head = log.heads("events")[part]
    older, other = (postgres.connect(dsn, schema=schema) for _ in range(2))
    with closing(older), closing(other):
        first = stream_index._MIGRATIONS[:1]
        migrations.apply(older, stream_index._OWNER, first, schema=schema)
        reached = "INSERT INTO stream_index_checkpoints VALUES ('events', %s, %s, %s)"
        older.execute(reached, (part, log.log_id, head))
        older.execute("INSERT INTO stream_index VALUES ('events', 'A', 0, '{0}')")
        pid = older.info.backend_pid

        def is_waited_for() -> bool:
            query = (
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid)))"
            )
            return other.execute(query, (pid,)).fetchone() == (True,)

        found: list[Record] = []
        reading = indexed.read_stream("events", "A", head)
        with beside(lambda: found.extend(reading)), older.transaction():
            older.execute("SELECT FROM stream_index_checkpoints FOR UPDATE")
            until(is_waited_for)
            older.execute("UPDATE stream_index SET offsets = '{0, 1}'")
    assert found == list(log.read_stream("events", "A", head))
    assert len(found) == 9


@pytest.mark.parametrize("key", ["with\0nul", "\udcff"])
def test_what_is_no_text_is_read_without_the_index(
    home: KafkaHome, dsn: str, schema: str, key: str
) -> None:
    log = home.open()
    told = key.encode(errors="surrogateescape")
    partition = partition_of("A", PARTITIONS)
    home.produce(partition, told, b"odd")
    home.produce(partition, b"A", b"even")
    indexed = IndexedLog(log, dsn, schema)
    assert [one.value for one in indexed.read_stream("events", "A", 9)] == [b"even"]
    indexed.close()
    log.close()


def test_questions_about_the_past_over_kafka(
    home: KafkaHome, dsn: str, schema: str, log: PostgresLog, ledger: Ledger
) -> None:
    ledger.submit(sample_requests(150))
    models = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    Projector(log, models).catch_up()
    migrate_log(log, f"kafka://{home.hosts}/{home.namespace}")
    copied: KafkaLog = home.open()
    indexed = IndexedLog(copied, dsn, schema)
    known_at = parse_vector(
        ",".join(f"{n}:{head // 2}" for n, head in enumerate(log.heads("events")))
    )
    for account in ACCOUNTS:
        asked: dict[str, Any] = {"streams": [account], "known_at": known_at}
        expected = Past(log, models).rows(DEALS, **asked)
        assert Past(indexed, models).rows(DEALS, **asked) == expected
        assert expected
    indexed.close()
    copied.close()
    models.close()
