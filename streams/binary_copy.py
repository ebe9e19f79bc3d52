"""Rows as COPY takes them in binary, packed by hand: psycopg looks at each value in Python.

Source: PostgreSQL, COPY, Binary Format.
"""

import struct
from typing import Final

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
_LENGTH: Final = struct.Struct(">i").pack
_NULL: Final = _LENGTH(-1)


def field(value: bytes | None) -> bytes:
    """Return a value of a variable length, or null, with its length before it."""
    return _NULL if value is None else _LENGTH(len(value)) + value
