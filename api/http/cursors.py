"""Cursors: where a page ended, sealed so that a changed one, or another question's, is found out.

A cursor holds the key of the last row that was given. The next page is what comes after that key,
so rows that are added or changed meanwhile neither repeat nor hide others.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from api.http.problems import INVALID_CURSOR, Problem

_SEAL_BYTES: Final = 12
_LONGEST: Final = 2048


def to_cursor(key: Sequence[Any], question: str) -> str:
    """Return the cursor of a key, good for one question alone."""
    content = msgspec.json.encode(list(key))
    return base64.urlsafe_b64encode(_seal(content, question) + content).decode().rstrip("=")


def from_cursor(cursor: str, question: str) -> list[Any]:
    """Return the key that a cursor holds; raises Problem for one that was not given so."""
    try:
        if len(cursor) > _LONGEST:
            raise ValueError
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        content = sealed[_SEAL_BYTES:]
        if not hmac.compare_digest(sealed[:_SEAL_BYTES], _seal(content, question)):
            raise ValueError
        return msgspec.json.decode(content, type=list[Any])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise Problem(
            INVALID_CURSOR,
            "cursor: expected the `next` of an answer to this very question",
            field="cursor",
        ) from None


def _seal(content: bytes, question: str) -> bytes:
    told = hashlib.blake2b(question.encode(errors="surrogatepass"), digest_size=32).digest()
    return hashlib.blake2b(content, key=told, digest_size=_SEAL_BYTES).digest()
