"""One batch of commands, decided: the pure middle of a ledger.

Everything it needs was fetched before; it makes rows of records, changed entities and answers, and
touches nothing that outlives it but the memory of what was already committed.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, assert_never

import msgspec
from msgspec import UNSET, Struct
from msgspec.structs import replace

from domain import decider
from domain.commands import RecordDeal, Request
from domain.deals import NO_EFFECT, TERMS_ASSUMED
from domain.decisions import Accepted, Decision, Known, Lacking, Refused, Stamped, View
from domain.entities import Account, Entity, Instrument
from domain.events import CommandRefused, DealRecorded, Event
from domain.plain_deals import PlainTerms, plain_chain, plain_deal, plain_terms
from domain.times import Instant, from_ns
from schemas import codec
from schemas.envelope import Envelope, Record, Recorded
from schemas.envelope_text import basis_text, value_of
from schemas.partitioning import partition_of
from streams.answers import Answer, answer_again, conflict
from streams.log import TopicPartition
from streams.memory import Made, PartitionWork, StreamHead, StreamView
from streams.postgres_log import Tail
from streams.record_rows import TOPIC_CODES, RecordRow

Decide = Callable[[View, Request, str], Decision]
Evolve = Callable[[View, Stamped], list[tuple[str, str, Entity]]]

_SECOND_NS: Final = 1_000_000_000


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

    @property
    def is_usual(self) -> bool:
        """Tell whether commands are decided by the domain's own rules."""
        return self.decide is decider.decide and self.evolve is decider.evolve


class Booked(Struct, frozen=True, gc=False):
    """What the plain deals of an instrument have in common.

    `basis` are the offsets of the reference log that deciding one reads, and their text.
    """

    terms: PlainTerms
    flags: tuple[str, ...]
    basis: tuple[dict[str, str], str]


