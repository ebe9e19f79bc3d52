"""Tables read row by row, whatever their format: the facts and problems of their records.

The rows of a movement, and those of a corporate action, must stand together in the file: a fact is
yielded as soon as its last row was read, so that memory stays bounded. An id that comes back later
is a problem.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from api.importing.lines import Line, Options, Problem
from api.importing.reading import Reading, canonical
from api.importing.table_rows import Broken, Record, RowReader, problem_of, rows_of
from api.importing.tables import GroupTable, RowTable, recognise
from domain.errors import InvalidValue, shorten

MAX_LEGS: Final = 10_000
"""Rows that one fact may have."""
_RETURNED: Final = "expected all rows of one id to stand together: this id was there before"


def read_table(
    header: Sequence[str], records: Iterable[Record], options: Options, header_line: int = 1
) -> Iterator[Line]:
    """Yield the facts and problems of a table's records, in their order."""
    table = recognise(header, header_line)
    if isinstance(table, Problem):
        yield table
        return
    reader = RowReader(table, header, options.zone)
    if isinstance(table, RowTable):
        as_told = tuple(name for name in table.as_told if name in header)
        reading = Reading(table.kind, options, as_told)
        yield from _facts_by_row(table, reader, records, reading)
    else:
        yield from _facts_by_group(table, reader, records, Reading(table.kind, options))


def _facts_by_row(
    table: RowTable, reader: RowReader, records: Iterable[Record], reading: Reading
) -> Iterator[Line]:
    build = table.build
    for told in rows_of(reader, records):
        if isinstance(told, Problem):
            yield told
            continue
        line, row = told
        try:
            fact = build(reading, line, row)
        except InvalidValue as error:
            yield problem_of(line, error)
        else:
            yield fact


class _Group:
    """The rows of one fact so far. `spoiled` when one of them could not be read."""

    def __init__(self, key: tuple[str, ...], line: int, *, spoiled: bool) -> None:
        self.key = key
        self.line = line
        self.spoiled = spoiled
        self.rows: list[Any] = []


def _facts_by_group(
    table: GroupTable, reader: RowReader, records: Iterable[Record], reading: Reading
) -> Iterator[Line]:
    """Yield a fact for each group of rows, none where one of its rows could not be read."""
    places = [reader.header.index(name) for name in table.by]
    seen: set[bytes] = set()
    group: _Group | None = None
    broken: str | None = None
    for record in records:
        if isinstance(record, Broken):
            yield reader.problem(record)
            broken = record.text
            if group is not None and _names(broken, group.key):
                group.spoiled = True
            continue
        line, cells = record
        key = tuple(cells[place] if place < len(cells) else "" for place in places)
        if group is None or key != group.key:
            if group is not None:
                yield from _finished(table, group, reading)
            group = _Group(key, line, spoiled=broken is not None and _names(broken, key))
            digest = hashlib.sha256("\x1f".join(key).encode()).digest()[:16]
            if digest in seen:
                group.spoiled = True
                yield Problem(line, table.by[-1], shorten(key[-1]), _RETURNED)
            seen.add(digest)
        elif broken is not None:
            group.spoiled = True
        broken = None
        yield from _joined(table, group, reader, record)
    if group is not None:
        yield from _finished(table, group, reading)


def _names(text: str, key: tuple[str, ...]) -> bool:
    """Tell whether a record that cannot be split has the id of a group among its parts."""
    return key[-1] in re.split(r'[,"\r\n]', text)


def _joined(
    table: GroupTable, group: _Group, reader: RowReader, record: tuple[int, Sequence[str]]
) -> Iterator[Problem]:
    line, cells = record
    try:
        row = reader.read(cells)
        table.check(row)
        if group.rows:
            _agree(group.rows[0], row, table.same)
        if len(group.rows) == MAX_LEGS:
            raise InvalidValue(table.by[-1], group.key[-1], f"at most {MAX_LEGS} rows of one id")
    except InvalidValue as error:
        if len(group.rows) < MAX_LEGS or not group.spoiled:
            yield problem_of(line, error)
        group.spoiled = True
    else:
        group.rows.append(row)


def _agree(first: Any, row: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(row, name) != getattr(first, name):
            expected = f"{canonical(getattr(first, name))!r}, as in the first row of this id"
            raise InvalidValue(name, canonical(getattr(row, name)), expected)


def _finished(table: GroupTable, group: _Group, reading: Reading) -> Iterator[Line]:
    if group.spoiled:
        if group.rows:
            reason = (
                "expected every row of this id to be readable: "
                f"{len(group.rows)} that were read are left out with those that were not"
            )
            yield Problem(group.line, table.by[-1], shorten(group.key[-1]), reason)
        return
    try:
        yield table.build(reading, group.rows, group.line)
    except InvalidValue as error:
        yield problem_of(group.line, error)
