"""Tables read row by row, whatever their format: the facts and problems of their records.

The rows of a movement, and those of a corporate action, are one fact, which is yielded as soon as
its last row was read. Such a file is read twice: the first time tells which ids come back after the
rows of others. Their rows wait for each other, and memory stays bounded: so many ids may, no more.
A record that cannot be split spoils the ids among its parts, wherever their other rows stand.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from api.importing.lines import Line, Options, Problem
from api.importing.reading import Reading, canonical
from api.importing.table_rows import Broken, Record, RowReader, problem_of, rows_of
from api.importing.tables import GroupTable, RowTable, recognise
from domain.errors import InvalidValue, shorten

MAX_LEGS: Final = 10_000
"""Rows that one fact may have."""
MOST_APART: Final = 50_000
"""Ids of a file whose rows may have rows of other ids between them: these are kept in memory."""
_APART: Final = (
    f"expected the rows of all ids but {MOST_APART} to stand together: sort the rows by their ids"
)
MOST_PARTS: Final = 100_000
"""Different parts of records that cannot be split: each may be the id of other rows."""
_BROKEN: Final = "expected records that can be split: too many cannot (other quotes or encoding?)"


def read_table(
    header: Sequence[str],
    records: Iterable[Record],
    read_ahead: Callable[[], Iterable[Record]],
    options: Options,
    header_line: int = 1,
) -> Iterator[Line]:
    """Yield the facts and problems of a table's records, in their order.

    `read_ahead` reads the same records beforehand, where that is needed.
    """
    table = recognise(header, header_line)
    if isinstance(table, Problem):
        yield table
        return
    reader = RowReader(table, header, options.zone)
    if isinstance(table, RowTable):
        as_told = tuple(name for name in table.as_told if name in header)
        reading = Reading(table.kind, options, as_told, header)
        yield from _facts_by_row(table, reader, records, reading)
        return
    places = [reader.header.index(name) for name in table.by]
    runs, parts = _look_through(places, read_ahead())
    if len(runs) > MOST_APART:
        yield Problem(header_line, table.by[-1], f"{len(runs)} ids", _APART)
        return
    if len(parts) > MOST_PARTS:
        yield Problem(header_line, "", "", _BROKEN)
        return
    groups = _Groups(places, runs, parts)
    yield from _facts_by_group(table, groups, reader, records, Reading(table.kind, options))


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
    """The rows of one fact so far. `spoiled` when one of them could not be read.

    One of its problems `counts` as the fact's: the first.
    """

    def __init__(
        self, key: tuple[str, ...], line: int, *, spoiled: bool = False, counts: bool = True
    ) -> None:
        self.key = key
        self.line = line
        self.spoiled = spoiled
        self.counts = counts
        self.rows: list[Any] = []

    def problem(self, line: int, field: str, value: str, reason: str) -> Problem:
        """Return a problem of the fact's, which is spoiled from now on."""
        self.spoiled = True
        # Rows without an id are facts of their own.
        counts, self.counts = self.counts, self.counts and not self.key[-1]
        return Problem(line, field, value, reason, counts)


class _Groups:
    """The groups of a file, and those that wait for rows which come after the rows of others.

    `runs` are the ids whose rows do not stand together, and how often rows of them come anew;
    `parts` those of records that cannot be split: what has such an id is spoiled from the start,
    and waits for the end.
    """

    def __init__(self, places: list[int], runs: dict[bytes, int], parts: set[bytes]) -> None:
        self._places = places
        self._left = runs
        self._parts = parts
        self._told: set[bytes] = set()
        self._waiting: dict[str, dict[tuple[str, ...], _Group]] = {}

    def key_of(self, cells: Sequence[str]) -> tuple[str, ...]:
        """Return the id that a row has."""
        return _key_of(self._places, cells)

    def take(self, key: tuple[str, ...], line: int) -> _Group:
        """Return the group that a row goes on with or begins."""
        group = self._waiting.get(key[-1], {}).get(key)
        if group is None:
            part = _digest_of(key[-1:])
            spoiled = part in self._parts
            # What spoils it may have been told, and counted, already.
            group = _Group(key, line, spoiled=spoiled, counts=part not in self._told)
            if spoiled or _digest_of(key) in self._left:
                self._waiting.setdefault(key[-1], {})[key] = group
        return group

    def is_whole(self, group: _Group) -> bool:
        """Tell, when rows of another id come, whether a group has all of its rows."""
        of_name = self._waiting.get(group.key[-1], {})
        if group.key not in of_name:
            return True
        if _digest_of(group.key[-1:]) in self._parts:
            return False
        digest = _digest_of(group.key)
        self._left[digest] -= 1
        if self._left[digest]:
            return False
        del of_name[group.key]
        return True

    def problem(self, told: Problem, text: str, current: _Group | None) -> Problem:
        """Return the problem of a broken record, as that of the groups it may belong to."""
        counts: list[bool] = []
        for name in _parts_of(text):
            self._told.add(_digest_of((name,)))
            named = dict(self._waiting.get(name, {}))
            if current is not None and current.key[-1] == name:
                named[current.key] = current
            for group in named.values():
                one = group.problem(told.line, told.field, told.value, told.reason)
                counts.append(one.counts)
        return replace(told, counts=any(counts)) if counts else told

    def left(self) -> Iterator[_Group]:
        """Yield, at the end, the groups that still wait: they have rows that could not be read.

        Or that are not there any more, in a file that was changed after it was looked through.
        """
        for of_name in self._waiting.values():
            for group in of_name.values():
                group.spoiled = True
                yield group