class Batch:
    """The working state of a batch. `tails` and `works` are by partition; `first` by command.

    `made`, where it is given, gets the records as they are made. `before` is the batch before,
    while it is being committed.
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
        before: "Batch | None" = None,
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
        self._before = {} if before is None else before._fresh  # noqa: SLF001 - one of its own kind
        self._views: dict[tuple[TopicPartition, str], StreamView] = {}
        self._instruments: dict[str, tuple[Entity | None, int, int]] = {}
        self._read: dict[int, int] = {}
        self._bases: dict[tuple[tuple[int, int], ...], tuple[dict[str, str], str]] = {(): ({}, "")}
        self._booked: dict[tuple[str, tuple[str, ...]], Booked] = {}
        self._second = (-1, "")

    def tails(self) -> dict[TopicPartition, Tail]:
        """Return where the partitions that were written to end now."""
        return {at: Tail(self.next_offset[at], self.last_ns[at]) for at in sorted(self.written)}

    def answers_to(self, ref: bytes) -> bool:
        """Tell whether a command is one of this batch's that were recorded."""
        return ref in self._fresh

    def rows(self, asked: Sequence[Asked]) -> Iterator[RecordRow]:
        """Decide commands in turn; yield the rows of records as they are made."""
        decide, first, fresh, before = self._rules.decide, self._first, self._fresh, self._before
        takes_plain = self._rules.is_usual
        for one in asked:
            if one.ref in fresh or one.ref in first or one.ref in before:
                self._answer_before(one)
                continue
            view = self._views.get((one.place, one.request.key)) or self._view(one)
            plain = self._plain(one, view) if takes_plain else None
            if plain is not None:
                event, booked = plain
                yield self._record(one, view, event, booked.flags, booked)
                continue
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

    def _plain(self, one: Asked, view: StreamView) -> tuple[DealRecorded, Booked] | None:
        """Return the event of a plain deal, just as the decider would; None for all else."""
        request = one.request
        command = request.command
        if type(command) is not RecordDeal:
            return None
        account = view.get("account", "")
        if type(account) is not Account or account.closed:
            return None
        if view.get("deal", command.deal_id) is not None:
            return None
        booked = self._booked.get((command.instrument, request.flags))
        if booked is None:
            booked = self._book(command.instrument, request.flags)
        if booked is None:
            return None
        event = plain_deal(command, request.event_time, account, booked.terms)
        return None if event is None else (event, booked)

    def _book(self, instrument_id: str, flags: tuple[str, ...]) -> Booked | None:
        """Return what the plain deals of an instrument have in common, until it is defined anew."""
        self._read.clear()
        instrument = self._instrument(instrument_id)
        terms = plain_terms(instrument) if isinstance(instrument, Instrument) else None
        if terms is None:
            return None
        flagged = (*flags, TERMS_ASSUMED) if terms.assumed else flags
        if not NO_EFFECT.isdisjoint(flagged):
            return None
        booked = Booked(terms, flagged, self._basis())
        self._booked[instrument_id, flags] = booked
        return booked

    def _view(self, one: Asked) -> StreamView:
        """Return the view of a stream, the same one for the whole batch."""
        lookup = None if one.place[0] == "reference" else self._instrument
        key = one.request.key
        self._views[one.place, key] = view = StreamView(self._works[one.place], key, lookup)
        return view

    def _answer_before(self, one: Asked) -> None:
        """Answer a command whose id was used before, in this batch, the last one or long ago."""
        fresh = self._fresh.get(one.ref) or self._before.get(one.ref)
        if fresh is not None:
            content_hash, answer = fresh
            status = "refused" if answer.status == "refused" else "duplicate"
            answer = replace(answer, status=status, replayed=True)
        else:
            record = self._first[one.ref]
            content_hash = codec.envelope(record.value).command_hash
            answer = answer_again(one.request.command_id, one.place[0], record, replayed=True)
        if content_hash != one.content_hash:
            answer = conflict(one.request.command_id, one.place, answer)
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
        self,
        one: Asked,
        view: StreamView,
        event: Event,
        flags: tuple[str, ...],
        plain: Booked | None = None,
    ) -> RecordRow:
        """Take an event into the batch: its place, its entities and its answer; return its row."""
        topic, partition = place = one.place
        request = one.request
        key, work = request.key, view.work
        head = work.head(key)
        seq, offset = head.seq + 1, self.next_offset[place]
        recorded_ns = max(self._rules.clock(), self.last_ns[place] + 1)
        value, envelope = self._value(one, event, flags, head, recorded_ns, plain)
        digest = hashlib.sha256(value)
        hexdigest = digest.hexdigest()
        work.heads[key] = StreamHead(seq, hexdigest)
        self.next_offset[place] = offset + 1
        self.last_ns[place] = recorded_ns
        self.written.add(place)
        if plain is not None and type(event) is DealRecorded:
            chain = plain_chain(event, one.content_hash, offset, seq, flags)
            changes: list[tuple[str, str, Entity]] = [("deal", event.deal_id, chain)]
        else:
            changes = self._evolve(one, view, event, flags, offset, seq)
        for kind, entity_id, entity in changes:
            work.changed[key, kind, entity_id] = entity
        if self._made is not None and envelope is not None:
            recorded = Recorded(topic, partition, offset, hexdigest, envelope, event)
            self._made.append(Made(value, one.ref, recorded, changes))
        answer = Answer(
            status="accepted",
            command_id=request.command_id,
            topic=topic,
            partition=partition,
            offset=offset,
            seq=seq,
            event_type=type(event).__name__,
            event=value,
            flags=flags,
        )
        if isinstance(event, CommandRefused):
            answer = replace(answer, status="refused", reason=event.reason, numbers=event.numbers)
        self._fresh[one.ref] = (one.content_hash, answer)
        self.answers.append(answer)
        code = TOPIC_CODES[topic]
        return (code, partition, offset, recorded_ns, digest.digest(), one.ref, key, value)

    def _evolve(
        self,
        one: Asked,
        view: StreamView,
        event: Event,
        flags: tuple[str, ...],
        offset: int,
        seq: int,
    ) -> list[tuple[str, str, Entity]]:
        if one.place[0] == "reference":
            self._instruments.clear()
            self._booked.clear()
        stamped = Stamped(
            event=event,
            key=one.request.key,
            seq=seq,
            offset=offset,
            event_time=one.request.event_time,
            partition=one.place[1],
            content_hash=one.content_hash,
            flags=flags,
        )
        return self._rules.evolve(view, stamped)

    def _value(
        self,
        one: Asked,
        event: Event,
        flags: tuple[str, ...],
        head: StreamHead,
        recorded_ns: int,
        plain: Booked | None,
    ) -> tuple[bytes, Envelope | None]:
        """Return the value of an event's record, and its envelope where that is asked for."""
        basis, read = self._basis() if plain is None else plain.basis
        data = codec.encode_event(event) if plain is None else codec.encode_finite(event)
        event_id, recorded_time = self._rules.new_id(), self._instant(recorded_ns)
        seq, term = head.seq + 1, self._terms[one.place]
        event_type = codec.event_type(event)
        if self._made is not None:
            is_account, request = one.place[0] == "events", one.request
            envelope = Envelope(
                id=event_id,
                type=event_type,
                version=codec.CURRENT_VERSIONS[event_type],
                account=request.key if is_account else UNSET,
                key=UNSET if is_account else request.key,
                seq=seq,
                term=term,
                event_time=request.event_time,
                recorded_time=recorded_time,
                command_id=request.command_id,
                command_hash=one.content_hash,
                correlation_id=request.correlation_id,
                causation_id=request.causation_id,
                actor=request.actor,
                code=self._rules.code,
                basis=basis,
                source=request.source,
                flags=flags,
                prev_hash=head.hash,
                data=data,
            )
            return codec.encode(envelope), envelope
        value = value_of(
            one.request,
            data,
            event_id=event_id,
            event_type=event_type,
            owner="account" if one.place[0] == "events" else "key",
            seq=seq,
            term=term,
            recorded_time=recorded_time,
            command_hash=one.content_hash,
            code=self._rules.code,
            basis=read,
            flags=flags,
            prev_hash=head.hash,
        )
        return value, None

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

    def _basis(self) -> tuple[dict[str, str], str]:
        """Return the offsets of the reference log that the decision read, and their text."""
        read = tuple(self._read.items())
        basis = self._bases.get(read)
        if basis is None:
            told = ",".join([f"{partition}:{offset}" for partition, offset in sorted(read)])
            offsets = {"reference": told}
            basis = self._bases[read] = offsets, basis_text(offsets)
        return basis

    def _instant(self, time_ns: int) -> Instant:
        """Return the Instant of a time; most fall in the same second as the one before."""
        second, fraction_ns = divmod(time_ns, _SECOND_NS)
        if second != self._second[0]:
            self._second = (second, from_ns(second * _SECOND_NS)[:20])
        return Instant(f"{self._second[1]}{fraction_ns:09d}Z")


def _refusal(request: Request, reason: str, numbers: dict[str, str]) -> CommandRefused:
    return CommandRefused(
        reason=reason,
        command_type=type(request.command).__name__,
        asked=msgspec.to_builtins(request.command),
        numbers=numbers,
    )
