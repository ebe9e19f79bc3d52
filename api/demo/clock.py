"""Times of day in New York, and the day a trade settles."""

from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from domain.times import Day

ZONE: Final = "America/New_York"
_DAYS_TO_SETTLE: Final = 3
_SATURDAY: Final = 5


def at(day: Day, clock: str) -> str:
    """Return a New York time of a day as RFC 3339 text, with its zone."""
    return _local(day, clock).isoformat()


def utc(day: Day, clock: str) -> str:
    """Return a New York time of a day as FIX has times, in UTC."""
    return _local(day, clock).astimezone(UTC).strftime("%Y%m%d-%H:%M:%S.000")


def settles(day: Day) -> Day:
    """Return the third weekday after a trade; holidays are not looked at."""
    settled, left = date.fromisoformat(day), _DAYS_TO_SETTLE
    while left:
        settled += timedelta(days=1)
        left -= settled.weekday() < _SATURDAY
    return Day(settled.isoformat())


def _local(day: Day, clock: str) -> datetime:
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo(ZONE))
