"""News of what was committed: told with the rows, heard by anyone, heard again after an outage."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import redis

from infra import postgres
from projections.registry import PROJECTIONS
from schemas.partitioning import partition_of
from schemas.validity import PartitionState
from streams.ledger import Ledger
from streams.news import (
    ANYTHING,
    NEWS_CHANNEL,
    News,
    PostgresNews,
    RedisNews,
    decode,
    encode,
    news_of,
)
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import Advance, ReadModels
from tests.streams.sample_book import ACCOUNTS, sample_requests

WAIT_S = 120


@pytest.fixture
def models(dsn: str, schema: str, log: PostgresLog) -> Iterator[ReadModels]:
    """The read models, empty."""
    opened = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    yield opened
    opened.close()


def advance(partition: int, next_offset: int, *streams: str) -> Advance:
    state = PartitionState(topic="events", partition=partition, next_offset=next_offset)
    heads = dict.fromkeys(streams, (1, "hash"))
    return Advance(PROJECTIONS[0], partition, 0, state, 0, heads, ())


async def heard(news: AsyncIterator[News]) -> News:
    async with asyncio.timeout(WAIT_S):
        return await anext(news)


def test_one_news_for_each_partition_at_the_offset_that_all_reached() -> None:
    told = news_of([advance(1, 9, "A", "B"), advance(2, 5, "D"), advance(1, 7, "B", "C")])
    assert told == [News("events", 1, 7, ("A", "B", "C")), News("events", 2, 5, ("D",))]
    assert news_of([]) == []


@pytest.mark.parametrize(("count", "is_cut"), [(900, False), (1500, True)])
def test_news_too_long_names_no_streams(count: int, is_cut: bool) -> None:
    news = News("events", 3, 12, tuple(f"A{number:04d}" for number in range(count)))
    payload = encode(news)
    assert len(payload) < 8000
    assert decode(payload) == (News("events", 3, 12) if is_cut else news)


@pytest.mark.parametrize("payload", ["", "hello", '{"topic": 1}'])
def test_what_another_program_tells_may_mean_anything(payload: str) -> None:
    assert decode(payload) is ANYTHING


def test_what_a_projection_commits_is_heard(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger, models: ReadModels
) -> None:
    async def hear() -> list[News]:
        news = PostgresNews(dsn, schema).listen()
        assert await heard(news) is ANYTHING
        ledger.submit(sample_requests(40))
        await asyncio.to_thread(Projector(log, models).catch_up)
        found = []
        wanted = sum(
            head > 0
            for topic in ("events", "prices", "reference")
            for head in log.heads(topic)  # type: ignore[arg-type]
        )
        while len(found) < wanted:
            found.append(await heard(news))
        await news.aclose()
        return found

    found = {(one.topic, one.partition): one for one in asyncio.run(hear())}
    events = {one.partition: one for one in found.values() if one.topic == "events"}
    for partition, head in enumerate(log.heads("events")):
        ours = {name for name in ACCOUNTS if partition_of(name, log.partitions) == partition}
        assert (events[partition].next_offset, set(events[partition].streams)) == (head, ours)


def test_what_is_rolled_back_is_never_heard(dsn: str, schema: str, models: ReadModels) -> None:
    async def hear() -> News:
        news = PostgresNews(dsn, schema).listen()
        assert await heard(news) is ANYTHING
        with models.connection.transaction(force_rollback=True):
            models.write([advance(0, 1, "lost")])
        models.write([advance(0, 1, "kept")])
        told = await heard(news)
        await news.aclose()
        return told

    assert asyncio.run(hear()) == News("events", 0, 1, ("kept",))


def test_a_listener_that_lost_its_server_says_that_anything_may_have_changed(
    dsn: str, schema: str, models: ReadModels
) -> None:
    async def hear() -> list[News]:
        news = PostgresNews(dsn, schema).listen()
        told = [await heard(news)]
        killer = postgres.connect(dsn)
        killed = killer.execute(
            "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
            " WHERE application_name = 'daybook news' AND query LIKE %s",
            (f'LISTEN "{schema}"%',),
        ).fetchall()
        killer.close()
        assert killed == [(True,)]
        models.write([advance(0, 1, "missed")])
        told.append(await heard(news))
        models.write([msgspec.structs.replace(advance(0, 2, "heard"), from_offset=1)])
        told.append(await heard(news))
        await news.aclose()
        return told

    assert asyncio.run(hear()) == [ANYTHING, ANYTHING, News("events", 0, 2, ("heard",))]


def test_redis_tells_it_too_and_again_after_an_outage(redis_url: str, schema: str) -> None:
    told = News("events", 2, 7, ("A1",))

    async def hear(client: Any) -> list[News]:
        news = RedisNews(redis_url, schema).listen()
        found = [await heard(news)]
        client.publish(f"{schema}:{NEWS_CHANNEL}", encode(told))
        found.append(await heard(news))
        client.client_kill_filter(_type="pubsub")
        found.append(await heard(news))
        client.publish(f"{schema}:{NEWS_CHANNEL}", encode(told))
        found.append(await heard(news))
        await news.aclose()
        return found

    with redis.Redis.from_url(redis_url) as client:
        assert asyncio.run(hear(client)) == [ANYTHING, told, ANYTHING, told]
