"""Stored rows as Arrow: copied by Postgres, and where there is a copy on disk, only what changed.

Postgres writes CSV and Arrow reads it, both in native code: taking each value through Python would
take ten times as long.
"""

import hashlib
from collections.abc import Generator, Iterator
from typing import Any, Final

import msgspec
from msgspec import Struct
from psycopg import sql

from api.http.copies import LEAST_ROWS, Copies, Copy, Note
from api.http.joined import joined_tables
from api.http.pages import projection_of, where
from api.read_models import ReadModel
from api.tables import Extents, Scales, arrow_schema, copied_table, scales_within
from api.wiring import Parts
from projections.rows import CHANGED_OFFSET
from schemas.codec import record_hash
from schemas.partitioning import partition_of
from streams.ledger import program_version

LASTING: Final = ("orders", "deals")
"""Tables whose rows are never deleted, and have an index by account and last change."""
MOST_CHANGED: Final = 100_000
"""After more changes than that a copy is made anew."""
_RENEWED_FROM: Final = 10_000
"""Changes that are few enough to be read again each time; with more the copy is renewed."""
_COPIED_BYTES: Final = 4 << 20
Tables = Generator[Any, None, None]
"""Rows of a table, piece by piece, as Arrow tables or record batches."""


class Stored(Struct, frozen=True):
    """Rows of a table that a condition picks, to be read in one transaction."""

    parts: Parts
    model: ReadModel
    told: tuple[str, ...]
    values: list[Any]

    def extents(self) -> tuple[int, Extents]:
        """Return how many rows there are, and the extents of their decimals."""
        assert self.model.table is not None
        names = [name for name, kind in self.model.columns if kind == "decimal"]
        told = sql.SQL("").join(
            sql.SQL(", max(scale(t.{0})), length(trunc(max(abs(t.{0})))::text)").format(
                sql.Identifier(name)
            )
            for name in names
        )
        query = sql.SQL("SELECT count(*){} FROM {} AS t{}").format(
            told, sql.Identifier(self.model.table.name), where(self.told)
        )
        row = self.parts.models.connection.execute(query, self.values).fetchone()
        assert row is not None
        count, *digits = (one or 0 for one in row)
        return count, dict(zip(names, zip(digits[::2], digits[1::2], strict=True), strict=True))

    def schema(self, extents: Extents) -> Any:
        """Return the Arrow schema of rows whose decimals have these extents."""
        return arrow_schema(self.model.columns, scales_within(extents))

    def whole(self, extents: Extents) -> Tables:
        """Yield the rows as `tables` does: of many with an index in that order, much faster."""
        assert self.model.view is not None
        schema, connection = self.schema(extents), self.parts.models.connection
        return joined_tables(schema, connection, self.model.view, self.told, self.values)

    def tables(self, extents: Extents) -> Tables:
        """Yield the rows as tables, in the order of their key, some thousands at a time."""
        schema = self.schema(extents)
        for lines in self._lines():
            yield copied_table(schema, lines)

    def _lines(self) -> Iterator[bytes]:
        table, view = self.model.table, self.model.view
        assert table is not None
        assert view is not None
        copied = sql.SQL("COPY (SELECT {} FROM {} AS t{} ORDER BY {}) TO STDOUT (FORMAT csv)")
        query = copied.format(
            sql.SQL(", ").join(sql.SQL(column.sql) for column in view.columns),
            sql.Identifier(table.name),
            where(self.told),
            sql.SQL(", ").join(sql.Identifier("t", name) for name in table.key),
        )
        held: list[Any] = []
        size = 0
        with (
            self.parts.models.connection.cursor() as cursor,
            cursor.copy(query, self.values) as copy,
        ):
            for line in copy:
                held.append(line)
                size += len(line)
                if size >= _COPIED_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
        if held:
            yield b"".join(held)


