"""The log as a Postgres table.

The fence is the row lock of a partition: lock, read the tail, decide, insert, commit. Offsets are
given under that lock, so that no reader can see n + 1 before n, and several processes may write.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Self

import msgspec
import psycopg
import uuid_utils
from msgspec import Struct

from domain.commands import Topic
from domain.events import LogCreated
from domain.times import Instant, from_ns, to_ns
from infra import migrations, postgres
from infra.postgres import Connection
from schemas import codec
from schemas.envelope import Envelope, Record
from streams.arrays import bigint_array, register_arrays, smallint_array
from streams.log import (
    PARTITIONS,
    TOPICS,
    CommandTaken,
    Draft,
    LogError,
    TopicPartition,
    command_ref,
)
from streams.migrations import MIGRATIONS, OWNER
from streams.record_rows import TOPIC_CODES, copy_records

_CHUNK: Final = 2000
ADVANCE: Final = (
    "UPDATE log_partitions kept"
    " SET next_offset = told.next_offset, last_recorded_ns = told.last_recorded_ns"
    " FROM unnest(%(topics)s::smallint[], %(partitions)s::smallint[],"
    " %(next_offsets)s::bigint[], %(recorded)s::bigint[])"
    " AS told (topic, partition, next_offset, last_recorded_ns)"
    " WHERE kept.topic = told.topic AND kept.partition = told.partition"
)
"""Writes down where partitions end now; its parameters are `told_tails`."""


class Tail(Struct, frozen=True):
    """Where a partition ends: the offset the next record gets, the last one's recorded time."""

    next_offset: int
    last_recorded_ns: int


class Kept(Struct, frozen=True):
    """A record with what the table keeps beside it."""

    record: Record
    recorded_ns: int
    hash: bytes
    command_ref: bytes | None

    def altered(self) -> str | None:
        """Return which column does not say what the value says, or None when all do.

        An undecodable value is compared by its hash alone.
        """
        if hashlib.sha256(self.record.value).digest() != self.hash:
            return "hash is not the SHA-256 of value"
        try:
            told = _HEADER.decode(self.record.value)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        stream = told.account or told.key
        if stream != self.record.key:
            return f"key {self.record.key!r} is not the value's {stream!r}"
        if to_ns(told.recorded_time) != self.recorded_ns:
            return f"recorded_ns {self.recorded_ns} is not the value's {told.recorded_time}"
        ref = None
        if stream is not None:
            topic: Topic = next(t for t in TOPICS if t == self.record.topic)
            ref = command_ref(topic, stream, told.command_id)
        return "command_ref is not that of the value" if ref != self.command_ref else None


class _Header(Struct, frozen=True):
    recorded_time: Instant
    account: str | None = None
    key: str | None = None
    command_id: str = ""


_HEADER: Final = msgspec.json.Decoder(_Header)


