"""The compiled loop that makes lines for COPY of what a scan found. Importing it loads numba."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

LITERAL: Final = 0
TEXT: Final = 1
NUMBER: Final = 2
OFFSET: Final = 3
INNER: Final = 4
"""A text without its first and last byte: what stands in a list's brackets."""
GIVEN: Final = 5
"""What follows is left out where a value is absent."""
EQUAL: Final = 6
"""What follows is left out where two values differ."""
GO_ON: Final = 7
MEMBER: Final = 8
"""A member of an object comes, which begins with the first."""
MEMBERS_END: Final = 9

_MOST_DIGITS: Final = 20
_U: Final = np.uint64
"""Makes an index that numba does not look at for being negative: that takes half of a loop."""


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has found no folder that it could cache in
        return njit(nogil=True)(function)


@_compile
def _put(out: Bytes, at: int, source: Bytes, start: int, end: int) -> int:
    for n in range(start, end):
        out[_U(at)] = source[_U(n)]
        at += 1
    return at


@_compile
def _put_number(out: Bytes, at: int, number: int, digits: Bytes) -> int:
    if number < 0:
        out[_U(at)] = 45
        at += 1
        number = -number
    count = 0
    while number or not count:
        digits[_U(count)] = 48 + number % 10
        number //= 10
        count += 1
    while count:
        count -= 1
        out[_U(at)] = digits[_U(count)]
        at += 1
    return at


@_compile
def _are_equal(data: Bytes, one: Int32s, other: Int32s, row: int) -> bool:
    size = one[1, row] - one[0, row]
    if other[1, row] - other[0, row] != size:
        return False
    for n in range(size):  # noqa: SIM110 - compiled as it stands
        if data[_U(one[0, row] + n)] != data[_U(other[0, row] + n)]:
            return False
    return True


@_compile
def _holds(data: Bytes, spans: Int32s, row: int, what: int, a: int, b: int) -> bool:
    if what == GIVEN:
        return bool(spans[a, 0, row])
    return what == EQUAL and _are_equal(data, spans[a], spans[b], row)


@_compile
def _text_of(spans: Int32s, slot: int, row: int, what: int) -> tuple[int, int]:
    brackets = 1 if what == INNER else 0
    return spans[slot, 0, row] + brackets, spans[slot, 1, row] - brackets


@_compile
def _mark(out: Bytes, at: int, what: int, is_inside: bool) -> int:
    """Write what an object begins with, what parts its members, or its end; null for none."""
    if what == MEMBER:
        out[_U(at)] = 44 if is_inside else 123
        return at + 1
    if is_inside:
        out[_U(at)] = 125
        return at + 1
    out[_U(at)] = 92
    out[_U(at + 1)] = 78
    return at + 2


@_compile
def make_lines(
    data: Bytes,
    spans: Int32s,
    numbers: Int64s,
    offsets: Int64s,
    wanted: Bools,
    pieces: Int32s,
    told: Bytes,
    out: Bytes,
    ends: Int64s,
) -> None:
    """Write a line for each wanted row of a scan to `out`, and where it ends to `ends`.

    A piece is: what, the slot (or where its bytes begin in `told`), how many bytes (or the other
    slot), and at which piece to go on where it does not hold. `out` must have room.
    """
    digits = np.zeros(_MOST_DIGITS, np.uint8)
    at = 0
    for row in range(ends.shape[0]):
        piece, is_inside = 0, False
        while wanted[row] and piece < pieces.shape[0]:
            what, a, b = pieces[piece, 0], pieces[piece, 1], pieces[piece, 2]
            other = pieces[piece, 3]
            piece += 1
            if what == LITERAL:
                at = _put(out, at, told, a, a + b)
            elif what in (TEXT, INNER):
                start, end = _text_of(spans, a, row, what)
                at = _put(out, at, data, start, end)
            elif what in (NUMBER, OFFSET):
                number = numbers[a, row] if what == NUMBER else offsets[row]
                at = _put_number(out, at, number, digits)
            elif what in (MEMBER, MEMBERS_END):
                at = _mark(out, at, what, is_inside)
                is_inside = what == MEMBER
            elif not _holds(data, spans, row, what, a, b):
                piece = other
        ends[row] = at