class _Place(Struct, frozen=True):
    """Which table it is: the name of its copy, what its rows are made of, where the log goes on."""

    name: str
    made_of: str
    partition: int
    end: int

    def note(self, parts: Parts, extents: Extents) -> Note:
        """Return what is noted of a copy that is made now."""
        return Note(self.made_of, self.end, _digest(parts, self.partition, self.end), extents)


def stored_tables(stored: Stored, account: str | None, copies: Copies) -> tuple[Scales, Tables]:
    """Return the scales of stored rows, and the rows as Arrow tables or batches.

    `account` is whose whole table it is, None where it is not one. Within one transaction.
    """
    place = None if account is None else _place(stored, account)
    copy = None if place is None else copies.find(place.name, place.made_of, place.end)
    if place is not None and copy is not None:
        renewed = _renewed(stored, copies, place, copy)
        if renewed is not None:
            return renewed
    count, extents = stored.extents()
    tables = stored.tables(extents) if place is None else stored.whole(extents)
    if place is not None and count >= LEAST_ROWS:
        note = place.note(stored.parts, extents)
        tables = copies.kept(place.name, note, stored.schema(extents), tables)
    return scales_within(extents), tables


def _place(stored: Stored, account: str) -> _Place | None:
    """Return the place of an account's copy; None for a table that has none."""
    model, log = stored.model, stored.parts.log
    if model.name not in LASTING:
        return None
    assert model.view is not None
    projection = projection_of(model)
    partition = partition_of(account, log.partitions)
    row = stored.parts.models.connection.execute(
        "SELECT p.version || ' ' || p.log_id || ' ' || p.xmin || ' ' || %s::regclass::oid,"
        " c.next_offset FROM projections AS p JOIN projection_checkpoints AS c"
        " ON c.projection = p.name WHERE p.name = %s AND c.partition = %s",
        (model.name, projection.name, partition),
    ).fetchone()
    if row is None:
        return None
    shown = "".join(column.sql for column in model.view.columns)
    made_of = _hashed(program_version(), shown, row[0], account)
    return _Place(f"{model.name}-{_hashed(account)}", made_of, partition, row[1])


def _renewed(
    stored: Stored, copies: Copies, place: _Place, copy: Copy
) -> tuple[Scales, Tables] | None:
    """Return a table from its copy and what has changed; None where that cannot be told."""
    if _digest(stored.parts, place.partition, copy.note.end) != copy.note.digest:
        return None  # another log of the same name: an older one was put back
    changed = msgspec.structs.replace(
        stored,
        told=(*stored.told, f"t.{CHANGED_OFFSET} >= %s"),
        values=[*stored.values, copy.note.end],
    )
    count, recent = changed.extents()
    extents: Extents = {
        name: _wider(told, recent[name]) for name, told in copy.note.extents.items()
    }
    if count == 0:
        return scales_within(extents), copy.batches
    if count > MOST_CHANGED or scales_within(extents) != scales_within(copy.note.extents):
        return None
    assert stored.model.table is not None
    name = stored.model.table.key[-1]
    rows = _together(changed.tables(extents), name)
    if copy.replaced(rows[name], name):
        # A row that is gone may have been the only one with so many digits.
        extents = stored.extents()[1]
        if scales_within(extents) != scales_within(copy.note.extents):
            return None
    tables = copy.with_changed(rows, name)
    if count >= _RENEWED_FROM:
        note = place.note(stored.parts, extents)
        tables = copies.kept(place.name, note, stored.schema(extents), tables)
    return scales_within(extents), tables


def _together(tables: Iterator[Any], name: str) -> Any:
    """Return tables as one, in order of the id `name`."""
    import pyarrow as pa

    return pa.concat_tables(tables).sort_by(name).combine_chunks()


def _wider(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(one[0], other[0]), max(one[1], other[1])


def _digest(parts: Parts, partition: int, end: int) -> str:
    """Return the digest of the last record before an offset."""
    records = parts.log.read("events", partition, end - 1, 1) if end else ()
    return record_hash(records[0].value) if records else ""


def _hashed(*parts: str) -> str:
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()
