"""The ledger's front: commands in, answers out, each answered only once it is durable.

On Postgres the fence is the row lock of a partition. A batch locks the partitions it touches in one
fixed order, looks whether another process has written since, fetches what deciding needs, decides
each command in turn, sends the records while it decides, writes the index and commits. Whatever
fails before the commit leaves nothing behind; memory takes over only what was committed.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import metadata
from typing import Final

import uuid_utils

from domain import decider
from domain.commands import Request, topic_of
from domain.decisions import EntityKey
from domain.entities import Entity
from infra import postgres
from infra.postgres import Connection
from schemas.canonical import command_hash
from schemas.partitioning import partition_of
from streams import catch_up, entity_store
from streams.answers import Answer, answer_again
from streams.batch import Asked, Batch, Decide, Evolve, Rules
from streams.entity_store import IndexState
from streams.log import TopicPartition, command_ref
from streams.memory import NO_RECORD, EntityRef, PartitionMemory, PartitionWork, StreamHead
from streams.postgres_log import PostgresLog, Tail, advance, copy_records, lock

KeysOf = Callable[[Request], Iterable[EntityKey]]

BATCH_NS: Final = 50_000_000
"""How long a batch should hold its locks: other writers wait for it."""
_QUICK_NS: Final = BATCH_NS * 3 // 4
FIRST_BATCH: Final = 256
SMALLEST_BATCH: Final = 128
"""On a busy machine, what each batch costs beside its commands takes most of its time."""
LARGEST_BATCH: Final = 4096
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
        self._batch_size = FIRST_BATCH
        self._turn = threading.Lock()
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
        try:
            with self._connection_to_write().transaction(force_rollback=True):
                self._memories.clear()
                yield
        finally:
            self._memory_size = memory_size
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
            while len(answers) < len(requests):
                first, left = len(answers), len(requests) - len(answers)
                chunk = requests[first : first + self._share(left)]
                started_ns = time.monotonic_ns()
                answers += self._submit_batch([self._ask(request) for request in chunk])
                self._adapt(len(chunk), time.monotonic_ns() - started_ns)
        return answers

    def _share(self, left: int) -> int:
        """Return how many of the commands that are left go into the next batch: no small rest."""
        batches = -(-left // self._batch_size)
        return -(-left // batches)

    def _adapt(self, done: int, elapsed_ns: int) -> None:
        """Take more commands, or fewer, into the batches to come, by how long one took."""
        if elapsed_ns > BATCH_NS:
            self._batch_size = max(self._batch_size * 3 // 4, SMALLEST_BATCH)
        elif 2 * done > self._batch_size and elapsed_ns * self._batch_size < done * _QUICK_NS:
            self._batch_size = min(self._batch_size * 5 // 4, LARGEST_BATCH)

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
                for place in behind:
                    self._memories.pop(place, None)
                    catch_up.catch_up(self.log, writer, place, self._rules.evolve)

    def _try_batch(self, writer: Connection, asked: list[Asked]) -> Batch | list[TopicPartition]:
        """Decide a batch and commit it, or return the partitions whose index is behind the log."""
        with writer.transaction():
            tails = lock(writer, {one.place for one in asked})
            states = entity_store.index_states(writer)
            needed = [p for p in states if p in tails or p[0] == "reference"]
            behind = [place for place in needed if not states[place].is_current]
            if behind:
                return behind
            works = {place: self._work(place, states[place]) for place in needed}
            terms = {place: states[place].term for place in tails}
            batch = self._decide(writer, asked, tails, terms, works)
            self._write_index(writer, batch, terms, works)
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
    ) -> Batch:
        first = entity_store.fetch_commands(writer, [one.ref for one in asked])
        fresh = [one for one in asked if one.ref not in first] if first else asked
        self._fetch_heads(writer, fresh, works)
        self._fetch_entities(writer, fresh, works)
        ends = {
            place: tails.get(place) or Tail(work.memory.next_offset, 0)
            for place, work in works.items()
        }
        batch = Batch(self._rules, self.log.partitions, ends, terms, works, first)
        if fresh:
            copy_records(writer, batch.rows(asked))
        else:
            list(batch.rows(asked))
        self._tell_known(writer, batch)
        return batch

    def _work(self, place: TopicPartition, state: IndexState) -> PartitionWork:
        """Return a partition to work on; what another process wrote since makes memory void."""
        memory = self._memories.get(place)
        if memory is None or memory.next_offset != state.next_offset:
            memory = PartitionMemory(state.next_offset, self._memory_size)
            self._memories[place] = memory
        return PartitionWork(place, memory, self)

    def _fetch_heads(
        self, writer: Connection, asked: list[Asked], works: dict[TopicPartition, PartitionWork]
    ) -> None:
        streams = [
            (place, key)
            for place, key in {(one.place, one.request.key) for one in asked}
            if key not in works[place].memory.heads
        ]
        found = entity_store.fetch_heads(writer, streams)
        for place, key in streams:
            works[place].memory.heads.put(key, found.get((place, key), NO_RECORD))

    def _fetch_entities(
        self, writer: Connection, asked: list[Asked], works: dict[TopicPartition, PartitionWork]
    ) -> None:
        wanted: dict[tuple[TopicPartition, EntityRef], None] = {}
        instruments: set[str] = set()
        for one in asked:
            place, key = one.place, one.request.key
            known = works[place].memory.entities
            for kind, entity_id in self._keys_of(one.request):
                if kind == "instrument" and place[0] != "reference":
                    instruments.add(entity_id)
                elif (key, kind, entity_id) not in known:
                    wanted[place, (key, kind, entity_id)] = None
        for name in instruments:
            home: TopicPartition = "reference", partition_of(name, self.log.partitions)
            if (name, "instrument", "") not in works[home].memory.entities:
                wanted[home, (name, "instrument", "")] = None
        entities = entity_store.fetch_entities(writer, list(wanted))
        for (place, ref), entity in zip(wanted, entities, strict=True):
            works[place].remember(ref, entity)

    def _tell_known(self, writer: Connection, batch: Batch) -> None:
        """Complete the answers about facts that were there already with their records."""
        if not batch.known:
            return
        places = {(place, offset) for _, place, offset in batch.known}
        records = entity_store.fetch_records(writer, list(places))
        for index, place, offset in batch.known:
            answer = batch.answers[index]
            record = records[place, offset]
            batch.answers[index] = answer_again(answer.command_id, place[0], record)

    def _write_index(
        self,
        writer: Connection,
        batch: Batch,
        terms: dict[TopicPartition, int],
        works: dict[TopicPartition, PartitionWork],
    ) -> None:
        if not batch.written:
            return
        written = [works[place] for place in sorted(batch.written)]
        entity_store.write_work(writer, written)
        advance(writer, batch.tails())
        entity_store.write_checkpoints(
            writer,
            {work.place: (batch.next_offset[work.place], terms[work.place]) for work in written},
        )

    # --- what memory does not know, as it was committed ----------------------------------------

    def fetch_entity(self, place: TopicPartition, ref: EntityRef) -> Entity | None:
        """Return an entity of the index as committed, None where there is none."""
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
        if self._reader is None or self._reader.closed:
            self._reader = self.log.connect()
        return self._reader


def _new_id() -> str:
    return str(uuid_utils.uuid7())