def _look_through(
    places: list[int], records: Iterable[Record]
) -> tuple[dict[bytes, int], set[bytes]]:
    """Return the ids that come back after the rows of another one, and how often they come.

    And the parts of all records that cannot be split.
    """
    seen: set[bytes] = set()
    runs: dict[bytes, int] = {}
    parts: set[bytes] = set()
    last: tuple[str, ...] | None = None
    for record in records:
        if isinstance(record, Broken):
            if len(parts) <= MOST_PARTS:
                parts.update(_digest_of((part,)) for part in _parts_of(record.text))
            continue
        if (key := _key_of(places, record[1])) == last:
            continue
        last, digest = key, _digest_of(key)
        if digest in seen and key[-1]:
            runs[digest] = runs.get(digest, 1) + 1
        seen.add(digest)
    return runs, parts


def _key_of(places: list[int], cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cells[place] if place < len(cells) else "" for place in places)


def _digest_of(key: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\x1f".join(key).encode()).digest()[:16]


def _facts_by_group(
    table: GroupTable,
    groups: _Groups,
    reader: RowReader,
    records: Iterable[Record],
    reading: Reading,
) -> Iterator[Line]:
    """Yield a fact for each group of rows, none where one of its rows could not be read."""
    group: _Group | None = None
    after_broken = False
    for record in records:
        if isinstance(record, Broken):
            after_broken = True
            yield groups.problem(reader.problem(record), record.text, group)
            continue
        line, cells = record
        key = groups.key_of(cells)
        if group is None or key != group.key:
            if group is not None and groups.is_whole(group):
                yield from _finished(table, group, reading)
            group = groups.take(key, line)
        elif after_broken:
            group.spoiled = True
        after_broken = False
        yield from _joined(table, group, reader, record)
    if group is not None and groups.is_whole(group):
        yield from _finished(table, group, reading)
    for group in groups.left():
        yield from _finished(table, group, reading)


def _parts_of(text: str) -> set[str]:
    """Return what a record that cannot be split has among its parts: its id, if any, is one."""
    return set(filter(None, re.split(r'[,"\r\n]', text)))


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
            yield _problem(group, line, error)
        group.spoiled = True
    else:
        group.rows.append(row)


def _agree(first: Any, row: Any, names: tuple[str, ...]) -> None:
    for name in names:
        if getattr(row, name) != getattr(first, name):
            expected = f"{canonical(getattr(first, name))!r}, as in the first row of this id"
            raise InvalidValue(name, canonical(getattr(row, name)), expected)


def _problem(group: _Group, line: int, error: InvalidValue) -> Problem:
    told = problem_of(line, error)
    return group.problem(told.line, told.field, told.value, told.reason)


def _finished(table: GroupTable, group: _Group, reading: Reading) -> Iterator[Line]:
    if group.spoiled:
        if group.rows:
            reason = (
                "expected every row of this id to be readable: "
                f"{len(group.rows)} that were read are left out with those that were not"
            )
            yield group.problem(group.line, table.by[-1], shorten(group.key[-1]), reason)
        return
    try:
        yield table.build(reading, group.rows, group.line)
    except InvalidValue as error:
        yield _problem(group, group.line, error)
