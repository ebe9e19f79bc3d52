"""Results to standard output or a file, as a table, JSON, CSV, Arrow or Parquet."""

import csv
import io
import sys
from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from domain.errors import InvalidValue
from domain.money import MAX_DIGITS, to_plain

if TYPE_CHECKING:  # `--help` needs Format alone
    from api.views import Shown

_TABLE_ROWS: Final = 1000
_PIPED_WIDTH: Final = 4096
_encode = msgspec.json.Encoder().encode


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


def write(shown: "Shown", chosen: Format, path: Path | None) -> None:
    """Write rows to a file, whole or not at all, or to standard output."""
    if path is None:
        _write_to(sys.stdout.buffer, shown, chosen)
        sys.stdout.flush()
        return
    if path.exists() and not path.is_file():  # such as /dev/stdout: there is nothing to replace
        with _opened(path) as file:
            _write_to(file, shown, chosen)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _opened(partial) as file:
            _write_to(file, shown, chosen)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise InvalidValue("-o", str(path), f"a file to write to: {error.strerror}") from None


def _write_to(file: BinaryIO, shown: "Shown", chosen: Format) -> None:
    match chosen:
        case Format.TABLE:
            _write_table(file, shown)
        case Format.JSON:
            _write_json(file, shown)
        case Format.CSV:
            _write_csv(file, shown)
        case Format.ARROW | Format.PARQUET:
            _write_arrow(file, shown, chosen)


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: decimals as strings in plain notation."""
    return to_plain(value) if isinstance(value, Decimal) else value


def _write_json(file: BinaryIO, shown: "Shown") -> None:
    names = [name for name, _ in shown.columns]
    file.write(b"[")
    for number, row in enumerate(shown.rows):
        file.write(b",\n " if number else b"\n ")
        file.write(_encode(dict(zip(names, map(plain, row), strict=True))))
    file.write(b"\n]\n" if shown.rows else b"]\n")


def _write_csv(file: BinaryIO, shown: "Shown") -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(name for name, _ in shown.columns)
    for row in shown.rows:
        writer.writerow(_cell(value) for value in row)
    text.detach()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list | tuple):
        return _encode(value).decode()
    return plain(value)


def _write_table(file: BinaryIO, shown: "Shown") -> None:
    from rich.console import Console
    from rich.table import Table

    text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
    on_terminal = file is sys.stdout.buffer and sys.stdout.isatty()
    console = Console(file=text, width=None if on_terminal else _PIPED_WIDTH, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    used = [
        index
        for index, (name, kind) in enumerate(shown.columns)
        if kind != "json" or any(row[index] for row in shown.rows)
        if index < 2 or any(row[index] is not None for row in shown.rows) or not shown.rows
    ]
    for index in used:
        name, kind = shown.columns[index]
        right = kind in ("decimal", "integer")
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for row in shown.rows[:_TABLE_ROWS]:
        table.add_row(*(_short(row[index]) for index in used))
    console.print(table)
    if len(shown.rows) > _TABLE_ROWS:
        console.print(f"... {len(shown.rows):,} rows in all; --format csv or json shows every one")
    text.detach()


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(one if isinstance(one, str) else _short(one) for one in value)
    if isinstance(value, dict):
        return " ".join(f"{name}={told}" for name, told in value.items())
    return str(_cell(value))


def _write_arrow(file: BinaryIO, shown: "Shown", chosen: Format) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*shown.rows, strict=True) if shown.rows else ([] for _ in shown.columns)
    arrays = [
        _arrow_array(kind, list(values))
        for (_, kind), values in zip(shown.columns, columns, strict=True)
    ]
    table = pa.table(arrays, names=[name for name, _ in shown.columns])
    if chosen is Format.PARQUET:
        pq.write_table(table, file, compression="zstd")
        return
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _arrow_array(kind: str, values: list[Any]) -> Any:
    import pyarrow as pa

    match kind:
        case "decimal":
            scale = decimal_scale(values)
            if scale is None:
                return pa.array([plain(value) for value in values], pa.string())
            return pa.array(values, pa.decimal128(MAX_DIGITS, scale))
        case "integer":
            return pa.array(values, pa.int64())
        case "json":
            return pa.array(
                [None if value is None else _encode(value).decode() for value in values],
                pa.string(),
            )
        case "time":
            return pa.array([_time_ns(value) for value in values], pa.timestamp("ns", tz="UTC"))
        case _:
            return pa.array(values, pa.string())


def _time_ns(text: str | None) -> int | None:
    from domain.times import parse_instant, to_ns

    return None if text is None else to_ns(parse_instant(text, "time"))


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
