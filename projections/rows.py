"""How folds speak of rows: the tables they keep, the rows they want, the rows they changed."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, Protocol

from msgspec import Struct

from domain.commands import Topic
from domain.decisions import Stamped
from domain.events import Event
from domain.times import Instant, to_ns

CHANGED_OFFSET: Final = "changed_offset"
"""Column of every row: the offset, in its partition, of the event that changed it last."""
_LONGEST_NAME: Final = 400
_DIGEST_LENGTH: Final = 32
_LEAST_WHOLE: Final = -(2**63)
_MOST_WHOLE: Final = 2**63 - 1


def time_ns(instant: Instant) -> int:
    """Return nanoseconds since 1970: most instants of a log share their minute with others."""
    return _minute_ns(instant[:17]) + int(instant[17:19] + instant[20:29])


def bounded(sequence: int) -> int:
    """Return a place among equal times as its column holds it: in 64 bits.

    Commands that tell a larger one are refused; a log may hold some from before they were.
    """
    if _LEAST_WHOLE <= sequence <= _MOST_WHOLE:
        return sequence
    return _MOST_WHOLE if sequence > 0 else _LEAST_WHOLE


def indexed(name: str, longest: int = _LONGEST_NAME) -> str:
    """Return a name as far as a key can hold it: Postgres takes 2,704 bytes for a whole one.

    One of more than `longest` characters ends in a digest of the whole, by which those that begin
    alike differ. Commands that tell such a one are refused; a log may hold some from before.
    """
    if len(name) <= longest:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_LENGTH]
    return name[: longest - _DIGEST_LENGTH] + digest


@lru_cache(maxsize=65536)
def _minute_ns(minute: str) -> int:
    return to_ns(Instant(f"{minute}00.000000000Z"))


class Table(Struct, frozen=True):
    """A read model's table: the struct of its rows, whose fields are its columns, and its key."""

    name: str
    row: type[Struct]
    key: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the columns in the order of the struct's fields."""
        return self.row.__struct_fields__


class Wanted(Struct, frozen=True):
    """Rows that a fold must see before it goes on: those whose `columns` equal one of `values`."""

    table: Table
    columns: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]
    only: str = ""


class Changed(Struct):
    """Rows of one table to write: `inserts` are new for certain, `upserts` may be there already.

    `deletes` are keys of rows that a fresh fold would not make; they go first. `lines` are new
    rows as well, already as COPY's text has them.
    """

    table: Table
    inserts: list[Any]
    upserts: list[Any]
    deletes: list[tuple[Any, ...]] = []
    lines: list[str] = []


class Fold(Protocol):
    """A fold of one topic's events to rows. Pure: it sees only what it is given.

    For each batch, in the log's order: `wants` is asked, and its rows given, until it wants none;
    then `apply`, then `changes`, which are written with the checkpoint in one transaction. A fold
    whose write failed is thrown away. A fresh fold, that is one made with `fresh=True` and given a
    whole stream from its beginning, wants nothing and has all its rows in `rows`.
    """

    def wants(self, batch: Sequence[Stamped]) -> Sequence[Wanted]:
        """Return what must be given before the batch can be applied."""
        ...

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take the rows that were wanted, as tuples of the table's columns."""
        ...

    def apply(self, batch: Sequence[Stamped]) -> None:
        """Fold events, already known to be valid, in the log's order."""
        ...

    def changes(self) -> Sequence[Changed]:
        """Return the rows changed since this was asked last."""
        ...

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all rows of a table that this fold has made or seen."""
        ...


class FoldMaker(Protocol):
    """Make a fold; `fresh` when it will see its streams from their beginning."""

    def __call__(self, *, fresh: bool) -> Fold:
        """Return a new fold."""
        ...


class Projection(Struct, frozen=True):
    """A read model: which topic it folds, which events it handles, its tables, how to fold them.

    `version` goes up when the fold or a table changes: the read model is then filled anew. With
    `takes_plain` the fold takes a `projections.plain.PlainDeal` as well in the place of its event.
    """

    name: str
    version: int
    topic: Topic
    handles: frozenset[type[Event]]
    tables: tuple[Table, ...]
    make: FoldMaker
    schema_sql: str
    takes_plain: bool = False


class Rows:
    """One table's rows in memory, by key, with what changed."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._key_fields = table.key
        self._key_of = attrgetter(*table.key)
        self._has_one_field = len(table.key) == 1
        self.by_key: dict[tuple[Any, ...], Any] = {}
        self._seen: set[tuple[Any, ...]] = set()
        self._inserted: dict[tuple[Any, ...], Any] = {}
        self._updated: dict[tuple[Any, ...], Any] = {}
        self._deleted: set[tuple[Any, ...]] = set()

    def get(self, *key: Any) -> Any | None:
        """Return the row of that key, or None."""
        return self.by_key.get(key)

    def unseen(self, keys: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the keys that were neither looked up nor made yet."""
        by_key, seen = self.by_key, self._seen
        return sorted({key for key in keys if key not in by_key and key not in seen})

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take rows as they are stored; the keys wanted that have no row are known to have none."""
        if wanted.columns == self._key_fields:
            self._seen.update(wanted.values)
        make = self.table.row
        for values in rows:
            row = make(*values)
            self.by_key.setdefault(self.key_of(row), row)

    def note_stored(self, keys: Iterable[tuple[Any, ...]]) -> None:
        """Know no longer that there are no rows of these keys: they were written past this."""
        if self._seen:
            self._seen.difference_update(keys)

    def key_of(self, row: Any) -> tuple[Any, ...]:
        """Return a row's key."""
        key: tuple[Any, ...] = self._key_of(row)
        return (key,) if self._has_one_field else key

    def insert(self, key: tuple[Any, ...], row: Any) -> None:
        """Add a row that is certain to be new."""
        self.by_key[key] = self._inserted[key] = row

    def put(self, key: tuple[Any, ...], row: Any) -> None:
        """Set a row, new or changed."""
        if self.by_key.get(key) == row:
            return
        changed = self._inserted if key in self._inserted else self._updated
        self.by_key[key] = changed[key] = row

    def delete(self, key: tuple[Any, ...]) -> None:
        """Remove a row."""
        del self.by_key[key]
        self._updated.pop(key, None)
        if key in self._inserted:
            del self._inserted[key]
        else:
            self._deleted.add(key)

    def changes(self) -> Changed:
        """Return what was inserted and set since this was asked last."""
        inserts, upserts = list(self._inserted.values()), list(self._updated.values())
        changed = Changed(self.table, inserts, upserts, list(self._deleted))
        self._inserted, self._updated, self._deleted = {}, {}, set()
        return changed

    def forget(self, keep: int) -> None:
        """Drop all rows once there are more than `keep`, so that memory stays bounded."""
        if len(self.by_key) > keep:
            self.by_key.clear()
            self._seen.clear()
