"""Records of a table as rows: many at a time, column by column, where all of them are good."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final, get_type_hints

from msgspec import Struct
from msgspec.structs import fields

from api.importing.cells import cell_parser
from api.importing.lines import Problem
from api.importing.tables import Table
from domain.errors import InvalidValue, shorten

_MANY: Final = 128
"""Records that are read together."""


class Broken(Struct, frozen=True):
    """A record that could not be split into cells, or whose text cannot be read."""

    line: int
    column: int | None
    value: str
    reason: str
    text: str


Record = tuple[int, Sequence[str]] | Broken
"""The line where a record starts, and its cells; an empty cell tells nothing."""


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


def problem_of(line: int, error: InvalidValue) -> Problem:
    """Return the problem of a row that holds a bad value."""
    return Problem(line, error.field, error.value, f"expected {error.expected}")


def rows_of(reader: RowReader, records: Iterable[Record]) -> Iterator[tuple[int, Any] | Problem]:
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
        return problem_of(line, error)


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
