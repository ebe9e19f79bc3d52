"""An outbox keeps the order of each partition, and drops what nobody takes."""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from msgspec import Struct

from streams.deciding.outbox import ALL_ACKS, Letter, Outbox
from streams.kafka_client import parse_place
from streams.kafka_reading import Reading

PARTITIONS = 3


@pytest.fixture
def options(kafka_bootstrap: str) -> dict[str, Any]:
    """What every client takes."""
    return parse_place(kafka_bootstrap, "outbox").client_options()


@contextlib.asynccontextmanager
async def outbox_and_reading(
    options: dict[str, Any], gather_s: float = 0.0
) -> AsyncIterator[tuple[Outbox, Reading, str]]:
    """An outbox of a new topic, and what reads it."""
    topic = f"outbox-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(**options)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
    finally:
        await admin.close()
    outbox, reading = Outbox(options, topic, ALL_ACKS, gather_s=gather_s), Reading(options, 60)
    try:
        await outbox.start()
        await reading.start([topic])
        yield outbox, reading, topic
    finally:
        await outbox.stop(1)
        await reading.stop()


def letter(number: int, size: int) -> Letter:
    """A letter that tells its number."""
    return Letter(b"key", b"%08d" % number + b"x" * size, [("number", str(number).encode())])


class Seen(Struct, frozen=True):
    """What is looked at of a record."""

    offset: int
    number: bytes
    told: bytes


def seen(record: Any) -> Seen:
    """Return what is looked at of a record."""
    ((_, told),) = record.headers
    return Seen(record.offset, record.value[:8], told)


async def sent_and_read(options: dict[str, Any]) -> list[list[Seen]]:
    async with outbox_and_reading(options) as (outbox, reading, topic):
        # Three megabytes for each partition: several batches, gathered while others are on the way.
        for begin in range(0, 300, 20):
            for partition in range(PARTITIONS):
                outbox.put(partition, [letter(n, 10_000) for n in range(begin, begin + 20)])
            await asyncio.sleep(0)
        await outbox.flush()
        return [
            await reading.read(TopicPartition(topic, partition), 0, 1000, seen)
            for partition in range(PARTITIONS)
        ]


def test_letters_of_a_partition_keep_their_order(options: dict[str, Any]) -> None:
    expected = [Seen(number, b"%08d" % number, b"%d" % number) for number in range(300)]
    assert asyncio.run(sent_and_read(options)) == [expected] * PARTITIONS


async def with_one_too_large(options: dict[str, Any]) -> list[int]:
    async with outbox_and_reading(options) as (outbox, reading, topic):
        outbox.put(0, [letter(1, 3_000_000)])
        outbox.put(1, [letter(2, 10)])
        await outbox.flush()
        outbox.put(0, [letter(3, 10)])
        await outbox.flush()
        return await reading.heads([TopicPartition(topic, n) for n in range(PARTITIONS)])


def test_what_no_broker_takes_is_dropped_and_tells_so(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "streams.deciding.outbox"):
        assert asyncio.run(with_one_too_large(options)) == [1, 1, 0]
    assert "/0: MessageSizeTooLargeError, 1 records" in caplog.text


async def until_there(reading: Reading, places: list[TopicPartition], count: int) -> None:
    """Wait until so many records stand in partitions."""
    async with asyncio.timeout(60):
        while sum(await reading.heads(places)) < count:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0.01)


async def gathered(options: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Return how much stands in the partitions while letters gather, and after that."""
    async with outbox_and_reading(options, gather_s=3600) as (outbox, reading, topic):
        places = [TopicPartition(topic, n) for n in range(PARTITIONS)]
        outbox.put(0, [letter(1, 10)])
        await until_there(reading, places, 1)
        for number in (2, 3):
            outbox.put(0, [letter(number, 10)])
        outbox.put(1, [letter(4, 10)])
        await asyncio.sleep(0.05)
        before = await reading.heads(places)
        outbox.hurry()
        await until_there(reading, places, 4)
        outbox.put(2, [letter(5, 10)])
        await outbox.flush()
        return before, await reading.heads(places)


def test_letters_gather_behind_a_request_until_they_are_hurried(options: dict[str, Any]) -> None:
    assert asyncio.run(gathered(options)) == ([1, 0, 0], [3, 1, 1])


def test_one_that_never_connected_is_stopped(options: dict[str, Any]) -> None:
    async def stop() -> None:
        await Outbox(options, "nowhere", ALL_ACKS).stop(1)

    asyncio.run(stop())
