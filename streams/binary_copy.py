"""Rows as COPY takes them in binary, packed by hand: psycopg looks at each value in Python.

Source: PostgreSQL, COPY, Binary Format.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
_CHUNK_BYTES: Final = 1 << 16
_LENGTH: Final = struct.Struct(">i").pack
_NULL: Final = _LENGTH(-1)


def field(value: bytes | None) -> bytes:
    """Return a value of a variable length, or null, with its length before it."""
    return _NULL if value is None else _LENGTH(len(value)) + value


def stream(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Yield packed rows as they are made, header and trailer around them, many at a time.

    Each write gives the connection a turn, which takes longer than packing a row does.
    """
    chunk, size = [HEADER], 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if size >= _CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
    chunk.append(TRAILER)
    yield b"".join(chunk)
