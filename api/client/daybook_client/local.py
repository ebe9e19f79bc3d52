"""A table kept up to date by a feed."""

from collections.abc import Iterator, Mapping
from typing import Final

from .errors import FeedGap
from .feed import Update
from .rows import Row

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "orders": ("account", "order_id"),
    "deals": ("account", "deal_id"),
    "balances": ("account", "currency"),
    "positions": ("account", "instrument", "currency"),
    "events": ("position",),
    "alerts": ("alert",),
}
"""By topic, the columns that tell rows apart."""

Key = tuple[str, ...]


class LocalTable:
    """The rows of one subscription as they are now: give it every update of the feed, in order."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.position: str | None = None
        self._key = KEYS[topic]
        self._rows: dict[Key, Row] = {}

    def apply(self, update: Update) -> None:
        """Take a snapshot or a delta; raises FeedGap for a delta that does not follow."""
        if update.is_snapshot:
            self._rows.clear()
        elif update.previous != self.position:
            raise FeedGap(f"{self.topic}: at {self.position}, but told from {update.previous}")
        for row in update.removed:
            self._rows.pop(self.key_of(row), None)
        for row in update.rows:
            self._rows[self.key_of(row)] = row
        self.position = update.position

    def key_of(self, row: Row) -> Key:
        """Return what tells a row apart."""
        return tuple(row[name] for name in self._key)

    def rows(self) -> list[Row]:
        """Return the rows in the order of their key."""
        return [row for _, row in sorted(self._rows.items(), key=lambda item: item[0])]

    def __getitem__(self, key: Key) -> Row:
        return self._rows[key]

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)
