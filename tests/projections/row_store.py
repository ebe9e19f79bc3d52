"""A store of rows in memory, as strict as the real one, and runners that feed folds from it."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import msgspec

from domain.decisions import Stamped
from projections.plain import Folded, PlainDeal
from projections.rows import CHANGED_OFFSET, Changed, Fold, Projection, Table, Wanted
from streams.row_text import is_json

Row = dict[str, Any]
Rows = dict[tuple[Any, ...], Row]


class RowStore:
    """Rows by table and key: inserts must be new, keys to delete must be there."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[tuple[Any, ...], Any]] = {}

    def fetch(self, wanted: Wanted) -> list[tuple[Any, ...]]:
        assert wanted.values
        assert len(set(wanted.values)) == len(wanted.values)
        values = set(map(tuple, wanted.values))
        return [
            msgspec.structs.astuple(row)
            for row in self._tables.get(wanted.table.name, {}).values()
            if tuple(getattr(row, name) for name in wanted.columns) in values
            and (not wanted.only or _holds(wanted.only, row))
        ]

    def write(self, changed: Changed) -> None:
        table = changed.table
        rows = self._tables.setdefault(table.name, {})
        for key in changed.deletes:
            del rows[tuple(key)]
        for row in (*changed.inserts, *(row_of(table, line) for line in changed.lines)):
            assert key_of(table, row) not in rows, f"{table.name} has {row} already"
            rows[key_of(table, row)] = _copied(row)
        upserted = [key_of(table, row) for row in changed.upserts]
        assert len(set(upserted)) == len(upserted)
        for row in changed.upserts:
            rows[key_of(table, row)] = _copied(row)

    def rows(self, table: Table) -> list[Any]:
        return list(self._tables.get(table.name, {}).values())


def _holds(condition: str, row: Any) -> bool:
    assert condition == "remaining <> 0"
    return bool(row.remaining)


def _copied(row: Any) -> Any:
    """A row as it comes back from a database: no object of the fold's own."""
    return msgspec.convert(msgspec.to_builtins(row), type(row))


def row_of(table: Table, line: str) -> Any:
    """The row that a line for COPY stands for."""
    types = get_type_hints(table.row)
    texts = line.removesuffix("\n").split("\t")
    told = zip(table.columns, texts, strict=True)
    return table.row(**{name: _value_of(text, types[name]) for name, text in told})


def _value_of(text: str, kind: Any) -> Any:
    options = get_args(kind) or (kind,)
    if text == "\\N" and type(None) in options:
        return None
    if kind == list[str]:
        return [name.strip('"') for name in text[1:-1].split(",") if name]
    if is_json(kind):
        return msgspec.json.decode(text)
    if bool in options:
        return {"0": False, "1": True}[text]
    return next((make(text) for make in (int, Decimal) if make in options), text)


def key_of(table: Table, row: Any) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in table.key)


def fold_in_batches(
    projection: Projection, batches: Iterable[Sequence[Folded]], restart: Iterable[int] = ()
) -> RowStore:
    """Fold batches into a store; before those that `restart` counts, with a new fold."""
    store = RowStore()
    fold: Fold = projection.make(fresh=False)
    restarts = set(restart)
    for number, batch in enumerate(batches):
        if number in restarts:
            fold = projection.make(fresh=False)
        handled = [
            one
            for one in batch
            if type(one) is PlainDeal or type(one.event) in projection.handles  # type: ignore[union-attr]
        ]
        while wanted := fold.wants(handled):
            for one in wanted:
                fold.give(one, store.fetch(one))
        fold.apply(handled)
        for changed in fold.changes():
            store.write(changed)
    return store


def fold_fresh(projection: Projection, events: Sequence[Stamped]) -> Fold:
    fold = projection.make(fresh=True)
    fold.apply([one for one in events if type(one.event) in projection.handles])
    return fold


def told(table: Table, rows: Iterable[Any]) -> Rows:
    """Rows by key as text, decimals with their scale, without where they were changed last."""
    return {
        key_of(table, row): {
            name: value
            for name, value in msgspec.to_builtins(row).items()
            if name != CHANGED_OFFSET
        }
        for row in rows
    }
