"""Reading a partition as every reader must: through the validity rules, to the first that halts."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import repeat
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from domain.commands import Topic
from domain.decisions import Stamped
from domain.events import DealRecorded
from projections.plain import Folded, PlainDeal, whole
from projections.rows import Projection
from schemas.envelope import Record, Recorded
from schemas.partitioning import partition_of
from schemas.validity import Halt, PartitionState, Void, admit, admit_recognised, look_ahead
from streams.log import Log, LogHalted, read_unkeyed

if TYPE_CHECKING:
    from streams.plain_deals import Plain

_CHUNK: Final = 1000
_WORTH_A_SCAN: Final = 200
"""Fewer records are decoded in the time that it takes to begin a scan."""


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


class FoldedBatch(Struct, frozen=True):
    """What came next in a partition, as folds take it; `streams` are those that it is of."""

    events: list[Folded]
    streams: dict[str, None]
    voids: list[Void]

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing was read: the state stands at the head."""
        return not self.events and not self.voids

    def of(self, projection: Projection) -> list[Any]:
        """Return the events that a projection handles, whole where it takes no other."""
        handles = projection.handles
        if projection.takes_plain:
            return [
                one
                for one in self.events
                if isinstance(one, PlainDeal) or type(one.event) in handles
            ]
        deals = whole(self.events) if DealRecorded in handles else self.events
        return [
            one for one in deals if not isinstance(one, PlainDeal) and type(one.event) in handles
        ]


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
    for record in _next_records(log, topic, partition, state, limit):
        outcome = _judged(log, state, record, is_first=batch.is_empty)
        if outcome is None:
            break
        if isinstance(outcome, Void):
            batch.voids.append(outcome)
        else:
            batch.records.append(outcome)
    return batch


def read_folded(
    log: Log, topic: Topic, partition: int, state: PartitionState, limit: int, *, scans: bool
) -> FoldedBatch:
    """Read on like `read_valid`, and return what folds take.

    With `scans` deals are recognised in bulk where they need no decoding. That is for who is far
    behind: what does it takes a second to load.
    """
    batch = FoldedBatch([], {}, [])
    records = _next_records(log, topic, partition, state, limit)
    plain: Iterable[Plain | None] = repeat(None)
    if scans and topic == "events" and len(records) >= _WORTH_A_SCAN:
        from streams.plain_deals import plain_deals

        plain = plain_deals(records)
    for record, found in zip(records, plain, strict=False):
        if found is not None and admit_recognised(state, record, found[0].seq, *found[1:]):
            batch.events.append(found[0])
            batch.streams[found[0].key] = None
            continue
        outcome = _judged(log, state, record, is_first=batch.is_empty)
        if outcome is None:
            break
        if isinstance(outcome, Void):
            batch.voids.append(outcome)
        else:
            batch.events.append(stamp(outcome))
            if record.key is not None:
                batch.streams[record.key] = None
    return batch


def read_valid_stream(log: Log, topic: Topic, stream: str, end: int) -> Iterator[Recorded]:
    """Yield a stream's records that count, at offsets below `end`; raises LogHalted.

    They are judged as whoever reads the whole partition judges them: by its terms, and by what was
    parked, which are read along. What other streams hold makes no difference to this one.
    """
    partition = partition_of(stream, log.partitions)
    state = fresh_state(log, topic, partition)
    unkeyed = read_unkeyed(log, topic, partition, end)
    keyed = (one for one in log.read_stream(topic, stream, end) if one.partition == partition)
    for record in merge(unkeyed, keyed, key=attrgetter("offset")):
        state.next_offset = record.offset
        try:
            outcome = admit(state, record)
        except Halt as halt:
            later = read_unkeyed(log, topic, partition, log.heads(topic)[partition])
            outcome = _past_parked(state, record, halt, later)
        if isinstance(outcome, Recorded) and record.key is not None:
            yield outcome


def stamp(one: Recorded) -> Stamped:
    """Return a valid record as folds take it."""
    envelope = one.envelope
    return Stamped(
        event=one.event,
        key=envelope.stream or "",
        seq=envelope.seq,
        offset=one.offset,
        event_time=envelope.event_time,
        recorded_time=envelope.recorded_time,
        partition=one.partition,
        content_hash=envelope.command_hash,
        flags=envelope.flags,
    )


def _next_records(
    log: Log, topic: Topic, partition: int, state: PartitionState, limit: int
) -> Sequence[Record]:
    records = log.read(topic, partition, state.next_offset, limit)
    return records or _none_missing(log, topic, partition, state.next_offset, limit)


def _judged(
    log: Log, state: PartitionState, record: Record, *, is_first: bool
) -> Recorded | Void | None:
    """Admit a record; None for one that halts and is not the first, which ends its batch."""
    try:
        return admit(state, record)
    except Halt as halt:
        return _past_parked(state, record, halt, _onward(log, record)) if is_first else None


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


def _past_parked(
    state: PartitionState, record: Record, halt: Halt, later: Iterable[Record]
) -> Recorded | Void:
    """Judge a record that halts once more, knowing what was parked after it; raises LogHalted."""
    for offset, digests in look_ahead(later).items():
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
