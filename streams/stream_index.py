"""Where each stream's records stand, for a log that has no index by key.

A table in the read models' store, disposable, brought to where it is asked for when it is asked.
It says where to look and no more: what a record says, and whether it counts, is the log's. Only
records of no stream are kept whole. They are few, and every stream of a partition needs them all.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from domain.commands import Topic
from infra import migrations, postgres
from infra.migrations import Migration
from infra.postgres import Connection
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams.log import Log

_OWNER: Final = "stream_index"
_SQL: Final = """
CREATE TABLE stream_index_checkpoints (
    topic text NOT NULL,
    partition integer NOT NULL,
    log_id text NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
CREATE TABLE stream_index (
    topic text NOT NULL,
    stream text COLLATE "C" NOT NULL,
    first_offset bigint NOT NULL,
    offsets bigint[] NOT NULL,
    PRIMARY KEY (topic, stream, first_offset)
);
"""
_UNKEYED: Final = """
CREATE TABLE stream_index_unkeyed (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (topic, partition, "offset")
);
ALTER TABLE stream_index_checkpoints RENAME TO stream_index_reached;
TRUNCATE stream_index_reached, stream_index;
"""
# An older program that still runs would go on without terms and parkings: it finds its table gone.
# The name goes first: what takes turns by that table is waited for while nothing is held.
_MIGRATIONS: Final = (Migration(1, "stream_index", _SQL), Migration(2, "unkeyed", _UNKEYED))
_SCAN: Final = 5000
_ROW_OFFSETS: Final = 512
"""A row with as many offsets is left as it is, and the next one begun."""
_GAP: Final = 500
"""As many records of others are read along: to ask around them costs as much (2 ms of CPU)."""
_CHUNK: Final = 2000


class IndexedLog:
    """A log whose streams are read by the index, and which is else that log.

    Safe to share between threads, which take turns.
    """

    def __init__(self, log: Log, dsn: str, schema: str) -> None:
        self.log_id = log.log_id
        self.partitions = log.partitions
        self._log = log
        self._dsn = dsn
        self._schema = schema
        self._opened: Connection | None = None
        self._turn = threading.RLock()
        self.append, self.heads = log.append, log.heads
        self.read, self.positions_at = log.read, log.positions_at

    def close(self) -> None:
        """Close the index; the log itself stays open. A second call does nothing."""
        postgres.close(self._opened)

    def read_stream(
        self, topic: Topic, key: str, up_to_offset: int, from_offset: int = 0
    ) -> Iterator[Record]:
        """Yield one stream's records from an offset on and below another, in order."""
        if not _is_text(key):
            yield from self._log.read_stream(topic, key, up_to_offset, from_offset)
            return
        partition = partition_of(key, self.partitions)
        with self._turn:
            self.catch_up(topic, partition, up_to_offset)
            offsets = self._offsets(topic, key, from_offset, up_to_offset)
        for span in _spans(offsets):
            offset, end = span[0], span[-1] + 1
            while offset < end:
                records = self._log.read(topic, partition, offset, min(_CHUNK, end - offset))
                if not records:
                    return
                yield from (record for record in records if record.key == key)
                offset = records[-1].offset + 1

    def read_unkeyed(self, topic: Topic, partition: int, up_to_offset: int) -> list[Record]:
        """Return a partition's records of no stream at offsets below another, in order."""
        with self._turn:
            self.catch_up(topic, partition, up_to_offset)
            rows = self._connection.execute(
                'SELECT "offset", value FROM stream_index_unkeyed'
                ' WHERE topic = %s AND partition = %s AND "offset" < %s ORDER BY "offset"',
                (topic, partition, up_to_offset),
            ).fetchall()
        return [Record(topic, partition, offset, None, value) for offset, value in rows]

    def catch_up(self, topic: Topic, partition: int, up_to_offset: int) -> int:
        """Index a partition's records below an offset; return how many were read for it."""
        done = 0
        with self._turn:
            while read := self._index_some(topic, partition, up_to_offset):
                done += read
        return done

    @property
    def _connection(self) -> Connection:
        if self._opened is None or self._opened.closed:
            part = "the read models' store"
            self._opened = postgres.connect(self._dsn, schema=self._schema, part=part)
            migrations.apply(self._opened, _OWNER, _MIGRATIONS, schema=self._schema)
        return self._opened

    def _offsets(self, topic: Topic, key: str, from_offset: int, up_to_offset: int) -> list[int]:
        # A row holds offsets from its first up to the next row's.
        rows = self._connection.execute(
            "SELECT offsets FROM stream_index WHERE topic = %(topic)s AND stream = %(stream)s"
            " AND first_offset < %(end)s AND first_offset >= coalesce((SELECT max(first_offset)"
            " FROM stream_index WHERE topic = %(topic)s AND stream = %(stream)s"
            " AND first_offset <= %(begin)s), 0) ORDER BY first_offset",
            {"topic": topic, "stream": key, "begin": from_offset, "end": up_to_offset},
        ).fetchall()
        return [
            offset
            for (offsets,) in rows
            for offset in offsets
            if from_offset <= offset < up_to_offset
        ]

    def _index_some(self, topic: Topic, partition: int, up_to_offset: int) -> int:
        """Index the next records of a partition, where others have not; return how many."""
        connection = self._connection
        with connection.transaction():
            offset = self._locked_checkpoint(topic, partition)
            if offset >= up_to_offset:
                return 0
            limit = min(_SCAN, up_to_offset - offset)
            records = self._log.read(topic, partition, offset, limit)
            if not records:
                return 0
            self._add(topic, partition, records)
            connection.execute(
                "UPDATE stream_index_reached SET next_offset = %s"
                " WHERE topic = %s AND partition = %s",
                (records[-1].offset + 1, topic, partition),
            )
        return len(records)

    def _locked_checkpoint(self, topic: Topic, partition: int) -> int:
        """Return the offset to index next, which nobody else does meanwhile; of another log, 0."""
        connection = self._connection
        connection.execute(
            "INSERT INTO stream_index_reached VALUES (%s, %s, %s, 0) ON CONFLICT DO NOTHING",
            (topic, partition, self.log_id),
        )
        row = connection.execute(
            "SELECT log_id, next_offset FROM stream_index_reached"
            " WHERE topic = %s AND partition = %s FOR UPDATE",
            (topic, partition),
        ).fetchone()
        if row is not None and row[0] == self.log_id:
            return int(row[1])
        connection.execute("DELETE FROM stream_index")
        connection.execute("DELETE FROM stream_index_unkeyed")
        connection.execute(
            "UPDATE stream_index_reached SET log_id = %s, next_offset = 0", (self.log_id,)
        )
        return 0

    def _add(self, topic: Topic, partition: int, records: Sequence[Record]) -> None:
        keyed: dict[str, list[int]] = defaultdict(list)
        unkeyed = []
        for record in records:
            if record.key is None:
                unkeyed.append((topic, partition, record.offset, record.value))
            else:
                keyed[record.key].append(record.offset)
        # A key that others wrote into a partition that is not its own has its offsets elsewhere.
        new = {
            key: offsets
            for key, offsets in keyed.items()
            if _is_text(key) and partition_of(key, self.partitions) == partition
        }
        last = self._connection.execute(
            "SELECT DISTINCT ON (stream) stream, first_offset, offsets FROM stream_index"
            " WHERE topic = %s AND stream = ANY(%s) ORDER BY stream, first_offset DESC",
            (topic, list(new)),
        ).fetchall()
        for stream, _, offsets in last:
            if len(offsets) < _ROW_OFFSETS:
                new[stream] = [*offsets, *new[stream]]
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO stream_index VALUES (%s, %s, %s, %s)"
                " ON CONFLICT (topic, stream, first_offset)"
                " DO UPDATE SET offsets = excluded.offsets",
                [(topic, stream, offsets[0], offsets) for stream, offsets in new.items()],
            )
            cursor.executemany("INSERT INTO stream_index_unkeyed VALUES (%s, %s, %s, %s)", unkeyed)


def _spans(offsets: Sequence[int]) -> Iterator[list[int]]:
    """Yield offsets that are best read together."""
    span: list[int] = []
    for offset in offsets:
        if span and offset - span[-1] > _GAP:
            yield span
            span = []
        span.append(offset)
    if span:
        yield span


def _is_text(key: str) -> bool:
    """Tell whether Postgres can hold a key: others may have written what is none."""
    try:
        return b"\0" not in key.encode()
    except UnicodeEncodeError:
        return False
