"""News of what the read models have committed, for whoever waits for it or shows it live.

News may be lost and may come twice: it is a reason to read, and never what is read. Postgres tells
it by NOTIFY in the very transaction that wrote the rows; where there is a Redis, it tells it too,
after the commit (`streams.hot_copy`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
import psycopg
from msgspec import Struct
from psycopg.conninfo import conninfo_to_dict

from infra.postgres import checked_schema
from schemas.validity import Head, PartitionState

_log = logging.getLogger(__name__)
_LARGEST: Final = 7999
"""Bytes of a payload: NOTIFY takes less than 8000."""
_STILL_S: Final = 15.0
"""After so long without news a listener asks whether its server is still there."""
_ANSWER_S: Final = 5.0
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_KEEPALIVES: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
NEWS_CHANNEL: Final = "pubsub:news"
"""The channel of Redis, behind the namespace, on which all News is told."""


class News(Struct, frozen=True):
    """Read models of a partition of a topic have been committed up to `next_offset`.

    `streams` are the keys whose rows may have changed; none named means any of the partition.
    """

    topic: str
    partition: int
    next_offset: int
    streams: tuple[str, ...] = ()


ANYTHING: Final = News("", -1, 0)
"""Anything may have changed: told whenever a listener begins to listen, or begins again."""

_DECODER: Final = msgspec.json.Decoder(News)


class Advanced(Protocol):
    """A step of a projection that was written: `streams.read_models.Advance`."""

    @property
    def partition(self) -> int:
        """The partition that it read."""
        ...

    @property
    def state(self) -> PartitionState:
        """What is known of the partition after it."""
        ...

    @property
    def heads(self) -> Mapping[str, Head]:
        """The streams that it has moved, and how far."""
        ...


class NewsSource(Protocol):
    """Where News is heard."""

    def listen(self) -> AsyncGenerator[News, None]:
        """Yield ANYTHING once it listens, then the News; it connects anew until it is closed."""
        ...


def news_of(advances: Sequence[Advanced]) -> list[News]:
    """Return what a write tells: one News for each partition, at the offset that all reached."""
    found: dict[tuple[str, int], News] = {}
    for advance in advances:
        topic, partition = advance.state.topic, advance.partition
        offset, streams = advance.state.next_offset, dict.fromkeys(advance.heads)
        if (before := found.get((topic, partition))) is not None:
            offset = min(offset, before.next_offset)
            streams = dict.fromkeys(before.streams) | streams
        found[topic, partition] = News(topic, partition, offset, tuple(streams))
    return list(found.values())


def encode(news: News) -> bytes:
    """Return News as it is sent: JSON, without the streams where they would be too long."""
    payload = msgspec.json.encode(news)
    if len(payload) > _LARGEST:
        payload = msgspec.json.encode(msgspec.structs.replace(news, streams=()))
    return payload


def decode(payload: bytes | str) -> News:
    """Return the News that was sent; ANYTHING where another program sent something else."""
    try:
        return _DECODER.decode(payload)
    except msgspec.DecodeError:
        return ANYTHING


class PostgresNews:
    """Hears on a connection of its own, by LISTEN, what was told in a schema.

    The connection must be to the server itself: a pooler that shares sessions loses LISTEN.
    """

    def __init__(self, dsn: str, schema: str) -> None:
        self._dsn = dsn
        self._schema = checked_schema(schema)

    async def listen(self) -> AsyncGenerator[News, None]:
        """Yield ANYTHING once it listens, then the News; it connects anew until it is closed."""
        tries = 0
        while True:
            try:
                async with await self._connect() as connection:
                    await connection.execute(f'LISTEN "{self._schema}"'.encode())
                    tries = 0
                    yield ANYTHING
                    async with contextlib.aclosing(self._heard(connection)) as heard:
                        async for news in heard:
                            yield news
            except (psycopg.OperationalError, TimeoutError, OSError) as error:
                await _wait_to_retry("Postgres", error, tries)
                tries += 1

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        # What the URL says about keeping alive goes first.
        told = conninfo_to_dict(self._dsn, connect_timeout=int(_ANSWER_S))
        options: dict[str, Any] = {**_KEEPALIVES, **told}
        return await psycopg.AsyncConnection.connect(
            **options, autocommit=True, application_name="daybook news"
        )

    async def _heard(self, connection: psycopg.AsyncConnection[Any]) -> AsyncGenerator[News, None]:
        while True:
            async with contextlib.aclosing(connection.notifies(timeout=_STILL_S)) as notifies:
                async for told in notifies:
                    yield decode(told.payload)
            async with asyncio.timeout(_ANSWER_S):
                await connection.execute("SELECT 1")


class RedisNews:
    """Hears in Redis what `streams.hot_copy` publishes in a namespace."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url = url
        self._channel = f"{namespace}:{NEWS_CHANNEL}"

    async def listen(self) -> AsyncGenerator[News, None]:
        """Yield ANYTHING once it listens, then the News; it connects anew until it is closed."""
        # Loaded where there is a Redis: it takes longer than the whole command line's help.
        import redis.asyncio
        from redis.exceptions import RedisError

        tries = 0
        while True:
            client = redis.asyncio.Redis.from_url(
                self._url, socket_connect_timeout=_ANSWER_S, socket_timeout=_ANSWER_S
            )
            try:
                async with client.pubsub() as channel:
                    await channel.subscribe(self._channel)
                    async with contextlib.aclosing(_received(channel)) as received:
                        async for news in received:
                            tries = 0
                            yield news
            except (RedisError, TimeoutError, OSError) as error:
                await _wait_to_retry("Redis", error, tries)
                tries += 1
            finally:
                await client.aclose()


async def _received(channel: Any) -> AsyncGenerator[News, None]:
    """Yield what a channel of Redis tells. redis-py may connect anew unasked: it says so again."""
    is_asked = False
    while True:
        told = await channel.get_message(timeout=_STILL_S)
        match told:
            case {"type": "subscribe"}:
                yield ANYTHING
            case {"type": "message", "data": data}:
                yield decode(data)
            case None if is_asked:
                raise TimeoutError(f"no answer in {_STILL_S:g} s")
            case None:
                await channel.ping()
        is_asked = told is None


async def _wait_to_retry(server: str, error: Exception, tries: int) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    _log.warning("no news from %s, trying again: %s", server, reason)
    await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
