"""When events happened, by their own dates, and which of them lie in a period."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from api.http.pages import EVER, Period
from api.wiring import Parts
from domain.commands import Topic
from domain.times import Day, Instant, local_day, to_ns
from schemas.envelope import Record
from streams.past import NOW, AsOf

_DATES: Final = ("trade_date", "booked_date", "price_date", "from_date")
_NO_ZONE: Final = "UTC"


class Told(Struct, frozen=True):
    """What of an event says when it happened."""

    event_time: Instant
    data: dict[str, Any]

    def day(self, zone_name: str) -> Day:
        """Return its business date, as rows of facts are asked for.

        Where it tells none that is the date of its time in the account's zone.
        """
        dates = (self.data.get(name) for name in _DATES)
        day = next((date for date in dates if isinstance(date, str)), None)
        return local_day(self.event_time, zone_name) if day is None else Day(day)


class Timely:
    """Picks the events of a period, and those that had happened by a time: each by its own time.

    What names another fact, such as a bust, is told of the past: `as_of` never leaves it out.
    """

    def __init__(self, parts: Parts, topic: Topic, period: Period, as_of: AsOf) -> None:
        self._parts = parts
        self._period = period
        self._as_of = as_of
        bounds = (period.since, period.until, as_of)
        self._needs_zones = topic == "events" and any(one.day is not None for one in bounds)
        self._zones: dict[str, str] = {}

    @property
    def picks_all(self) -> bool:
        """Tell whether every event is picked."""
        return self._period == EVER and self._as_of == NOW

    def learn_zones(self, accounts: Iterable[str | None]) -> None:
        """Ask for the zones of accounts, all at once, before their events are looked at."""
        unknown = {one for one in accounts if one is not None} - self._zones.keys()
        if not (self._needs_zones and unknown):
            return
        rows = self._parts.models.connection.execute(
            "SELECT account, time_zone FROM accounts WHERE account = ANY(%s)", (list(unknown),)
        ).fetchall()
        self._zones |= dict.fromkeys(unknown, _NO_ZONE) | dict(rows)

    def picks(self, record: Record, *, refers: bool) -> bool:
        """Tell whether an event is picked; `refers` says that it names another fact."""
        try:
            told = msgspec.json.decode(record.value, type=Told)
            time_ns = to_ns(told.event_time)
        except (msgspec.DecodeError, ValueError):  # it was set aside, or is the log's own
            return False
        day = told.day(self._zones.get(record.key or "", _NO_ZONE))
        return self._period.includes(time_ns, day) and (
            refers or self._as_of.includes(time_ns, day)
        )
