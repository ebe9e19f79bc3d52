"""Lines for COPY, made of the values of scanned records by a template and without Python objects.

A template is a sequence of pieces, one or more a column. What a scan has recognised has no
character that COPY's text format, or JSON, would have to escape.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.scanning import Scanned

_LITERAL, _TEXT, _NUMBER, _OFFSET, _INNER, _GIVEN, _EQUAL, _GO_ON, _MEMBER, _MEMBERS_END = range(10)
"""Pieces of a program, as `line_loop` numbers them."""


class Text(Struct, frozen=True):
    """The text of a value, or `default` where it is absent, or where `same` names another."""

    path: str
    default: str = "\\N"
    same: tuple[str, str] | None = None


class Number(Struct, frozen=True):
    """A value as a number: of an instant nanoseconds."""

    path: str


class Listed(Struct, frozen=True):
    """A list of texts as Postgres writes an array of them."""

    path: str


class Offset(Struct, frozen=True):
    """The record's offset."""


class Members(Struct, frozen=True):
    """A JSON object of those members that are not absent, null where all are.

    Of each its name, the path that it is told by, and what is written: texts, and at odd places
    paths whose text is written between them.
    """

    members: tuple[tuple[str, str, tuple[str, ...]], ...]


Piece = str | Text | Number | Listed | Offset | Members


class Template:
    """A line of a table: one piece for each column, a str as it stands."""

    def __init__(self, slots: dict[str, int], columns: Sequence[Piece]) -> None:
        self._slots = slots
        self._told = bytearray()
        self._pieces: list[tuple[int, int, int, int]] = []
        for number, column in enumerate(columns):
            if number:
                self._literal("\t")
            self._column(column)
        self._literal("\n")
        self._program = np.array(self._pieces, np.int32)
        self._bytes = np.frombuffer(bytes(self._told), np.uint8)
        self._longest = len(self._told) + 64 * len(columns)

    def lines(
        self, scanned: Scanned, offsets: NDArray[np.int64], wanted: NDArray[np.bool_]
    ) -> list[str]:
        """Return a line for each record, '' for those not wanted."""
        from streams.line_loop import make_lines  # numba: half a second to import

        count = len(offsets)
        out = np.empty(len(scanned.data) + self._longest * count, np.uint8)
        ends = np.zeros(count, np.int64)
        make_lines(
            *(scanned.data, scanned.spans, scanned.numbers, offsets, wanted),
            *(self._program, self._bytes, out, ends),
        )
        places = [0, *ends.tolist()]
        text = out[: places[-1]].tobytes().decode("ascii")
        return [text[start:end] for start, end in pairwise(places)]

    # --- the program -----------------------------------------------------------------------------

    def _add(self, what: int, a: int = 0, b: int = 0) -> int:
        self._pieces.append((what, a, b, 0))
        return len(self._pieces) - 1

    def _literal(self, text: str) -> None:
        told = text.encode()
        self._add(_LITERAL, len(self._told), len(told))
        self._told += told

    def _go_on_here(self, *pieces: int) -> None:
        for piece in pieces:
            self._pieces[piece] = (*self._pieces[piece][:3], len(self._pieces))

    def _column(self, column: Piece) -> None:
        match column:
            case str():
                self._literal(column)
            case Number():
                self._add(_NUMBER, self._slots[column.path])
            case Offset():
                self._add(_OFFSET)
            case Text():
                self._text(column)
            case Listed():
                self._literal("{")
                given = self._add(_GIVEN, self._slots[column.path])
                self._add(_INNER, self._slots[column.path])
                self._go_on_here(given)
                self._literal("}")
            case Members():
                self._members(column)

    def _text(self, column: Text) -> None:
        slot = self._slots[column.path]
        tests = [self._add(_GIVEN, slot)]
        if column.same is not None:
            one, other = column.same
            tests.append(self._add(_EQUAL, self._slots[one], self._slots[other]))
        self._add(_TEXT, slot)
        told = self._add(_GO_ON)
        self._go_on_here(*tests)
        self._literal(column.default)
        self._go_on_here(told)

    def _members(self, column: Members) -> None:
        for name, path, parts in column.members:
            given = self._add(_GIVEN, self._slots[path])
            self._add(_MEMBER)
            self._literal(f'"{name}": ')
            for number, part in enumerate(parts):
                if number % 2:
                    self._add(_TEXT, self._slots[part])
                else:
                    self._literal(part)
            self._go_on_here(given)
        self._add(_MEMBERS_END)
