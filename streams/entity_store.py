"""The decider's index in Postgres: entities, heads of streams, and how far the log is in them.

Written in the transaction that appends, so that it is never ahead of the log or behind it. It is
disposable: one made by another FORMAT, or behind the log for whatever reason, is made again or
brought up from the log (streams/index_catch_up.py).
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from domain.entities import AnyEntity, Entity
from infra.postgres import Connection
from schemas.envelope import Record
from streams import binary_copy
from streams.arrays import bigint_array, bytes_array, smallint_array, text_array
from streams.log import TOPICS, TopicPartition
from streams.memory import EntityRef, PartitionWork, StreamHead
from streams.postgres_log import ADVANCE, Tail, told_tails
from streams.record_rows import TOPIC_CODES

FORMAT: Final = 2
"""Raised when entities change their meaning, or the decider what it makes of an event."""

_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(AnyEntity)
_COPY: Final = (
    "COPY decider_entities (topic, partition, key, kind, id, state) FROM STDIN (FORMAT BINARY)"
)
_HEADS: Final = (
    "INSERT INTO decider_streams (topic, partition, key, seq, hash)"
    " SELECT topic, partition, key, seq, decode(hash, 'hex')"
    " FROM unnest(%(stream_topics)s::smallint[], %(stream_partitions)s::smallint[],"
    " %(keys)s::text[], %(seqs)s::bigint[], %(hashes)s::text[])"
    " AS told (topic, partition, key, seq, hash)"
    " ON CONFLICT (topic, key) DO UPDATE SET seq = excluded.seq, hash = excluded.hash"
)
_CHECKPOINTS: Final = (
    "INSERT INTO decider_checkpoints (topic, partition, format, next_offset, term)"
    " SELECT topic, partition, %(format)s, next_offset, term"
    " FROM unnest(%(checkpoint_topics)s::smallint[], %(checkpoint_partitions)s::smallint[],"
    " %(checkpoints)s::bigint[], %(terms)s::integer[])"
    " AS told (topic, partition, next_offset, term)"
    " ON CONFLICT (topic, partition) DO UPDATE SET format = excluded.format,"
    " next_offset = excluded.next_offset, term = excluded.term"
)
_PLACE: Final = struct.Struct(">hihih")
"""The count of columns, and the first two of them, as `_COPY` takes them."""


class IndexState(Struct, frozen=True):
    """Where a partition of the log ends, how far it is in the index, and its term there."""

    next_offset: int
    last_recorded_ns: int
    indexed_offset: int
    format: int
    term: int

    @property
    def is_current(self) -> bool:
        """Tell whether the index holds the whole partition, in this program's format."""
        return self.format == FORMAT and self.indexed_offset == self.next_offset


def index_states(connection: Connection) -> dict[TopicPartition, IndexState]:
    """Return the state of every partition of the log, all as of one moment."""
    return ask_states(connection)()


def ask_states(connection: Connection) -> Callable[[], dict[TopicPartition, IndexState]]:
    """Ask for what `index_states` does; what is returned waits for it."""
    cursor = connection.execute(
        "SELECT log.topic, log.partition, log.next_offset, log.last_recorded_ns,"
        " coalesce(index.next_offset, 0), coalesce(index.format, %s), coalesce(index.term, 0)"
        " FROM log_partitions log LEFT JOIN decider_checkpoints index USING (topic, partition)",
        (FORMAT,),
    )
    return lambda: {
        (TOPICS[topic], partition): IndexState(*state)
        for topic, partition, *state in cursor.fetchall()
    }


def write_checkpoints(
    connection: Connection, offsets: Mapping[TopicPartition, tuple[int, int]]
) -> None:
    """Write down how far partitions are in the index: the next offset, and the term."""
    connection.execute(_CHECKPOINTS, _told_checkpoints(offsets))


def _told_checkpoints(
    offsets: Mapping[TopicPartition, tuple[int, int]],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "checkpoint_topics": smallint_array(TOPIC_CODES[topic] for topic, _ in offsets),
        "checkpoint_partitions": smallint_array(partition for _, partition in offsets),
        "checkpoints": bigint_array(next_offset for next_offset, _ in offsets.values()),
        "terms": [term for _, term in offsets.values()],
    }


def forget(connection: Connection, place: TopicPartition) -> None:
    """Empty the index of a partition, to make it again from the log's first record."""
    topic, partition = place
    for table in ("decider_entities", "decider_streams", "decider_checkpoints"):
        connection.execute(
            f"DELETE FROM {table} WHERE topic = %s AND partition = %s".encode(),
            (TOPIC_CODES[topic], partition),
        )


# --- entities ----------------------------------------------------------------------------------


