"""The log in Kafka.

A record is one of Kafka's: its key is the stream, its partition murmur2 of the key, its value the
envelope to the byte. Kafka has no conditional append, so what the Postgres log checks under a lock
is checked elsewhere here: that one owner writes a partition and that a command is answered once is
the owner's doing (`streams.ownership`), and what slipped in between is void for every reader.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Final, Self, TypeVar

import uuid_utils
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from domain.commands import Topic
from domain.events import LogCreated
from domain.times import Instant, from_ns, to_ns
from schemas import codec
from schemas.codec import Undecodable
from schemas.envelope import Envelope, Record
from schemas.partitioning import partition_of
from streams.kafka_client import (
    KafkaPlace,
    LoopThread,
    parse_place,
    reporting_outage,
    stop_all,
)
from streams.kafka_reading import Reading, record_maker
from streams.kafka_refusal import start
from streams.kafka_topics import Fault, TopicsRefused, ensure_topics, topic_name
from streams.kafka_writing import Writing
from streams.log import TOPICS, Draft, LogError

TIMEOUT_S: Final = 30.0
_CHUNK: Final = 2000
_LOOKED_AT: Final = 10

T = TypeVar("T")


class KafkaLog:
    """The log in the topics of one namespace. Safe to share between threads, which take turns."""

    log_id: str
    partitions: int

    def __init__(self, place: KafkaPlace, timeout_s: float) -> None:
        self.place = place
        self._timeout_s = timeout_s
        self._loop = LoopThread(f"kafka-log-{place.namespace}")
        self._reading: Reading
        self._writing: Writing

    @classmethod
    def open(
        cls,
        url_or_hosts: str,
        namespace: str | None = None,
        *,
        partitions: int | None = None,
        clock: Callable[[], int] = time.time_ns,
        timeout_s: float = TIMEOUT_S,
    ) -> Self:
        """Open the log of a namespace; make its topics and its LogCreated records where needed.

        Two processes at once end with one log. `clock` gives nanoseconds since 1970; no request
        takes longer than `timeout_s`. Raises ServerUnavailable when no broker answers,
        TopicsRefused when topics are set up so that records could be lost, LogError when records
        are missing.
        """
        log = cls(parse_place(url_or_hosts, namespace), timeout_s)
        try:
            log._loop.run(log._open(partitions, clock))
        except BaseException:
            log.close()
            raise
        return log

    async def _open(self, partitions: int | None, clock: Callable[[], int]) -> None:
        options = self.place.client_options()
        self._reading = Reading(options, self._timeout_s)
        self._writing = Writing(options, self._timeout_s, self._reading.tail_ns)
        with reporting_outage(f"opening {self.place.namespace} on {self.place.hosts}"):
            async with asyncio.timeout(self._timeout_s):
                self.partitions = await self._checked_topics(options, partitions)
            places = [at for topic in TOPICS for at in self._places(topic)]
            await self._reading.start({at.topic for at in places})
            self.log_id = await self._created(places, clock)

    async def _checked_topics(self, options: dict[str, Any], partitions: int | None) -> int:
        admin = AIOKafkaAdminClient(**options, request_timeout_ms=int(self._timeout_s * 1000))
        try:
            await start(admin, self.place)
            brokers = len(self.place.hosts.split(","))
            return await ensure_topics(admin, self.place.namespace, partitions, brokers)
        finally:
            await admin.close()

    def close(self) -> None:
        """Disconnect. A second call does nothing; a closed log cannot be used again."""
        self._loop.close(self._stop())

    async def _stop(self) -> None:
        parts = (getattr(self, name, None) for name in ("_writing", "_reading"))
        await stop_all(*(part.stop for part in parts if part is not None))

    # --- creation --------------------------------------------------------------------------------

    async def _created(self, places: list[TopicPartition], clock: Callable[[], int]) -> str:
        """Return the log's id: that in the first record of events/0, which decides it for all.

        Who finds a partition empty writes its LogCreated. When two do, the second is void.
        """
        for at, begin in zip(places, await self._reading.beginnings(places), strict=True):
            if begin > 0:
                raise LogError(f"{at.topic}/{at.partition}: records below {begin} were deleted")
        empty = await self._empty(places)
        if len(empty) == len(places):
            await self._create(places[0], str(uuid_utils.uuid7()), clock)
        log_id = await self._created_id(places[0])
        if 0 < len(empty) < len(places):
            await self._refuse_loss(places)
        rest = [at for at in empty if at != places[0]]
        await asyncio.gather(*(self._create(at, log_id, clock) for at in rest))
        for topic in TOPICS[1:]:
            found = await self._created_id(self._places(topic)[0])
            if found != log_id:
                raise LogError(f"{topic} is of log {found}, and events of log {log_id}")
        return log_id

    async def _empty(self, places: list[TopicPartition]) -> list[TopicPartition]:
        heads = await self._reading.heads(places)
        return [at for at, head in zip(places, heads, strict=True) if head == 0]

    async def _refuse_loss(self, places: list[TopicPartition]) -> None:
        """Raise LogError if a partition is empty in a log that holds more than its creation."""
        empty = await self._empty(places)
        for at in places:
            for record in await self._reading.read(at, 0, _LOOKED_AT, self._maker(at)):
                if not isinstance(_event(record), LogCreated):
                    # Another process may have finished creating the log in the meantime.
                    lost = [place for place in await self._empty(places) if place in empty]
                    if not lost:
                        return
                    named = ", ".join(f"{place.topic}/{place.partition}" for place in lost)
                    raise LogError(f"{named}: empty, and {at.topic}/{at.partition} is not")

    async def _create(self, at: TopicPartition, log_id: str, clock: Callable[[], int]) -> None:
        event = LogCreated(
            log_id=log_id,
            topic=self._topic(at),
            partition=at.partition,
            partitions=self.partitions,
        )
        now_ns = clock()
        now = from_ns(now_ns)
        envelope = Envelope(
            id=str(uuid_utils.uuid7()),
            type=codec.event_type(event),
            event_time=now,
            recorded_time=now,
            data=codec.encode_event(event),
        )
        try:
            await self._append(at, [Draft(None, codec.encode(envelope), now_ns)])
        except LogError:
            # Another process was first, a moment later by its clock: this one would be void.
            if await self._empty([at]):
                raise

    async def _created_id(self, at: TopicPartition) -> str:
        for record in await self._reading.read(at, 0, 1, self._maker(at)):
            event = _event(record)
            if isinstance(event, LogCreated):
                if event.partitions != self.partitions:
                    told = (str(self.partitions), str(event.partitions))
                    raise TopicsRefused([Fault(at.topic, "partitions", *told)])
                return event.log_id
            raise LogError(f"{at.topic}/{at.partition}:0 is not LogCreated: not a log of Daybook")
        raise LogError(f"{at.topic}/{at.partition} is empty, and other partitions are not")

    # --- reading ---------------------------------------------------------------------------------

    def heads(self, topic: Topic) -> list[int]:
        """Return, by partition, the offset that the next record will get."""
        return self._read(self._reading.heads(self._places(topic)))

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from an offset on, in order; none at the head."""
        at = self._place(topic, partition)
        return self._read(self._reading.read(at, from_offset, limit, self._maker(at)))

    def read_stream(
        self, topic: Topic, key: str, up_to_offset: int, from_offset: int = 0
    ) -> Iterator[Record]:
        """Yield one stream's records from an offset on and below another, in order.

        Reads all of the stream's partition between them: Kafka has no index by key.
        """
        partition = partition_of(key, self.partitions)
        offset = from_offset
        while offset < up_to_offset:
            records = self.read(topic, partition, offset, min(_CHUNK, up_to_offset - offset))
            if not records:
                return
            yield from (record for record in records if record.key == key)
            offset = records[-1].offset + 1

    def positions_at(self, topic: Topic, recorded_time: Instant) -> list[int]:
        """Return, by partition, the offset of the first record recorded after an instant."""
        instant_ns = to_ns(recorded_time)
        return self._read(self._reading.first_after(self._places(topic), instant_ns))

    def _read(self, reading: Coroutine[Any, Any, T]) -> T:
        with reporting_outage(f"reading {self.place.namespace} on {self.place.hosts}"):
            return self._loop.run(reading)

    # --- writing ---------------------------------------------------------------------------------

    def append(self, topic: Topic, partition: int, drafts: Sequence[Draft]) -> int:
        """Append records, all or none, and return the first one's offset once they are durable.

        Recorded times are held to what this log and the partition's last record say. Command refs
        are not looked at. Raises LogError for what is refused, AppendUnknown when no answer came.
        """
        future = self.submit(topic, partition, drafts)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def submit(self, topic: Topic, partition: int, drafts: Sequence[Draft]) -> Future[int]:
        """Append like `append`, without waiting: appends to a partition land in their order."""
        at = self._place(topic, partition)
        return self._loop.submit(self._append(at, drafts) if drafts else self._head(at))

    async def _append(self, at: TopicPartition, drafts: Sequence[Draft]) -> int:
        return await self._writing.append(at, drafts, f"/daybook/{at.topic}".encode())

    async def _head(self, at: TopicPartition) -> int:
        with reporting_outage(f"reading {at.topic}"):
            return (await self._reading.heads([at]))[0]

    # --- names -----------------------------------------------------------------------------------

    def _places(self, topic: Topic) -> list[TopicPartition]:
        name = topic_name(self.place.namespace, topic)
        return [TopicPartition(name, partition) for partition in range(self.partitions)]

    def _place(self, topic: Topic, partition: int) -> TopicPartition:
        if not 0 <= partition < self.partitions:
            raise LogError(f"{topic}/{partition} is not in the log of {self.partitions} partitions")
        return TopicPartition(topic_name(self.place.namespace, topic), partition)

    def _topic(self, at: TopicPartition) -> Topic:
        return next(topic for topic in TOPICS if self._places(topic)[0].topic == at.topic)

    def _maker(self, at: TopicPartition) -> Callable[[Any], Record]:
        return record_maker(self._topic(at), at.partition)


def _event(record: Record) -> object:
    try:
        return codec.decode(record).event
    except Undecodable:
        return None
