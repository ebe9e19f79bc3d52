"""Rows of a table in the order of its key, a page at a time: a text of many values for each column.

Rows that Postgres sends one by one cost libpq and psycopg as much, each, as Postgres takes to make
them. A page is one row: of each column the values of thousands of rows, joined by a character that
none of them has. Arrow parts them and makes numbers of them, in native code.
"""

import contextlib
import secrets
import struct
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from msgspec import Struct
from psycopg import sql

from api.http.pages import where
from api.views import Column, View
from infra.postgres import Connection

_ROWS: Final = 20_000
_SEPARATOR: Final = "\x01"
_TOLD: Final = "="
"""Stands before a text that may be empty; nothing at all is null."""


class Page(Struct, frozen=True):
    """Some rows: the values of each column, joined by `separator`; nothing stands for null."""

    rows: int
    columns: list[bytes]
    separator: str

    def is_plain(self) -> bool:
        """Tell whether no value has the separator in it."""
        separator = self.separator.encode()
        return all(column.count(separator) == self.rows - 1 for column in self.columns)


def joined_tables(
    schema: Any,
    connection: Connection,
    view: View,
    told: Sequence[str],
    values: Sequence[Any],
) -> Generator[Any, None, None]:
    """Yield the rows of one account, which conditions name, as Arrow tables: in one transaction.

    While a table is made and sent, Postgres makes the next page.
    """
    marked = [_may_be_empty(column) for column in view.columns]
    with contextlib.closing(_ahead(joined_pages(connection, view, told, values))) as pages:
        for page in pages:
            yield _table(schema, page, marked)


def joined_pages(
    connection: Connection, view: View, told: Sequence[str], values: Sequence[Any]
) -> Iterator[Page]:
    """Yield the rows of one account, which conditions name, within a transaction of one state.

    Without statistics Postgres would sort all the rows for each page: it may not sort, and so
    follows the index of the key.
    """
    connection.execute("SET LOCAL enable_sort = off")
    place = [column.name for column in view.columns].index(view.table.key[-1])
    after: list[str] = []
    while True:
        page = _page(connection, view, told, [*values, *after], bool(after), _SEPARATOR)
        if page is not None and not page.is_plain():
            unheard = f"{_SEPARATOR}{secrets.token_hex(8)}{_SEPARATOR}"
            page = _page(connection, view, told, [*values, *after], bool(after), unheard)
        if page is None:
            return
        yield page
        if page.rows < _ROWS:
            return
        after = [page.columns[place].rpartition(page.separator.encode())[2].decode()]


def _page(
    connection: Connection,
    view: View,
    told: Sequence[str],
    values: list[Any],
    goes_on: bool,
    separator: str,
) -> Page | None:
    query = _query(view, tuple(told), goes_on, separator)
    with connection.cursor(binary=True) as cursor:
        cursor.execute(query, [*values, _ROWS])
        # psycopg would make a str of each column, and Arrow bytes of it again.
        result = cursor.pgresult
        assert result is not None
        rows = int.from_bytes(result.get_value(0, 0) or b"")
        if rows == 0:
            return None
        columns = [result.get_value(0, n + 1) or b"" for n in range(len(view.columns))]
    return Page(rows, columns, separator)


def _query(view: View, told: tuple[str, ...], goes_on: bool, separator: str) -> sql.Composed:
    # Rows compared as (account, id) would be looked for from the account's first one on.
    after = sql.SQL(" AND {} > %s" if goes_on else "").format(_last(view))
    between = sql.Literal(separator)
    return sql.SQL(
        "SELECT count(*), {columns} FROM (SELECT * FROM {table} AS t{where}{after}"
        " ORDER BY {key} LIMIT %s) AS t"
    ).format(
        columns=sql.SQL(", ").join(
            sql.SQL("string_agg({}, {})").format(_text(column), between) for column in view.columns
        ),
        table=sql.Identifier(view.table.name),
        where=where(told),
        after=after,
        key=sql.SQL(", ").join(sql.Identifier("t", name) for name in view.table.key),
    )


def _last(view: View) -> sql.Identifier:
    """Return the id that tells the rows of an account apart."""
    assert view.table.key[:-1] == ("account",)
    return sql.Identifier("t", view.table.key[-1])


def _text(column: Column) -> sql.Composed:
    told = sql.SQL("({})::text").format(sql.SQL(column.sql))
    if _may_be_empty(column):
        told = sql.SQL("{} || {}").format(sql.Literal(_TOLD), told)
    return sql.SQL("coalesce({}, '')").format(told)


def _may_be_empty(column: Column) -> bool:
    return column.kind == "text" and not column.sql.startswith("nullif(")


def _ahead(pages: Iterator[Page]) -> Generator[Page, None, None]:
    """Yield pages, of which the next one is asked for by a thread while one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="pages") as thread:
        step = thread.submit(next, pages, None)
        while (page := step.result()) is not None:
            step = thread.submit(next, pages, None)
            yield page


def _table(schema: Any, page: Page, marked: Sequence[bool]) -> Any:
    import pyarrow as pa

    columns = [
        _array(page, joined, field.type, is_marked)
        for field, joined, is_marked in zip(schema, page.columns, marked, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _array(page: Page, joined: bytes, chosen: Any, is_marked: bool) -> Any:
    """Return the values of a column; times are nanoseconds since 1970."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(joined) == (page.rows - 1) * len(page.separator):
        return pa.nulls(page.rows, chosen)
    offsets = pa.py_buffer(struct.pack("=ii", 0, len(joined)))
    whole = pa.StringArray.from_buffers(1, offsets, pa.py_buffer(joined))
    values = pc.split_pattern(whole, page.separator).values
    is_null = pc.equal(values, "")
    if pc.any(is_null).as_py():
        values = pc.if_else(is_null, pa.scalar(None, pa.string()), values)
    if is_marked:
        return pc.utf8_slice_codeunits(values, len(_TOLD))
    if pa.types.is_timestamp(chosen):
        return values.cast(pa.int64()).cast(chosen)
    return values.cast(chosen)
