"""The rules, each of them left out: what the simulation must notice.

A rule of validity is left out for every reader, one of the protocol for every owner.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from unittest import mock

from msgspec.structs import replace

from schemas import codec, validity
from schemas.codec import Undecodable, record_hash
from schemas.envelope import GENESIS_HASH, Envelope, Record, Recorded
from schemas.partitioning import partition_of
from schemas.upcasting import UPCASTERS, Upcasters
from schemas.validity import Halt, PartitionState, Void
from streams import ownership, reader
from streams.deciding import following

Admit = Callable[[PartitionState, Record], Recorded | Void]

_admit: Final[Admit] = validity.admit
_look_ahead: Final = validity.look_ahead


def _told(record: Record) -> Envelope | None:
    with contextlib.suppress(Undecodable):
        return codec.envelope(record.value)
    return None


def _admit_anyway(state: PartitionState, record: Record) -> Recorded:
    outcome = codec.decode(record)
    validity.advance(state, outcome)
    return outcome


def without_place(state: PartitionState, record: Record) -> Recorded | Void:
    """Take whatever record comes next, with a gap or not."""
    state.next_offset = record.offset
    return _admit(state, record)


def without_halt(state: PartitionState, record: Record) -> Recorded | Void:
    """Pass over what cannot be decoded, or stands where it cannot be."""
    try:
        return _admit(state, record)
    except Halt as halt:
        outcome = Void(record.offset, halt.reason)
        validity.advance(state, outcome)
        return outcome


def without_key(state: PartitionState, record: Record) -> Recorded | Void:
    """Take an event under any key."""
    told = _told(record)
    return _admit(state, record if told is None else replace(record, key=told.stream))


def without_partition(state: PartitionState, record: Record) -> Recorded | Void:
    """Take an event of a stream that belongs in another partition."""
    told = _told(record)
    if told is None or told.stream is None or not state.partitions:
        return _admit(state, record)
    here = state.partition
    belongs = partition_of(told.stream, state.partitions)
    state.partition = belongs
    try:
        return _admit(state, replace(record, partition=belongs))
    finally:
        state.partition = here


def without_one_creation(state: PartitionState, record: Record) -> Recorded | Void:
    """Let a log be created anew."""
    told = _told(record)
    if told is not None and told.type == "LogCreated" and record.offset == state.next_offset:
        return _admit_anyway(state, record)
    return _admit(state, record)


def without_rising_terms(state: PartitionState, record: Record) -> Recorded | Void:
    """Let any term be started at any time."""
    told = _told(record)
    if told is not None and told.type == "TermStarted" and record.offset == state.next_offset:
        return _admit_anyway(state, record)
    return _admit(state, record)


def without_parking_in_any_term(
    records: Iterable[Record], upcasters: Upcasters = UPCASTERS
) -> dict[int, list[str]]:
    """Look ahead for parkings that an owner wrote: persons have no term."""
    owned = [record for record in records if (told := _told(record)) and told.term > 0]
    return _look_ahead(owned, upcasters)


def without_term(state: PartitionState, record: Record) -> Recorded | Void:
    """Take events of any term."""
    told = _told(record)
    if told is None or told.stream is None:
        return _admit(state, record)
    term, state.term = state.term, told.term
    try:
        return _admit(state, record)
    finally:
        state.term = term


def without_seq(state: PartitionState, record: Record) -> Recorded | Void:
    """Take events of any seq."""
    return _as_next(state, record, chained=True)


def without_chain(state: PartitionState, record: Record) -> Recorded | Void:
    """Take events whatever hash they name."""
    return _as_next(state, record, chained=False)


def _as_next(state: PartitionState, record: Record, *, chained: bool) -> Recorded | Void:
    """Admit an event as if its stream's last record had its seq before it, or its prev_hash."""
    told = _told(record)
    if told is None or told.stream is None:
        return _admit(state, record)
    before = state.heads.get(told.stream)
    seq, digest = before or (0, GENESIS_HASH)
    pretended = (told.seq - 1, digest) if chained else (seq, told.prev_hash)
    state.heads[told.stream] = pretended
    try:
        return _admit(state, record)
    finally:
        if state.heads.get(told.stream) == pretended:
            del state.heads[told.stream]
            if before is not None:
                state.heads[told.stream] = before


def without_digest(state: PartitionState, record: Record) -> Recorded | Void:
    """Let a parking of a record's offset be enough, whatever digest it names."""
    if record.offset in state.parked:
        state.parked[record.offset] = [record_hash(record.value)]
    return _admit(state, record)


def without_lasting(state: PartitionState, record: Record) -> Recorded | Void:
    """Let parking unmake a record that counts."""
    if record_hash(record.value) in state.parked.get(record.offset, ()):
        outcome = Void(record.offset, "parked")
        validity.advance(state, outcome)
        return outcome
    return _admit(state, record)


VALIDITY: Final[dict[str, Admit]] = {
    "place": without_place,
    "halt": without_halt,
    "key": without_key,
    "partition": without_partition,
    "one_creation": without_one_creation,
    "rising_terms": without_rising_terms,
    "term": without_term,
    "seq": without_seq,
    "chain": without_chain,
    "digest": without_digest,
    "lasting": without_lasting,
}
PROTOCOL: Final = (
    "read_back",
    "reading_to_own_term",
    "term_after_unknown",
    "dropped_overlay",
    "told_once_committed",
    "stale_given_up",
    "proof",
    "ids",
    "transfer_ids",
    "checkpoint",
)
PARKING: Final = "parking_in_any_term"
RULES: Final = (*VALIDITY, PARKING, *PROTOCOL)


@contextlib.contextmanager
def left_out(rule: str) -> Iterator[None]:
    """Leave a rule of validity out for every reader in a block; others are the world's to know."""
    admit = VALIDITY.get(rule, _admit)
    look_ahead = without_parking_in_any_term if rule == PARKING else _look_ahead
    with contextlib.ExitStack() as stack:
        for module in (validity, ownership, reader):
            stack.enter_context(mock.patch.object(module, "admit", admit))
        if rule in VALIDITY:
            # Nor does it hold for what an owner knows because it has made it itself.
            judged = lambda state, record, _: admit(state, record)  # noqa: E731
            stack.enter_context(mock.patch.object(ownership, "admit_known", judged))
        for module in (validity, following, reader):
            stack.enter_context(mock.patch.object(module, "look_ahead", look_ahead))
        yield
