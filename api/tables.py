"""Rows as shown, in the formats that programs read: JSON, CSV, Arrow, Parquet.

The command line and the API write the same. Each format can be written piece by piece, so that a
table of any length takes bounded memory.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from domain.money import MAX_DIGITS, to_plain

_encode = msgspec.json.Encoder().encode
Columns = Sequence[tuple[str, str]]
"""Names and kinds (`api.views.Kind`)."""
Scales = Mapping[str, int | None]
"""By decimal column, the least scale that holds all its rows; None where no scale does."""
Extents = Mapping[str, tuple[int, int]]
"""By decimal column, the most digits after the point and before it."""


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: decimals as strings in plain notation."""
    return to_plain(value) if isinstance(value, Decimal) else value


def json_row(names: Sequence[str], row: Sequence[Any]) -> bytes:
    """Return a row as a JSON object."""
    return _encode(dict(zip(names, map(plain, row), strict=True)))


def json_rows(columns: Columns, rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    """Yield rows as JSON objects; decimals are only where the columns say so."""
    names = [name for name, _ in columns]
    decimals = [index for index, (_, kind) in enumerate(columns) if kind == "decimal"]
    for row in rows:
        values = list(row)
        for index in decimals:
            if (value := values[index]) is not None:
                values[index] = to_plain(value)
        yield _encode(dict(zip(names, values, strict=True)))


def cell(value: Any) -> Any:
    """Return a value as CSV holds it."""
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return _encode(value).decode()
    return plain(value)


def decimal_scale(values: Iterable[Decimal | None]) -> int | None:
    """Return the least scale at which decimal128 holds all values exactly; None where none does."""
    scale = whole = 0
    for value in values:
        if value is None:
            continue
        _, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        scale = max(scale, -exponent)
        whole = max(whole, len(digits) + exponent)
    return scale if scale + whole <= MAX_DIGITS else None


def scales_of(columns: Columns, rows: Sequence[Sequence[Any]]) -> Scales:
    """Return the scale of each decimal column."""
    return {
        name: decimal_scale(row[index] for row in rows)
        for index, (name, kind) in enumerate(columns)
        if kind == "decimal"
    }


def scales_within(extents: Extents) -> Scales:
    """Return the scale of each decimal column, of which the digits are known."""
    return {
        name: scale if scale + whole <= MAX_DIGITS else None
        for name, (scale, whole) in extents.items()
    }


def arrow_schema(columns: Columns, scales: Scales) -> Any:
    """Return the Arrow schema of a table."""
    import pyarrow as pa

    return pa.schema([(name, _arrow_type(kind, scales.get(name))) for name, kind in columns])


def _arrow_type(kind: str, scale: int | None) -> Any:
    import pyarrow as pa

    match kind:
        case "decimal":
            return pa.string() if scale is None else pa.decimal128(MAX_DIGITS, scale)
        case "integer":
            return pa.int64()
        case "time":
            return pa.timestamp("ns", tz="UTC")
        case _:
            return pa.string()


def arrow_batch(columns: Columns, schema: Any, rows: Sequence[Sequence[Any]]) -> Any:
    """Return rows as a record batch."""
    import pyarrow as pa

    by_column = zip(*rows, strict=True) if rows else ([] for _ in columns)
    arrays = [
        _arrow_array(kind, list(values), field.type)
        for (_, kind), values, field in zip(columns, by_column, schema, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)


def _arrow_array(kind: str, values: list[Any], chosen: Any) -> Any:
    import pyarrow as pa

    match kind:
        case "decimal" if pa.types.is_string(chosen):
            values = [plain(value) for value in values]
        case "json":
            values = [None if value is None else _encode(value).decode() for value in values]
        case "time":
            values = [_time_ns(value) for value in values]
    return pa.array(values, chosen)


def _time_ns(text: str | None) -> int | None:
    from domain.times import parse_instant, to_ns

    return None if text is None else to_ns(parse_instant(text, "time"))


def copied_table(schema: Any, lines: bytes) -> Any:
    """Return rows that Postgres copied as CSV, times as nanoseconds and JSON as text."""
    import pyarrow as pa
    import pyarrow.csv as pc

    types = {
        field.name: pa.int64() if pa.types.is_timestamp(field.type) else field.type
        for field in schema
    }
    table = pc.read_csv(
        pa.BufferReader(lines),
        pc.ReadOptions(column_names=schema.names, block_size=len(lines) + 1),
        pc.ParseOptions(newlines_in_values=True),
        pc.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return table.cast(schema)


class CsvPieces:
    """A table as CSV, piece by piece."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def first(self) -> bytes:
        """Return what comes before the rows."""
        return self._lines([[name for name, _ in self._columns]])

    def rows(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Return rows."""
        return self._lines([[cell(value) for value in row] for row in rows])

    def last(self) -> bytes:
        """Return what comes after the rows."""
        return b""

    def _lines(self, lines: Iterable[Sequence[Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(lines)
        return text.getvalue().encode()


class ArrowPieces:
    """A table as an Arrow stream or as Parquet, piece by piece."""

    def __init__(
        self, columns: Columns, scales: Scales, chosen: Literal["arrow", "parquet"]
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._columns = columns
        self._schema = arrow_schema(columns, scales)
        self._sink = _Sink()
        file = pa.PythonFile(self._sink, mode="w")
        if chosen == "parquet":
            self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        else:
            self._writer = pa.ipc.new_stream(file, self._schema)

    def first(self) -> bytes:
        """Return what comes before the rows."""
        return self._sink.taken()

    def rows(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Return rows."""
        return self.table(arrow_batch(self._columns, self._schema, rows))

    def table(self, rows: Any) -> bytes:
        """Return rows that are a table or a record batch."""
        self._writer.write(rows)
        return self._sink.taken()

    def last(self) -> bytes:
        """Return what comes after the rows."""
        self._writer.close()
        return self._sink.taken()


class _Sink(io.RawIOBase):
    """What is written to it can be taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


Pieces = CsvPieces | ArrowPieces
MEDIA_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
