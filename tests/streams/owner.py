"""The owner of one partition of any log: the steps of ownership, without a decider around them."""

from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from domain.commands import Topic
from infra.errors import ServerUnavailable
from schemas import codec
from schemas.envelope import GENESIS_HASH, Envelope, Record, Recorded
from schemas.validity import Halt, Head, Void, look_ahead
from streams.log import Draft, Log, LogError, LogHalted
from streams.ownership import (
    Observed,
    Ownership,
    assign,
    claim,
    lose_track,
    note_time,
    observe,
)
from streams.reader import fresh_state

_NO_HEAD: Final[Head] = (0, GENESIS_HASH)
_CHUNK: Final = 1000


def propose(ownership: Ownership, ahead: dict[str, Head], envelope: Envelope, now_ns: int) -> Draft:
    """Return an event's record, to be appended next: with term, seq, hash and recorded time put in.

    It is pending until it is read back, and `ahead` has the heads of streams as they will then be.
    Recorded times never run backwards, whatever the clock.
    """
    stream = envelope.stream
    if ownership.phase != "owning" or stream is None:
        raise LogError(f"an owner writes events of streams, not one that is {ownership.phase}")
    heads = ownership.partition.heads
    seq, last_hash = ahead.get(stream) or heads.get(stream, _NO_HEAD)
    note_time(ownership, now_ns)
    sealed = replace(
        envelope,
        term=ownership.claim_term,
        seq=seq + 1,
        prev_hash=last_hash,
        recorded_time=ownership.recorded_time,
    )
    value = codec.encode(sealed)
    ahead[stream] = (seq + 1, codec.record_hash(value))
    ownership.pending.add(envelope.id)
    return Draft(stream, value, ownership.recorded_ns)


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
        ahead: dict[str, Head] = {}
        drafts = [propose(self.ownership, ahead, told, now_ns) for told in envelopes]
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
