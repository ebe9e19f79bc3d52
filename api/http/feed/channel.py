"""What all subscribers of one topic and account share: its position, and what changed lately.

A row is read once and encoded once, whoever it is sent to. A subscriber that is a little behind,
by whichever changes, is served from memory; one that is further behind is read for.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, Protocol

from msgspec import Struct

from api.http.feed.frames import SharedRows
from api.http.feed.reading import Ask, ChangedRow, Piece
from api.http.feed.tokens import Offsets, position_of

KEPT_ROWS: Final = 2000
KEPT_BYTES: Final = 1_000_000
KEPT_S: Final = 5.0
"""For so long a row is sent as it was read: the mark on it is to be current."""
_KEPT_UPDATES: Final = 16
"""Positions from which subscribers are served without looking through the rows again."""


class Subscriber(Protocol):
    """Who is told that a channel has something new."""

    def stir(self, update: "Update | None") -> None:
        """Look at the channel, soon; whoever was at the update's beginning is to be sent that."""
        ...


class Update(Struct, frozen=True):
    """Rows that changed from one position to another, encoded, as many subscribers are sent."""

    previous: str
    position: str
    reached: Offsets
    rows: SharedRows


class NeedsRead(Struct, frozen=True):
    """What a subscriber misses is not in memory."""


NEEDS_READ: Final = NeedsRead()


class _Kept(Struct, frozen=True, gc=False):
    row: ChangedRow
    read_at: float


class Channel:
    """One topic of one account, or of all accounts when None."""

    def __init__(self, topic: str, account: str | None) -> None:
        self.topic = topic
        self.account = account
        self.position: str | None = None
        self.subscribers: dict[Subscriber, None] = {}
        self._stamp = ""
        self._offsets: Offsets = {}
        self._recent: dict[tuple[Any, ...], _Kept] = {}
        self._bytes = 0
        self._floor: dict[int, int] = {}
        self._too_old_at = float("inf")
        self._updates: dict[str, Update | None] = {}
        self._shown: tuple[str, Offsets] = ("", {})
        """Where most subscribers are: the position moves on without them while no row changes."""

    def live_ask(self, moved: frozenset[int] | None = None) -> Ask | None:
        """Return what to ask for to learn what is new in partitions, in all when None.

        None before there is a position, and where no partition of the channel has moved.
        """
        if self.position is None or (moved is not None and moved.isdisjoint(self._offsets)):
            return None
        return Ask(self.topic, self.account, self.position, is_live=True)

    def begin(self, piece: Piece) -> None:
        """Take the first position, which a subscriber was read up to."""
        if self.position is None and piece.is_whole:
            self._begin_at(piece)

    def advance(self, piece: Piece) -> tuple[list[Subscriber], Update | None]:
        """Take what is new; return the subscribers who are to be stirred, all if it is any row.

        And the update for those of them who were sent what was new the last time. After another
        version of the read model they all begin again.
        """
        if piece.previous is None:
            self._begin_at(piece)
            return list(self.subscribers), None
        if piece.previous == self.position:
            self.position, self._offsets = piece.position, piece.reached
            self._updates.clear()
            self._remember(piece.rows)
        if not piece.rows:
            return [], None
        update = self.update_since(*self._shown)
        if not isinstance(update, Update):
            self._shown = (piece.position, piece.reached)
            return list(self.subscribers), None
        self._shown = (update.position, update.reached)
        return list(self.subscribers), update

    def update_since(self, position: str, offsets: Offsets) -> Update | NeedsRead | None:
        """Return what a subscriber at a position is to be sent; None when it has everything."""
        if position == self.position or self.position is None:
            return None
        if not position.startswith(self._stamp + "."):
            return NEEDS_READ
        self.age()
        if position not in self._updates:
            if any(offsets.get(place, 0) < floor for place, floor in self._floor.items()):
                return NEEDS_READ
            while len(self._updates) >= _KEPT_UPDATES:
                del self._updates[next(iter(self._updates))]
            self._updates[position] = self._update(position, offsets)
        return self._updates[position]

    def _update(self, position: str, offsets: Offsets) -> Update | None:
        rows = [
            kept.row.json
            for kept in self._recent.values()
            if kept.row.offset >= offsets.get(kept.row.partition, 0)
        ]
        if not rows:
            return None
        reached = {
            place: max(offset, offsets.get(place, 0)) for place, offset in self._offsets.items()
        }
        told = position_of(self._stamp, reached)
        return Update(position, told, reached, SharedRows(rows, told))

    def _begin_at(self, piece: Piece) -> None:
        self._stamp = piece.stamp
        self.position, self._offsets = piece.position, piece.reached
        self._floor = dict(piece.reached)
        self._recent.clear()
        self._updates.clear()
        self._bytes = 0
        self._shown = (piece.position, piece.reached)

    # --- what is kept in memory ----------------------------------------------------------------

    def age(self) -> None:
        """Forget what has become too old to be sent."""
        if time.monotonic() >= self._too_old_at:
            self._forget()

    def _remember(self, rows: Sequence[ChangedRow]) -> None:
        now = time.monotonic()
        for row in rows:
            before = self._recent.pop(row.key, None)
            self._bytes += len(row.json) - (0 if before is None else len(before.row.json))
            self._recent[row.key] = _Kept(row, now)
        self._forget()

    def _forget(self) -> None:
        """Drop the rows that changed longest ago, and keep in mind that they are not here."""
        dropped = [kept.row for kept in self._too_many()]
        for row in dropped:
            del self._recent[row.key]
            self._bytes -= len(row.json)
            self._floor[row.partition] = max(self._floor.get(row.partition, 0), row.offset + 1)
        if dropped:
            self._updates.clear()
        first = next(iter(self._recent.values()), None)
        self._too_old_at = float("inf") if first is None else first.read_at + KEPT_S

    def _too_many(self) -> Iterator[_Kept]:
        excess, size = len(self._recent) - KEPT_ROWS, self._bytes
        oldest = time.monotonic() - KEPT_S
        for number, kept in enumerate(self._recent.values()):
            if number >= excess and size <= KEPT_BYTES and kept.read_at >= oldest:
                return
            size -= len(kept.row.json)
            yield kept
