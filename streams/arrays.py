"""Arrays as parameters in Postgres' binary form, made at once.

psycopg's own dumper looks at each element in Python, which costs more than the query it is for.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from infra.postgres import Connection

_HEADER: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")
_SHORT: Final = struct.Struct(">h")
_LONG: Final = struct.Struct(">q")
_NULL: Final = _LENGTH.pack(-1)


class TextArray(bytes):
    """A `text[]`, as Postgres sends it."""


class SmallIntArray(bytes):
    """A `smallint[]` without nulls, as Postgres sends it."""


class BigIntArray(bytes):
    """A `bigint[]` without nulls, as Postgres sends it."""


class BytesArray(bytes):
    """A `bytea[]`, as Postgres sends it."""


_TEXT: Final = TypeInfo("text", 25, 1009)
_SMALLINT: Final = TypeInfo("int2", 21, 1005)
_BIGINT: Final = TypeInfo("int8", 20, 1016)
_BYTEA: Final = TypeInfo("bytea", 17, 1001)


def text_array(values: Iterable[str | None]) -> TextArray:
    """Return texts as a parameter of type `text[]`; None is null."""
    texts = [None if value is None else value.encode() for value in values]
    return TextArray(_array(_TEXT.oid, texts))


def smallint_array(values: Iterable[int]) -> SmallIntArray:
    """Return numbers as a parameter of type `smallint[]`."""
    pack = _SHORT.pack
    return SmallIntArray(_array(_SMALLINT.oid, [pack(value) for value in values]))


def bigint_array(values: Iterable[int]) -> BigIntArray:
    """Return numbers as a parameter of type `bigint[]`."""
    pack = _LONG.pack
    return BigIntArray(_array(_BIGINT.oid, [pack(value) for value in values]))


def bytes_array(values: Iterable[bytes | None]) -> BytesArray:
    """Return values as a parameter of type `bytea[]`; None is null."""
    return BytesArray(_array(_BYTEA.oid, list(values)))


def _array(element_oid: int, elements: Sequence[bytes | None]) -> bytes:
    # Source: array_recv in PostgreSQL's arrayfuncs.c: dimensions, has nulls, type, length, base.
    if not elements:
        return _HEADER.pack(0, 0, element_oid, 0, 0)[:12]
    pack = _LENGTH.pack
    parts = [_HEADER.pack(1, None in elements, element_oid, len(elements), 1)]
    parts += [_NULL if one is None else pack(len(one)) + one for one in elements]
    return b"".join(parts)


class _AsIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _TextArrayDumper(_AsIs):
    oid = _TEXT.array_oid


class _SmallIntArrayDumper(_AsIs):
    oid = _SMALLINT.array_oid


class _BigIntArrayDumper(_AsIs):
    oid = _BIGINT.array_oid


class _BytesArrayDumper(_AsIs):
    oid = _BYTEA.array_oid


def register_arrays(connection: Connection) -> None:
    """Let a connection take these arrays as parameters."""
    connection.adapters.register_dumper(TextArray, _TextArrayDumper)
    connection.adapters.register_dumper(SmallIntArray, _SmallIntArrayDumper)
    connection.adapters.register_dumper(BigIntArray, _BigIntArrayDumper)
    connection.adapters.register_dumper(BytesArray, _BytesArrayDumper)
