"""Following one partition: each record is judged, folded, and put into the index, whoever wrote it.

A decider follows the partitions that it owns and those that it may come to own in the same way, so
that taking over reads no history.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from domain.entities import Entity
from schemas.envelope import Record, Recorded
from schemas.validity import Halt, Head, PartitionState, look_ahead
from streams.batch import Evolve
from streams.deciding.index import FORMAT, PartitionIndex, Store, standing_of
from streams.log import TopicPartition, command_ref
from streams.memory import (
    ABSENT,
    NO_RECORD,
    EntityRef,
    Made,
    PartitionMemory,
    PartitionWork,
    StreamHead,
    StreamView,
)
from streams.ownership import Observed, Ownership, note_time, observe
from streams.projecting import stamp

MEMORY_SIZE: Final = 4096
"""Entities, and streams, that are kept in memory of each partition (up to twice as many)."""


class Taken(Struct, frozen=True):
    """What records came to, in order, up to the first that halts."""

    observed: list[Observed]
    halt: Halt | None = None


class Follower:
    """A reader of one partition that keeps its index."""

    def __init__(
        self,
        place: TopicPartition,
        log_id: str,
        partitions: int,
        store: Store,
        evolve: Evolve,
        name: str,
        *,
        memory_size: int = MEMORY_SIZE,
    ) -> None:
        self.place = place
        self.index = PartitionIndex(store, place)
        self.halt: Halt | None = None
        self.voids = 0
        self._evolve = evolve
        self._name = name
        self._memory_size = memory_size
        state = PartitionState(
            topic=place[0], partition=place[1], log_id=log_id, partitions=partitions
        )
        self.ownership = Ownership(owner=name, partition=state)
        self._restore()
        self.memory = PartitionMemory(self.next_offset, memory_size)

    @property
    def next_offset(self) -> int:
        """The offset that is read next."""
        return self.ownership.partition.next_offset

    def _restore(self) -> None:
        """Go on from the index; one of another log or format is emptied first."""
        kept = self.index.standing()
        state = self.ownership.partition
        if kept is None:
            return
        if (kept.format, kept.log_id) != (FORMAT, state.log_id):
            self.index.forget()
            return
        state.next_offset, state.term = kept.next_offset, kept.term
        state.heads = self.index.heads()
        state.parked = dict(kept.parked)
        self.voids = kept.voids
        note_time(self.ownership, kept.recorded_ns)

    def take(self, records: Sequence[Record]) -> Taken:
        """Take the partition's next records, and write what they changed into the index as one."""
        work = PartitionWork(self.place, self.memory, self)
        commands: dict[bytes, int] = {}
        observed: list[Observed] = []
        halt = None
        for record in records:
            try:
                one = observe(self.ownership, record)
            except Halt as found:
                halt = found
                break
            observed.append(one)
            if isinstance(one.outcome, Recorded):
                self._fold(work, one.outcome, one.made, commands)
            else:
                self.voids += 1
        self.halt = halt
        if observed:
            self._write(work, commands)
        return Taken(observed, halt)

    def _fold(
        self,
        work: PartitionWork,
        recorded: Recorded,
        made: Made | None,
        commands: dict[bytes, int],
    ) -> None:
        """Take a record in; what was made here of the same stream's records is not made again."""
        envelope = recorded.envelope
        key = envelope.stream
        if key is None:
            return
        work.heads[key] = StreamHead(envelope.seq, recorded.hash)
        if envelope.command_id:
            ref = made.ref if made else command_ref(self.place[0], key, envelope.command_id)
            commands.setdefault(ref, recorded.offset)
        # An event is one complete fact: no evolving asks for an instrument of the reference log.
        changes = (
            made.changes if made else self._evolve(StreamView(work, key, None), stamp(recorded))
        )
        for kind, entity_id, entity in changes:
            work.changed[key, kind, entity_id] = entity

    def _write(self, work: PartitionWork, commands: dict[bytes, int]) -> None:
        state = self.ownership.partition
        heads: dict[str, Head] = {key: (head.seq, head.hash) for key, head in work.heads.items()}
        standing = standing_of(state, self.ownership.recorded_ns, self.voids)
        self.index.write(work.changed, heads, commands, standing)
        work.publish(state.next_offset)

    def look_ahead(self, records: Sequence[Record]) -> bool:
        """Take what was parked in records after one that halts; tell whether to try that again."""
        parked = self.ownership.partition.parked
        for offset, digests in look_ahead(records).items():
            known = parked.setdefault(offset, [])
            known.extend(digest for digest in digests if digest not in known)
        return self.halt is not None and self.halt.offset in parked

    # --- the index, as it stands ------------------------------------------------------------------

    def fetch_entity(self, _place: TopicPartition, ref: EntityRef) -> Entity | None:
        """Return an entity of the index, None where there is none."""
        return self.index.entity(ref)

    def knows(self, ref: EntityRef) -> bool:
        """Tell whether there is such an entity, as far as was read."""
        kept = self.memory.entities.get(ref)
        return kept is not ABSENT if kept is not None else self.index.entity(ref) is not None

    def fetch_head(self, _place: TopicPartition, key: str) -> StreamHead:
        """Return the head of a stream, NO_RECORD where it has none."""
        head = self.ownership.partition.heads.get(key)
        return NO_RECORD if head is None else StreamHead(*head)
