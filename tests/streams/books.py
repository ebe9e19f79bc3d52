"""What a log and its index hold, for comparing: all of it, or what does not differ between runs."""

from collections.abc import Iterable
from typing import Any

from domain import decider
from infra.postgres import Connection
from projections.rows import Projection
from schemas import codec
from schemas.envelope import Recorded
from streams import entity_store
from streams.index_catch_up import catch_up
from streams.log import TOPICS
from streams.postgres_log import PostgresLog, lock
from streams.projecting import BATCH, Projector
from streams.read_models import ReadModels
from streams.reader import fresh_state, read_valid


def valid_records(log: PostgresLog) -> list[Recorded]:
    """Every record that counts, read as every reader reads; nothing is void or altered."""
    records: list[Recorded] = []
    for topic in TOPICS:
        for partition in range(log.partitions):
            state = fresh_state(log, topic, partition)
            while not (batch := read_valid(log, topic, partition, state, 100)).is_empty:
                assert batch.voids == []
                records.extend(batch.records)
            assert state.next_offset == log.heads(topic)[partition]
            kept = log.read_kept(topic, partition, 0, 100_000)
            assert [one.altered() for one in kept] == [None] * len(kept)
            times = [one.recorded_ns for one in kept]
            assert times == sorted(set(times))
    return records


def said(recorded: Recorded) -> tuple[Any, ...]:
    """What a record says that is the same in every run: not its id, time, basis or hash."""
    envelope = recorded.envelope
    return (
        recorded.topic,
        recorded.partition,
        recorded.offset,
        envelope.stream,
        envelope.seq,
        envelope.command_id,
        envelope.command_hash,
        envelope.flags,
        codec.encode_event(recorded.event),
    )


def streams_said(log: PostgresLog) -> dict[tuple[str, str], list[tuple[Any, ...]]]:
    """What each stream says, by topic and key, without the places in the log."""
    streams: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for recorded in valid_records(log):
        key = recorded.envelope.stream
        if key is not None:
            streams.setdefault((recorded.topic, key), []).append(said(recorded)[3:])
    return streams


def index_rows(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """The whole index."""
    return {
        table: sorted(connection.execute(f"SELECT * FROM {table}".encode()).fetchall())
        for table in ("decider_checkpoints", "decider_streams", "decider_entities")
    }


def rebuild_index(log: PostgresLog) -> None:
    """Make the whole index again from the log, a partition at a time."""
    connection = log.connect()
    try:
        for topic in TOPICS:
            for partition in range(log.partitions):
                place = (topic, partition)
                with connection.transaction():
                    lock(connection, [place])
                    entity_store.forget(connection, place)
                    catch_up(log, connection, place, decider.evolve)
    finally:
        connection.close()


def rebuild(
    log: PostgresLog, models: ReadModels, projections: Iterable[Projection], batch: int = BATCH
) -> int:
    """Empty projections and fill them from the log's beginning; return how many records were read.

    Nobody else projects meanwhile; readers see the tables fill.
    """
    with models.projecting_lock():
        for projection in projections:
            models.empty(projection)
    return Projector(log, models, batch=batch).catch_up()
