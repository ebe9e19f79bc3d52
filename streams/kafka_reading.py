"""Reading Kafka's partitions from any offset, in the order asked for and as much as asked for.

aiokafka's consumer keeps a place and fetches ahead of it; asked for another partition it waits some
40 ms, and it makes half as many records a second. So the fetch requests are made here, through
aiokafka's own client, protocol and record parser.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

from aiokafka import TopicPartition, errors  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.offset import OffsetRequest  # type: ignore[import-untyped]
from aiokafka.record.memory_records import MemoryRecords  # type: ignore[import-untyped]
from msgspec import Struct

from domain.commands import Topic
from domain.times import Instant, to_ns
from schemas.envelope import Record
from streams.kafka_client import AWAY
from streams.kafka_headers import RECORDED_TIME
from streams.log import LogError

_RECORD_BYTES: Final = 1024
"""What a record may come to, to ask for about as many as are wanted."""
_LEAST_BYTES: Final = 64 * 1024
_MOST_BYTES: Final = 4 * 1024 * 1024
_KEPT: Final = 16
"""How many fetched and unread remainders are kept for whoever reads on from there."""
_BACKOFF_S: Final = 0.05
_CHUNK: Final = 1000
_NS_PER_MS: Final = 1_000_000
_HEAD, _BEGINNING = -1, -2
_ANY_REPLICA: Final = -1
UNCOMMITTED: Final = 0

T = TypeVar("T")


class Placed(Protocol):
    """Something that stands at an offset."""

    @property
    def offset(self) -> int:
        """The offset in its partition."""
        ...


Made = TypeVar("Made", bound=Placed)


class RecordedAt(Struct, frozen=True, gc=False):
    """Where a record stands, and when it was recorded."""

    offset: int
    time_ns: int | None


class Fetched(Iterator[Any]):
    """The records of one answer, parsed as they are taken. `head`: where the partition ended."""

    def __init__(self, records: Iterator[Any], head: int) -> None:
        self.head = head
        self._records = records

    def __next__(self) -> Any:
        return next(self._records)


_NOTHING: Final = Fetched(iter(()), 0)


class Reading:
    """Reads the partitions of some topics. To be used in one event loop."""

    def __init__(self, options: Mapping[str, Any], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._client = AIOKafkaClient(
            **options, request_timeout_ms=int(timeout_s * 1000), retry_backoff_ms=50
        )
        self._ahead: dict[tuple[TopicPartition, int], Fetched] = {}
        self._asking: set[asyncio.Task[Any]] = set()

    async def start(self, topics: Iterable[str]) -> None:
        """Connect."""
        async with asyncio.timeout(self._timeout_s):
            await self._client.bootstrap()
            await self._client.set_topics(topics)

    async def stop(self) -> None:
        """Disconnect. Who still reads is cancelled: it would connect again behind our back."""
        asking = self._asking - {asyncio.current_task()}
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)
        await self._client.close()

    async def heads(self, partitions: Sequence[TopicPartition]) -> list[int]:
        """Return, in the order asked, the offset that each partition's next record will get."""
        found = await self._offsets(partitions, _HEAD)
        return [found[at] for at in partitions]

    async def beginnings(self, partitions: Sequence[TopicPartition]) -> list[int]:
        """Return, in the order asked, the lowest offset that each partition still has."""
        found = await self._offsets(partitions, _BEGINNING)
        return [found[at] for at in partitions]

    async def read(
        self, at: TopicPartition, offset: int, limit: int, make: Callable[[Any], Made]
    ) -> list[Made]:
        """Return the records from an offset on: `limit` of them, or all up to the head.

        `make` is given each record: offset, timestamp (ms), key, value and headers. What it leaves
        out is garbage at once, which matters: headers are many small objects.
        """
        found: list[Made] = []
        ahead = self._ahead.pop((at, offset), _NOTHING)
        while len(found) < limit:
            records = [make(record) for record in islice(ahead, limit - len(found))]
            if not records:
                ahead = await self._fetch(at, offset, limit - len(found))
                records = [make(record) for record in islice(ahead, limit - len(found))]
            if not records:
                return found
            found.extend(records)
            offset = records[-1].offset + 1
            if offset >= ahead.head:
                return found
        self._ahead[at, offset] = ahead
        while len(self._ahead) > _KEPT:
            self._ahead.pop(next(iter(self._ahead)))
        return found

    async def _fetch(self, at: TopicPartition, offset: int, limit: int) -> Fetched:
        size = min(max(limit * _RECORD_BYTES, _LEAST_BYTES), _MOST_BYTES)
        place = [(at.topic, [(at.partition, offset, size)])]

        async def ask() -> Fetched:
            request = FetchRequest(0, 1, size, UNCOMMITTED, place, rack_id="")
            response = await self._client.send(self._leader(at), request)
            ((_, ((_, code, head, *_, data),)),) = response.topics
            check(code)
            return Fetched(parse(data, offset), head)

        try:
            return await self._retrying(ask)
        except errors.OffsetOutOfRangeError:
            (begin,) = await self.beginnings([at])
            if offset < begin:
                reason = f"{at.topic}/{at.partition}: records below {begin} were deleted"
                raise LogError(reason) from None
            return Fetched(iter(()), offset)

    async def _offsets(
        self, partitions: Sequence[TopicPartition], millisecond: int
    ) -> dict[TopicPartition, int]:
        """Return the offset of the first record at a time or later; -1 where there is none."""

        async def ask() -> dict[TopicPartition, int]:
            """Ask each leader once for all its partitions."""
            by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
            for at in partitions:
                asked = by_leader.setdefault(self._leader(at), {})
                asked.setdefault(at.topic, []).append((at.partition, millisecond))
            found = {}
            for leader, topics in by_leader.items():
                request = OffsetRequest(_ANY_REPLICA, UNCOMMITTED, list(topics.items()))
                response = await self._client.send(leader, request)
                for topic, answers in response.topics:
                    for partition, code, _, offset in answers:
                        check(code)
                        found[TopicPartition(topic, partition)] = offset
            return found

        return await self._retrying(ask)

    def _leader(self, at: TopicPartition) -> int:
        leader = self._client.cluster.leader_for_partition(at)
        if leader is None or leader < 0:
            raise errors.LeaderNotAvailableError(f"{at.topic}/{at.partition} has no leader")
        return int(leader)

    async def _retrying(self, ask: Callable[[], Awaitable[T]]) -> T:
        last: errors.KafkaError | None = None
        task = asyncio.current_task()
        assert task is not None
        self._asking.add(task)
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return await ask()
                    except errors.KafkaError as error:
                        if not (error.retriable or isinstance(error, AWAY)):
                            raise
                        last = error
                    await asyncio.sleep(_BACKOFF_S)
                    await self._client.force_metadata_update()
        except TimeoutError:
            if last is None:
                raise
            raise errors.KafkaTimeoutError(f"{last!r} for {self._timeout_s:g} s") from last
        finally:
            self._asking.discard(task)

    async def tail_ns(self, at: TopicPartition) -> int:
        """Return when the last record of a partition was recorded; 0 where there is none."""
        (head,) = await self.heads([at])
        records = await self.read(at, head - 1, 1, recorded_at) if head else ()
        return max((record.time_ns or 0 for record in records), default=0)

    async def first_after(self, partitions: Sequence[TopicPartition], instant_ns: int) -> list[int]:
        """Return, by partition, the offset of the first record recorded after an instant.

        Kafka's index knows milliseconds: the records of the instant's own are read for the rest.
        """
        if instant_ns < 0:
            return [0] * len(partitions)
        heads = await self.heads(partitions)
        millisecond = instant_ns // _NS_PER_MS
        lows = await self._offsets(partitions, millisecond)
        highs = await self._offsets(partitions, millisecond + 1)
        found = []
        for at, head in zip(partitions, heads, strict=True):
            high = highs[at] if 0 <= highs[at] < head else head
            low = lows[at] if 0 <= lows[at] < high else high
            found.append(await self._first_later(at, low, high, instant_ns))
        return found

    async def _first_later(self, at: TopicPartition, low: int, high: int, instant_ns: int) -> int:
        while low < high:
            records = await self.read(at, low, min(_CHUNK, high - low), recorded_at)
            if not records:
                break
            for record in records:
                if record.time_ns is not None and record.time_ns > instant_ns:
                    return record.offset
            low = records[-1].offset + 1
        return high


