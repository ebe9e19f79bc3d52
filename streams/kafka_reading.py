"""Reading Kafka's partitions by offset: one consumer without a group, moved where it is asked."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
    errors,
)

from domain.times import to_ns
from streams.kafka_headers import RECORDED_TIME
from streams.log import LogError

_FETCH_BYTES: Final = 4 * 1024 * 1024
_FETCH_WAIT_MS: Final = 100
_POLL_MS: Final = 500
_CHUNK: Final = 1000
_NS_PER_MS: Final = 1_000_000


def recorded_ns(record: ConsumerRecord) -> int | None:
    """Return when a record was recorded, as its header says; None where no Daybook wrote it."""
    for name, text in record.headers:
        if name == RECORDED_TIME:
            try:
                return to_ns(text.decode())
            except ValueError:
                return None
    return None


class Reading:
    """Reads any of some partitions, one at a time. To be used in one event loop.

    Every partition is assigned and paused; the one being read is resumed, so that the next chunk
    is fetched while the last one is worked on, and paused again at its head.
    """

    def __init__(self, options: Mapping[str, Any], timeout_s: float) -> None:
        self._options = options
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._consumer: AIOKafkaConsumer = None
        self._heads: dict[TopicPartition, int] = {}
        self._place: tuple[TopicPartition, int] | None = None
        self._ahead: Sequence[ConsumerRecord] = ()

    async def start(self, partitions: Sequence[TopicPartition]) -> None:
        """Connect."""
        self._consumer = AIOKafkaConsumer(
            **self._options,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
            retry_backoff_ms=50,
            request_timeout_ms=int(self._timeout_s * 1000),
        )
        async with asyncio.timeout(self._timeout_s):
            await self._consumer.start()
        self._consumer.assign(partitions)
        for partition in partitions:
            self._consumer.seek(partition, 0)
            self._consumer.pause(partition)

    async def stop(self) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def heads(self, partitions: Iterable[TopicPartition]) -> list[int]:
        """Return, in the order asked, the offset that each partition's next record will get."""
        asked = list(partitions)
        async with asyncio.timeout(self._timeout_s):
            found = await self._consumer.end_offsets(asked)
        self._heads.update(found)
        return [found[partition] for partition in asked]

    async def beginnings(self, partitions: Iterable[TopicPartition]) -> list[int]:
        """Return, in the order asked, the lowest offset that each partition still has."""
        asked = list(partitions)
        async with asyncio.timeout(self._timeout_s):
            found = await self._consumer.beginning_offsets(asked)
        return [found[partition] for partition in asked]

    async def read(self, at: TopicPartition, offset: int, limit: int) -> list[ConsumerRecord]:
        """Return the records from an offset on: `limit` of them, or all up to the head."""
        async with self._turn:
            found: list[ConsumerRecord] = []
            if offset >= self._heads.get(at, 0):
                await self.heads([at])
            while len(found) < limit and offset < self._heads[at]:
                records = await self._next(at, offset, limit - len(found))
                if not records:
                    break
                found.extend(records)
                offset = records[-1].offset + 1
            if offset >= self._heads[at]:
                self._consumer.pause(at)
            return found

    async def _next(self, at: TopicPartition, offset: int, limit: int) -> Sequence[ConsumerRecord]:
        if self._place != (at, offset):
            self._move(at, offset)
        if not self._ahead:
            self._ahead = await self._fetch(at, offset)
        records, self._ahead = self._ahead[:limit], self._ahead[limit:]
        if records:
            self._place = (at, records[-1].offset + 1)
        return records

    def _move(self, at: TopicPartition, offset: int) -> None:
        if self._place is not None:
            self._consumer.pause(self._place[0])
        self._consumer.seek(at, offset)
        self._place = (at, offset)
        self._ahead = ()

    async def _fetch(self, at: TopicPartition, offset: int) -> Sequence[ConsumerRecord]:
        self._consumer.resume(at)
        try:
            async with asyncio.timeout(self._timeout_s):
                # Offsets that hold no record (a transaction's marker) move the position alone.
                while await self._consumer.position(at) < self._heads[at]:
                    got = await self._consumer.getmany(at, timeout_ms=_POLL_MS)
                    if records := got.get(at):
                        return list(records)
            return ()
        except errors.OffsetOutOfRangeError:
            return await self._out_of_range(at, offset)
        except BaseException:
            self._place = None
            self._consumer.pause(at)
            raise

    async def _out_of_range(self, at: TopicPartition, offset: int) -> Sequence[ConsumerRecord]:
        self._place = None
        self._consumer.pause(at)
        (begin,) = await self.beginnings([at])
        await self.heads([at])
        if offset < begin:
            raise LogError(f"{at.topic}/{at.partition}: records below {begin} were deleted")
        return ()

    async def first_after(self, partitions: Sequence[TopicPartition], instant_ns: int) -> list[int]:
        """Return, by partition, the offset of the first record recorded after an instant.

        Kafka's index knows milliseconds: the records of the instant's own are read for the rest.
        """
        if instant_ns < 0:
            return [0] * len(partitions)
        heads = await self.heads(partitions)
        millisecond = instant_ns // _NS_PER_MS
        lows = await self._first_at(partitions, millisecond)
        highs = await self._first_at(partitions, millisecond + 1)
        found = []
        for at, head in zip(partitions, heads, strict=True):
            low, high = min(lows.get(at, head), head), min(highs.get(at, head), head)
            found.append(await self._first_later(at, low, high, instant_ns))
        return found

    async def _first_at(
        self, partitions: Sequence[TopicPartition], millisecond: int
    ) -> dict[TopicPartition, int]:
        async with asyncio.timeout(self._timeout_s):
            told = await self._consumer.offsets_for_times(dict.fromkeys(partitions, millisecond))
        return {at: place.offset for at, place in told.items() if place is not None}

    async def _first_later(self, at: TopicPartition, low: int, high: int, instant_ns: int) -> int:
        while low < high:
            records = await self.read(at, low, min(_CHUNK, high - low))
            if not records:
                break
            for record in records:
                known_ns = recorded_ns(record)
                if known_ns is not None and known_ns > instant_ns:
                    return int(record.offset)
            low = records[-1].offset + 1
        return high