def fetch_entities(
    connection: Connection, wanted: Sequence[tuple[TopicPartition, EntityRef]]
) -> list[Entity | None]:
    """Return entities in the order they are asked for, None where there is none."""
    return ask_entities(connection, wanted)()


def ask_entities(
    connection: Connection, wanted: Sequence[tuple[TopicPartition, EntityRef]]
) -> Callable[[], list[Entity | None]]:
    """Ask for what `fetch_entities` does; what is returned waits for it."""
    found: list[Entity | None] = [None] * len(wanted)
    if not wanted:
        return lambda: found
    cursor = connection.execute(
        "SELECT asked.ordinality, kept.state"
        " FROM unnest(%s::smallint[], %s::text[], %s::text[], %s::text[])"
        " WITH ORDINALITY AS asked (topic, key, kind, id, ordinality)"
        " JOIN decider_entities kept USING (topic, key, kind, id)",
        (
            smallint_array(TOPIC_CODES[place[0]] for place, _ in wanted),
            text_array(key for _, (key, _, _) in wanted),
            text_array(kind for _, (_, kind, _) in wanted),
            text_array(entity_id for _, (_, _, entity_id) in wanted),
        ),
        binary=True,
    )

    def taken() -> list[Entity | None]:
        for ordinal, state in cursor:
            found[ordinal - 1] = _DECODER.decode(state)
        return found

    return taken


class Changes(Struct, frozen=True):
    """What is to be written of an index: entities that are copied, packed; all others; heads."""

    new: list[bytes]
    other: list[tuple[TopicPartition, EntityRef, Entity]]
    heads: list[tuple[TopicPartition, str, StreamHead]]


def _write_new_entities(connection: Connection, packed: Sequence[bytes]) -> None:
    """Write entities that are known not to be in the index."""
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for chunk in packed:
            copy.write(chunk)


def _packed(entities: Iterable[tuple[TopicPartition, EntityRef, Entity]]) -> Iterator[bytes]:
    encode, field = _ENCODER.encode, binary_copy.field
    starts: dict[tuple[TopicPartition, str, str], bytes] = {}
    for place, (key, kind, entity_id), entity in entities:
        start = starts.get((place, key, kind))
        if start is None:
            start = _PLACE.pack(6, 2, TOPIC_CODES[place[0]], 2, place[1])
            start += field(key.encode()) + field(kind.encode())
            starts[place, key, kind] = start
        yield b"".join((start, field(entity_id.encode()), field(encode(entity))))


def _write_entities(
    connection: Connection, entities: Sequence[tuple[TopicPartition, EntityRef, Entity]]
) -> None:
    """Write entities over those that may be in the index."""
    encode = _ENCODER.encode
    connection.execute(
        "INSERT INTO decider_entities (topic, partition, key, kind, id, state)"
        " SELECT * FROM unnest"
        " (%s::smallint[], %s::smallint[], %s::text[], %s::text[], %s::text[], %s::bytea[])"
        " ON CONFLICT (topic, key, kind, id) DO UPDATE SET state = excluded.state",
        (
            smallint_array(TOPIC_CODES[place[0]] for place, _, _ in entities),
            smallint_array(place[1] for place, _, _ in entities),
            text_array(key for _, (key, _, _), _ in entities),
            text_array(kind for _, (_, kind, _), _ in entities),
            text_array(entity_id for _, (_, _, entity_id), _ in entities),
            bytes_array(encode(entity) for _, _, entity in entities),
        ),
    )


def write_work(connection: Connection, works: Sequence[PartitionWork]) -> None:
    """Write what was changed in partitions: entities and heads of streams."""
    write_changes(connection, changes_of(works))


def changes_of(works: Sequence[PartitionWork], *, copies: bool = True) -> Changes:
    """Return what was changed in partitions, ready to be written.

    With `copies` what memory knows to be absent is copied; the rest may be there, and is written
    over it.
    """
    new: list[tuple[TopicPartition, EntityRef, Entity]] = []
    other: list[tuple[TopicPartition, EntityRef, Entity]] = []
    heads: list[tuple[TopicPartition, str, StreamHead]] = []
    for work in works:
        for ref, entity in work.changed.items():
            rows = new if copies and work.is_new(ref) else other
            rows.append((work.place, ref, entity))
        heads.extend((work.place, key, head) for key, head in work.heads.items())
    return Changes(list(binary_copy.stream(_packed(new))) if new else [], other, heads)


def write_changes(connection: Connection, changes: Changes) -> None:
    """Write what was changed in an index."""
    _write_changed_entities(connection, changes)
    if changes.heads:
        connection.execute(_HEADS, _told_heads(changes.heads))


