"""Who may write a partition of a log without locks: the log itself decides.

An owner follows the partition to its head and appends TermStarted, of a term one above the highest
it has read. It owns the partition once it has read that record back, first. What it writes carries
the term, and is acknowledged when it has been read back and counts. An owner that does not know
whether an append landed, or reads one of its own back void, starts a new term and reads up to it.
One that reads a term above its own stands down until it is assigned again.

The functions are pure steps on an Ownership: no log, no clock, no random numbers. `Owner` drives
them over a log. What a reader admits is for `schemas.validity` to say.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from domain.commands import Topic
from domain.events import TermStarted
from domain.times import Instant, from_ns, to_ns
from infra.errors import ServerUnavailable
from schemas import codec
from schemas.codec import Undecodable
from schemas.envelope import GENESIS_HASH, Envelope, Record, Recorded
from schemas.validity import (
    Halt,
    Head,
    PartitionState,
    Void,
    admit,
    admit_known,
    look_ahead,
)
from streams.log import Draft, Log, LogError, LogHalted
from streams.memory import Made
from streams.reader import fresh_state

Phase = Literal["following", "claiming", "owning", "deposed"]
Effect = Literal["none", "owned", "acknowledged", "lost", "deposed"]

_NO_HEAD: Final[Head] = (0, GENESIS_HASH)
_EARLIEST: Final = Instant("1970-01-01T00:00:00.000000000Z")
_CHUNK: Final = 1000


class Ownership(Struct, kw_only=True):
    """What a candidate for a partition knows. Only the functions of this module change it.

    `partition` is its reader's state. `pending` holds the ids of records that were written under
    the term and not read back yet, `ahead` the heads of their streams as they will then be, `made`
    those of them, by value, of which is known what they say.
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
    ahead: dict[str, Head] = {}
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


def propose(ownership: Ownership, envelope: Envelope, now_ns: int) -> Draft:
    """Return an event's record, to be appended next: with term, seq, hash and recorded time put in.

    It is pending until it is read back. Recorded times never run backwards, whatever the clock.
    """
    stream = envelope.stream
    if ownership.phase != "owning" or stream is None:
        raise LogError(f"an owner writes events of streams, not one that is {ownership.phase}")
    heads = ownership.partition.heads
    seq, last_hash = ownership.ahead.get(stream) or heads.get(stream, _NO_HEAD)
    note_time(ownership, now_ns)
    sealed = replace(
        envelope,
        term=ownership.claim_term,
        seq=seq + 1,
        prev_hash=last_hash,
        recorded_time=ownership.recorded_time,
    )
    value = codec.encode(sealed)
    ownership.ahead[stream] = (seq + 1, codec.record_hash(value))
    ownership.pending.add(envelope.id)
    return Draft(stream, value, ownership.recorded_ns)


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
    stream = envelope.stream or ""
    if ownership.ahead.get(stream) == (envelope.seq, outcome.hash):
        del ownership.ahead[stream]
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
    ownership.ahead.clear()
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


# --- the shell -----------------------------------------------------------------------------------


class Deposed(LogError):  # noqa: N818 - what became of an owner
    """Another owner started a higher term: stand down until assigned again."""


class Owner:
    """Owns one partition of a log, for one writer. Not safe to share between threads.

    `learn` is told every record that is read, in order, once each: those that count, and voids.
    `clock` gives nanoseconds since 1970, `new_id` a UUIDv7.
    """

    def __init__(
        self,
        log: Log,
        topic: Topic,
        partition: int,
        name: str,
        *,
        learn: Callable[[Recorded | Void], None],
        clock: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._log = log
        self._topic = topic
        self._partition = partition
        self._learn = learn
        self._clock = clock
        self._new_id = new_id
        self.ownership = Ownership(owner=name, partition=fresh_state(log, topic, partition))

    @property
    def term(self) -> int | None:
        """The term under which this owner writes; None while it owns nothing."""
        return self.ownership.claim_term if self.ownership.phase == "owning" else None

    def follow(self) -> int:
        """Read to the head, and return how many records that were; raises LogHalted.

        Raises Deposed for an owner that finds itself to be one no longer.
        """
        count = 0
        while read := self._read_on():
            count += read
        return count

    def take(self) -> int:
        """Own the partition, from wherever this owner stands, and return the term.

        To be called when it is assigned, and after any error but a halt. Raises LogHalted, and
        ServerUnavailable.
        """
        assign(self.ownership)
        if self.ownership.phase != "owning":
            lose_track(self.ownership)
        while self.ownership.phase != "owning":
            self.follow()
            if self.ownership.phase == "following":
                self._append([claim(self.ownership, self._new_id(), self._clock())])
        return self.ownership.claim_term

    def write(self, envelopes: Sequence[Envelope]) -> None:
        """Append events in order, and return once each has been read back and counts.

        Raises Deposed, ServerUnavailable or LogError: then what landed is known after `take`, by
        what `learn` was told, and nothing may be answered before.
        """
        now_ns = self._clock()
        drafts = [propose(self.ownership, told, now_ns) for told in envelopes]
        self._append(drafts)
        while self.ownership.pending:
            try:
                read = self._read_on()
            except ServerUnavailable:
                lose_track(self.ownership)
                raise
            if not read and self.ownership.pending:
                reason = f"{self._topic}/{self._partition}: what was appended cannot be read back"
                lose_track(self.ownership)
                raise LogError(reason)
        if self.ownership.phase != "owning":
            raise LogError(f"{self._topic}/{self._partition}: what was appended is void")

    def _append(self, drafts: list[Draft]) -> None:
        try:
            self._log.append(self._topic, self._partition, drafts)
        except (LogError, ServerUnavailable):
            lose_track(self.ownership)
            raise

    def _read_on(self) -> int:
        state = self.ownership.partition
        records = self._log.read(self._topic, self._partition, state.next_offset, _CHUNK)
        for record in records:
            observed = self._observe(record)
            self._learn(observed.outcome)
            if observed.effect == "deposed":
                raise Deposed(f"{self._topic}/{self._partition}: term {state.term} is another's")
        return len(records)

    def _observe(self, record: Record) -> Observed:
        try:
            return observe(self.ownership, record)
        except Halt:
            self._learn_parked(record)
        try:
            return observe(self.ownership, record)
        except Halt as halt:
            raise LogHalted(self._topic, self._partition, halt.offset, halt.reason) from halt

    def _learn_parked(self, record: Record) -> None:
        state, offset = self.ownership.partition, record.offset + 1
        while records := self._log.read(self._topic, self._partition, offset, _CHUNK):
            for parked, digests in look_ahead(records).items():
                known = state.parked.setdefault(parked, [])
                known.extend(digest for digest in digests if digest not in known)
            offset = records[-1].offset + 1
