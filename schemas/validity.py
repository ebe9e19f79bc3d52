"""The rules by which every reader of a log tells what counts: one pure step for each record.

A record is *admitted*, or *void* (it does not count, and is reported), or it *halts* the partition
for every reader, until a person parks it. In the order in which they are asked:

1. A record of another topic or partition, or not at the next offset: the reader is wrong. Halt.
2. A record that cannot be decoded, or that stands where its kind cannot be (an event of another
   log, another key than its stream's, a stream of another partition). Halt.
3. LogCreated belongs at offset 0 and fixes the log's id, its partitions and its format; anything
   else at offset 0 halts, LogCreated anywhere else is void.
4. TermStarted raises the term when its own is higher than the partition's, and is void if not.
5. RecordParked counts in any term, for it names what it is about by offset and digest.
6. A record of a term that is not the partition's is void: a deposed owner wrote it, or one that
   never started.
7. A record whose seq is not its stream's last plus one is void.
8. A record that would count but whose prev_hash is not the hash of its stream's last: the chain is
   broken. Halt.

Parking sets aside only what halts (rules 2 and 8, and never offset 0) and only with the right
digest. It cannot unmake a record that counts, so a reader that has passed it and one that looked
ahead agree.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import UNSET, Struct

from domain.events import LogCreated, RecordParked, TermStarted
from schemas.codec import Undecodable, decode, record_hash
from schemas.envelope import GENESIS_HASH, Envelope, Record, Recorded
from schemas.partitioning import partition_of
from schemas.registry import CONTROL_TYPES, TYPES_OF
from schemas.upcasting import UPCASTERS, Upcasters

LOG_FORMAT: Final = 1
"""The format of logs that this version reads and writes: `format` of LogCreated."""

Head = tuple[int, str]
"""Seq and hash of a stream's last valid record."""

_NO_HEAD: Final[Head] = (0, GENESIS_HASH)


class Halt(Exception):  # noqa: N818 - a reader's standstill, named as the design names it
    """Say at which offset a partition stands still for every reader, and why."""

    def __init__(self, offset: int, reason: str) -> None:
        self.offset = offset
        self.reason = reason
        super().__init__(f"offset {offset}: {reason}")


class Void(Struct, frozen=True):
    """A record that does not count: counted and reported, never folded."""

    offset: int
    reason: str


class PartitionState(Struct, kw_only=True):
    """What a reader must remember of a partition to judge its next record.

    A fresh reader knows topic and partition only, the rest starts as it is here. `heads` holds each
    stream's last valid record, `parked` digests by offset, as `look_ahead` finds them. Only
    `advance` changes a state, and whoever adds what `look_ahead` returns to `parked`.
    """

    topic: str
    partition: int
    log_id: str = ""
    partitions: int = 0
    term: int = 0
    next_offset: int = 0
    heads: dict[str, Head] = {}
    parked: dict[int, list[str]] = {}


def admit(
    state: PartitionState, record: Record, upcasters: Upcasters = UPCASTERS
) -> Recorded | Void:
    """Judge the next record and move the state past it; raises Halt, which leaves the state."""
    outcome = judge(state, record, upcasters)
    advance(state, outcome)
    return outcome


def admit_recognised(
    state: PartitionState, record: Record, seq: int, term: int, prev_hash: str, digest: str
) -> bool:
    """Admit a record of which is known that it decodes to an event of the stream of its key.

    `seq`, `term` and `prev_hash` are what it tells, `digest` is its hash. Returns False, having
    changed nothing, where it is not plainly the next that counts: `admit` says what it is then.
    """
    stream, offset = record.key, record.offset
    if stream is None or stream not in state.heads:
        return False
    last_seq, last_hash = state.heads[stream]
    if seq != last_seq + 1 or prev_hash != last_hash or term != state.term:
        return False
    if offset != state.next_offset or record.partition != state.partition:
        return False
    if record.topic != state.topic:
        return False
    state.heads[stream] = seq, digest
    state.next_offset = offset + 1
    if state.parked:
        state.parked.pop(offset, None)
    return True


def admit_known(state: PartitionState, record: Record, known: Recorded) -> Recorded | Void:
    """Admit a record whose value is what the caller itself encoded of `known`, byte for byte.

    It is not decoded again. `known` says where it was to stand; one that stands elsewhere is for
    `admit`.
    """
    outcome = judge(state, record, known=known)
    advance(state, outcome)
    return outcome


def judge(
    state: PartitionState,
    record: Record,
    upcasters: Upcasters = UPCASTERS,
    *,
    known: Recorded | None = None,
) -> Recorded | Void:
    """Return what the next record counts as, changing nothing; raises Halt.

    `known` is the record as it would be decoded, where that is known.
    """
    _check_place(state, record)
    try:
        recorded = _decode(record, upcasters) if known is None else _placed(record, known)
        if recorded.envelope.type in CONTROL_TYPES:
            return _judge_control(state, recorded)
        return _judge_event(state, recorded)
    except Halt:
        digests = state.parked.get(record.offset, ())
        if record_hash(record.value) not in digests:
            raise
        return Void(record.offset, "parked")


