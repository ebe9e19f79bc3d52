"""Instants and business dates as text that sorts in time order, exact to the nanosecond."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NewType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.errors import InvalidValue

Instant = NewType("Instant", str)
"""RFC 3339 in UTC with nine decimals: `2024-01-02T14:30:00.000000000Z`; sorts as text."""

Day = NewType("Day", str)
"""A business date, `2024-01-02`."""

TimePrecision = Literal["day", "second", "milli", "micro", "nano"]

FIRST_YEAR: Final = 1678
LAST_YEAR: Final = 2261
_MOST_OFFSET_H: Final = 15
_LAST_MINUTE: Final = 59
_NS_PER_SECOND: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?"
    r"\s*(?:([Zz])|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
_FRACTION: Final = re.compile(r"[.,](\d+)", re.ASCII)
_DAY: Final = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)", re.ASCII)
EXPECTED_TIME: Final = (
    "an RFC 3339 time with a zone, such as 2024-01-02T14:30:00Z, in the years 1678 to 2261"
)
_EXPECTED_DAY: Final = "a date such as 2024-01-02, in the years 1678 to 2261"
_PRECISIONS: Final[tuple[TimePrecision, ...]] = ("second", "milli", "micro", "nano")


def zone(name: str, field: str = "time_zone") -> ZoneInfo:
    """Return the IANA time zone of that name; raises InvalidValue when there is none."""
    try:
        return _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidValue(field, name, "an IANA zone such as America/New_York or UTC") from None


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def parse_instant(
    text: str, field: str, default_zone: str | None = None, *, first_of_two: bool = False
) -> Instant:
    """Return a told time as an Instant.

    A time without a zone is read in `default_zone`; without one it is an error, not a guess. So is
    one that the zone had never or twice, when its clocks were changed; of two, `first_of_two`
    takes the earlier. Raises InvalidValue.
    """
    match = _RFC3339.fullmatch(text.strip())
    if match is None:
        raise InvalidValue(field, text, EXPECTED_TIME)
    year, month, day, hour, minute, second, fraction, utc, sign, off_h, off_m = match.groups()
    try:
        moment = datetime(  # noqa: DTZ001 - the zone is put on below
            int(year), int(month), int(day), int(hour), int(minute), int(second or 0)
        )
    except ValueError:
        raise InvalidValue(field, text, EXPECTED_TIME) from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise InvalidValue(field, text, EXPECTED_TIME)
    if sign:
        if int(off_h) > _MOST_OFFSET_H or int(off_m) > _LAST_MINUTE:
            raise InvalidValue(field, text, EXPECTED_TIME)
        offset = timedelta(hours=int(off_h), minutes=int(off_m))
        moment = moment - offset if sign == "+" else moment + offset
    elif not utc:
        if default_zone is None:
            raise InvalidValue(field, text, EXPECTED_TIME)
        first, second = (_to_utc(moment.replace(fold=fold), default_zone) for fold in (0, 1))
        if first != second and not (first_of_two and first < second):
            how_often = "twice" if first < second else "never"
            expected = f"a time with its offset from UTC: {default_zone} had this one {how_often}"
            raise InvalidValue(field, text, expected)
        moment = first
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise InvalidValue(field, text, EXPECTED_TIME)
    return Instant(f"{moment:%Y-%m-%dT%H:%M:%S}.{(fraction or '').ljust(9, '0')}Z")


def _to_utc(naive: datetime, zone_name: str) -> datetime:
    return naive.replace(tzinfo=zone(zone_name)).astimezone(UTC).replace(tzinfo=None)


def is_one_of_two(instant: Instant, zone_name: str) -> bool:
    """Tell whether a zone's clocks showed the time of an instant twice."""
    local = datetime.fromisoformat(instant[:19]).replace(tzinfo=UTC).astimezone(zone(zone_name))
    first, second = (local.replace(fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def precision_of(text: str) -> TimePrecision:
    """Return how finely a told time was given, by the digits after its seconds."""
    fraction = _FRACTION.search(text)
    digits = 0 if fraction is None else len(fraction.group(1))
    return _PRECISIONS[min((digits + 2) // 3, 3)]


@lru_cache(maxsize=4096)
def parse_day(text: str, field: str) -> Day:
    """Return a told date as a Day; raises InvalidValue."""
    match = _DAY.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        day = date(*map(int, match.groups()))
    except ValueError:
        raise InvalidValue(field, text, _EXPECTED_DAY) from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise InvalidValue(field, text, _EXPECTED_DAY)
    return Day(day.isoformat())


def is_day(text: str) -> bool:
    """Tell whether a text is a date alone, without a time."""
    return _DAY.fullmatch(text.strip()) is not None


@lru_cache(maxsize=4096)
def end_of_day(day: Day, zone_name: str) -> Instant:
    """Return the last nanosecond of a date in a zone: where a fact with only a date is placed."""
    following = date.fromisoformat(day) + timedelta(days=1)
    midnight = _to_utc(datetime(following.year, following.month, following.day), zone_name)  # noqa: DTZ001
    last = midnight - timedelta(seconds=1)
    return Instant(f"{last:%Y-%m-%dT%H:%M:%S}.999999999Z")


@lru_cache(maxsize=4096)
def start_of_day(day: Day, zone_name: str) -> Instant:
    """Return the first nanosecond of a date in a zone: where an opening position is placed."""
    first = date.fromisoformat(day)
    midnight = _to_utc(datetime(first.year, first.month, first.day), zone_name)  # noqa: DTZ001
    return Instant(f"{midnight:%Y-%m-%dT%H:%M:%S}.000000000Z")


def local_day(instant: Instant, zone_name: str) -> Day:
    """Return the date of an instant in a zone."""
    if zone_name == "UTC":
        return Day(instant[:10])
    return _local_day(instant[:16], zone_name)


@lru_cache(maxsize=65536)
def _local_day(minute: str, zone_name: str) -> Day:
    moment = datetime.fromisoformat(minute).replace(tzinfo=UTC)
    return Day(moment.astimezone(zone(zone_name)).date().isoformat())


def to_ns(instant: Instant) -> int:
    """Return nanoseconds since 1970-01-01T00:00:00Z."""
    elapsed = datetime.fromisoformat(instant[:19] + "+00:00") - _EPOCH
    return (elapsed.days * 86_400 + elapsed.seconds) * _NS_PER_SECOND + int(instant[20:29])


def from_ns(time_ns: int) -> Instant:
    """Return the Instant of a count of nanoseconds since 1970-01-01T00:00:00Z."""
    seconds, fraction_ns = divmod(time_ns, _NS_PER_SECOND)
    return Instant(f"{_second(seconds)}.{fraction_ns:09d}Z")


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def to_display(instant: Instant) -> str:
    """Return RFC 3339 without needless zeros: `2024-01-02T14:30:00Z`."""
    head, _, fraction = instant[:-1].partition(".")
    trimmed = fraction.rstrip("0")
    return f"{head}.{trimmed}Z" if trimmed else f"{head}Z"
