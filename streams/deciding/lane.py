"""One partition of one log under its owner: commands are decided, written, and answered when read.

A lane does no I/O but its index: it is handed what was read and hands back what is to be appended.
What is in flight - decided and not read back - lies over the index, and is dropped with the term.

The next batch is decided while the one before is in flight. Each predicts its offsets from what is
before it. Where somebody else's record came in between, a prediction is no longer told from the
place of another record: the term is given up, and what is in flight is answered from what landed.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, assert_never

from msgspec import Struct
from msgspec.structs import replace

from domain.commands import Request
from domain.decisions import EntityKey
from domain.entities import Entity
from schemas.canonical import command_hash
from schemas.envelope import Record
from streams.answers import Answer, answer_again
from streams.batch import Asked, Batch, Rules
from streams.deciding.following import MEMORY_SIZE, Follower
from streams.deciding.wire import LookUp, Route
from streams.log import Draft, TopicPartition, command_ref
from streams.memory import EntityRef, Made, PartitionMemory, PartitionWork, StreamHead
from streams.ownership import Observed, assign, claim, enlist, lose_track
from streams.postgres_log import Tail

DEPTH: Final = 2
"""Batches in flight at a time: one on its way, and one behind it."""

KeysOf = Callable[[Request], Sequence[EntityKey]]


class Waiting(Struct, gc=False):
    """A command that came in at an offset of the commands topic, until it is answered.

    `tried` once it was written under a term that was lost: what is then found in the log is the
    first answer, and no replay. `is_stale` once the group gives it anew: somebody else may have
    told in the meantime that it is not recorded, so this one may not be decided any more.
    """

    offset: int
    asked: Request | LookUp
    route: Route
    size: int
    since_ns: int
    content_hash: str = ""
    ref: bytes = b""
    tried: bool = False
    is_done: bool = False
    is_stale: bool = False


class Flight:
    """A batch that was decided: what it writes, what it changes, and what it will answer."""

    def __init__(
        self, waiting: list[Waiting], batch: Batch, work: PartitionWork, base: int
    ) -> None:
        self.waiting = waiting
        self.batch = batch
        self.work = work
        self.base = base
        self.drafts: list[Draft] = []
        self.landed = 0
        self.written_ns = 0

    @property
    def end(self) -> int:
        """The offset after its last record, as predicted."""
        return self.base + len(self.drafts)

    def placed(self) -> Iterable[tuple[int, bytes]]:
        """Return the offsets of its records, as predicted, and their values."""
        return enumerate((draft.value for draft in self.drafts), self.base)

    @property
    def has_landed(self) -> bool:
        """Tell whether all its records were read back."""
        return self.landed == len(self.drafts)

    @property
    def known_offsets(self) -> list[int]:
        """Where the records stand of facts that were there already."""
        return [offset for _, _, offset in self.batch.known]


class Lane:
    """What the owner of a partition knows beyond its follower. `reference` are those of all."""

    def __init__(
        self,
        follower: Follower,
        reference: Sequence[Follower],
        rules: Rules,
        *,
        memory_size: int = MEMORY_SIZE,
    ) -> None:
        self.follower = follower
        self.place = follower.place
        self.queue: deque[Waiting] = deque()
        self.in_flight: deque[Flight] = deque()
        self._reference = reference
        self._partitions = follower.ownership.partition.partitions
        self._rules = rules
        self._memory_size = memory_size
        self._memory = PartitionMemory(0, memory_size)
        self._proven_term = 0
        self.is_awaited = False

    # --- owning -----------------------------------------------------------------------------------

    @property
    def owns(self) -> bool:
        """Tell whether the partition is this owner's, by what was read."""
        return self.follower.ownership.phase == "owning"

    @property
    def is_proven(self) -> bool:
        """Tell whether it may decide under its term, as `prove` and `doubt` left it."""
        return self.owns and self._proven_term == self.follower.ownership.claim_term

    def prove(self, term: int) -> None:
        """Take note that the group confirmed the partition after a term was owned.

        And that all was read which stood in the log then. Whoever is given the partition later
        starts a higher term, and reads what this owner wrote before it says that something is not
        recorded; whoever had it before is not listened to any more.
        """
        self._proven_term = term
        self.is_awaited = False

    def doubt(self) -> None:
        """Have it proved anew: somebody else may have had the partition meanwhile."""
        self._proven_term = 0
        self.is_awaited = False

    @property
    def has_work(self) -> bool:
        """Tell whether commands wait for it, or an answer waits for its proof."""
        return bool(self.queue) or self.is_awaited

    def has_recorded(self, asked: Request | LookUp) -> bool:
        """Tell whether a command is in the log already, as far as was read."""
        if isinstance(asked, LookUp):
            return False
        ref = command_ref(self.place[0], asked.key, asked.command_id)
        return self.follower.index.offsets([ref])[0] is not None

    def claim(self) -> Draft:
        """Return the record that claims the partition, for a follower at its head."""
        return claim(self.follower.ownership, self._rules.new_id(), self._rules.clock())

    def lose_track(self) -> None:
        """Give the term up; what was in flight waits again."""
        lose_track(self.follower.ownership)
        self._drop_overlay()

    def stand_again(self) -> None:
        """Let one that was deposed claim the partition again."""
        assign(self.follower.ownership)

    def _drop_overlay(self) -> None:
        for flight in reversed(self.in_flight):
            for one in reversed(flight.waiting):
                one.tried = True
                if not one.is_stale:
                    self.queue.appendleft(one)
        self.in_flight.clear()
        self._memory = PartitionMemory(0, self._memory_size)

    # --- deciding ---------------------------------------------------------------------------------

    def prepare(self, waiting: Sequence[Waiting]) -> None:
        """Work out what tells a command that was asked before: its ref, and its content's hash."""
        for one in waiting:
            if isinstance(one.asked, Request) and not one.ref:
                one.content_hash = command_hash(one.asked)
                one.ref = command_ref(self.place[0], one.asked.key, one.asked.command_id)

    def asked_before(self, waiting: Sequence[Waiting]) -> dict[bytes, int]:
        """Return, by ref, where the records stand that answered these commands."""
        refs = [one.ref for one in waiting if one.ref]
        offsets = self.follower.index.offsets(refs)
        return {ref: at for ref, at in zip(refs, offsets, strict=True) if at is not None}

    def in_flight_refs(self) -> set[bytes]:
        """Return the refs of the commands that are in flight."""
        return {one.ref for flight in self.in_flight for one in flight.waiting if one.ref}

    def decide(self, waiting: list[Waiting], first: Mapping[bytes, Record]) -> Flight:
        """Decide commands in their order; the flight is in flight from here on.

        `first` has the records that answered commands before. What `decide` or `evolve` raises
        passes through, and changes nothing.
        """
        made: list[Made] = []
        work = PartitionWork(self.place, self._memory, self)
        base = self.in_flight[-1].end if self.in_flight else self.follower.next_offset
        ownership = self.follower.ownership
        works = self._instruments() if self.place[0] == "events" else {}
        tails = {place: Tail(one.memory.next_offset, 0) for place, one in works.items()}
        works[self.place], tails[self.place] = work, Tail(base, ownership.recorded_ns)
        terms = {self.place: ownership.claim_term}
        batch = Batch(self._rules, self._partitions, tails, terms, works, first, made)
        flight = Flight(waiting, batch, work, base)
        asked = [
            Asked(one.asked, self.place, one.content_hash, one.ref)
            for one in waiting
            if isinstance(one.asked, Request)
        ]
        for row in batch.rows(asked):
            flight.drafts.append(Draft(row[6], bytes(row[7]), row[3], row[5]))
        enlist(ownership, made, batch.last_ns[self.place])
        work.publish(flight.end)
        self.in_flight.append(flight)
        return flight

    def _instruments(self) -> dict[TopicPartition, PartitionWork]:
        """Return the reference log as far as it was read: what is in flight there may be lost."""
        return {one.place: PartitionWork(one.place, one.memory, one) for one in self._reference}

    # --- reading back -----------------------------------------------------------------------------

    def learn(self, observed: Sequence[Observed]) -> list[Flight]:
        """Take what was read of the partition; return the flights that have landed, in order."""
        done: list[Flight] = []
        moved = False
        for one in observed:
            match one.effect:
                case "acknowledged":
                    # None is in flight any more where an earlier one was not where predicted.
                    if self.in_flight and not self._land(one.outcome.offset):
                        moved = True
                        done += self.landed()
                        self._drop_overlay()
                case "owned" | "lost" | "deposed":
                    done += self.landed()
                    self._drop_overlay()
                case "none":
                    pass
                case _:
                    assert_never(one.effect)
        if moved and self.owns:
            self.lose_track()
        return done + self.landed()

    def _land(self, offset: int) -> bool:
        """Take note of the next record that landed; tell whether it is where it was predicted."""
        flight = next(one for one in self.in_flight if not one.has_landed)
        if offset != flight.base + flight.landed:
            return False
        flight.landed += 1
        return True

    def landed(self) -> list[Flight]:
        """Return the flights that wait for nothing any more; they are in flight no longer."""
        done = []
        while self.in_flight and self.in_flight[0].has_landed:
            done.append(self.in_flight.popleft())
        return done

    def answers(self, flight: Flight, known: Mapping[int, Record]) -> list[Answer]:
        """Return the answers of a flight that has landed, to its commands in their order.

        `known` has the records at its `known_offsets`.
        """
        answers = flight.batch.answers
        for index, _, offset in flight.batch.known:
            answers[index] = answer_again(answers[index].command_id, self.place[0], known[offset])
        commands = [one for one in flight.waiting if isinstance(one.asked, Request)]
        return [_first_answer(one, told) for one, told in zip(commands, answers, strict=True)]

    def entity(self, look_up: LookUp) -> Entity | None:
        """Return an entity of the index."""
        return self.follower.index.entity((look_up.key, look_up.kind, look_up.entity_id))

    # --- what memory does not know: in flight, else the index -----------------------------------

    def fetch_entity(self, _place: TopicPartition, ref: EntityRef) -> Entity | None:
        """Return an entity as the last flight leaves it."""
        for flight in reversed(self.in_flight):
            if (entity := flight.work.changed.get(ref)) is not None:
                return entity
        return self.follower.index.entity(ref)

    def fetch_head(self, place: TopicPartition, key: str) -> StreamHead:
        """Return the head of a stream as the last flight leaves it."""
        for flight in reversed(self.in_flight):
            if (head := flight.work.heads.get(key)) is not None:
                return head
        return self.follower.fetch_head(place, key)


def _first_answer(waiting: Waiting, answer: Answer) -> Answer:
    """Return what a command is told that found the record of its own earlier try."""
    if not waiting.tried or not answer.replayed:
        return answer
    match answer.status:
        case "duplicate":
            return replace(answer, status="accepted", replayed=False)
        case "refused":
            return replace(answer, replayed=False)
        case _:
            return answer
