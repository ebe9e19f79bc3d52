"""Bringing the decider's index up to the log, where it is behind: from wherever it stands.

It is behind after records were appended by other hands (a parked record), and altogether when it
was made in another format. The log is read as every reader reads it, and folded by `evolve`.
"""

from typing import Final

from domain.decisions import Stamped
from domain.entities import Entity
from infra.postgres import Connection
from schemas.envelope import Recorded
from schemas.validity import PartitionState
from streams import entity_store
from streams.batch import Evolve
from streams.log import TopicPartition
from streams.memory import (
    NO_RECORD,
    EntityRef,
    PartitionMemory,
    PartitionWork,
    StreamHead,
    StreamView,
)
from streams.postgres_log import PostgresLog, lock
from streams.reader import read_valid

_CHUNK: Final = 2000
_MEMORY_SIZE: Final = 50_000


class _Index:
    """The index as the catching-up transaction has written it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fetch_entity(self, place: TopicPartition, ref: EntityRef) -> Entity | None:
        return entity_store.fetch_entities(self._connection, [(place, ref)])[0]

    def fetch_head(self, place: TopicPartition, key: str) -> StreamHead:
        found = entity_store.fetch_heads(self._connection, [(place, key)])
        return found.get((place, key), NO_RECORD)


def catch_up(
    log: PostgresLog, connection: Connection, place: TopicPartition, evolve: Evolve
) -> None:
    """Bring one partition of the index up to the head of the log, in one transaction.

    Raises LogHalted, and changes nothing, where the log cannot be read to its head.
    """
    topic, partition = place
    with connection.transaction():
        lock(connection, [place])
        indexed = entity_store.index_states(connection)[place]
        if indexed.is_current:
            return
        if indexed.format != entity_store.FORMAT or indexed.indexed_offset == 0:
            # From the start only with nothing left over: old heads would make all records void.
            entity_store.forget(connection, place)
            indexed = entity_store.index_states(connection)[place]
        state = _reading_from(log, connection, place, indexed)
        memory = PartitionMemory(state.next_offset, _MEMORY_SIZE)
        while True:
            batch = read_valid(log, topic, partition, state, _CHUNK)
            if batch.is_empty:
                break
            work = PartitionWork(place, memory, _Index(connection))
            for recorded in batch.records:
                _take(work, recorded, evolve)
            entity_store.write_work(connection, [work])
            work.publish(state.next_offset)
        entity_store.write_checkpoints(connection, {place: (state.next_offset, state.term)})


def _reading_from(
    log: PostgresLog,
    connection: Connection,
    place: TopicPartition,
    indexed: entity_store.IndexState,
) -> PartitionState:
    heads = entity_store.partition_heads(connection, place)
    return PartitionState(
        topic=place[0],
        partition=place[1],
        log_id=log.log_id,
        partitions=log.partitions,
        term=indexed.term,
        next_offset=indexed.indexed_offset,
        heads={key: (head.seq, head.hash) for key, head in heads.items()},
    )


def _take(work: PartitionWork, recorded: Recorded, evolve: Evolve) -> None:
    envelope = recorded.envelope
    key = envelope.stream
    if key is None:
        return
    work.heads[key] = StreamHead(envelope.seq, recorded.hash)
    stamped = Stamped(
        event=recorded.event,
        key=key,
        seq=envelope.seq,
        offset=recorded.offset,
        event_time=envelope.event_time,
        partition=recorded.partition,
        content_hash=envelope.command_hash,
        flags=envelope.flags,
    )
    # An event is one complete fact: no evolving asks for an instrument of the reference log.
    view = StreamView(work, key, None)
    for kind, entity_id, entity in evolve(view, stamped):
        work.changed[key, kind, entity_id] = entity
