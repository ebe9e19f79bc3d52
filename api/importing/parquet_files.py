"""Parquet files with the columns of a table, read a few thousand rows at a time."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from api.importing.lines import Line, Options, Problem, open_input
from api.importing.table_reading import read_table
from api.importing.table_rows import Broken, Record
from api.importing.tables import recognise
from domain.errors import shorten
from domain.money import MAX_SCALE, normalized, to_plain

BATCH_ROWS: Final = 8192
_BUFFER_BYTES: Final = 1 << 20
_UNNAMED_INDEX: Final = re.compile(r"__index_level_\d+__")
_LAST_ZEROS: Final = re.compile(r"(?:\.(?:000)+|(?<=\d)(?:000)+)\Z")
_SURROGATE: Final = re.compile("[\udc80-\udcff]")
_FLOAT: Final = (
    "expected decimals, integers or text: a float does not hold an amount exactly. "
    "In pandas: frame[name] = frame[name].astype(str), or a decimal128 column"
)
_WRONG_TYPE: Final = "expected a column of text, decimals, integers, dates or timestamps"
_NOT_UTF8: Final = "expected UTF-8; a byte of it is not"
_DAMAGED: Final = "expected a whole Parquet file; this one is cut off or damaged: "
_DAMAGE: Final = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, KeyError)
"""What pyarrow raises for files that are damaged; their text is told in the problem."""


def read_parquet(path: str, options: Options) -> Iterator[Line]:
    """Yield the facts and problems of a Parquet file; a line is the number of its row, from 1.

    A null is an empty cell. A timestamp with a zone is exact; one without is read in the zone of
    the options. Zeros at the end of a timestamp are the column's unit, not told precision. The
    index that pandas writes without a name is passed over. A group of rows that is damaged is one
    problem, and the groups after it are read. Raises UnreadableFile.
    """
    with open_input(path) as file:
        try:
            parquet = pq.ParquetFile(
                file,
                pre_buffer=False,
                buffer_size=_BUFFER_BYTES,
                page_checksum_verification=True,
            )
            schema = parquet.schema_arrow
        except _DAMAGE as error:
            yield Problem(1, "", "", _explained(error))
            return
        with parquet:
            names = [name for name in schema.names if not _UNNAMED_INDEX.fullmatch(name)]
            table = recognise(names)
            if isinstance(table, Problem):
                yield table
                return
            refused = [problem for name in names if (problem := _refused(schema.field(name)))]
            if refused:
                yield from refused
                return
            records = _records(parquet, names)
            yield from read_table(names, records, lambda: _records(parquet, names), options)


def _explained(error: BaseException) -> str:
    return _DAMAGED + shorten(" ".join(str(error).split()) or type(error).__name__, 300)


def _refused(field: pa.Field) -> Problem | None:
    """Return why the values of a column cannot be taken exactly; None when they can."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_floating(kind):
        return Problem(1, field.name, str(field.type), _FLOAT)
    if any(accepts(kind) for accepts in _ACCEPTED):
        return None
    return Problem(1, field.name, shorten(field.type), _WRONG_TYPE)


def _records(parquet: pq.ParquetFile, names: list[str]) -> Iterator[Record]:
    first = 1
    for group in range(parquet.num_row_groups):
        row = first
        try:
            for batch in parquet.iter_batches(
                BATCH_ROWS, row_groups=[group], columns=names, use_threads=False
            ):
                yield from _rows(row, [batch.column(name) for name in names])
                row += batch.num_rows
            first += parquet.metadata.row_group(group).num_rows
        except _DAMAGE as error:
            yield Broken(row, None, "", _explained(error), "")
            first = max(row, first + parquet.metadata.row_group(group).num_rows)


def _rows(first: int, columns: list[pa.Array]) -> Iterator[Record]:
    try:
        texts = [_texts(column) for column in columns]
    except UnicodeDecodeError:
        yield from _rows_not_utf8(first, columns)
        return
    yield from enumerate(zip(*texts, strict=True), first)


def _rows_not_utf8(first: int, columns: list[pa.Array]) -> Iterator[Record]:
    """Yield rows of which some hold text that is not UTF-8."""
    texts = [_texts_of_bytes(column) for column in columns]
    for row, cells in enumerate(zip(*texts, strict=True), first):
        column = next((n for n, cell in enumerate(cells) if _SURROGATE.search(cell)), None)
        if column is None:
            yield row, cells
            continue
        told = cells[column].encode(errors="surrogateescape").decode(errors="backslashreplace")
        yield Broken(row, column, told, _NOT_UTF8, ",".join(cells))


def _texts_of_bytes(column: pa.Array) -> list[str]:
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if not _is_text(plain.type):
        return _texts(plain)
    values = plain.cast(pa.large_binary()).to_pylist()
    return ["" if value is None else value.decode(errors="surrogateescape") for value in values]


def _texts(column: pa.Array) -> list[str]:
    """Return the values of a column as a CSV file would hold them."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_decimal(kind):
        return ["" if value is None else _plain(value) for value in column.to_pylist()]
    if pa.types.is_timestamp(kind):
        zone = "" if kind.tz is None else "Z"
        texts = column.cast(pa.timestamp(kind.unit)).cast(pa.string()).to_pylist()
        return ["" if text is None else _time(text) + zone for text in texts]
    if pa.types.is_date(kind):
        column = column.cast(pa.string())
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _time(text: str) -> str:
    return _LAST_ZEROS.sub("", text) if "." in text else text


def _plain(value: Decimal) -> str:
    """Return a decimal at the column's scale, at its own where that has more than 18 digits."""
    exponent = value.as_tuple().exponent
    deep = isinstance(exponent, int) and exponent < -MAX_SCALE
    return to_plain(normalized(value) if deep else value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


_ACCEPTED: Final[tuple[Callable[[pa.DataType], bool], ...]] = (
    _is_text,
    pa.types.is_integer,
    pa.types.is_decimal,
    pa.types.is_date,
    pa.types.is_timestamp,
    pa.types.is_null,
)
