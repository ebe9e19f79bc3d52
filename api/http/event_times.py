"""When events happened, by their own dates, and which of them lie in a period."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from api import views
from api.http.pages import EVER, Period
from api.wiring import Parts
from domain.commands import Topic
from domain.times import Day, Instant, local_day, to_ns
from projections.rows import Table
from schemas.envelope import Record
from streams.past import NOW, AsOf
from streams.positions import KnownAt

_DATES: Final = ("trade_date", "booked_date", "price_date", "from_date")
_NO_ZONE: Final = "UTC"
ZONED: Final[Mapping[Topic, Table]] = {
    "events": views.ACCOUNTS_VIEW.table,
    "prices": views.INSTRUMENTS_VIEW.table,
}
"""By topic, the read model that has the zones in which the days of its streams end."""


class Told(Struct, frozen=True):
    """What of an event says when it happened."""

    event_time: Instant
    data: dict[str, Any]

    def day(self, zone_name: str) -> Day:
        """Return its business date, as rows of facts are asked for.

        Where it tells none that is the date of its time in the zone of the account, or of the
        instrument.
        """
        dates = (self.data.get(name) for name in _DATES)
        day = next((date for date in dates if isinstance(date, str)), None)
        return local_day(self.event_time, zone_name) if day is None else Day(day)


class Zones:
    """The zones of accounts, for prices of instruments: as they are now, or were known."""

    def __init__(self, parts: Parts, topic: Topic, known_at: KnownAt | None = None) -> None:
        self._parts = parts
        self._table = ZONED.get(topic)
        self._known_at = known_at
        self._names: dict[str, str] = {}

    def learn(self, streams: Iterable[str | None]) -> None:
        """Ask for the zones of streams, all at once, before their events are looked at."""
        unknown = {one for one in streams if one is not None} - self._names.keys()
        if self._table is None or not unknown:
            return
        rows = self._parts.past.rows(self._table, sorted(unknown), self._known_at)
        told = {getattr(row, self._table.key[0]): row.time_zone or _NO_ZONE for row in rows}
        self._names |= dict.fromkeys(unknown, _NO_ZONE) | told

    def of(self, stream: str | None) -> str:
        """Return the zone of a stream, UTC where none is known."""
        return self._names.get(stream or "", _NO_ZONE)


class Timely:
    """Picks the events of a period, and those that had happened by a time: each by its own time.

    What names another fact, such as a bust, is told of the past: `as_of` never leaves it out.
    """

    def __init__(self, zones: Zones, period: Period, as_of: AsOf) -> None:
        self._zones = zones
        self._period = period
        self._as_of = as_of
        self._needs_zones = period.has_day or as_of.day is not None

    @property
    def picks_all(self) -> bool:
        """Tell whether every event is picked."""
        return self._period == EVER and self._as_of == NOW

    def learn_zones(self, streams: Iterable[str | None]) -> None:
        """Ask for the zones of streams, where dates are compared."""
        if self._needs_zones:
            self._zones.learn(streams)

    def picks(self, record: Record, *, refers: bool) -> bool:
        """Tell whether an event is picked; `refers` says that it names another fact."""
        try:
            told = msgspec.json.decode(record.value, type=Told)
            time_ns = to_ns(told.event_time)
        except (msgspec.DecodeError, ValueError):  # it was set aside, or is the log's own
            return False
        day = told.day(self._zones.of(record.key))
        return self._period.includes(time_ns, day) and (
            refers or self._as_of.includes(time_ns, day)
        )
