"""Valid records for tests: chained, hashed and placed as an owner would write them."""

from collections.abc import Iterable
from typing import Any

from domain.commands import Topic
from domain.events import Event, LogCreated, RecordParked, TermStarted
from domain.times import Instant, from_ns
from schemas.codec import CURRENT_VERSIONS, encode, encode_event, event_type, record_hash
from schemas.envelope import GENESIS_HASH, Envelope, Record
from schemas.partitioning import partition_of

FIRST_NS = 1_704_205_800_000_000_000
LOG_ID = "0190b5c0-0000-7000-8000-00000000da7b"


class Chain:
    """One partition of a log under construction. `records` grows with every call."""

    def __init__(
        self,
        topic: Topic = "events",
        partition: int = 0,
        partitions: int = 1,
        log_id: str = LOG_ID,
    ) -> None:
        self.topic: Topic = topic
        self.partition = partition
        self.partitions = partitions
        self.log_id = log_id
        self.term = 0
        self.heads: dict[str, tuple[int, str]] = {}
        self.records: list[Record] = []
        self.control(
            LogCreated(log_id=log_id, topic=topic, partition=partition, partitions=partitions)
        )

    def append(self, key: str, event: Event, /, **envelope: Any) -> Record:
        """Append the next event of a stream; `envelope` overrides its fields."""
        seq, prev_hash = self.heads.get(key, (0, GENESIS_HASH))
        stream: dict[str, Any] = {"account" if self.topic == "events" else "key": key}
        told = stream | {"seq": seq + 1, "prev_hash": prev_hash} | envelope
        record = self._put(key, event, told)
        self.heads[key] = (told["seq"], record_hash(record.value))
        return record

    def control(self, event: Event, **envelope: Any) -> Record:
        """Append a record about the partition itself."""
        return self._put(None, event, envelope)

    def start_term(self, term: int, owner: str = "owner-1") -> Record:
        """Append TermStarted; what follows is of that term."""
        self.term = term
        return self.control(TermStarted(owner=owner))

    def park(self, offset: int, digest: str | None = None) -> Record:
        """Append RecordParked for an offset, with its record's digest unless told another."""
        told = digest or record_hash(self.records[offset].value)
        return self.control(RecordParked(offset=offset, digest=told), actor="compliance")

    def raw(self, key: str | None, value: bytes) -> Record:
        """Append a value as it is."""
        offset = len(self.records)
        record = Record(self.topic, self.partition, offset, key, value)
        self.records.append(record)
        return record

    def _put(self, key: str | None, event: Event, envelope: dict[str, Any]) -> Record:
        return self.raw(key, encode(make_envelope(event, len(self.records), self.term, envelope)))


def make_envelope(event: Event, number: int, term: int, fields: dict[str, Any]) -> Envelope:
    """Return an event's envelope, with ids and times made from a number, and `fields` over it."""
    moment: Instant = from_ns(FIRST_NS + number * 1_000_000_000)
    name = event_type(event)
    told: dict[str, Any] = {
        "id": f"0190b5c0-0000-7000-8000-{number:012x}",
        "type": name,
        "version": CURRENT_VERSIONS[name],
        "term": term,
        "event_time": moment,
        "recorded_time": moment,
        "command_id": f"c-{number}",
        "actor": "local",
        "code": "0.1.0",
        "data": encode_event(event),
    }
    return Envelope(**(told | fields))


def make_records(
    facts: Iterable[tuple[str, Event]],
    topic: Topic = "events",
    partitions: int = 1,
    log_id: str = LOG_ID,
) -> list[Record]:
    """Return the valid records of all partitions for facts, (stream, event), in their order.

    Each partition starts with LogCreated; the list is ordered by partition and offset.
    """
    chains = [Chain(topic, partition, partitions, log_id) for partition in range(partitions)]
    for key, event in facts:
        chains[partition_of(key, partitions)].append(key, event)
    return [record for chain in chains for record in chain.records]


def key_in(partition: int, partitions: int, prefix: str = "A") -> str:
    """Return a key that belongs in a partition."""
    number = 1
    while partition_of(f"{prefix}{number}", partitions) != partition:
        number += 1
    return f"{prefix}{number}"
