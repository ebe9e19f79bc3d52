"""The log's interface: what every back end promises, and what its readers and writers rely on."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from domain.commands import Topic
from domain.times import Instant
from schemas.envelope import Record

TOPICS: Final[tuple[Topic, ...]] = ("events", "prices", "reference")
PARTITIONS: Final = 16
_CHUNK: Final = 2000

TopicPartition = tuple[Topic, int]


class Draft(Struct, frozen=True):
    """A record to append: its stream's key and its value's bytes. The log gives the offset.

    `recorded_ns` and `command_ref` repeat what the value says, for a log that keeps indexes: the
    recorded time (0: that of the record before it), and the id of the command that the record
    answers (None: it answers none that has to be found again).
    """

    key: str | None
    value: bytes
    recorded_ns: int = 0
    command_ref: bytes | None = None


def command_ref(topic: Topic, key: str, command_id: str) -> bytes:
    """Return the 16 bytes by which a command of a stream is found again.

    A digest (BLAKE2b), because ids may have 128 characters and the index holds each for ever.
    """
    told = f"{topic}\n{key}\n{command_id}".encode()
    return hashlib.blake2b(told, digest_size=16).digest()


class LogError(Exception):
    """The log cannot be read or written as asked."""


class CommandTaken(LogError):  # noqa: N818 - an append refused, named by why
    """A record that answers the same command of the same stream is in the log already."""


class LogHalted(LogError):  # noqa: N818 - a reader's standstill, as the design names it
    """A record that no one can decode, or whose chain breaks, stops every reader of a partition."""

    def __init__(self, topic: str, partition: int, offset: int, reason: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.reason = reason
        super().__init__(f"{topic}/{partition}:{offset}: {reason}")


class Log(Protocol):
    """A set of topics cut into partitions of immutable records.

    Offsets in a partition start at 0 and have no gaps; no reader sees n + 1 before n. The record at
    offset 0 of each partition is LogCreated. Recorded times never run backwards in a partition.
    """

    log_id: str
    partitions: int

    def append(self, topic: Topic, partition: int, drafts: Sequence[Draft]) -> int:
        """Append records, all or none, and return the first one's offset once they are durable.

        Raises CommandTaken when a command ref is in the log already, and LogError for a partition
        that is not there or a recorded time before the last one's.
        """
        ...

    def heads(self, topic: Topic) -> list[int]:
        """Return, by partition, the offset that the next record will get."""
        ...

    def positions_at(self, topic: Topic, recorded_time: Instant) -> list[int]:
        """Return, by partition, the offset of the first record recorded after an instant.

        As with heads, what was known at the instant lies below it.
        """
        ...

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> Sequence[Record]:
        """Return up to `limit` records from an offset on, in order; none at the head."""
        ...

    def read_stream(
        self, topic: Topic, key: str, up_to_offset: int, from_offset: int = 0
    ) -> Iterator[Record]:
        """Yield one stream's records from an offset on and below another, in order."""
        ...

    def close(self) -> None:
        """Give back what the log holds open. A second call does nothing."""
        ...


def all_heads(log: Log) -> dict[Topic, list[int]]:
    """Return, by topic and partition, the offset that the next record will get.

    A log that can tells all in one question.
    """
    at_once: Callable[[], dict[Topic, list[int]]] | None = getattr(log, "all_heads", None)
    return at_once() if at_once else {topic: log.heads(topic) for topic in TOPICS}


def read_unkeyed(log: Log, topic: Topic, partition: int, up_to_offset: int) -> Sequence[Record]:
    """Return a partition's records of no stream at offsets below another: terms and parkings.

    A log that can finds them without reading the others.
    """
    at_once: Callable[[Topic, int, int], Sequence[Record]] | None = getattr(
        log, "read_unkeyed", None
    )
    if at_once:
        return at_once(topic, partition, up_to_offset)
    unkeyed: list[Record] = []
    offset = 0
    while offset < up_to_offset:
        records = log.read(topic, partition, offset, min(_CHUNK, up_to_offset - offset))
        if not records:
            break
        unkeyed += (record for record in records if record.key is None)
        offset = records[-1].offset + 1
    return unkeyed


def read_several(
    log: Log, spans: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, Sequence[Record]]:
    """Return, by partition, the records from an offset on and below another, in order.

    A log that can reads all in one question.
    """
    at_once: (
        Callable[[Mapping[TopicPartition, tuple[int, int]]], dict[TopicPartition, Sequence[Record]]]
        | None
    ) = getattr(log, "read_several", None)
    if at_once:
        return at_once(spans)
    return {
        (topic, partition): log.read(topic, partition, start, end - start)
        for (topic, partition), (start, end) in spans.items()
    }
