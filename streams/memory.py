"""What a ledger keeps in memory of the decider's index: bounded, and only what was committed."""

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from domain.entities import Entity
from schemas.envelope import GENESIS_HASH, Recorded
from streams.log import TopicPartition

EntityRef = tuple[str, str, str]
"""An entity in its partition: the stream's key, the entity's kind and id."""

K = TypeVar("K")
V = TypeVar("V")


class StreamHead(Struct, frozen=True, gc=False):
    """The last valid record of a stream: its seq, and its hash in hex."""

    seq: int
    hash: str


NO_RECORD: Final = StreamHead(0, GENESIS_HASH)
"""The head of a stream that has no record yet."""

ABSENT: Final = Entity()
"""Kept in memory for what is known not to be in the index."""


class Made(Struct, frozen=True, gc=False):
    """A record as it was decided: its value, what that says, and what it changes in its stream.

    `recorded` is what every reader makes of the value where it lands at the offset foreseen, and
    `changes` (kind, id, entity) what evolving it gives there. `ref` is that of its command.
    """

    value: bytes
    ref: bytes
    recorded: Recorded
    changes: list[tuple[str, str, Entity]]


class Generations(Generic[K, V]):
    """A mapping that forgets what was not used lately: two halves, the older one dropped whole.

    Keeps between `size` and twice as many entries. Cheaper per use than a linked order.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """Return what is kept under a key, and keep it longer; None where nothing is."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value under a key."""
        if len(self._young) >= self._size and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def __contains__(self, key: K) -> bool:
        return key in self._young or key in self._old


class PartitionMemory:
    """What is known of one partition's index as of `next_offset`."""

    def __init__(self, next_offset: int, size: int) -> None:
        self.next_offset = next_offset
        self.entities: Generations[EntityRef, Entity] = Generations(size)
        self.heads: Generations[str, StreamHead] = Generations(size)


class Index(Protocol):
    """The committed index, for what memory does not know."""

    def fetch_entity(self, place: TopicPartition, ref: EntityRef) -> Entity | None:
        """Return an entity, or None where there is none."""
        ...

    def fetch_head(self, place: TopicPartition, key: str) -> StreamHead:
        """Return the head of a stream, NO_RECORD where it has none."""
        ...


class PartitionWork:
    """A partition while a batch is decided: its memory, and over it what the batch has changed.

    `before` is the work of the batch before, while that is being committed. `assumed` are entities
    that nobody looked for: they are taken to be absent, and must all be in `changed` in the end,
    so that the index finds out when they are not.
    """

    def __init__(
        self,
        place: TopicPartition,
        memory: PartitionMemory,
        index: Index,
        before: "PartitionWork | None" = None,
    ) -> None:
        self.place = place
        self.memory = memory
        self.changed: dict[EntityRef, Entity] = {}
        self.heads: dict[str, StreamHead] = {}
        self.assumed: set[EntityRef] = set()
        self._index = index
        self._changed_before = {} if before is None else before.changed
        self._heads_before = {} if before is None else before.heads

    def knows(self, ref: EntityRef) -> bool:
        """Tell whether it is known what an entity is, or that there is none."""
        return ref in self._changed_before or ref in self.memory.entities

    def knows_head(self, key: str) -> bool:
        """Tell whether the head of a stream is known."""
        return key in self._heads_before or key in self.memory.heads

    def is_new(self, ref: EntityRef) -> bool:
        """Tell whether an entity is not in the index yet when this batch is written."""
        if ref in self.assumed:
            return True
        return ref not in self._changed_before and self.memory.entities.get(ref) is ABSENT

    def entity(self, ref: EntityRef) -> Entity | None:
        """Return an entity as the batch has left it."""
        known = (
            self.changed.get(ref) or self._changed_before.get(ref) or self.memory.entities.get(ref)
        )
        if known is None:
            if ref in self.assumed:
                return None
            known = self.remember(ref, self._index.fetch_entity(self.place, ref))
        return None if known is ABSENT else known

    def head(self, key: str) -> StreamHead:
        """Return the head of a stream as the batch has left it."""
        head = self.heads.get(key) or self._heads_before.get(key) or self.memory.heads.get(key)
        if head is None:
            head = self._index.fetch_head(self.place, key)
            self.memory.heads.put(key, head)
        return head

    def remember(self, ref: EntityRef, committed: Entity | None) -> Entity:
        """Keep in memory what was fetched, ABSENT for None; return what is kept."""
        kept = ABSENT if committed is None else committed
        self.memory.entities.put(ref, kept)
        return kept

    def publish(self, next_offset: int) -> None:
        """Take over into memory what was committed."""
        for ref, entity in self.changed.items():
            self.memory.entities.put(ref, entity)
        for key, head in self.heads.items():
            self.memory.heads.put(key, head)
        self.memory.next_offset = next_offset


class StreamView:
    """The view of one stream that a decider gets; see `domain.decisions.View`."""

    __slots__ = ("_instrument", "_key", "work")

    def __init__(
        self, work: PartitionWork, key: str, instrument: Callable[[str], Entity | None] | None
    ) -> None:
        self.work = work
        self._key = key
        self._instrument = instrument

    def get(self, kind: str, entity_id: str) -> Entity | None:
        """Return an entity of the stream, or an instrument as the reference log defines it."""
        if kind == "instrument" and self._instrument is not None:
            return self._instrument(entity_id)
        return self.work.entity((self._key, kind, entity_id))
