"""The kinds of tables that can be imported, told apart by their columns, and read row by row.

The rows of a movement, and those of a corporate action, must stand together in the file: a fact is
yielded as soon as its last row was read, so that memory stays bounded. An id that comes back later
is a problem.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from api.importing import (
    rows_cash,
    rows_corporate_actions,
    rows_prices,
    rows_reference,
    rows_trading,
)
from api.importing.cells import cell_parser
from api.importing.lines import Fact, Line, Options, Problem
from api.importing.reading import Reading, canonical
from domain.errors import InvalidValue, shorten

_MANY: Final = 128
"""Records that are read together."""
MAX_LEGS: Final = 10_000
"""Rows that one fact may have."""


class Broken(Struct, frozen=True):
    """A record that could not be split into cells, or whose text cannot be read."""

    line: int
    column: int | None
    value: str
    reason: str
    text: str


Record = tuple[int, Sequence[str]] | Broken
"""The line where a record starts, and its cells; an empty cell tells nothing."""


class Table(Struct, frozen=True, kw_only=True):
    """A kind of table: `header` must be there, of each pair of `either` at least one."""

    kind: str
    row: type[Struct]
    header: tuple[str, ...]
    either: tuple[tuple[str, str], ...] = ()


class RowTable(Table, frozen=True, kw_only=True):
    """A table with one fact a row. `as_told`: columns that the command takes over."""

    as_told: tuple[str, ...] = ()
    build: Callable[[Reading, int, Any], Fact]


class GroupTable(Table, frozen=True, kw_only=True):
    """A table with one fact for all rows that have the same `by`; they agree in `same`."""

    by: tuple[str, ...]
    same: tuple[str, ...]
    check: Callable[[Any], None]
    build: Callable[[Reading, list[Any], int], Fact]


TABLES: Final[tuple[RowTable | GroupTable, ...]] = (
    RowTable(
        kind="accounts",
        row=rows_reference.AccountRow,
        header=("account", "base_currency"),
        build=rows_reference.account,
    ),
    RowTable(
        kind="portfolios",
        row=rows_reference.PortfolioRow,
        header=("portfolio",),
        build=rows_reference.portfolio,
    ),
    RowTable(
        kind="instruments",
        row=rows_reference.InstrumentRow,
        header=("instrument", "kind", "currency"),
        build=rows_reference.instrument,
    ),
    RowTable(
        kind="orders",
        row=rows_trading.OrderRow,
        header=(
            *("account", "order_id", "instrument", "side", "quantity", "order_type"),
            "event_time",
        ),
        build=rows_trading.order,
    ),
    RowTable(
        kind="deals",
        row=rows_trading.DealRow,
        header=("account", "instrument", "quantity", "currency"),
        either=(("event_time", "trade_date"), ("price", "net")),
        as_told=rows_trading.DEAL_AS_TOLD,
        build=rows_trading.deal,
    ),
    RowTable(
        kind="fees",
        row=rows_trading.FeeRow,
        header=("account", "deal_id", "kind", "amount", "currency", "event_time"),
        build=rows_trading.fee,
    ),
    RowTable(
        kind="cash",
        row=rows_cash.CashRow,
        header=("account", "kind", "amount", "currency", "event_time"),
        build=rows_cash.cash,
    ),
    GroupTable(
        kind="movements",
        row=rows_cash.MovementRow,
        header=("account", "movement_id", "reason", "event_time", "quantity"),
        either=(("instrument", "currency"),),
        by=("account", "movement_id"),
        same=("reason", "event_time", "action_id"),
        check=rows_cash.check_leg,
        build=rows_cash.movement,
    ),
    RowTable(
        kind="prices",
        row=rows_prices.PriceRow,
        header=("instrument", "price", "currency", "event_time"),
        build=rows_prices.price,
    ),
    GroupTable(
        kind="corporate actions",
        row=rows_corporate_actions.ActionRow,
        header=("instrument", "action_id", "kind", "ex_date"),
        by=("instrument", "action_id"),
        same=("kind", "ex_date", "record_date", "pay_date", "action", "ref_action_id"),
        check=rows_corporate_actions.check_option,
        build=rows_corporate_actions.corporate_action,
    ),
)


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


def recognise(header: Sequence[str], line: int = 1) -> RowTable | GroupTable | Problem:
    """Return the kind of table that has these columns, or why there is none.

    Where two fit, it is the one with more columns that must be there: fees before cash.
    """
    repeated = next((name for name in header if header.count(name) > 1), None)
    if repeated is not None:
        return Problem(line, repeated, repeated, "expected each column once")
    fitting = [table for table in TABLES if not any(_misfits(table, header))]
    if fitting:
        return max(fitting, key=lambda table: len(table.header))
    return _unrecognised(header, line)


def columns_of(table: Table) -> tuple[str, ...]:
    """Return all columns that a table may have."""
    return tuple(field.encode_name for field in fields(table.row))


def _misfits(table: Table, header: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return which columns are missing for a table, and which it does not know."""
    missing = [name for name in table.header if name not in header]
    missing += [
        f"{one} or {other}"
        for one, other in table.either
        if one not in header and other not in header
    ]
    known = columns_of(table)
    return missing, [name for name in header if name not in known]


