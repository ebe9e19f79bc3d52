"""Reading a partition as every reader must: through the validity rules, to the first that halts."""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from domain.commands import Topic
from schemas.envelope import Record, Recorded
from schemas.validity import Halt, PartitionState, Void, admit, look_ahead
from streams.log import Log, LogHalted

_CHUNK: Final = 1000


class ValidBatch(Struct, frozen=True):
    """What came next in a partition: the records that count, in order, and those that do not.

    Both may be empty: then the head was reached.
    """

    records: list[Recorded]
    voids: list[Void]

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was read: the state stands at the head."""
        return not self.records and not self.voids


def fresh_state(log: Log, topic: Topic, partition: int) -> PartitionState:
    """Return the state of a reader that starts at the first record of a log's partition."""
    return PartitionState(
        topic=topic, partition=partition, log_id=log.log_id, partitions=log.partitions
    )


def read_valid(
    log: Log, topic: Topic, partition: int, state: PartitionState, limit: int
) -> ValidBatch:
    """Read on from a state, which moves past what is returned: up to `limit` records.

    A record that halts ends the batch before it, and is judged again by the next call, after
    looking ahead for its parking. Raises LogHalted there when nobody parked it, or when records
    that the log says it has are missing.
    """
    batch = ValidBatch([], [])
    records = log.read(topic, partition, state.next_offset, limit)
    if not records:
        records = _none_missing(log, topic, partition, state.next_offset, limit)
    for record in records:
        try:
            outcome = admit(state, record)
        except Halt as halt:
            if not batch.is_empty:
                return batch
            outcome = _past_parked(log, state, record, halt)
        if isinstance(outcome, Void):
            batch.voids.append(outcome)
        else:
            batch.records.append(outcome)
    return batch


def _none_missing(
    log: Log, topic: Topic, partition: int, next_offset: int, limit: int
) -> list[Record]:
    head = log.heads(topic)[partition]
    if head < next_offset:
        raise LogHalted(topic, partition, head, f"the log ends before {next_offset}, read before")
    records = log.read(topic, partition, next_offset, limit) if head > next_offset else ()
    if head > next_offset and not records:
        raise LogHalted(topic, partition, next_offset, f"records up to {head} are missing")
    return list(records)


def _past_parked(log: Log, state: PartitionState, record: Record, halt: Halt) -> Recorded | Void:
    """Judge a record that halts once more, knowing what was parked after it; raises LogHalted."""
    for offset, digests in look_ahead(_onward(log, record)).items():
        known = state.parked.setdefault(offset, [])
        known.extend(digest for digest in digests if digest not in known)
    try:
        return admit(state, record)
    except Halt:
        raise LogHalted(record.topic, record.partition, halt.offset, halt.reason) from halt


def _onward(log: Log, record: Record) -> Iterator[Record]:
    topic: Topic = record.topic  # type: ignore[assignment]
    offset = record.offset + 1
    while records := log.read(topic, record.partition, offset, _CHUNK):
        yield from records
        offset = records[-1].offset + 1