def advance(state: PartitionState, outcome: Recorded | Void) -> None:
    """Move a state past the record of which this is the outcome. The only change to a state."""
    offset = outcome.offset
    state.next_offset = offset + 1
    if state.parked:
        state.parked.pop(offset, None)
    if isinstance(outcome, Void):
        return
    envelope = outcome.envelope
    stream = envelope.stream
    if stream is not None:
        state.heads[stream] = (envelope.seq, outcome.hash)
        return
    match outcome.event:
        case LogCreated(log_id=log_id, partitions=partitions):
            state.log_id = log_id
            state.partitions = partitions
        case TermStarted():
            state.term = envelope.term
        case _:
            pass


def look_ahead(records: Iterable[Record], upcasters: Upcasters = UPCASTERS) -> dict[int, list[str]]:
    """Return what persons parked in these records of one partition: digests by offset.

    For a reader that halts: it reads on from there, and may go on where the digest is right. What
    cannot be decoded on the way is passed over; it halts when its turn comes.
    """
    parked: dict[int, list[str]] = {}
    for record in records:
        if record.key is not None:
            continue
        try:
            recorded = _decode(record, upcasters)
        except Halt:
            continue
        event = recorded.event
        if isinstance(event, RecordParked) and _parking_fault(recorded, event) is None:
            parked.setdefault(event.offset, []).append(event.digest)
    return parked


def _check_place(state: PartitionState, record: Record) -> None:
    if record.topic != state.topic or record.partition != state.partition:
        raise Halt(
            record.offset,
            f"record of {record.topic}/{record.partition}"
            f" given to a reader of {state.topic}/{state.partition}",
        )
    if record.offset != state.next_offset:
        raise Halt(record.offset, f"offset {state.next_offset} was expected next")


def _decode(record: Record, upcasters: Upcasters) -> Recorded:
    """Return a record that stands where its kind can be; raises Halt."""
    try:
        recorded = decode(record, upcasters)
    except Undecodable as error:
        raise Halt(record.offset, f"cannot be decoded: {error.reason}") from None
    return _placed(record, recorded)


def _placed(record: Record, recorded: Recorded) -> Recorded:
    fault = _misplaced(record, recorded.envelope)
    if fault is not None:
        raise Halt(record.offset, fault)
    return recorded


def _misplaced(record: Record, envelope: Envelope) -> str | None:
    """Say why an envelope cannot stand in a record; None where it can."""
    if envelope.type not in TYPES_OF.get(record.topic, ()):
        return f"{envelope.type} does not belong in the log of {record.topic}"
    named = (envelope.account is not UNSET, envelope.key is not UNSET)
    if envelope.type in CONTROL_TYPES:
        wanted = (False, False)
    else:
        wanted = (True, False) if record.topic == "events" else (False, True)
    if named != wanted:
        return f"{envelope.type} names its stream by account and key as {named}, not {wanted}"
    if record.key != envelope.stream:
        return f"the record's key is {record.key!r}, its stream {envelope.stream!r}"
    if envelope.type in CONTROL_TYPES and (envelope.seq, envelope.prev_hash) != _NO_HEAD:
        return f"{envelope.type} is of no stream, but has a seq or a prev_hash"
    return None


def _judge_control(state: PartitionState, recorded: Recorded) -> Recorded | Void:
    offset = recorded.offset
    envelope = recorded.envelope
    match recorded.event:
        case LogCreated() as created if offset == 0:
            _check_creation(state, recorded, created)
        case _ if offset == 0:
            raise Halt(offset, f"{envelope.type} stands where LogCreated belongs")
        case LogCreated():
            return Void(offset, "the log was created before")
        case TermStarted() if envelope.term <= state.term:
            return Void(offset, f"term {envelope.term} is not above {state.term}")
        case RecordParked() as parked:
            fault = _parking_fault(recorded, parked)
            if fault is not None:
                return Void(offset, fault)
        case _:
            pass
    return recorded


def _check_creation(state: PartitionState, recorded: Recorded, created: LogCreated) -> None:
    said = (created.topic, created.partition)
    if said != (state.topic, state.partition) or not created.partition < created.partitions:
        raise Halt(0, f"LogCreated is of {said[0]}/{said[1]} of {created.partitions} partitions")
    if created.format != LOG_FORMAT:
        raise Halt(0, f"the log is in format {created.format}; known here is {LOG_FORMAT}")
    if recorded.envelope.term != 0:
        raise Halt(0, f"LogCreated is of term {recorded.envelope.term}, not 0")
    if state.log_id not in ("", created.log_id):
        raise Halt(0, f"the log is {created.log_id!r}, not {state.log_id!r}")


def _parking_fault(recorded: Recorded, parked: RecordParked) -> str | None:
    if not 0 < parked.offset < recorded.offset:
        return f"offset {parked.offset} cannot be parked here"
    return None


def _judge_event(state: PartitionState, recorded: Recorded) -> Recorded | Void:
    envelope = recorded.envelope
    offset = recorded.offset
    if offset == 0:
        raise Halt(offset, f"{envelope.type} stands where LogCreated belongs")
    stream = envelope.stream or ""
    belongs = partition_of(stream, state.partitions)
    if belongs != state.partition:
        raise Halt(offset, f"stream {stream!r} belongs in partition {belongs}")
    if envelope.term != state.term:
        return Void(offset, f"term {envelope.term}, where {state.term} is the partition's")
    seq, last_hash = state.heads.get(stream, _NO_HEAD)
    if envelope.seq != seq + 1:
        return Void(offset, f"seq {envelope.seq} of {stream!r}, where {seq + 1} is next")
    if envelope.prev_hash != last_hash:
        raise Halt(offset, f"the chain of {stream!r} is broken before seq {envelope.seq}")
    return recorded