def _unrecognised(header: Sequence[str], line: int) -> Problem:
    likely = [name.strip().lower() for name in header]
    nearest = min(TABLES, key=lambda table: sum(map(len, _misfits(table, likely))))
    missing, unknown = _misfits(nearest, header)
    names = ", ".join(header)
    wrong = []
    if missing:
        wrong.append(f"missing {', '.join(missing)}")
    if unknown:
        wrong.append(f"unknown {', '.join(shorten(name) or '(no name)' for name in unknown)}")
    reason = (
        f"expected the columns of one kind of table; the nearest is {nearest.kind}: "
        f"{'; '.join(wrong)}. A table of {nearest.kind} has {', '.join(columns_of(nearest))}"
    )
    return Problem(line, shorten((missing + unknown)[0]), shorten(names), reason)


class RowReader:
    """Turns the cells of a record into a row, as the header says."""

    def __init__(self, table: Table, header: Sequence[str], zone_name: str | None) -> None:
        self.header = tuple(header)
        self._row: Callable[..., Struct] = table.row
        self._width = len(header)
        hints = get_type_hints(table.row, include_extras=True)
        known = fields(table.row)
        told = {field.encode_name: field for field in known}
        self._columns: tuple[tuple[str, Callable[[str], Any]], ...] = tuple(
            (told[name].name, cell_parser(hints[told[name].name], name, zone_name))
            for name in header
        )
        self._required = frozenset(field.name for field in known if field.required)
        self._defaults = {field.name: field.default for field in known if not field.required}
        last = max(table.row.__struct_fields__.index(name) for name, _ in self._columns)
        self._fields = table.row.__struct_fields__[: last + 1]
        required = [field.required for field in known]
        self._by_order = required == sorted(required, reverse=True)

    def read(self, cells: Sequence[str]) -> Any:
        """Return the row; raises InvalidValue."""
        if len(cells) != self._width:
            raise self._miscounted(cells)
        values = {
            name: parse(text)
            for (name, parse), text in zip(self._columns, cells, strict=True)
            if text
        }
        try:
            return self._row(**values)
        except TypeError:
            missing = self._required - values.keys()
            if not missing:
                raise
            raise InvalidValue(min(missing), "", "a value") from None

    def read_all(self, records: Sequence[Sequence[str]]) -> Iterable[Any] | None:
        """Return the rows of many records, read column by column; None where one is not good.

        None too for rows whose fields are told by name alone.
        """
        if not self._by_order:
            return None
        try:
            columns = zip(*records, strict=True)
            values = [
                self._read_column(name, parse, texts)
                for (name, parse), texts in zip(self._columns, columns, strict=True)
            ]
        except (InvalidValue, ValueError):
            return None
        return map(self._row, *self._in_order(values))

    def _read_column(
        self, name: str, parse: Callable[[str], Any], texts: Sequence[str]
    ) -> list[Any]:
        if "" not in texts:
            return list(map(parse, texts))
        if name in self._required:
            raise InvalidValue(name, "", "a value")
        default = self._defaults[name]
        return [parse(text) if text else default for text in texts]

    def _in_order(self, values: list[list[Any]]) -> Iterator[Iterable[Any]]:
        """Yield the values of each field of the row, in its order, up to the last one told."""
        told = {name: column for (name, _), column in zip(self._columns, values, strict=True)}
        for name in self._fields:
            yield told[name] if name in told else repeat(self._defaults[name])

    def problem(self, broken: Broken) -> Problem:
        """Return the problem of a record that could not be split, with its column's name."""
        known = broken.column is not None and broken.column < self._width
        field = self.header[broken.column or 0] if known else ""
        return Problem(broken.line, field, shorten(broken.value), broken.reason)

    def _miscounted(self, cells: Sequence[str]) -> InvalidValue:
        count = len(cells)
        field = self.header[count] if count < self._width else ""
        expected = f"{self._width} fields, one for each column of the header; there are {count}"
        return InvalidValue(field, ",".join(cells), expected)


def _problem(line: int, error: InvalidValue) -> Problem:
    return Problem(line, error.field, error.value, f"expected {error.expected}")


def _facts_by_row(
    table: RowTable, reader: RowReader, records: Iterable[Record], reading: Reading
) -> Iterator[Line]:
    build = table.build
    for told in _rows(reader, records):
        if isinstance(told, Problem):
            yield told
            continue
        line, row = told
        try:
            fact = build(reading, line, row)
        except InvalidValue as error:
            yield _problem(line, error)
        else:
            yield fact


def _rows(reader: RowReader, records: Iterable[Record]) -> Iterator[tuple[int, Any] | Problem]:
    """Yield the rows of records with their lines: many are read at once, where all are good."""
    for batch in _batches(records):
        whole = [record for record in batch if not isinstance(record, Broken)]
        rows = reader.read_all([cells for _, cells in whole]) if len(whole) == len(batch) else None
        if rows is not None:
            yield from zip([line for line, _ in whole], rows, strict=True)
            continue
        for record in batch:
            yield _row(reader, record)


def _row(reader: RowReader, record: Record) -> tuple[int, Any] | Problem:
    if isinstance(record, Broken):
        return reader.problem(record)
    line, cells = record
    try:
        return line, reader.read(cells)
    except InvalidValue as error:
        return _problem(line, error)


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Yield records many at a time. Those that came before an error come before it here too."""
    batch: list[Record] = []
    try:
        for record in records:
            batch.append(record)
            if len(batch) == _MANY:
                yield batch
                batch = []
    except Exception:
        yield batch
        raise
    yield batch


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


_RETURNED: Final = "expected all rows of one id to stand together: this id was there before"


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
            yield _problem(line, error)
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
        yield _problem(group.line, error)
