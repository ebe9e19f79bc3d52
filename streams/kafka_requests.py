"""The two requests that every command takes several of, packed and read without aiokafka's schemas.

aiokafka walks a schema for each field of a request and of its answer, which costs more than what
the broker is asked for. These are the same requests, of the one version that brokers since 2.4
know; to a broker that does not, aiokafka's own are sent. Answers have the parts that are read here.
Source: Kafka's protocol guide, Fetch version 11 and Produce version 7.
"""

from io import BytesIO
from struct import Struct as Packer
from typing import Any, ClassVar, Final, Self

from aiokafka.protocol.fetch import FetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest_v11 as FetchVersion
from aiokafka.protocol.produce import ProduceRequest  # type: ignore[import-untyped]
from aiokafka.protocol.produce import ProduceRequest_v7 as ProduceVersion
from msgspec import Struct

_HEADER: Final = Packer(">hhih")
_COUNT: Final = Packer(">i")
_LENGTH: Final = Packer(">h")
_ANSWER_TO: Final = Packer(">i")
_FETCH: Final = Packer(">iiiibiii")
_FETCH_PARTITION: Final = Packer(">iiqqi")
_FETCHED_TOPICS: Final = Packer(">ihii")
_FETCHED_PARTITION: Final = Packer(">ihqqqi")
_FETCHED_RECORDS: Final = Packer(">ii")
_ABORTED_BYTES: Final = 16
_NO_FORGOTTEN_NO_RACK: Final = b"\0\0\0\0\0\0"
_PRODUCE: Final = Packer(">hhii")
_PRODUCE_PARTITION: Final = Packer(">ii")
_PRODUCED_PARTITION: Final = Packer(">ihqqq")
_NONE: Final = -1


class _Encoded(Struct, frozen=True):
    """Bytes, for who asks to encode them."""

    value: bytes

    def encode(self) -> bytes:
        return self.value


class _AnswerTo(Struct, frozen=True):
    correlation_id: int


class Fetched(Struct, frozen=True):
    """By topic, what was asked for: partition, error code, head, and records if there are any."""

    topics: list[tuple[str, list[tuple[int, int, int, bytes | None]]]]

    @classmethod
    def decode(cls, buffer: BytesIO) -> Self:
        """Return the answer that a buffer has from here on."""
        data, at = buffer.getvalue(), buffer.tell()
        _, _, _, count = _FETCHED_TOPICS.unpack_from(data, at)
        at += _FETCHED_TOPICS.size
        topics = []
        for _ in range(count):
            topic, partitions, at = _topic(data, at)
            told: list[tuple[int, int, int, bytes | None]] = []
            for _ in range(partitions):
                partition, code, head, _, _, aborted = _FETCHED_PARTITION.unpack_from(data, at)
                at += _FETCHED_PARTITION.size + _ABORTED_BYTES * max(0, aborted)
                _, size = _FETCHED_RECORDS.unpack_from(data, at)
                at += _FETCHED_RECORDS.size
                end = at + max(0, size)
                told.append((partition, code, head, data[at:end] if size > 0 else None))
                at = end
            topics.append((topic, told))
        return cls(topics)


class Produced(Struct, frozen=True):
    """By topic, what was appended: partition, error code, the first record's offset."""

    topics: list[tuple[str, list[tuple[int, int, int]]]]

    @classmethod
    def decode(cls, buffer: BytesIO) -> Self:
        """Return the answer that a buffer has from here on."""
        data, at = buffer.getvalue(), buffer.tell()
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        topics = []
        for _ in range(count):
            topic, partitions, at = _topic(data, at)
            told = []
            for _ in range(partitions):
                partition, code, offset, _, _ = _PRODUCED_PARTITION.unpack_from(data, at)
                told.append((partition, code, offset))
                at += _PRODUCED_PARTITION.size
            topics.append((topic, told))
        return cls(topics)


def _topic(data: bytes, at: int) -> tuple[str, int, int]:
    """Return a topic's name, how many partitions follow, and where they begin."""
    (length,) = _LENGTH.unpack_from(data, at)
    at += _LENGTH.size
    name, at = data[at : at + length].decode(), at + length
    return name, _COUNT.unpack_from(data, at)[0], at + _COUNT.size


class _Packed:
    """A request as aiokafka's connection takes it. Each kind is of one version."""

    API_KEY: ClassVar[int]
    API_VERSION: ClassVar[int]
    RESPONSE_TYPE: ClassVar[type[Fetched | Produced]]

    def __init__(self, body: bytes) -> None:
        self._body = body

    def build_request_header(self, correlation_id: int, client_id: str) -> _Encoded:
        name = client_id.encode()
        head = _HEADER.pack(self.API_KEY, self.API_VERSION, correlation_id, len(name))
        return _Encoded(head + name)

    def encode(self) -> bytes:
        return self._body

    @staticmethod
    def parse_response_header(buffer: BytesIO) -> _AnswerTo:
        return _AnswerTo(*_ANSWER_TO.unpack(buffer.read(_ANSWER_TO.size)))


class _PackedFetch(_Packed):
    API_KEY, API_VERSION = FetchVersion.API_KEY, FetchVersion.API_VERSION
    RESPONSE_TYPE = Fetched


class _PackedProduce(_Packed):
    API_KEY, API_VERSION = ProduceVersion.API_KEY, ProduceVersion.API_VERSION
    RESPONSE_TYPE = Produced


class Fetch(FetchRequest):  # type: ignore[misc]
    """aiokafka's FetchRequest, packed here where the broker knows the version."""

    def build(self, version: Any) -> Any:
        """Return the request in the version agreed upon."""
        if version is not FetchVersion:
            return super().build(version)
        options = (self._max_wait_ms, self._min_bytes, self._max_bytes, self._isolation_level)
        # Of no replica, in no session.
        parts = [_FETCH.pack(_NONE, *options, 0, _NONE, len(self._topics))]
        for topic, partitions in self._topics:
            parts += _named(topic, len(partitions))
            for partition, offset, most_bytes in partitions:
                parts.append(_FETCH_PARTITION.pack(partition, _NONE, offset, _NONE, most_bytes))
        return _PackedFetch(b"".join([*parts, _NO_FORGOTTEN_NO_RACK]))


class Produce(ProduceRequest):  # type: ignore[misc]
    """aiokafka's ProduceRequest outside transactions, packed likewise."""

    def build(self, version: Any) -> Any:
        """Return the request in the version agreed upon."""
        if version is not ProduceVersion:
            return super().build(version)
        options = (self._required_acks, self._timeout, len(self._topics))
        parts = [_PRODUCE.pack(_NONE, *options)]
        for topic, partitions in self._topics:
            parts += _named(topic, len(partitions))
            for partition, records in partitions:
                parts += (_PRODUCE_PARTITION.pack(partition, len(records)), records)
        return _PackedProduce(b"".join(parts))


def _named(topic: str, partitions: int) -> tuple[bytes, bytes, bytes]:
    name = topic.encode()
    return _LENGTH.pack(len(name)), name, _COUNT.pack(partitions)
