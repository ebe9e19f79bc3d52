"""Moving a log into Kafka: to the byte, to the offset, and from wherever it was stopped."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from domain.errors import InvalidValue
from infra.errors import ServerUnavailable
from schemas.partitioning import partition_of
from streams import migrate_log as migrating
from streams.kafka_log import KafkaLog
from streams.ledger import Ledger
from streams.log import TOPICS, Draft, LogError
from streams.migrate_log import TargetDiffers, migrate_log
from streams.postgres_log import PostgresLog
from streams.reader import fresh_state, read_valid
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.sample_book import sample_requests

__all__ = ["home"]

PARTITIONS = 2
_SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def log(dsn: str, schema: str) -> Iterator[PostgresLog]:
    """A log of two partitions with a book in it, and a record that nobody can decode."""
    opened = PostgresLog.open(dsn, schema, partitions=PARTITIONS)
    ledger = Ledger(opened)
    ledger.submit(sample_requests(200))
    opened.append("prices", 1, [Draft("AAPL", b"\x00 no record"), Draft("AAPL", b"nor this")])
    yield opened
    ledger.close()
    opened.close()


def url_of(home: KafkaHome) -> str:
    return f"kafka://{home.hosts}/{home.namespace}"


def test_every_record_is_where_it_was(home: KafkaHome, log: PostgresLog) -> None:
    told: list[int] = []
    done = migrate_log(log, url_of(home), progress=told.append)
    assert done.heads == {topic: log.heads(topic) for topic in TOPICS}
    assert (done.copied, done.records, sum(told)) == (done.records,) * 3
    assert (done.log_id, done.grown) == (log.log_id, 0)
    copied = home.open()
    try:
        assert copied.log_id == log.log_id
        for topic in TOPICS:
            assert copied.heads(topic) == log.heads(topic)
            for partition in range(PARTITIONS):
                ours = log.read(topic, partition, 0, 100_000)
                assert copied.read(topic, partition, 0, 100_000) == ours
        _reads_on(copied)
    finally:
        copied.close()
    again = migrate_log(log, url_of(home))
    assert (again.copied, again.digest, again.heads) == (0, done.digest, done.heads)


def _reads_on(copied: KafkaLog) -> None:
    """The copy is read by the rules of every log, and its times are found."""
    state = fresh_state(copied, "events", 0)
    batch = read_valid(copied, "events", 0, state, 100_000)
    assert batch.voids == []
    last = batch.records[-1]
    at = copied.positions_at("events", last.envelope.recorded_time)
    assert at[0] == last.offset + 1


def test_the_digest_is_of_places_keys_and_values(home: KafkaHome, log: PostgresLog) -> None:
    first = migrate_log(log, url_of(home))
    partition = partition_of("A1", PARTITIONS)
    log.append("events", partition, [Draft("A1", b"one more")])
    second = migrate_log(log, url_of(home))
    assert (second.copied, second.records) == (1, first.records + 1)
    assert second.digest != first.digest


def test_what_comes_meanwhile_is_told(home: KafkaHome, log: PostgresLog) -> None:
    more = [Draft("A1", b"meanwhile")]

    def grow(_: int) -> None:
        while more:
            log.append("events", 1, [more.pop()])

    assert migrate_log(log, url_of(home), progress=grow).grown == 1
    done = migrate_log(log, url_of(home))
    assert (done.grown, done.copied) == (0, 1)


def test_topics_are_made_once_as_many_brokers_serve_as_were_told(
    home: KafkaHome, log: PostgresLog
) -> None:
    """With less they would have too few copies for ever."""
    url = f"kafka://{home.hosts},127.0.0.1:1/{home.namespace}"
    with pytest.raises(ServerUnavailable, match=f"while copying to {home.namespace}"):
        migrate_log(log, url, timeout_s=3)
    topics = home.administer(lambda admin: admin.list_topics())
    assert not [name for name in topics if name.startswith(f"{home.namespace}.")]


@pytest.mark.parametrize("key", [b"A1", b"A2", None])
def test_another_record_is_named_and_nothing_is_appended(
    home: KafkaHome, log: PostgresLog, key: bytes | None
) -> None:
    other = home.open()
    other.close()
    home.produce(0, key, b"somebody else's")
    with pytest.raises(TargetDiffers, match=r"events/0:0: the value's SHA-256 is .* in the target"):
        migrate_log(log, url_of(home))
    looked = home.open()
    assert looked.heads("events")[0] == 2
    assert looked.heads("prices") == [1, 1]
    looked.close()


def test_a_target_that_goes_on_is_refused(home: KafkaHome, log: PostgresLog) -> None:
    done = migrate_log(log, url_of(home))
    home.produce(1, b"A1", b"a decider's next")
    end = done.heads["events"][1]
    with pytest.raises(TargetDiffers, match=rf"events/1:{end}: the target holds {end + 1} records"):
        migrate_log(log, url_of(home))


def test_a_key_that_differs_is_named(home: KafkaHome, log: PostgresLog) -> None:
    done = migrate_log(log, url_of(home))
    end = done.heads["events"][0]
    log.append("events", 0, [Draft("A2", b"same value")])
    home.produce(0, b"A3", b"same value")
    with pytest.raises(TargetDiffers, match=rf"events/0:{end}: the key is b'A3' in the target"):
        migrate_log(log, url_of(home))


def test_another_number_of_partitions_is_refused(home: KafkaHome, log: PostgresLog) -> None:
    home.open(partitions=3).close()
    with pytest.raises(LogError, match="partitions is 3; expected"):
        migrate_log(log, url_of(home))


def test_somebody_who_writes_meanwhile_is_noticed(home: KafkaHome, log: PostgresLog) -> None:
    was_there = []

    def disturb(_: int) -> None:
        if not was_there:
            was_there.append(home.produce(1, b"A1", b"in between"))

    with pytest.raises(LogError, match=r"events/1:0: (landed at 1|the value)"):
        migrate_log(log, url_of(home), progress=disturb)


def _migrate_and_die(dsn: str, schema: str, url: str, appends: int) -> None:
    """Copy in small appends, and die by SIGKILL at one of them."""
    migrating._APPEND_BYTES = 2000  # type: ignore[misc]
    left = [appends]
    append = migrating._Target.append

    async def dying(self: Any, at: Any, drafts: Any) -> int:
        landed = await append(self, at, drafts)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return landed

    migrating._Target.append = dying  # type: ignore[method-assign]
    migrate_log(PostgresLog.open(dsn, schema), url)


def test_a_killed_copy_goes_on_where_it_was(
    dsn: str, schema: str, home: KafkaHome, log: PostgresLog
) -> None:
    for appends in (1, 7, 30):
        arguments = (dsn, schema, url_of(home), appends)
        process = _SPAWN.Process(target=_migrate_and_die, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    done = migrate_log(log, url_of(home))
    assert 0 < done.copied < done.records
    assert done.heads == {topic: log.heads(topic) for topic in TOPICS}
    assert migrate_log(log, url_of(home)).copied == 0


def test_no_broker_is_told_as_such(log: PostgresLog) -> None:
    with pytest.raises(ServerUnavailable):
        migrate_log(log, "kafka://127.0.0.1:1/nowhere", timeout_s=2)


@pytest.mark.parametrize("url", ["postgresql://localhost/x", "redis://localhost"])
def test_only_kafka_is_a_target(tmp_path: object, url: str) -> None:
    from api.cli.moving import run_migrate_log

    with pytest.raises(InvalidValue, match="kafka://"):
        run_migrate_log(None, url)
