"""Rows of the log's table, packed and sent many at a time."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from domain.commands import Topic
from infra.postgres import Connection
from streams import binary_copy
from streams.arrays import bigint_array, bytes_array, smallint_array, text_array

TOPIC_CODES: Final[dict[Topic, int]] = {"events": 0, "prices": 1, "reference": 2}
"""Topics as the tables number them; never renumber."""

_COPY: Final = (
    'COPY log_records (topic, partition, "offset", recorded_ns, hash, command_ref, key, value)'
    " FROM STDIN (FORMAT BINARY)"
)
_INSERT: Final = (
    "INSERT INTO log_records"
    ' (topic, partition, "offset", recorded_ns, hash, command_ref, key, value)'
    " SELECT * FROM unnest(%s::smallint[], %s::smallint[], %s::bigint[], %s::bigint[],"
    " %s::bytea[], %s::bytea[], %s::text[], %s::bytea[])"
)
_PLACE: Final = struct.Struct(">hihihiqiq")
"""The count of columns, and the first four of them, as `_COPY` takes them."""
_DIGESTS: Final = struct.Struct(">hihihiqiqi32si16si")
"""As `_PLACE`, then hash and command_ref, and the length of the key."""
_LENGTH: Final = struct.Struct(">i").pack

RecordRow = tuple[int, int, int, int, bytes, bytes | None, str | None, bytes]
"""Topic, partition, offset, recorded_ns, hash, command_ref, key, value."""


def copy_records(connection: Connection, rows: Iterable[RecordRow]) -> None:
    """Send rows of records, in the order of the columns of `_COPY`, as they are made."""
    copy_packed(connection, packed_records(rows))


def insert_records(connection: Connection, rows: Sequence[RecordRow]) -> None:
    """Write rows of records by a statement that can be sent together with others."""
    topics, partitions, offsets, recorded, hashes, refs, keys, values = zip(*rows, strict=True)
    places = smallint_array(topics), smallint_array(partitions), bigint_array(offsets)
    digests = bytes_array(hashes), bytes_array(refs)
    told = (*places, bigint_array(recorded), *digests, text_array(keys), bytes_array(values))
    connection.execute(_INSERT, told)


def packed_records(rows: Iterable[RecordRow]) -> Iterator[bytes]:
    """Yield rows of records as they are sent, many at a time."""
    return binary_copy.stream(map(_packed, rows))


def copy_packed(connection: Connection, chunks: Iterable[bytes]) -> None:
    """Send rows of records that are packed."""
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for chunk in chunks:
            copy.write(chunk)


def _packed(row: RecordRow) -> bytes:
    topic, partition, offset, recorded_ns, digest, ref, key, value = row
    if key is not None and ref is not None:
        name = key.encode()
        place = _DIGESTS.pack(
            *(8, 2, topic, 2, partition, 8, offset, 8, recorded_ns, 32, digest, 16, ref, len(name))
        )
        return b"".join((place, name, _LENGTH(len(value)), value))
    return b"".join(
        (
            _PLACE.pack(8, 2, topic, 2, partition, 8, offset, 8, recorded_ns),
            binary_copy.field(digest),
            binary_copy.field(ref),
            binary_copy.field(None if key is None else key.encode()),
            binary_copy.field(value),
        )
    )
