"""Bodies: of bounded size, in bounded time, and strict JSON."""

import asyncio
import json
import re
from typing import Any, Final, NoReturn

import msgspec
from starlette.requests import ClientDisconnect, Request

from api.http.problems import (
    INVALID_JSON,
    INVALID_REQUEST,
    TOO_LARGE,
    TOO_SLOW,
    UNSUPPORTED_MEDIA,
    Problem,
)
from domain.errors import shorten

BODY_S: Final = 20.0
DEEPEST: Final = 32
_IN_THREAD_FROM: Final = 64 * 1024
_TOKENS: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""Strings and brackets, of text whose strings all end: else each quote is searched from anew."""
_LONGEST_NUMBER: Final = 200


async def body_of(request: Request, most_bytes: int) -> Any:
    """Return the JSON value of a request's body, its numbers with all their digits.

    Raises Problem for a body that is too large, too slow, of another type, or no strict JSON.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Problem(UNSUPPORTED_MEDIA, "Content-Type: expected application/json")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(UNSUPPORTED_MEDIA, "Content-Encoding: expected none")
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told[:18]) > most_bytes:
        raise _too_large(most_bytes)
    text = await _received(request, most_bytes)
    if len(text) < _IN_THREAD_FROM:
        return strict(text)
    return await asyncio.to_thread(strict, text)


async def _received(request: Request, most_bytes: int) -> bytes:
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.stream():
                size += len(piece)
                if size > most_bytes:
                    raise _too_large(most_bytes)
                pieces.append(piece)
    except TimeoutError:
        raise Problem(TOO_SLOW, f"the body did not come in {BODY_S:g} s", headers=_CLOSE) from None
    except ClientDisconnect:
        raise Problem(INVALID_REQUEST, "the client went away") from None
    return b"".join(pieces)


_CLOSE: Final = {"Connection": "close"}


def _too_large(most_bytes: int) -> Problem:
    return Problem(TOO_LARGE, f"the body may have {most_bytes:,} bytes", headers=_CLOSE)


def strict(text: bytes) -> Any:
    """Return a JSON value; raises Problem for anything that two readers could read differently."""
    try:
        # msgspec sees to UTF-8, surrogates and grammar; the other reader to names told twice.
        msgspec.json.decode(text, type=msgspec.Raw)
        _check_depth(text)
        msgspec.json.decode(text)
        return json.loads(
            text,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_no_number,
            object_pairs_hook=_members,
        )
    except (msgspec.DecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(INVALID_JSON, f"the body: expected JSON: {shorten(str(error))}") from None


def _number(text: str) -> Any:
    from decimal import Decimal

    if len(text) > _LONGEST_NUMBER:
        raise Problem(INVALID_JSON, f"the body: a number has {len(text)} digits")
    return int(text) if text.lstrip("-").isdecimal() else Decimal(text)


def _no_number(text: str) -> NoReturn:
    raise Problem(INVALID_JSON, f"the body: {text} is no JSON number")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        name = next(name for name in names if names.count(name) > 1)
        raise Problem(
            INVALID_JSON, f"the body: {shorten(name)!r} is told twice", field=shorten(name)
        )
    return members


def _check_depth(text: bytes) -> None:
    depth = 0
    for token in _TOKENS.finditer(text):
        first = token[0][:1]
        if first in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise Problem(INVALID_JSON, f"the body is nested more than {DEEPEST} deep")
        elif first in b"]}":
            depth -= 1
