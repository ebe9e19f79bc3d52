"""One line of a Flex statement: its fields as numbers, dates and times, and facts made of it."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from msgspec import Struct

from api.importing import cells
from api.importing.lines import Fact, Listed, identified
from domain import times
from domain.commands import Command, DefineInstrument, OpenAccount, RecordPrice, Request, Source
from domain.currencies import check_currency
from domain.errors import InvalidValue
from domain.events.parts import Timed
from domain.identifiers import check_id
from domain.money import add
from domain.times import Day, Instant, TimePrecision

NEW_YORK: Final = "America/New_York"
TIME_AMBIGUOUS: Final = "time_ambiguous"
"""A flag: the zone had the time of a fact twice, and the earlier was taken."""
_NOT_TOLD: Final = frozenset(("", "-", "--", "N/A"))
_STAMP: Final = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)(?:[;T ]|, ?)(\d\d):?(\d\d):?(\d\d)(?: ?([A-Z]{2,5}|[+-]\d\d:?\d\d))?",
    re.ASCII,
)
_OFFSETS: Final = {"EST": "-05:00", "EDT": "-04:00", "UTC": "Z", "GMT": "Z", "Z": "Z"}
_EXPECTED_STAMP: Final = "a time such as 20180209;111929, or a date"

Defines = tuple[tuple[str, DefineInstrument], ...]


class Moment(Struct, frozen=True):
    """When something happened, how finely that was told, and its date in the statement's zone."""

    instant: Instant
    precision: TimePrecision
    day: Day


class Row(Struct, frozen=True):
    """One line of a statement, with what holds for the whole of it.

    `account` is whose line it is, `zone` what a time without a zone is read in.
    """

    line: int
    tag: str
    fields: dict[str, str]
    account: str
    base_currency: str
    zone: str
    digest: str

    def text(self, name: str) -> str | None:
        """Return a field, None where it says nothing: absent, empty, `--` or `N/A`."""
        value = self.fields.get(name, "").strip()
        return None if value in _NOT_TOLD else value

    def identifier(self, name: str) -> str | None:
        """Return an id; IBKR writes 0 for none. Raises InvalidValue."""
        value = self.text(name)
        return None if value is None or value == "0" else check_id(value, name)

    def number(self, name: str) -> Decimal | None:
        """Return a number, with the scale it was written with. Raises InvalidValue."""
        value = self.text(name)
        if value is None:
            return None
        number = cells.number(value, name)
        return number or abs(number)

    def needed_number(self, name: str) -> Decimal:
        """Return a number that must be there; raises InvalidValue."""
        number = self.number(name)
        if number is None:
            raise InvalidValue(name, self.fields.get(name, ""), "a number")
        return number

    def currency(self, name: str = "currency") -> str:
        """Return a currency that money may be in; raises InvalidValue."""
        return check_currency(self.fields.get(name, "").strip(), name)

    def day(self, name: str) -> Day | None:
        """Return the date of a field, whether or not it also tells a time. Raises InvalidValue."""
        value = self.text(name)
        if value is None:
            return None
        stamp = _STAMP.fullmatch(value)
        return times.parse_day("-".join(stamp.groups()[:3]) if stamp else value, name)

    def moment(self) -> Moment:
        """Return when it happened: dateTime, tradeDate with tradeTime, or the end of a date.

        Raises InvalidValue.
        """
        if (value := self.text("dateTime")) is not None:
            return self._moment(value, "dateTime")
        date, time = self.text("tradeDate"), self.text("tradeTime")
        if date is not None:
            return self._moment(f"{date};{time}" if time else date, "tradeDate")
        if (value := self.text("reportDate")) is not None:
            return self._moment(value, "reportDate")
        raise InvalidValue("dateTime", "", _EXPECTED_STAMP)

    def _moment(self, value: str, name: str) -> Moment:
        if times.is_day(value):
            day = times.parse_day(value, name)
            return Moment(times.end_of_day(day, self.zone), "day", day)
        stamp = _STAMP.fullmatch(value)
        if stamp is None:
            raise InvalidValue(name, value, _EXPECTED_STAMP)
        year, month, date, hour, minute, second, zone = stamp.groups()
        offset = zone if zone is None or zone[0] in "+-" else _OFFSETS.get(zone)
        if zone is not None and offset is None:
            raise InvalidValue(name, value, "no zone, an offset, or one of EST, EDT, UTC, GMT")
        day = times.parse_day(f"{year}-{month}-{date}", name)
        text = f"{day}T{hour}:{minute}:{second}{offset or ''}"
        instant = times.parse_instant(text, name, self.zone, first_of_two=True)
        return Moment(instant, "second", day)


def end_of(row: Row, day: Day) -> Moment:
    """Return the end of a date as a moment: where a fact with a date only is placed."""
    return Moment(times.end_of_day(day, row.zone), "day", day)


def fact(
    row: Row,
    command: Command,
    instant: Instant,
    *,
    defines: Defines = (),
    flags: Sequence[str] = (),
    note: str | None = None,
    or_listed: str | None = None,
) -> Fact:
    """Return what a line of an account says as a request."""
    opens = OpenAccount(base_currency=row.base_currency, actions="booked", time_zone=row.zone)
    request = _request(row, row.account, command, instant, tuple(flags))
    return Fact(row.line, request, opens, defines, note, or_listed)


def price_fact(row: Row, instrument: str, price: RecordPrice, at: Moment, fx: Defines) -> Fact:
    """Return a price as a request; it belongs to no account."""
    return Fact(row.line, _request(row, instrument, price, at.instant, ()), defines=fx)


def _request(
    row: Row, key: str, command: Command, instant: Instant, flags: tuple[str, ...]
) -> Request:
    source = Source(digest=row.digest, line=row.line)
    is_told = isinstance(command, Timed) and command.time_precision != "day"
    if is_told and times.is_one_of_two(instant, row.zone):
        flags = (*flags, TIME_AMBIGUOUS)
    return identified(
        Request(
            command_id="",
            key=key,
            event_time=instant,
            command=command,
            source=source,
            flags=flags,
        )
    )


def listed(row: Row, reason: str) -> Listed:
    """Return the line as one that is not booked, by rule."""
    return Listed(row.line, row.tag, reason)


def known_ids(row: Row, names: Sequence[str]) -> dict[str, str]:
    """Return the ids that a line tells, under IBKR's own names. Raises InvalidValue."""
    ids = {name: row.identifier(name) for name in names}
    return {name: value for name, value in ids.items() if value is not None}


def total(*numbers: Decimal | None) -> Decimal:
    """Return the exact sum of the numbers that are told."""
    return add(number for number in numbers if number is not None)
