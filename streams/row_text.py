"""Rows as COPY takes them in text, a column at a time.

Looking at each value in turn costs more than all else about a row; a column is of one kind, and
most text needs no escaping, which one look at the whole column tells. Source: PostgreSQL, COPY,
Text Format.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec
from msgspec.structs import astuple

from projections.rows import Table

NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_Writer = Callable[[Sequence[Any]], Iterable[str]]


def copy_text(table: Table, rows: Sequence[Any]) -> bytes:
    """Return a table's rows as lines of COPY's text format, columns in the table's order."""
    columns = zip(*map(astuple, rows), strict=True)
    texts = [write(column) for write, column in zip(_writers(table), columns, strict=True)]
    lines = map("\t".join, zip(*texts, strict=True))
    return ("\n".join(lines) + "\n").encode()


@cache
def _writers(table: Table) -> tuple[_Writer, ...]:
    types = get_type_hints(table.row)
    return tuple(_writer(types[name]) for name in table.columns)


def _writer(annotation: Any) -> _Writer:
    if is_json(annotation):
        return lambda values: _texts([_json_text(value) for value in values])
    if annotation == list[str]:
        return lambda values: _texts([_array_text(tuple(value)) for value in values])
    if annotation in (int, Decimal, bool):
        return lambda values: map(str, values)
    if get_args(annotation) == (Decimal, type(None)):
        return lambda values: [NULL if value is None else str(value) for value in values]
    return _texts


def _texts(values: Sequence[str | None]) -> Iterable[str]:
    told = [value for value in values if value is not None]
    whole = "".join(told)
    if not ("\\" in whole or "\n" in whole or "\t" in whole or "\r" in whole):
        if len(told) == len(values):
            return told
        return [NULL if value is None else value for value in values]
    return [NULL if value is None else value.translate(_ESCAPES) for value in values]


def is_json(annotation: Any) -> bool:
    """Tell whether a column of this type holds JSON: dicts, and lists of other than text."""
    options = get_args(annotation) or (annotation,)
    if get_origin(annotation) in (list, dict):
        options = (annotation,)
    return any(
        get_origin(option) is dict or (get_origin(option) is list and get_args(option) != (str,))
        for option in options
    )


def _json_text(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


@lru_cache(maxsize=1024)
def _array_text(texts: tuple[str, ...]) -> str:
    """Return texts as Postgres writes an array of them: the same few come again and again."""
    if not texts:
        return "{}"
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return '{"' + '","'.join(quoted) + '"}'
