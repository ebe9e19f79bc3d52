"""The ledger's front: commands in, answers out, each answered only once it is durable.

On Postgres the fence is the row lock of a partition. A batch locks the partitions it touches in one
fixed order, looks whether another process has written since, fetches what deciding needs, decides
each command in turn, sends the records while it decides, writes the index and commits. Whatever
fails before the commit leaves nothing behind; memory takes over only what was committed.

In bulk a batch is decided before it has its locks, while the one before it is being committed
(streams/foreseen.py). Where things are not as foreseen, it is decided again under the locks.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import metadata
from typing import Final

import uuid_utils

from domain import decider
from domain.commands import Request, topic_of
from domain.entities import Entity
from infra import postgres
from infra.errors import ServerUnavailable
from infra.postgres import Connection
from schemas.canonical import command_hash
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams import entity_store, foreseen, index_catch_up
from streams.answers import Answer
from streams.batch import Asked, Batch, Decide, Evolve, Rules
from streams.batch_size import BatchSize
from streams.entity_store import IndexState
from streams.foreseen import Foreseen, Trust
from streams.log import TopicPartition, command_ref
from streams.memory import ABSENT, NO_RECORD, EntityRef, PartitionMemory, PartitionWork, StreamHead
from streams.needs import KeysOf, Works, ask_needs
from streams.postgres_log import PostgresLog, Tail, ask_lock
from streams.record_rows import RecordRow, insert_records, packed_records

BULK: Final = 256
"""As many commands at once are decided on what is foreseen."""
MEMORY_SIZE: Final = 4096
"""Entities, and streams, that are kept in memory by partition (up to twice as many)."""


@cache
def program_version() -> str:
    """Return the version that decides, as envelopes name it."""
    try:
        return f"daybook {metadata.version('daybook')}"
    except metadata.PackageNotFoundError:
        return "daybook (not installed)"


class Ledger:
    """Decides commands into a Postgres log. Threads take turns; several processes may write."""

    def __init__(
        self,
        log: PostgresLog,
        *,
        decide: Decide = decider.decide,
        evolve: Evolve = decider.evolve,
        keys_of: KeysOf = decider.keys_of,
        clock: Callable[[], int] = time.time_ns,
        new_id: Callable[[], str] | None = None,
        code: str | None = None,
        memory_size: int = MEMORY_SIZE,
    ) -> None:
        self.log = log
        self._rules = Rules(
            decide=decide,
            evolve=evolve,
            clock=clock,
            new_id=new_id or _new_id,
            code=program_version() if code is None else code,
        )
        self._keys_of = keys_of
        self._memory_size = memory_size
        self._memories: dict[TopicPartition, PartitionMemory] = {}
        self._batch_size, self._bulk_size = BatchSize(), BatchSize()
        self._trust = Trust()
        self._rehearses = False
        self._turn = threading.Lock()
        self._opening = threading.Lock()
        self._writer: Connection | None = None
        self._reader: Connection | None = None

    def close(self) -> None:
        """Close the ledger's connections; the log stays open."""
        postgres.close(self._writer, self._reader)

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Answer what is submitted in a block as ever, and then record nothing of it.

        What is answered is remembered whole until then: for one who asks "what if".
        """
        memory_size, self._memory_size = self._memory_size, sys.maxsize
        self._rehearses = True
        try:
            with self._connection_to_write().transaction(force_rollback=True):
                self._memories.clear()
                yield
        finally:
            self._memory_size = memory_size
            self._rehearses = False
            self._memories.clear()

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        """Decide commands in order, and return their answers in that order, each durable.

        The commands are cut into batches; those of a batch are durable together. Raises
        ServerUnavailable when the database is lost: then it is not known of the last batch whether
        it landed, and asking again with the same command ids finds out. What `decide` or `evolve`
        raises passes through, and its batch is not written; earlier batches are.
        """
        answers: list[Answer] = []
        with self._turn:
            foresees = not self._rehearses
            while len(answers) < len(requests):
                left = requests[len(answers) :]
                if foresees and len(left) >= BULK:
                    try:
                        more, foresees = self._submit_foreseen(left)
                    except ServerUnavailable:
                        # Of two connections, the other one would tell the next one who asks.
                        self.close()
                        raise
                    answers += more
                else:
                    chunk = left[: self._batch_size.share(len(left))]
                    started_ns = time.monotonic_ns()
                    answers += self._submit_batch([self._ask(request) for request in chunk])
                    self._batch_size.adapt(len(chunk), time.monotonic_ns() - started_ns)
        return answers

    def _ask(self, request: Request) -> Asked:
        topic = topic_of(request.command)
        place = (topic, partition_of(request.key, self.log.partitions))
        ref = command_ref(topic, request.key, request.command_id)
        return Asked(request, place, command_hash(request), ref)

    def _submit_batch(self, asked: list[Asked]) -> list[Answer]:
        with postgres.reporting_outage("the log"):
            while True:
                writer = self._connection_to_write()
                behind = self._try_batch(writer, asked)
                if isinstance(behind, Batch):
                    return behind.answers
                self._bring_up(writer, behind)

    def _bring_up(self, writer: Connection, behind: Iterable[TopicPartition]) -> None:
        for place in behind:
            self._memories.pop(place, None)
            index_catch_up.catch_up(self.log, writer, place, self._rules.evolve)

    def _try_batch(self, writer: Connection, asked: list[Asked]) -> Batch | list[TopicPartition]:
        """Decide a batch and commit it, or return the partitions whose index is behind the log.

        Everything is asked for at once, and written at once: each wait takes as long as deciding.
        """
        with postgres.sent_together(writer):
            take_tails = ask_lock(writer, {one.place for one in asked})
            take_states = entity_store.ask_states(writer)
            take_first = entity_store.ask_commands(writer, [one.ref for one in asked])
            take_needs = self._ask_needs(writer, asked, self._works_as_known(asked))
            tails, states = take_tails(), take_states()
            needed = [p for p in states if p in tails or p[0] == "reference"]
            behind = [place for place in needed if not states[place].is_current]
            if behind:
                return behind
            works = {place: self._work(place, states[place]) for place in needed}
            terms = {place: states[place].term for place in tails}
            take_needs(works)
            batch, rows = self._decide(writer, asked, tails, terms, works, take_first())
            if rows:
                insert_records(writer, rows)
                written = [works[place] for place in sorted(batch.written)]
                changes = entity_store.changes_of(written, copies=False)
                entity_store.write_batch(writer, changes, batch.tails(), terms)
            foreseen.tell_known(writer, batch)
        for place in batch.written:
            works[place].publish(batch.next_offset[place])
        return batch

    def _decide(
        self,
        writer: Connection,
        asked: list[Asked],
        tails: dict[TopicPartition, Tail],
        terms: dict[TopicPartition, int],
        works: dict[TopicPartition, PartitionWork],
        first: dict[bytes, Record],
    ) -> tuple[Batch, list[RecordRow]]:
        fresh = [one for one in asked if one.ref not in first] if first else asked
        # Only where another process has written since, and memory was void, is there anything left.
        self._ask_needs(writer, fresh, works)(works)
        ends = {
            place: tails.get(place) or Tail(work.memory.next_offset, 0)
            for place, work in works.items()
        }
        batch = Batch(self._rules, self.log.partitions, ends, terms, works, first)
        return batch, list(batch.rows(asked))

    def _works_as_known(self, asked: list[Asked]) -> dict[TopicPartition, PartitionWork]:
        """Return partitions by what memory has of them, whether or not that still holds."""
        places = {one.place for one in asked}
        places.update(("reference", number) for number in range(self.log.partitions))
        nothing = PartitionMemory(0, 0)
        return {
            place: PartitionWork(place, self._memories.get(place, nothing), self)
            for place in places
        }

    def _work(self, place: TopicPartition, state: IndexState) -> PartitionWork:
        """Return a partition to work on; what another process wrote since makes memory void."""
        memory = self._memories.get(place)
        if memory is None or memory.next_offset != state.next_offset:
            memory = PartitionMemory(state.next_offset, self._memory_size)
            self._memories[place] = memory
        return PartitionWork(place, memory, self)

    def _ask_needs(
        self, connection: Connection, asked: Sequence[Asked], works: Works
    ) -> Callable[[Works], set[str]]:
        return ask_needs(connection, asked, works, self._keys_of, self.log.partitions)

    # --- in bulk: decided on what is foreseen ---------------------------------------------------

    def _submit_foreseen(self, requests: Sequence[Request]) -> tuple[list[Answer], bool]:
        """Return the answers of the first batches, and whether all were as foreseen.

        Those after one that was not are not written.
        """
        answers: list[Answer] = []
        flight: tuple[Foreseen, Future[bool]] | None = None
        taken = 0
        with ThreadPoolExecutor(1, "commit") as committing, postgres.reporting_outage("the log"):
            while taken < len(requests):
                size = self._bulk_size.share(len(requests) - taken)
                asked = [self._ask(request) for request in requests[taken : taken + size]]
                try:
                    batch = self._foresee(asked, flight and flight[0])
                except Exception:
                    # It may only be that what it was decided on did not come about.
                    if flight is None or flight[1].result():
                        raise
                    return answers, False
                if (flight is not None and not self._has_landed(flight, answers)) or batch is None:
                    return answers, False
                flight = batch, committing.submit(self._commit, batch)
                taken += size
            landed = flight is None or self._has_landed(flight, answers)
        return answers, landed

    def _foresee(self, asked: list[Asked], before: Foreseen | None) -> Foreseen | None:
        """Decide a batch on what is committed and in flight; None where that cannot be told."""
        reader = self._connection_to_read()
        locked = {one.place for one in asked}
        states = self._states(reader, locked, before)
        if states is None:
            return None
        works: dict[TopicPartition, PartitionWork] = {}
        ends: dict[TopicPartition, Tail] = {}
        for place, state in states.items():
            end = None if before is None else before.end_of(place)
            if before is not None and end is not None:
                memory = before.works[place].memory
                works[place] = PartitionWork(place, memory, self, before.works[place])
            else:
                works[place] = self._work(place, state)
            ends[place] = end or Tail(state.next_offset, state.last_recorded_ns)
        terms = {place: states[place].term for place in locked}
        trusts = self._trust.holds and self._rules.is_usual
        first = self._look_up(reader, asked, before, works, trusts=trusts)
        previous = None if before is None else before.batch
        batch = Batch(self._rules, self.log.partitions, ends, terms, works, first, before=previous)
        records = list(packed_records(batch.rows(asked)))
        if trusts and not foreseen.proves_assumed(batch, works):
            self._trust.disappointed()
            return None
        written = [works[place] for place in sorted(batch.written)]
        read = {place: end.next_offset for place, end in ends.items()}
        changes = entity_store.changes_of(written)
        return Foreseen(batch, works, read, terms, records, changes)

    def _states(
        self, reader: Connection, locked: set[TopicPartition], before: Foreseen | None
    ) -> dict[TopicPartition, IndexState] | None:
        """Return the states of what is locked or read; None where they are behind for now."""
        while True:
            told = entity_store.index_states(reader).items()
            states = {at: state for at, state in told if at in locked or at[0] == "reference"}
            behind = [place for place, state in states.items() if not state.is_current]
            if not behind:
                return states
            if before is not None:
                return None
            self._bring_up(self._connection_to_write(), behind)

    def _look_up(
        self,
        reader: Connection,
        asked: list[Asked],
        before: Foreseen | None,
        works: dict[TopicPartition, PartitionWork],
        *,
        trusts: bool,
    ) -> dict[bytes, Record]:
        """Fetch what deciding needs; return the records that answered commands before."""
        if trusts:
            first: dict[bytes, Record] = {}
            fresh = foreseen.assume_absent(asked, works)
        else:
            refs = [one.ref for one in asked]
            if before is not None:
                refs = [ref for ref in refs if not before.batch.answers_to(ref)]
            first = entity_store.fetch_commands(reader, refs)
            fresh = [one for one in asked if one.ref not in first] if first else asked
        found = self._ask_needs(reader, fresh, works)(works)
        if not trusts:
            self._trust.looked_up(was_known=bool(first or "deal" in found))
        return first

    def _commit(self, batch: Foreseen) -> bool:
        with postgres.reporting_outage("the log"):
            started_ns = time.monotonic_ns()
            landed = foreseen.commit(self._connection_to_write(), batch)
            self._bulk_size.adapt(len(batch.batch.answers), time.monotonic_ns() - started_ns)
        return landed

    def _has_landed(self, flight: tuple[Foreseen, Future[bool]], answers: list[Answer]) -> bool:
        """Wait for a batch, and take over into memory and answers what was committed."""
        batch, landed = flight
        if not landed.result():
            self._trust.disappointed()
            return False
        for place in batch.batch.written:
            batch.works[place].publish(batch.batch.next_offset[place])
        answers += batch.batch.answers
        return True

    # --- what memory does not know, as it was committed ----------------------------------------

    def fetch_entity(self, place: TopicPartition, ref: EntityRef) -> Entity | None:
        """Return an entity as committed, in a rehearsal as rehearsed; None where there is none."""
        if self._rehearses and (memory := self._memories.get(place)) is not None:
            known = memory.entities.get(ref)
            if known is not None:
                return None if known is ABSENT else known
        return entity_store.fetch_entities(self._connection_to_read(), [(place, ref)])[0]

    def fetch_head(self, place: TopicPartition, key: str) -> StreamHead:
        """Return the head of a stream as committed, NO_RECORD where it has none."""
        found = entity_store.fetch_heads(self._connection_to_read(), [(place, key)])
        return found.get((place, key), NO_RECORD)

    def _connection_to_write(self) -> Connection:
        if self._writer is None or self._writer.closed:
            self._writer = self.log.connect()
        return self._writer

    def _connection_to_read(self) -> Connection:
        # While records are being sent on the writer's connection, it can be asked nothing.
        with self._opening:
            if self._reader is None or self._reader.closed:
                self._reader = self.log.connect()
            return self._reader


def _new_id() -> str:
    return str(uuid_utils.uuid7())