def write_batch(
    connection: Connection,
    changes: Changes,
    tails: Mapping[TopicPartition, Tail],
    terms: Mapping[TopicPartition, int],
) -> None:
    """Write what a batch changed, where the log ends now, and that the index holds it all.

    Heads, tails and checkpoints are one statement: each one more is a wait.
    """
    _write_changed_entities(connection, changes)
    offsets = {place: (tail.next_offset, terms[place]) for place, tail in tails.items()}
    connection.execute(
        f"WITH heads AS ({_HEADS}), tails AS ({ADVANCE}) {_CHECKPOINTS}".encode(),
        _told_heads(changes.heads) | told_tails(tails) | _told_checkpoints(offsets),
    )


def _write_changed_entities(connection: Connection, changes: Changes) -> None:
    if changes.new:
        _write_new_entities(connection, changes.new)
    if changes.other:
        _write_entities(connection, changes.other)


# --- heads of streams --------------------------------------------------------------------------


def fetch_heads(
    connection: Connection, streams: Sequence[tuple[TopicPartition, str]]
) -> dict[tuple[TopicPartition, str], StreamHead]:
    """Return the heads of those of the streams that have records."""
    return ask_heads(connection, streams)()


def ask_heads(
    connection: Connection, streams: Sequence[tuple[TopicPartition, str]]
) -> Callable[[], dict[tuple[TopicPartition, str], StreamHead]]:
    """Ask for what `fetch_heads` does; what is returned waits for it."""
    if not streams:
        return dict
    cursor = connection.execute(
        "SELECT topic, partition, key, seq, encode(hash, 'hex')"
        " FROM unnest(%s::smallint[], %s::text[]) AS asked (topic, key)"
        " JOIN decider_streams USING (topic, key)",
        (
            smallint_array(TOPIC_CODES[place[0]] for place, _ in streams),
            text_array(key for _, key in streams),
        ),
    )
    return lambda: {
        ((TOPICS[topic], partition), key): StreamHead(seq, digest)
        for topic, partition, key, seq, digest in cursor
    }


def partition_heads(connection: Connection, place: TopicPartition) -> dict[str, StreamHead]:
    """Return the heads of all streams of a partition."""
    rows = connection.execute(
        "SELECT key, seq, encode(hash, 'hex') FROM decider_streams"
        " WHERE topic = %s AND partition = %s",
        (TOPIC_CODES[place[0]], place[1]),
    )
    return {key: StreamHead(seq, digest) for key, seq, digest in rows}


def _told_heads(heads: Sequence[tuple[TopicPartition, str, StreamHead]]) -> dict[str, Any]:
    return {
        "stream_topics": smallint_array(TOPIC_CODES[place[0]] for place, _, _ in heads),
        "stream_partitions": smallint_array(place[1] for place, _, _ in heads),
        "keys": text_array(key for _, key, _ in heads),
        "seqs": bigint_array(head.seq for _, _, head in heads),
        "hashes": text_array(head.hash for _, _, head in heads),
    }


# --- commands and records ----------------------------------------------------------------------


def fetch_commands(connection: Connection, refs: Sequence[bytes]) -> dict[bytes, Record]:
    """Return, by command ref, the records that answered commands."""
    return ask_commands(connection, refs)()


def ask_commands(
    connection: Connection, refs: Sequence[bytes]
) -> Callable[[], dict[bytes, Record]]:
    """Ask for what `fetch_commands` does; what is returned waits for it."""
    cursor = connection.execute(
        'SELECT command_ref, topic, partition, "offset", key, value'
        " FROM unnest(%s::bytea[]) AS asked (command_ref)"
        " JOIN log_records USING (command_ref)",
        (bytes_array(refs),),
        binary=True,
    )
    return lambda: {
        ref: Record(TOPICS[topic], partition, offset, key, value)
        for ref, topic, partition, offset, key, value in cursor
    }


def fetch_records(
    connection: Connection, places: Sequence[tuple[TopicPartition, int]]
) -> dict[tuple[TopicPartition, int], Record]:
    """Return records by where they stand."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(
            'SELECT topic, partition, "offset", key, value'
            " FROM unnest(%s::smallint[], %s::smallint[], %s::bigint[])"
            ' AS asked (topic, partition, "offset")'
            ' JOIN log_records USING (topic, partition, "offset")',
            (
                [TOPIC_CODES[place[0]] for place, _ in places],
                [place[1] for place, _ in places],
                [offset for _, offset in places],
            ),
        )
        return {
            ((TOPICS[topic], partition), offset): Record(
                TOPICS[topic], partition, offset, key, value
            )
            for topic, partition, offset, key, value in cursor
        }