class PostgresLog:
    """The log in one schema of a Postgres database. Safe to share between threads."""

    def __init__(self, dsn: str, schema: str, log_id: str, partitions: int) -> None:
        self.log_id = log_id
        self.partitions = partitions
        self.schema = schema
        self._dsn = dsn
        self._reader: Connection | None = None
        self._writer: Connection | None = None
        self._turn = threading.Lock()
        self._opening = threading.Lock()

    @classmethod
    def open(
        cls,
        dsn: str,
        schema: str = "daybook",
        *,
        partitions: int | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Open the log of a schema; make its tables and its LogCreated records where needed.

        Two processes at once end with one log. `clock` gives nanoseconds since 1970. Raises
        LogError when the log is there with another number of `partitions` than is asked for,
        SettingsError when the server is set up so that records could be lost.
        """
        connection = postgres.connect(dsn, schema=schema, part="the log")
        register_arrays(connection)
        try:
            postgres.refuse_lossy(connection, "the log's PostgreSQL")
            migrations.apply(connection, OWNER, MIGRATIONS, schema=schema)
            found = _find(connection) or _create(connection, partitions or PARTITIONS, clock)
            log_id, found_partitions = found
            if partitions not in (None, found_partitions):
                raise LogError(f"the log has {found_partitions} partitions, not {partitions}")
            log = cls(dsn, schema, log_id, found_partitions)
        except BaseException:
            connection.close()
            raise
        log._reader = connection
        return log

    def connect(self) -> Connection:
        """Return a new connection to the log's schema, for its writer to own."""
        connection = postgres.connect(self._dsn, schema=self.schema, part="the log")
        register_arrays(connection)
        return connection

    def close(self) -> None:
        """Close the connections that are open; using the log again opens them again."""
        postgres.close(self._reader, self._writer)

    # --- reading ---------------------------------------------------------------------------------

    def heads(self, topic: Topic) -> list[int]:
        """Return, by partition, the offset that the next record will get."""
        return self.all_heads()[topic]

    def all_heads(self) -> dict[Topic, list[int]]:
        """Return what `heads` does, of every topic in one question."""
        rows = self._query(
            "SELECT topic, array_agg(next_offset ORDER BY partition) FROM log_partitions"
            " GROUP BY topic ORDER BY topic",
            (),
        )
        return {TOPICS[code]: heads for code, heads in rows}

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from an offset on, in order; none at the head."""
        rows = self._query(
            'SELECT "offset", key, value FROM log_records'
            ' WHERE topic = %s AND partition = %s AND "offset" >= %s ORDER BY "offset" LIMIT %s',
            (TOPIC_CODES[topic], partition, from_offset, limit),
        )
        return [Record(topic, partition, offset, key, value) for offset, key, value in rows]

    def read_unkeyed(self, topic: Topic, partition: int, up_to_offset: int) -> list[Record]:
        """Return a partition's records of no stream at offsets below another, in order."""
        rows = self._query(
            'SELECT "offset", value FROM log_records WHERE topic = %s AND partition = %s'
            ' AND key IS NULL AND "offset" < %s ORDER BY "offset"',
            (TOPIC_CODES[topic], partition, up_to_offset),
        )
        return [Record(topic, partition, offset, None, value) for offset, value in rows]

    def read_several(
        self, spans: Mapping[TopicPartition, tuple[int, int]]
    ) -> dict[TopicPartition, Sequence[Record]]:
        """Return records of several partitions in one question, by offsets from and below."""
        places = list(spans)
        rows = self._query(
            'SELECT asked.ordinality - 1, kept."offset", kept.key, kept.value'
            " FROM unnest(%s::smallint[], %s::smallint[], %s::bigint[], %s::bigint[])"
            " WITH ORDINALITY AS asked (topic, partition, start, stop, ordinality)"
            ' CROSS JOIN LATERAL (SELECT "offset", key, value FROM log_records'
            " WHERE topic = asked.topic AND partition = asked.partition"
            ' AND "offset" >= asked.start AND "offset" < asked.stop'
            ' ORDER BY "offset" LIMIT asked.stop - asked.start) AS kept',
            (
                smallint_array(TOPIC_CODES[topic] for topic, _ in places),
                smallint_array(partition for _, partition in places),
                bigint_array(start for start, _ in spans.values()),
                bigint_array(stop for _, stop in spans.values()),
            ),
        )
        found: dict[TopicPartition, Sequence[Record]] = {}
        for number, some in groupby(rows, key=itemgetter(0)):
            place = places[number]
            found[place] = [Record(*place, *told) for _, *told in some]
        return found

    def read_stream(
        self, topic: Topic, key: str, up_to_offset: int, from_offset: int = 0
    ) -> Iterator[Record]:
        """Yield one stream's records from an offset on and below another, in order."""
        while True:
            rows = self._query(
                'SELECT partition, "offset", value FROM log_records WHERE topic = %s AND key = %s'
                ' AND "offset" >= %s AND "offset" < %s ORDER BY "offset" LIMIT %s',
                (TOPIC_CODES[topic], key, from_offset, up_to_offset, _CHUNK),
            )
            for partition, offset, value in rows:
                yield Record(topic, partition, offset, key, value)
            if len(rows) < _CHUNK:
                return
            from_offset = rows[-1][1] + 1

    def read_kept(self, topic: Topic, partition: int, from_offset: int, limit: int) -> list[Kept]:
        """Return records like `read`, with what the table keeps beside them, for an audit."""
        rows = self._query(
            'SELECT "offset", key, value, recorded_ns, hash, command_ref FROM log_records'
            ' WHERE topic = %s AND partition = %s AND "offset" >= %s ORDER BY "offset" LIMIT %s',
            (TOPIC_CODES[topic], partition, from_offset, limit),
        )
        return [
            Kept(Record(topic, partition, offset, key, value), recorded_ns, digest, ref)
            for offset, key, value, recorded_ns, digest, ref in rows
        ]

    def positions_at(self, topic: Topic, recorded_time: Instant) -> list[int]:
        """Return, by partition, the offset of the first record recorded after an instant.

        Found by halving, because recorded times never run backwards in a partition: some thirty
        reads of all partitions at once, and no index to keep.
        """
        instant_ns = to_ns(recorded_time)
        low, high = [0] * self.partitions, self.heads(topic)
        while low != high:
            middle = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
            rows = self._query(
                "SELECT asked.partition, kept.recorded_ns <= %s"
                " FROM unnest(%s::bigint[]) WITH ORDINALITY AS asked (middle, partition)"
                " JOIN log_records kept ON kept.topic = %s"
                ' AND kept.partition = asked.partition - 1 AND kept."offset" = asked.middle',
                (instant_ns, middle, TOPIC_CODES[topic]),
            )
            for ordinal, was_known in rows:
                index = ordinal - 1
                if low[index] == high[index]:
                    continue
                if was_known:
                    low[index] = middle[index] + 1
                else:
                    high[index] = middle[index]
        return low

    def _query(self, statement: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._opening:
            reader = self._reader
            if reader is None or reader.closed:
                self._reader = reader = self.connect()
        with postgres.reporting_outage("the log"), reader.cursor(binary=True) as cursor:
            return cursor.execute(statement.encode(), parameters).fetchall()

    # --- writing ---------------------------------------------------------------------------------

    def append(self, topic: Topic, partition: int, drafts: Sequence[Draft]) -> int:
        """Append records, all or none, and return the first one's offset once they are durable.

        Raises CommandTaken and LogError as every log does.
        """
        with self._turn, postgres.reporting_outage("the log"):
            if self._writer is None or self._writer.closed:
                self._writer = self.connect()
            try:
                with self._writer.transaction():
                    tail = lock(self._writer, [(topic, partition)])[topic, partition]
                    append_locked(self._writer, topic, partition, tail, drafts)
            except psycopg.errors.UniqueViolation as error:
                raise CommandTaken(f"{topic}/{partition}: {error.diag.message_detail}") from error
        return tail.next_offset


def lock(
    connection: Connection, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, Tail]:
    """Take the row locks of partitions until the transaction ends; return where they end.

    Always in the same order, so that two writers never wait for each other in a circle. Raises
    LogError for a partition that is not there.
    """
    return ask_lock(connection, partitions)()


def ask_lock(
    connection: Connection, partitions: Iterable[TopicPartition]
) -> Callable[[], dict[TopicPartition, Tail]]:
    """Ask for what `lock` does; what is returned waits for it."""
    asked = sorted((TOPIC_CODES[topic], partition) for topic, partition in partitions)
    cursor = connection.execute(
        "SELECT kept.topic, kept.partition, kept.next_offset, kept.last_recorded_ns"
        " FROM log_partitions kept"
        " JOIN unnest(%s::smallint[], %s::smallint[]) AS asked (topic, partition)"
        " USING (topic, partition)"
        " ORDER BY kept.topic, kept.partition FOR UPDATE OF kept",
        (
            smallint_array(topic for topic, _ in asked),
            smallint_array(partition for _, partition in asked),
        ),
    )

    def taken() -> dict[TopicPartition, Tail]:
        rows = cursor.fetchall()
        if len(rows) != len(asked):
            raise LogError(f"not every one of these partitions is in the log: {asked}")
        return {
            (TOPICS[topic], partition): Tail(next_offset, last_ns)
            for topic, partition, next_offset, last_ns in rows
        }

    return taken


def append_locked(
    connection: Connection, topic: Topic, partition: int, tail: Tail, drafts: Sequence[Draft]
) -> Tail:
    """Append records in the caller's transaction, which holds the partition's lock.

    Returns the new tail. Raises LogError when a recorded time would run backwards.
    """
    code = TOPIC_CODES[topic]
    rows = []
    offset, last_ns = tail.next_offset, tail.last_recorded_ns
    for draft in drafts:
        recorded_ns = draft.recorded_ns or last_ns
        if recorded_ns < last_ns:
            raise LogError(f"{topic}/{partition}: a recorded time before {from_ns(last_ns)}")
        digest = hashlib.sha256(draft.value).digest()
        rows.append(
            (
                code,
                partition,
                offset,
                recorded_ns,
                digest,
                draft.command_ref,
                draft.key,
                draft.value,
            )
        )
        offset, last_ns = offset + 1, recorded_ns
    copy_records(connection, rows)
    after = Tail(offset, last_ns)
    advance(connection, {(topic, partition): after})
    return after


def advance(connection: Connection, tails: Mapping[TopicPartition, Tail]) -> None:
    """Write down where partitions end now."""
    connection.execute(ADVANCE, told_tails(tails))


def told_tails(tails: Mapping[TopicPartition, Tail]) -> dict[str, Any]:
    """Return the parameters of ADVANCE."""
    return {
        "topics": smallint_array(TOPIC_CODES[topic] for topic, _ in tails),
        "partitions": smallint_array(partition for _, partition in tails),
        "next_offsets": bigint_array(tail.next_offset for tail in tails.values()),
        "recorded": bigint_array(tail.last_recorded_ns for tail in tails.values()),
    }


def _find(connection: Connection) -> tuple[str, int] | None:
    row = connection.execute("SELECT log_id, partitions FROM log_partitions LIMIT 1").fetchone()
    return None if row is None else (row[0], row[1])


def _create(connection: Connection, partitions: int, clock: Callable[[], int]) -> tuple[str, int]:
    with connection.transaction():
        # Whoever comes second waits here, and finds the log made.
        connection.execute("LOCK TABLE log_partitions IN EXCLUSIVE MODE")
        found = _find(connection)
        if found is not None:
            return found
        log_id = str(uuid_utils.uuid7())
        for topic in TOPICS:
            for partition in range(partitions):
                connection.execute(
                    "INSERT INTO log_partitions VALUES (%s, %s, %s, 0, 0, %s)",
                    (TOPIC_CODES[topic], partition, partitions, log_id),
                )
                event = LogCreated(
                    log_id=log_id, topic=topic, partition=partition, partitions=partitions
                )
                drafts = [_first_record(event, clock())]
                append_locked(connection, topic, partition, Tail(0, 0), drafts)
    return log_id, partitions


def _first_record(event: LogCreated, now_ns: int) -> Draft:
    now = from_ns(now_ns)
    envelope = Envelope(
        id=str(uuid_utils.uuid7()),
        type=codec.event_type(event),
        event_time=now,
        recorded_time=now,
        data=codec.encode_event(event),
    )
    return Draft(None, codec.encode(envelope), now_ns)
