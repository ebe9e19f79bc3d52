"""A history decided by an embedded ledger, and told again in Kafka: the same records, as they are.

Only LogCreated differs, for each log makes its own.
"""

from collections.abc import Iterator, Sequence

import pytest
from msgspec import Struct

from domain.commands import Request, Topic
from infra import postgres
from projections.registry import PROJECTIONS
from streams.kafka_log import KafkaLog
from streams.ledger import Ledger
from streams.log import TOPICS, Draft
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from tests.streams.read_rows import Tables, all_checkpoints, all_rows
from tests.streams.sample_book import sample_requests

PARTITIONS = 2


class Told(Struct, frozen=True):
    """A record, where it belongs."""

    topic: Topic
    partition: int
    draft: Draft


class History(Struct, frozen=True):
    """What an embedded ledger decided, and the books it keeps of it."""

    told: list[Told]
    rows: Tables
    checkpoints: dict[tuple[str, int], tuple[int, int, str | None]]


@pytest.fixture(scope="module")
def history(dsn: str) -> Iterator[History]:
    """A book of every kind of fact."""
    schema = "history_of_workers"
    log, told = decide(dsn, schema, sample_requests(900), PARTITIONS)
    models = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    Projector(log, models).catch_up()
    yield History(told, all_rows(models), all_checkpoints(models))
    models.close()
    log.close()
    connection = postgres.connect(dsn)
    connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())
    connection.close()


def decide(
    dsn: str, schema: str, requests: Sequence[Request], partitions: int = 2
) -> tuple[PostgresLog, list[Told]]:
    """Decide requests in a log in Postgres; return it, and its records in the order of their time.

    LogCreated is not among them.
    """
    log = PostgresLog.open(dsn, schema, partitions=partitions)
    ledger = Ledger(log)
    ledger.submit(requests)
    ledger.close()
    return log, sorted(_records(log), key=lambda one: one.draft.recorded_ns)


def _records(log: PostgresLog) -> Iterator[Told]:
    for topic in TOPICS:
        for partition, head in enumerate(log.heads(topic)):
            for kept in log.read_kept(topic, partition, 1, head):
                record = kept.record
                draft = Draft(record.key, record.value, kept.recorded_ns)
                yield Told(topic, partition, draft)


def tell(log: KafkaLog, told: Sequence[Told]) -> None:
    """Append records to a log in Kafka, in their order."""
    by_place: dict[tuple[Topic, int], list[Draft]] = {}
    for one in told:
        by_place.setdefault((one.topic, one.partition), []).append(one.draft)
    for (topic, partition), drafts in by_place.items():
        for start in range(0, len(drafts), 1000):
            log.append(topic, partition, drafts[start : start + 1000])
