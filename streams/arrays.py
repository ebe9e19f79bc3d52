"""Arrays as parameters in Postgres' binary form, made at once.

psycopg's own dumper looks at each element in Python, which costs more than the query it is for.
"""

import struct
from collections.abc import Iterable
from typing import Final

from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

from infra.postgres import Connection

_HEADER: Final = struct.Struct(">iiIii")
_LENGTH: Final = struct.Struct(">i")
_SHORT: Final = struct.Struct(">h")


class TextArray(bytes):
    """A `text[]` without nulls, as Postgres sends it."""


class SmallIntArray(bytes):
    """A `smallint[]` without nulls, as Postgres sends it."""


class BytesArray(bytes):
    """A `bytea[]` without nulls, as Postgres sends it."""


_TEXT: Final = TypeInfo("text", 25, 1009)
_SMALLINT: Final = TypeInfo("int2", 21, 1005)
_BYTEA: Final = TypeInfo("bytea", 17, 1001)


def text_array(values: Iterable[str]) -> TextArray:
    """Return texts as a parameter of type `text[]`."""
    return TextArray(_array(_TEXT.oid, [value.encode() for value in values]))


def smallint_array(values: Iterable[int]) -> SmallIntArray:
    """Return numbers as a parameter of type `smallint[]`."""
    pack = _SHORT.pack
    return SmallIntArray(_array(_SMALLINT.oid, [pack(value) for value in values]))


def bytes_array(values: Iterable[bytes]) -> BytesArray:
    """Return values as a parameter of type `bytea[]`."""
    return BytesArray(_array(_BYTEA.oid, list(values)))


def _array(element_oid: int, elements: list[bytes]) -> bytes:
    # Source: array_recv in PostgreSQL's arrayfuncs.c: dimensions, has nulls, type, length, base.
    if not elements:
        return _HEADER.pack(0, 0, element_oid, 0, 0)[:12]
    pack = _LENGTH.pack
    parts = [_HEADER.pack(1, 0, element_oid, len(elements), 1)]
    parts += [pack(len(element)) + element for element in elements]
    return b"".join(parts)


class _AsIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> Buffer:
        return obj


class _TextArrayDumper(_AsIs):
    oid = _TEXT.array_oid


class _SmallIntArrayDumper(_AsIs):
    oid = _SMALLINT.array_oid


class _BytesArrayDumper(_AsIs):
    oid = _BYTEA.array_oid


def register_arrays(connection: Connection) -> None:
    """Let a connection take these arrays as parameters."""
    connection.adapters.register_dumper(TextArray, _TextArrayDumper)
    connection.adapters.register_dumper(SmallIntArray, _SmallIntArrayDumper)
    connection.adapters.register_dumper(BytesArray, _BytesArrayDumper)
