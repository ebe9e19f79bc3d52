"""Copy a log into Kafka, every record to its partition and offset, and prove that both are equal.

The copy is the same log: its id, its LogCreated records and every byte. It may be interrupted
anywhere and run again: what is there is compared, and the rest is appended. A target that holds
anything else is left as it is.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from msgspec import Struct

from domain.commands import Topic
from domain.times import Instant, to_ns
from schemas.envelope import Record
from streams.kafka_client import (
    KafkaPlace,
    LoopThread,
    parse_place,
    reporting_outage,
    stop_all,
)
from streams.kafka_reading import Reading
from streams.kafka_refusal import start
from streams.kafka_topics import ensure_topics, topic_name
from streams.kafka_writing import Writing
from streams.log import TOPICS, Draft, Log, LogError

TIMEOUT_S: Final = 30.0
_READ: Final = 1000
_APPEND_BYTES: Final = 2 * 1024 * 1024
_HEADER_BYTES: Final = 400
"""What the headers and the frame of a record come to, at most."""

Progress = Callable[[int], None]


class TargetDiffers(LogError):  # noqa: N818 - a refusal, named by its reason
    """The target holds a record that the source does not have there."""


class Migrated(Struct, frozen=True):
    """What both logs hold now, proven record by record.

    `heads` are the offsets to come next, by topic and partition; `digest` is the SHA-256 of the
    digests of all partitions, in the order of topics and partitions; `grown` counts the records
    that came to the source meanwhile and are not copied.
    """

    log_id: str
    heads: dict[Topic, list[int]]
    copied: int
    digest: str
    grown: int

    @property
    def records(self) -> int:
        """Return how many records each of both holds."""
        return sum(sum(heads) for heads in self.heads.values())


def migrate_log(
    source: Log, url: str, *, timeout_s: float = TIMEOUT_S, progress: Progress = lambda _: None
) -> Migrated:
    """Copy `source` into the namespace of a `kafka://` URL and prove that both are equal.

    `progress` is told how many more records are proven. Raises TargetDiffers, naming the first
    difference, before anything is appended; LogError when somebody else writes to the target;
    ServerUnavailable and TopicsRefused as opening a log does.
    """
    place = parse_place(url)
    loop = LoopThread(f"migrate-{place.namespace}")
    target = _Target(place, timeout_s)
    try:
        with reporting_outage(f"copying to {place.namespace} on {place.hosts}"):
            loop.run(target.open(source.partitions))
            return _Migration(source, target, loop, progress).run()
    finally:
        loop.close(target.close())


class _Target:
    """The topics of a namespace, written to and read as they are, without opening a log there."""

    def __init__(self, place: KafkaPlace, timeout_s: float) -> None:
        self._place = place
        self._timeout_s = timeout_s
        self._reading: Reading
        self._writing: Writing

    async def open(self, partitions: int) -> None:
        """Make the topics that are missing; raises LogError where records were deleted."""
        options = self._place.client_options()
        self._reading = Reading(options, self._timeout_s)
        self._writing = Writing(options, self._timeout_s, self._reading.tail_ns)
        timeout_ms = int(self._timeout_s * 1000)
        admin = AIOKafkaAdminClient(**options, request_timeout_ms=timeout_ms)
        try:
            async with asyncio.timeout(self._timeout_s):
                await start(admin, self._place)
                brokers = len(self._place.hosts.split(","))
                await ensure_topics(admin, self._place.namespace, partitions, brokers)
        finally:
            await admin.close()
        names = [topic_name(self._place.namespace, topic) for topic in TOPICS]
        await self._reading.start(names)
        places = [self.at(topic, n) for topic in TOPICS for n in range(partitions)]
        for at, begin in zip(places, await self._reading.beginnings(places), strict=True):
            if begin > 0:
                raise LogError(f"{at.topic}/{at.partition}: records below {begin} were deleted")

    async def close(self) -> None:
        parts = (getattr(self, name, None) for name in ("_writing", "_reading"))
        await stop_all(*(part.stop for part in parts if part is not None))

    def at(self, topic: Topic, partition: int) -> KafkaPartition:
        return KafkaPartition(topic_name(self._place.namespace, topic), partition)

    async def head(self, at: KafkaPartition) -> int:
        return int((await self._reading.heads([at]))[0])

    async def read(self, at: KafkaPartition, offset: int, limit: int) -> list["_Held"]:
        return await self._reading.read(at, offset, limit, _held)

    async def append(self, at: KafkaPartition, drafts: Sequence[Draft]) -> int:
        return await self._writing.append(at, drafts, f"/daybook/{at.topic}".encode())


class _Held(Struct, frozen=True):
    """A record as the target holds it."""

    offset: int
    key: bytes | None
    value: bytes


def _held(told: Any) -> _Held:
    return _Held(told.offset, told.key, told.value or b"")


class _Migration:
    """A copy on its way: the digest of each partition over what was proven in it so far."""

    def __init__(self, source: Log, target: _Target, loop: LoopThread, progress: Progress) -> None:
        self._source = source
        self._target = target
        self._loop = loop
        self._progress = progress
        self._heads = {topic: source.heads(topic) for topic in TOPICS}
        self._digests = {place: hashlib.sha256() for place in self._places()}

    def run(self) -> Migrated:
        """Compare what is there, everywhere, before anything is appended anywhere; then copy."""
        there = {place: self._compare_what_is_there(*place) for place in self._places()}
        copied = 0
        for place, offset in there.items():
            copied += self._copy(*place, offset)
            self._prove(*place, offset, self._heads[place[0]][place[1]])
        for topic, partition in self._places():
            self._refuse_more(topic, partition)
        whole = b"".join(self._digests[place].digest() for place in self._places())
        grown = sum(sum(self._source.heads(topic)) - sum(self._heads[topic]) for topic in TOPICS)
        digest = hashlib.sha256(whole).hexdigest()
        return Migrated(self._source.log_id, self._heads, copied, digest, grown)

    def _places(self) -> Iterator[tuple[Topic, int]]:
        return ((topic, n) for topic in TOPICS for n in range(self._source.partitions))

    def _compare_what_is_there(self, topic: Topic, partition: int) -> int:
        """Return up to which offset the target is the source already."""
        head = self._refuse_more(topic, partition)
        self._prove(topic, partition, 0, head)
        return head

    def _refuse_more(self, topic: Topic, partition: int) -> int:
        """Return the target's head; raises TargetDiffers where it is beyond the source's."""
        end = self._heads[topic][partition]
        head = self._loop.run(self._target.head(self._target.at(topic, partition)))
        if head > end:
            raise TargetDiffers(
                f"{topic}/{partition}:{end}: the target holds {head} records, the source {end}"
            )
        return head

    def _copy(self, topic: Topic, partition: int, offset: int) -> int:
        at = self._target.at(topic, partition)
        first = offset
        for records in _in_appends(self._records(topic, partition, offset)):
            drafts = [Draft(one.key, one.value, _recorded_ns(one.value)) for one in records]
            landed = self._loop.run(self._target.append(at, drafts))
            if landed != offset:
                raise LogError(
                    f"{topic}/{partition}:{offset}: landed at {landed}:"
                    " somebody else writes to the target"
                )
            offset += len(records)
        return offset - first

    def _prove(self, topic: Topic, partition: int, offset: int, end: int) -> None:
        """Compare the records from an offset to an end, and take them into the digest."""
        at, digest = self._target.at(topic, partition), self._digests[topic, partition]
        source = self._records(topic, partition, offset, end)
        while offset < end:
            held = self._loop.run(self._target.read(at, offset, min(_READ, end - offset)))
            if not held:
                raise TargetDiffers(f"{topic}/{partition}:{offset}: the target does not have it")
            for there in held:
                here = next(source)
                _refuse_difference(here, there)
                key = b"" if there.key is None else there.key
                digest.update(b"%d %d %d\n" % (there.offset, len(key), len(there.value)))
                digest.update(key + there.value)
            offset = held[-1].offset + 1
            self._progress(len(held))

    def _records(
        self, topic: Topic, partition: int, offset: int, end: int | None = None
    ) -> Iterator[Record]:
        end = self._heads[topic][partition] if end is None else end
        while offset < end:
            records = self._source.read(topic, partition, offset, min(_READ, end - offset))
            if not records:
                raise LogError(f"{topic}/{partition}:{offset}: the source does not have it")
            yield from records
            offset = records[-1].offset + 1


def _refuse_difference(here: Record, there: _Held) -> None:
    key = None if here.key is None else here.key.encode(errors="surrogateescape")
    where = f"{here.topic}/{here.partition}:{here.offset}"
    if there.offset != here.offset:
        raise TargetDiffers(f"{where}: the target goes on at offset {there.offset}")
    if there.key != key:
        raise TargetDiffers(
            f"{where}: the key is {there.key!r} in the target, {key!r} in the source"
        )
    if there.value != here.value:
        ours, theirs = (hashlib.sha256(one.value).hexdigest() for one in (here, there))
        raise TargetDiffers(
            f"{where}: the value's SHA-256 is {theirs} in the target, {ours} in the source"
        )


def _in_appends(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Yield records in groups that Kafka keeps whole."""
    group: list[Record] = []
    size = 0
    for record in records:
        length = len(record.value) + len(record.key or "") * 4 + _HEADER_BYTES
        if group and (size + length > _APPEND_BYTES or len(group) >= _READ):
            yield group
            group, size = [], 0
        group.append(record)
        size += length
    if group:
        yield group


class _Recorded(Struct, frozen=True, gc=False):
    recorded_time: Instant


_DECODER: Final = msgspec.json.Decoder(_Recorded)


def _recorded_ns(value: bytes) -> int:
    """Return when a record was recorded; 0, as the one before it, for what nobody can decode."""
    try:
        return to_ns(_DECODER.decode(value).recorded_time)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        return 0
