"""The history as files that the ledger imports."""

import csv
from pathlib import Path
from typing import Final

from api.demo.deals_file import Row
from api.demo.history import History

MESSAGES: Final = "orders.fix"
_MESSAGES_BEFORE: Final = "deals"
"""Where the messages stand in the order of import: beside the other account's orders."""


def write_files(history: History, folder: Path) -> list[Path]:
    """Write all files into a folder; return them in the order in which to import them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, rows in history.tables.items():
        if name == _MESSAGES_BEFORE:
            paths.append(_write_lines(folder / MESSAGES, history.messages))
        paths.append(_write_rows(folder / f"{name}.csv", rows))
    return paths


def _write_rows(path: Path, rows: list[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
    return path