def recorded_at(record: Any) -> RecordedAt:
    """Return when a record was recorded, as its header says; None where no Daybook wrote it."""
    for name, text in record.headers:
        if name == RECORDED_TIME and text is not None:
            try:
                return RecordedAt(record.offset, to_ns(Instant(text.decode())))
            except ValueError:
                break
    return RecordedAt(record.offset, None)


def parse(data: bytes, offset: int) -> Iterator[Any]:
    """Yield the records of a fetched answer from an offset on."""
    batches = MemoryRecords(data)
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.validate_crc():
            raise errors.CorruptRecordException(f"the checksum of a batch after {offset} is wrong")
        if not batch.is_control_batch:
            yield from (record for record in batch if record.offset >= offset)


def check(code: int) -> None:
    """Raise the error that a broker's answer stands for, if it is one."""
    kind = errors.for_code(code)
    if kind is not errors.NoError:
        raise kind()


def record_maker(topic: Topic, partition: int) -> Callable[[Any], Record]:
    """Return what makes a record of the log of one of Kafka's."""

    def make(told: Any) -> Record:
        return record_of(topic, partition, told)

    return make


def record_of(topic: Topic, partition: int, told: Any) -> Record:
    """Return the record of the log that one of Kafka's is."""
    # What others wrote may be anything: a key that is no text, no value at all.
    key = None if told.key is None else told.key.decode(errors="surrogateescape")
    return Record(topic, partition, told.offset, key, told.value or b"")
