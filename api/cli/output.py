"""Results to standard output or a file, as a table, JSON, CSV, Arrow or Parquet."""

import csv
import io
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

from api.tables import ArrowPieces, cell, json_row, scales_of
from domain.errors import InvalidValue

if TYPE_CHECKING:  # `--help` needs Format alone
    from api.views import Shown

_TABLE_ROWS: Final = 1000
_PIPED_WIDTH: Final = 4096


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
        with _opened(path, path) as file:
            _write_to(file, shown, chosen)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _opened(partial, path) as file:
            _write_to(file, shown, chosen)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _opened(path: Path, asked: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise InvalidValue("-o", str(asked), f"a file to write to: {error.strerror}") from None


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


def _write_json(file: BinaryIO, shown: "Shown") -> None:
    names = [name for name, _ in shown.columns]
    file.write(b"[")
    for number, row in enumerate(shown.rows):
        file.write(b",\n " if number else b"\n ")
        file.write(json_row(names, row))
    file.write(b"\n]\n" if shown.rows else b"]\n")


def _write_csv(file: BinaryIO, shown: "Shown") -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(name for name, _ in shown.columns)
    for row in shown.rows:
        writer.writerow(cell(value) for value in row)
    text.detach()


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
    return str(cell(value))


def _write_arrow(file: BinaryIO, shown: "Shown", chosen: Format) -> None:
    kind: Literal["arrow", "parquet"] = "arrow" if chosen is Format.ARROW else "parquet"
    pieces = ArrowPieces(shown.columns, scales_of(shown.columns, shown.rows), kind)
    file.write(pieces.first())
    file.write(pieces.rows(shown.rows))
    file.write(pieces.last())
