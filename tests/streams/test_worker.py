"""`daybook worker` on a real broker: the books are an embedded ledger's, whatever happens to it."""

import asyncio
import threading
from functools import partial
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from schemas.codec import record_hash
from schemas.partitioning import partition_of
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, Draft
from streams.read_models import ReadModels
from streams.verifying import verify
from streams.working.consuming import group_id
from streams.working.waiting import wait_for
from tests.beside import beside
from tests.streams.kafka_history import PARTITIONS, History, Told, history, tell
from tests.streams.kafka_homes import KafkaHome, home
from tests.streams.read_rows import all_checkpoints, all_rows
from tests.streams.workers import (
    PATIENCE_S,
    WorkerProcess,
    log,
    models,
    until,
    worker,
)

__all__ = ["history", "home", "log", "models"]


def check_projected(log: KafkaLog, models: ReadModels, running: WorkerProcess) -> None:
    """Wait until a worker has projected all that is there."""
    heads = {topic: log.heads(topic) for topic in TOPICS}
    assert wait_for(models, heads, PATIENCE_S) == [], running.log_file.read_text()


def test_history_then_live_records_make_the_books_of_an_embedded_ledger(
    history: History, home: KafkaHome, log: KafkaLog, models: ReadModels, dsn: str, tmp_path: Path
) -> None:
    half = len(history.told) // 2
    by_partition = sorted(history.told[:half], key=lambda one: (one.topic, one.partition))
    tell(log, by_partition)
    _commit(home, log)
    with worker(log.place, dsn, tmp_path) as running:
        check_projected(log, models, running)
        for start in range(half, len(history.told), 50):
            tell(log, history.told[start : start + 50])
        check_projected(log, models, running)
        assert all_rows(models) == history.rows
        assert all_checkpoints(models) == history.checkpoints
        until(lambda: _committed(home) == _checkpoints(home, models), running)
        assert running.metric("daybook_records_projected_total", projection="cash") == sum(
            log.heads("events")
        )
        until(lambda: running.metric("daybook_assigned_partitions") == 3 * PARTITIONS, running)
        running.terminate()
        assert running.said("stopped")
        assert not running.said("a server is away: waiting for it")
    assert verify(log, models).differences == []


def _commit(home: KafkaHome, log: KafkaLog) -> None:
    """Let the workers' group say that all is done: what it says counts for nothing."""

    async def commit() -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=home.hosts,
            group_id=group_id(home.namespace),
            enable_auto_commit=False,
        )
        ends = {
            TopicPartition(home.topic(topic), partition): head
            for topic in TOPICS
            for partition, head in enumerate(log.heads(topic))
        }
        async with consumer:
            consumer.assign(list(ends))
            await consumer.commit(ends)

    asyncio.run(commit())


def _checkpoints(home: KafkaHome, models: ReadModels) -> dict[TopicPartition, int]:
    return {
        TopicPartition(home.topic(one.topic), one.partition): one.next_offset
        for one in models.checkpoints().values()
    }


def _committed(home: KafkaHome) -> dict[TopicPartition, int]:
    async def ask(admin: AIOKafkaAdminClient) -> dict[TopicPartition, int]:
        told = await admin.list_consumer_group_offsets(group_id(home.namespace))
        return {at: one.offset for at, one in told.items()}

    return home.administer(ask)


def test_a_worker_killed_at_any_time_applies_everything_once(
    history: History, log: KafkaLog, models: ReadModels, dsn: str, tmp_path: Path
) -> None:
    fifth = -(-len(history.told) // 5)
    for number in range(4):
        told = history.told[number * fifth : (number + 1) * fifth]
        before = _progress(models)
        with (
            beside(partial(_feed, log, told)),
            worker(log.place, dsn, tmp_path, f"killed-{number}") as running,
        ):
            until(lambda: _progress(models) > before, running)  # noqa: B023
            running.kill()
    tell(log, history.told[4 * fifth :])
    with worker(log.place, dsn, tmp_path) as running:
        check_projected(log, models, running)
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []


def _feed(log: KafkaLog, told: list[Told]) -> None:
    pause = threading.Event()
    for start in range(0, len(told), 10):
        tell(log, told[start : start + 10])
        pause.wait(0.12)


def _progress(models: ReadModels) -> int:
    return sum(one.next_offset for one in models.checkpoints().values())


def test_two_workers_share_the_partitions_and_one_takes_over_from_the_other(
    history: History, log: KafkaLog, models: ReadModels, dsn: str, tmp_path: Path
) -> None:
    third = len(history.told) // 3
    with worker(log.place, dsn, tmp_path, "first") as first:
        tell(log, history.told[:third])
        check_projected(log, models, first)
        with worker(log.place, dsn, tmp_path, "second") as second:
            until(lambda: _partitions(first) == _partitions(second) == 3, first)
            tell(log, history.told[third : 2 * third])
            check_projected(log, models, second)
            second.kill()
        tell(log, history.told[2 * third :])
        until(lambda: _partitions(first) == 6, first)
        check_projected(log, models, first)
        assert first.metric("daybook_checkpoints_moved_total") == 0
    assert all_rows(models) == history.rows
    assert verify(log, models).differences == []


def _partitions(running: WorkerProcess) -> float:
    return running.metric("daybook_assigned_partitions")


def test_a_poisoned_record_halts_one_partition_until_a_person_parks_it(
    history: History, home: KafkaHome, log: KafkaLog, models: ReadModels, dsn: str, tmp_path: Path
) -> None:
    poisoned = partition_of("A1", PARTITIONS)
    tell(log, history.told)
    poison = b"\x00 no record"
    with worker(log.place, dsn, tmp_path) as running:
        check_projected(log, models, running)
        offset = log.append("events", poisoned, [Draft("A1", poison)])
        until(lambda: running.metric("daybook_halted_partitions") == 1, running)
        (alert,) = (line for line in running.lines() if line["level"] == "error")
        assert (alert["topic"], alert["partition"]) == ("events", poisoned)
        assert f"{poisoned}:{offset}: cannot be decoded" in alert["event"]
        status = running.run("status")
        command = f"daybook park {poisoned}:{offset} {record_hash(poison)}\n"
        assert (status.returncode, status.stdout.endswith(command)) == (1, True)
        log_created_again = Draft(None, log.read("events", 1 - poisoned, 0, 1)[0].value)
        other = log.append("events", 1 - poisoned, [log_created_again])
        until(lambda: models.checkpoints()["cash", 1 - poisoned].next_offset > other, running)
        at = TopicPartition(home.topic(), poisoned)
        until(lambda: _committed(home)[at] == offset, running)
        told = running.run(*command.split()[1:])
        assert told.returncode == 0, told.stderr
        until(lambda: running.metric("daybook_halted_partitions") == 0, running)
        assert running.said("goes on")
        check_projected(log, models, running)
    assert verify(log, models).differences == []
