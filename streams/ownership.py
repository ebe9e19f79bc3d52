"""Who may write a partition of a log without locks: the log itself decides.

An owner follows the partition to its head and appends TermStarted, of a term one above the highest
it has read. It owns the partition once it has read that record back, first. What it writes carries
the term, and is acknowledged when it has been read back and counts. An owner that does not know
whether an append landed, or reads one of its own back void, starts a new term and reads up to it.
One that reads a term above its own stands down until it is assigned again.

The functions are pure steps on an Ownership: no log, no clock, no random numbers. A decider's lane
drives them. What a reader admits is for `schemas.validity` to say.
"""

import contextlib
from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from domain.events import TermStarted
from domain.times import Instant, from_ns, to_ns
from schemas import codec
from schemas.codec import Undecodable
from schemas.envelope import Envelope, Record, Recorded
from schemas.validity import (
    PartitionState,
    Void,
    admit,
    admit_known,
)
from streams.log import Draft, LogError
from streams.memory import Made

Phase = Literal["following", "claiming", "owning", "deposed"]
Effect = Literal["none", "owned", "acknowledged", "lost", "deposed"]

_EARLIEST: Final = Instant("1970-01-01T00:00:00.000000000Z")


class Ownership(Struct, kw_only=True):
    """What a candidate for a partition knows. Only the functions of this module change it.

    `partition` is its reader's state. `pending` holds the ids of records that were written under
    the term and not read back yet, `made` those of them, by value, of which is known what they say.
    `recorded_time`, and `recorded_ns` beside it, is the latest of any record read or written, void
    ones included.
    """

    owner: str
    partition: PartitionState
    phase: Phase = "following"
    claim_id: str = ""
    claim_term: int = 0
    pending: set[str] = set()
    made: dict[bytes, Made] = {}
    recorded_time: Instant = _EARLIEST
    recorded_ns: int = 0


class Observed(Struct, frozen=True):
    """A record that was read, and what it means to the candidate.

    `owned`: the partition is its own from here on. `acknowledged`: a record of its own counts, and
    may be told. `lost`: it does not own the partition and may claim it again. `deposed`: another
    owns it. `made` is the record as it was decided here, where it is that very one at the offset
    foreseen.
    """

    outcome: Recorded | Void
    effect: Effect = "none"
    made: Made | None = None


# --- the pure steps ------------------------------------------------------------------------------


def claim(ownership: Ownership, record_id: str, now_ns: int) -> Draft:
    """Return the record that claims the partition, to be appended by a follower at the head."""
    if ownership.phase != "following":
        raise LogError(f"a partition is claimed by a follower, not one that is {ownership.phase}")
    ownership.phase = "claiming"
    ownership.claim_id = record_id
    ownership.claim_term = ownership.partition.term + 1
    event = TermStarted(owner=ownership.owner)
    note_time(ownership, now_ns)
    now = ownership.recorded_time
    envelope = Envelope(
        id=record_id,
        type=codec.event_type(event),
        term=ownership.claim_term,
        event_time=now,
        recorded_time=now,
        actor=ownership.owner,
        data=codec.encode_event(event),
    )
    return Draft(None, codec.encode(envelope), ownership.recorded_ns)


def enlist(ownership: Ownership, made: Sequence[Made], recorded_ns: int) -> None:
    """Await records that were made under the term elsewhere, ready to be appended next.

    What made them gave them the term, and the seqs and hashes that follow what is pending.
    """
    if ownership.phase != "owning":
        raise LogError(f"an owner writes events of streams, not one that is {ownership.phase}")
    for one in made:
        ownership.pending.add(one.recorded.envelope.id)
        ownership.made[one.value] = one
    note_time(ownership, recorded_ns)


def observe(ownership: Ownership, record: Record) -> Observed:
    """Take the partition's next record; raises Halt, as every reader does, and changes nothing."""
    # The same bytes say the same; where they stand in the chain and the terms is judged as ever.
    made = ownership.made.get(record.value)
    if made is not None and made.recorded.offset == record.offset:
        outcome = admit_known(ownership.partition, record, made.recorded)
        del ownership.made[record.value]
    else:
        made = None
        outcome = admit(ownership.partition, record)
    if isinstance(outcome, Void):
        return Observed(outcome, _observe_void(ownership, record))
    envelope = outcome.envelope
    _note_told(ownership, envelope.recorded_time)
    if isinstance(outcome.event, TermStarted):
        return Observed(outcome, _observe_term(ownership, envelope.id))
    if envelope.id not in ownership.pending:
        return Observed(outcome, made=made)
    ownership.pending.remove(envelope.id)
    return Observed(outcome, "acknowledged", made)


def lose_track(ownership: Ownership) -> None:
    """Give the term up, because nobody knows what landed: what is pending is no longer awaited."""
    _stand_by(ownership, "following")


def assign(ownership: Ownership) -> None:
    """Let a deposed owner claim the partition again."""
    if ownership.phase == "deposed":
        ownership.phase = "following"


def _observe_void(ownership: Ownership, record: Record) -> Effect:
    try:
        envelope = codec.envelope(record.value)
    except Undecodable:
        return "none"
    # A void record's time counts too: Kafka's index by time knows nothing of voids.
    _note_told(ownership, envelope.recorded_time)
    if envelope.id in ownership.pending or (
        ownership.phase == "claiming" and envelope.id == ownership.claim_id
    ):
        _stand_by(ownership, "following")
        return "lost"
    return "none"


def _observe_term(ownership: Ownership, record_id: str) -> Effect:
    if ownership.phase == "claiming" and record_id == ownership.claim_id:
        ownership.phase = "owning"
        return "owned"
    if ownership.phase == "owning":
        _stand_by(ownership, "deposed")
        return "deposed"
    if ownership.phase == "claiming":
        # Its own claim is still to come, and void: the term is taken.
        _stand_by(ownership, "following")
        return "lost"
    return "none"


def _stand_by(ownership: Ownership, phase: Phase) -> None:
    ownership.phase = phase
    ownership.claim_id = ""
    ownership.pending.clear()
    ownership.made.clear()


def note_time(ownership: Ownership, time_ns: int) -> None:
    """Take a time for recorded: no later record is given one before it."""
    if time_ns > ownership.recorded_ns:
        ownership.recorded_ns = time_ns
        ownership.recorded_time = from_ns(time_ns)


def _note_told(ownership: Ownership, told: Instant) -> None:
    if told > ownership.recorded_time:
        with contextlib.suppress(ValueError):  # others may have written any text there
            note_time(ownership, to_ns(told))
