"""One batch of commands, decided under the locks of its partitions: the pure middle of a ledger.

Everything it needs was fetched before; it makes rows of records, changed entities and answers, and
touches nothing that outlives it but the memory of what was already committed.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, assert_never

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from domain.commands import Request
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped, View
from domain.entities import Entity, Instrument
from domain.events import CommandRefused, Event
from domain.times import Instant, from_ns
from schemas import codec
from schemas.envelope import Envelope, Record, Recorded
from schemas.partitioning import partition_of
from streams.answers import Answer, answer_again
from streams.log import TopicPartition
from streams.memory import Made, PartitionWork, StreamHead, StreamView
from streams.postgres_log import TOPIC_CODES, RecordRow, Tail

Decide = Callable[[View, Request, str], Decision]
Evolve = Callable[[View, Stamped], list[tuple[str, str, Entity]]]

_NS_PER_SECOND: Final = 1_000_000_000


class Asked(Struct, frozen=True, gc=False):
    """A request with where it belongs, the hash of its content, and the ref of its command id."""

    request: Request
    place: TopicPartition
    content_hash: str
    ref: bytes


class Rules(Struct, frozen=True):
    """What a ledger was given to decide with: pure rules, and its sources of time and ids.

    `clock` gives nanoseconds since 1970, `new_id` a UUIDv7, `code` is the version that decides.
    """

    decide: Decide
    evolve: Evolve
    clock: Callable[[], int]
    new_id: Callable[[], str]
    code: str


class Batch:
    """The working state of a batch. `tails` and `works` are by partition; `first` by command.

    `made`, where it is given, gets the records as they are made.
    """

    def __init__(
        self,
        rules: Rules,
        partitions: int,
        tails: dict[TopicPartition, Tail],
        terms: Mapping[TopicPartition, int],
        works: Mapping[TopicPartition, PartitionWork],
        first: Mapping[bytes, Record],
        made: list[Made] | None = None,
    ) -> None:
        self.answers: list[Answer] = []
        self.known: list[tuple[int, TopicPartition, int]] = []
        self.next_offset = {place: tail.next_offset for place, tail in tails.items()}
        self.last_ns = {place: tail.last_recorded_ns for place, tail in tails.items()}
        self.written: set[TopicPartition] = set()
        self._rules = rules
        self._terms = terms
        self._partitions = partitions
        self._works = works
        self._first = first
        self._made = made
        self._fresh: dict[bytes, tuple[str, Answer]] = {}
        self._views: dict[tuple[TopicPartition, str], StreamView] = {}
        self._instruments: dict[str, tuple[Entity | None, int, int]] = {}
        self._read: dict[int, int] = {}
        self._bases: dict[tuple[tuple[int, int], ...], dict[str, str]] = {(): {}}
        self._second = (-1, "")

    def tails(self) -> dict[TopicPartition, Tail]:
        """Return where the partitions that were written to end now."""
        return {
            place: Tail(self.next_offset[place], self.last_ns[place])
            for place in sorted(self.written)
        }

    def rows(self, asked: Sequence[Asked]) -> Iterator[RecordRow]:
        """Decide commands in turn; yield the rows of records as they are made."""
        decide, first, fresh = self._rules.decide, self._first, self._fresh
        for one in asked:
            if one.ref in fresh or one.ref in first:
                self._answer_before(one)
                continue
            view = self._views.get((one.place, one.request.key)) or self._view(one)
            self._read.clear()
            decision = decide(view, one.request, one.content_hash)
            match decision:
                case Accepted():
                    yield self._record(one, view, decision.event, decision.flags)
                case Refused(reason=reason, numbers=numbers):
                    refusal = _refusal(one.request, reason, numbers)
                    yield self._record(one, view, refusal, one.request.flags)
                case Lacking() | Known():
                    self._pass_by(one, decision)
                case _:
                    assert_never(decision)

    def _view(self, one: Asked) -> StreamView:
        """Return the view of a stream, the same one for the whole batch."""
        lookup = None if one.place[0] == "reference" else self._instrument
        view = StreamView(self._works[one.place], one.request.key, lookup)
        self._views[one.place, one.request.key] = view
        return view

    def _answer_before(self, one: Asked) -> None:
        """Answer a command whose id was used before, in this batch or long ago."""
        if one.ref in self._fresh:
            content_hash, answer = self._fresh[one.ref]
            status = "refused" if answer.status == "refused" else "duplicate"
            answer = replace(answer, status=status, replayed=True)
        else:
            record = self._first[one.ref]
            content_hash = codec.envelope(record.value).command_hash
            answer = answer_again(one.request.command_id, one.place[0], record, replayed=True)
        if content_hash != one.content_hash:
            answer = _conflict(one, answer)
        self.answers.append(answer)

    def _pass_by(self, one: Asked, decision: Lacking | Known) -> None:
        topic, partition = one.place
        command_id = one.request.command_id
        match decision:
            case Known(offset=offset):
                self.known.append((len(self.answers), one.place, offset))
                answer = Answer(
                    status="duplicate", command_id=command_id, topic=topic, partition=partition
                )
            case Lacking(reason=reason, detail=detail):
                answer = Answer(
                    status="lacking",
                    command_id=command_id,
                    topic=topic,
                    partition=partition,
                    reason=reason,
                    detail=detail,
                )
        self.answers.append(answer)

    def _record(
        self, one: Asked, view: StreamView, event: Event, flags: tuple[str, ...]
    ) -> RecordRow:
        """Take an event into the batch: its place, its entities and its answer; return its row."""
        topic, partition = place = one.place
        request = one.request
        key, work = request.key, view.work
        head = work.head(key)
        event_type = codec.event_type(event)
        offset, seq = self.next_offset[place], head.seq + 1
        recorded_ns = max(self._rules.clock(), self.last_ns[place] + 1)
        envelope = self._envelope(one, event_type, event, flags, head, recorded_ns)
        value = codec.encode(envelope)
        digest = hashlib.sha256(value)
        hexdigest = digest.hexdigest()
        work.heads[key] = StreamHead(seq, hexdigest)
        self.next_offset[place] = offset + 1
        self.last_ns[place] = recorded_ns
        self.written.add(place)
        if topic == "reference":
            self._instruments.clear()
        stamped = Stamped(
            event=event,
            key=key,
            seq=seq,
            offset=offset,
            event_time=request.event_time,
            partition=partition,
            content_hash=one.content_hash,
            flags=flags,
        )
        changes = self._rules.evolve(view, stamped)
        for kind, entity_id, entity in changes:
            work.changed[key, kind, entity_id] = entity
        if self._made is not None:
            recorded = Recorded(topic, partition, offset, hexdigest, envelope, event)
            self._made.append(Made(value, one.ref, recorded, changes))
        answer = Answer(
            status="accepted",
            command_id=request.command_id,
            topic=topic,
            partition=partition,
            offset=offset,
            seq=seq,
            event_type=event_type,
            event=value,
            flags=flags,
        )
        if isinstance(event, CommandRefused):
            answer = replace(answer, status="refused", reason=event.reason, numbers=event.numbers)
        self._fresh[one.ref] = (one.content_hash, answer)
        self.answers.append(answer)
        code = TOPIC_CODES[topic]
        return (code, partition, offset, recorded_ns, digest.digest(), one.ref, key, value)

    def _envelope(
        self,
        one: Asked,
        event_type: str,
        event: Event,
        flags: tuple[str, ...],
        head: StreamHead,
        recorded_ns: int,
    ) -> Envelope:
        request = one.request
        is_account = one.place[0] == "events"
        return Envelope(
            id=self._rules.new_id(),
            type=event_type,
            version=codec.CURRENT_VERSIONS[event_type],
            account=request.key if is_account else UNSET,
            key=UNSET if is_account else request.key,
            seq=head.seq + 1,
            term=self._terms[one.place],
            event_time=request.event_time,
            recorded_time=self._instant(recorded_ns),
            command_id=request.command_id,
            command_hash=one.content_hash,
            correlation_id=request.correlation_id,
            causation_id=request.causation_id,
            actor=request.actor,
            code=self._rules.code,
            basis=self._basis(),
            source=request.source,
            flags=flags,
            prev_hash=head.hash,
            data=codec.encode_event(event),
        )

    def _instrument(self, instrument_id: str) -> Entity | None:
        """Return an instrument, and remember up to where the reference log was read for it."""
        known = self._instruments.get(instrument_id)
        if known is None:
            known = self._instruments[instrument_id] = self._defined(instrument_id)
        entity, partition, read_to = known
        self._read[partition] = max(read_to, self._read.get(partition, 0))
        return entity

    def _defined(self, instrument_id: str) -> tuple[Entity | None, int, int]:
        """Return an instrument with the partition, and the offset in it, that say what it is."""
        partition = partition_of(instrument_id, self._partitions)
        entity = self._works["reference", partition].entity((instrument_id, "instrument", ""))
        if isinstance(entity, Instrument):
            return entity, partition, entity.offset
        return entity, partition, self.next_offset["reference", partition] - 1

    def _basis(self) -> dict[str, str]:
        """Return the offsets of the reference log that the decision read."""
        read = tuple(self._read.items())
        basis = self._bases.get(read)
        if basis is None:
            told = ",".join([f"{partition}:{offset}" for partition, offset in sorted(read)])
            basis = self._bases[read] = {"reference": told}
        return basis

    def _instant(self, time_ns: int) -> Instant:
        """Return the Instant of a time; most fall in the same second as the one before."""
        second, fraction_ns = divmod(time_ns, _NS_PER_SECOND)
        if second != self._second[0]:
            self._second = (second, from_ns(second * _NS_PER_SECOND)[:20])
        return Instant(f"{self._second[1]}{fraction_ns:09d}Z")


def _refusal(request: Request, reason: str, numbers: dict[str, str]) -> CommandRefused:
    return CommandRefused(
        reason=reason,
        command_type=type(request.command).__name__,
        asked=msgspec.to_builtins(request.command),
        numbers=numbers,
    )


def _conflict(one: Asked, first: Answer) -> Answer:
    return Answer(
        status="conflict",
        command_id=one.request.command_id,
        topic=one.place[0],
        partition=one.place[1],
        reason="conflict",
        detail=f"command id {one.request.command_id!r} was used before with other content",
        numbers={"first_position": first.position or "", "first_seq": str(first.seq)},
    )
