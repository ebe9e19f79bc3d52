"""The compiled loop that recognises canonical records. Importing this loads numba: import it late.

It runs a program of steps over each record's bytes. A record either has exactly the form that the
program describes, and its values are noted, or it is not recognised; nothing is guessed.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Bools = NDArray[np.bool_]

EXACTLY: Final = 0
"""These bytes come next."""
MAYBE: Final = 1
"""These bytes may come next; else the program goes on at another step."""
NAME: Final = 2
"""As EXACTLY, for a member's name: without the comma before it where it is an object's first."""
MAYBE_NAME: Final = 3
OPEN: Final = 4
CLOSE: Final = 5
GO_ON: Final = 6
TEXT: Final = 7
"""ASCII without escapes, not empty. What has others is left to the decoder."""
WORD: Final = 8
"""One of a few words, as a text. This and TRUTH are named in programs alone."""
DECIMAL: Final = 9
"""A text that is a number as the ledger writes it, of at most 18 digits."""
INTEGER: Final = 10
TRUTH: Final = 11
INSTANT: Final = 12
TEXTS: Final = 13
"""A list of texts, not empty; noted whole."""
MEMBERS: Final = 14
"""An object of texts, not empty and no name twice; noted whole."""

_QUOTE: Final = 34
_BACKSLASH: Final = 92
_COMMA: Final = 44
_COLON: Final = 58
_MINUS: Final = 45
_POINT: Final = 46
_ZERO: Final = 48
_NINE: Final = 57
_MOST_DIGITS: Final = 18
_NS: Final = 1_000_000_000
_U: Final = np.uint64
"""Makes an index that numba does not look at for being negative: that takes half of a loop."""


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has found no folder that it could cache in
        return njit(nogil=True)(function)


@_compile
def _matches(data: Bytes, at: int, end: int, told: Bytes, start: int, size: int) -> bool:
    if at + size > end:
        return False
    for n in range(size):  # noqa: SIM110 - compiled as it stands
        if data[_U(at + n)] != told[_U(start + n)]:
            return False
    return True


@_compile
def _text_end(data: Bytes, at: int, end: int) -> int:
    """Return where the text that begins at a quote ends, behind its second one; -1 for none."""
    if at >= end or data[_U(at)] != _QUOTE:
        return -1
    at += 1
    first = at
    while at < end:
        byte = data[_U(at)]
        if byte == _QUOTE:
            return at + 1 if at > first else -1
        if byte < 32 or byte == _BACKSLASH or byte > 126:
            return -1
        at += 1
    return -1


@_compile
def _texts_end(data: Bytes, at: int, end: int) -> int:
    if at >= end or data[_U(at)] != 91:
        return -1
    while True:
        at = _text_end(data, at + 1, end)
        if at < 0 or at >= end:
            return -1
        if data[_U(at)] == 93:
            return at + 1
        if data[_U(at)] != _COMMA:
            return -1


@_compile
def _members_end(data: Bytes, at: int, end: int) -> int:
    if at >= end or data[_U(at)] != 123:
        return -1
    first = at + 1
    while True:
        name = at + 1
        at = _text_end(data, name, end)
        if at < 0 or at >= end or data[_U(at)] != _COLON:
            return -1
        size = at - name
        # A name that stands twice means one thing to one parser and another to the next.
        seen = first
        while seen < name:
            after = _text_end(data, seen, end)
            if after - seen == size and _matches(data, seen, end, data, name, size):
                return -1
            seen = _text_end(data, after + 1, end) + 1
        at = _text_end(data, at + 1, end)
        if at < 0 or at >= end:
            return -1
        if data[_U(at)] == 125:
            return at + 1
        if data[_U(at)] != _COMMA:
            return -1


@_compile
def _number(data: Bytes, at: int, end: int, has_point: bool) -> tuple[int, int, int]:
    """Return where a plain number ends (-1 for none), its digits as an integer, its decimals."""
    negative = at < end and data[_U(at)] == _MINUS
    if negative:
        at += 1
    first, value, digits, scale = at, 0, 0, -1
    while at < end:
        byte = data[_U(at)]
        if _ZERO <= byte <= _NINE:
            value = value * 10 + (byte - _ZERO)
            digits += 1
            if digits > _MOST_DIGITS:
                return -1, 0, 0
            if scale >= 0:
                scale += 1
        elif byte == _POINT and has_point and scale < 0 and digits:
            scale = 0
        else:
            break
        at += 1
    if not digits or scale == 0 or (negative and value == 0):
        return -1, 0, 0
    if data[first] == _ZERO and first + 1 < at and data[first + 1] != _POINT:
        return -1, 0, 0
    return at, -value if negative else value, max(scale, 0)


@_compile
def _two(data: Bytes, at: int) -> int:
    """Return a number of two digits; far below zero where they are none."""
    tens, ones = int(data[_U(at)]) - _ZERO, int(data[at + 1]) - _ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -100_000


@_compile
def _instant_ns(data: Bytes, at: int) -> tuple[bool, int]:
    """Return whether 30 bytes are an Instant of the years 1678 to 2261, and its nanoseconds."""
    for n, mark in ((4, 45), (7, 45), (10, 84), (13, 58), (16, 58), (19, 46), (29, 90)):
        if data[_U(at + n)] != mark:
            return False, 0
    year = _two(data, at) * 100 + _two(data, at + 2)
    month, day = _two(data, at + 5), _two(data, at + 8)
    hour, minute, second = _two(data, at + 11), _two(data, at + 14), _two(data, at + 17)
    if not (1678 <= year <= 2261 and 1 <= month <= 12 and day >= 1):
        return False, 0
    if not (0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60):
        return False, 0
    is_leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    days = 30 + ((month + (month > 7)) & 1)
    if month == 2:
        days = 29 if is_leap else 28
    if day > days:
        return False, 0
    fraction = 0
    for n in range(20, 29):
        digit = int(data[_U(at + n)]) - _ZERO
        if not 0 <= digit <= 9:
            return False, 0
        fraction = fraction * 10 + digit
    # Source: Howard Hinnant, chrono-compatible low-level date algorithms, days_from_civil.
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    since = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468
    return True, ((since * 24 + hour) * 60 + minute) * 60 * _NS + second * _NS + fraction


@_compile
def _is_word(data: Bytes, start: int, end: int, told: Bytes, word: int) -> bool:
    """Tell whether a text is one of the words from `word` on: of each its length, then it."""
    while told[word]:
        size = int(told[word])
        if size == end - start and _matches(data, start, end, told, word + 1, size):
            return True
        word += size + 1
    return False


@_compile
def _quoted(
    data: Bytes, at: int, end: int, what: int, told: Bytes, word: int
) -> tuple[int, int, int]:
    """Return as `_unquoted` does where a text ends that is to be a number, an instant, a word."""
    after = _text_end(data, at, end)
    if after < 0 or what == TEXT:
        return after, 0, 0
    start, last = at + 1, after - 1
    if what == DECIMAL:
        digits_end, number, scale = _number(data, start, last, True)
        return (after, number, scale) if digits_end == last else (-1, 0, 0)
    if what == INSTANT:
        if last - start != 30:
            return -1, 0, 0
        is_instant, number = _instant_ns(data, start)
        return (after, number, 0) if is_instant else (-1, 0, 0)
    return (after, 0, 0) if _is_word(data, start, last, told, word) else (-1, 0, 0)


@_compile
def _unquoted(
    data: Bytes, at: int, end: int, what: int, told: Bytes, word: int
) -> tuple[int, int, int]:
    """Return where a value ends (-1 for none), the number that it is, its decimals."""
    if what == INTEGER:
        after, number, scale = _number(data, at, end, False)
        return after, number, scale
    if what == TEXTS:
        return _texts_end(data, at, end), 0, 0
    if what == MEMBERS:
        return _members_end(data, at, end), 0, 0
    if _matches(data, at, end, told, word, 4):
        return at + 4, 1, 0
    return (at + 5 if _matches(data, at, end, told, word + 4, 5) else -1), 0, 0


@_compile
def _step(
    data: Bytes, at: int, end: int, told: Bytes, what: int, a: int, b: int, first: bool
) -> tuple[int, bool]:
    """Return where a step that notes nothing ends (-1 for none); whether a first member is next."""
    if what in (OPEN, CLOSE):
        mark = 123 if what == OPEN else 125
        return (at + 1 if at < end and data[_U(at)] == mark else -1), what == OPEN
    if what in (EXACTLY, MAYBE):
        return (at + b if _matches(data, at, end, told, a, b) else -1), first
    skipped = 1 if first else 0
    if _matches(data, at, end, told, a + skipped, b - skipped):
        return at + b - skipped, False
    return -1, first


@_compile
def scan(
    data: Bytes,
    ends: Int64s,
    steps: Int32s,
    told: Bytes,
    spans: Int32s,
    numbers: Int64s,
    scales: Int32s,
    recognised: Bools,
) -> None:
    """Run the program over records that lie one after another and end at `ends`.

    A step is: what, where its bytes begin in `told`, how many, and where to go on otherwise, or the
    slot of its value. By slot and record, `spans` gets where values begin and end in `data`,
    `numbers` and `scales` what numbers are. What is absent stays as it was given.
    """
    start = 0
    for row in range(ends.shape[0]):
        end = ends[row]
        at, step, first = start, 0, True
        while at >= 0 and step < steps.shape[0]:
            what, a, b, other = steps[step, 0], steps[step, 1], steps[step, 2], steps[step, 3]
            step += 1
            if what == GO_ON:
                step = other
                continue
            if what < TEXT:
                after, first = _step(data, at, end, told, what, a, b, first)
                if after < 0 and what in (MAYBE, MAYBE_NAME):
                    step = other
                    continue
                at = after
                continue
            is_text = what <= DECIMAL or what == INSTANT
            if is_text:
                after, number, scale = _quoted(data, at, end, what, told, a)
            else:
                after, number, scale = _unquoted(data, at, end, what, told, a)
            if after >= 0 and other >= 0:
                spans[other, 0, row] = at + is_text
                spans[other, 1, row] = after - is_text
                numbers[other, row] = number
                scales[other, row] = scale
            at = after
        recognised[row] = at == end
        start = end
