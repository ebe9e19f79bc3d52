"""What the rows of one file share while they become facts: ids, places in time, assumptions."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import fields

from api.importing.cells import Moment
from api.importing.lines import Fact, Options, Ordinals, identified
from domain.commands import Command, DefineInstrument, OpenAccount, Request, Source
from domain.currencies import CURRENCIES
from domain.errors import InvalidValue
from domain.events import InstrumentKind, LotPick
from domain.money import normalized, to_plain
from domain.times import Day, Instant, TimePrecision, end_of_day, start_of_day

ASSUMED_CURRENCY: Final = "USD"
BEGINNING: Final = Instant("1970-01-01T00:00:00.000000000Z")
"""When a definition without a date is placed: a fixed time, so that it is the same each time."""

_EARLIEST_ZONE_H: Final = 14
_COINS: Final = "BTC ETH USDT USDC BUSD DAI TUSD FDUSD XBT BNB SOL XRP ADA DOGE LTC BCH DOT TRX"
"""Currencies that are held as positions: a pair of one is crypto and not foreign exchange."""

Value = TypeVar("Value")
Owner = Literal["account", "instrument"]


class Reading:
    """One pass over one file of one kind of table, which has these `columns`."""

    def __init__(
        self,
        kind: str,
        options: Options,
        as_told: tuple[str, ...] = (),
        columns: Sequence[str] = (),
    ) -> None:
        self.options = options
        self.columns = frozenset(columns)
        self._as_told = as_told
        self._kind = kind
        self._ordinals = Ordinals()
        self._currencies: dict[str, str] = {}

    def fact(
        self,
        line: int,
        key: str,
        event_time: Instant,
        command: Command,
        opens: OpenAccount | None = None,
        defines: tuple[tuple[str, DefineInstrument], ...] = (),
        note: str | None = None,
    ) -> Fact:
        """Return the fact that a row tells, under a command id made of its content."""
        request = Request(
            command_id="",
            key=key,
            event_time=event_time,
            command=command,
            source=Source(digest=self.options.digest, line=line),
        )
        return Fact(line, identified(request), opens, defines, note)

    def as_told(self, row: Struct) -> dict[str, Any]:
        """Return what a row tells in the columns that are there and are taken over as they are."""
        return {name: value for name in self._as_told if (value := getattr(row, name)) is not None}

    def id_of(self, row: Struct, told: str | None, id_field: str) -> str:
        """Return the id that a row tells, else one of its content and ordinal.

        Content is by value and without the note, so that the same rows in another format, or at
        another scale, have the same ids, and a note that is erased leaves no trace in one.
        """
        if told is not None:
            return told
        parts = [self._kind]
        for field in fields(row):
            value = getattr(row, field.name)
            if value != field.default and field.name not in (id_field, "note"):
                parts.append(f"{field.encode_name}={canonical(value)}")
        return self._ordinals.content_id(*parts)

    def place(
        self, told: Moment, owner: Owner, name: str, *, at_start: bool = False
    ) -> tuple[Instant, TimePrecision]:
        """Return when a fact happened, and how finely that was told.

        A day alone is its end (or start) in the zone of the account or instrument, else in UTC.
        """
        if told.instant is not None:
            return told.instant, told.precision
        assert told.day is not None
        zone_name = self.options.zone_of(owner, name) or "UTC"
        edge = start_of_day if at_start else end_of_day
        return edge(told.day, zone_name), "day"

    def currency_of(self, instrument: str, told: str | None) -> str:
        """Return the currency of an instrument's cost: as told here, by the ledger, or before.

        What the file told before counts, since the ledger may not have taken it in yet.
        """
        currency = told or self.options.currency_of(instrument)
        currency = currency or self._currencies.get(instrument, ASSUMED_CURRENCY)
        self._currencies[instrument] = currency
        return currency


def needed(value: Value | None, field: str, expected: str = "a value") -> Value:
    """Return a value that must be told; raises InvalidValue where its cell is empty."""
    if value is None:
        raise InvalidValue(field, "", expected)
    return value


def starting(from_date: Day | None, zone_name: str = "UTC") -> Instant:
    """Return when a definition takes effect: the start of its date, else the beginning of time."""
    return BEGINNING if from_date is None else start_of_day(from_date, zone_name)


def begun(from_date: Day | None, field: str = "from") -> Day | None:
    """Return the date that settings are told for; raises InvalidValue for one that is to come.

    They hold as soon as they are told. It is today until it is tomorrow everywhere on earth.
    """
    today = (datetime.now(UTC) + timedelta(hours=_EARLIEST_ZONE_H)).date().isoformat()
    if from_date is not None and from_date > today:
        expected = "no date that is to come: what is told holds at once"
        raise InvalidValue(field, from_date, expected)
    return from_date


@lru_cache(maxsize=256)
def assumed_account(currency: str | None) -> OpenAccount:
    """Return how an unknown account is opened from what a row says."""
    return OpenAccount(base_currency=currency or ASSUMED_CURRENCY)


@lru_cache(maxsize=65536)
def assumed_instrument(
    instrument: str,
    currency: str | None,
    kind: InstrumentKind | None = None,
    multiplier: Decimal | None = None,
) -> tuple[tuple[str, DefineInstrument], ...]:
    """Return how an unknown instrument is defined from what a row says."""
    terms = DefineInstrument(
        kind=kind or _kind_of_pair(instrument) or "equity",
        currency=currency or ASSUMED_CURRENCY,
        multiplier=Decimal(1) if multiplier is None else multiplier,
    )
    return ((instrument, terms),)


def pair_of(instrument: str) -> tuple[str, str] | None:
    """Return base and quote of an exchange rate such as EUR/USD; None for other instruments."""
    base, slash, quote = instrument.partition("/")
    return (base, quote) if slash and base in CURRENCIES and quote in CURRENCIES else None


def _kind_of_pair(instrument: str) -> InstrumentKind | None:
    pair = pair_of(instrument)
    if pair is None:
        return None
    return "crypto" if pair[0] in _COINS.split() else "fx"


def canonical(value: object) -> str:
    """Return a cell's value as text by value: decimals without trailing zeros, times in UTC."""
    match value:
        case Decimal():
            return to_plain(normalized(value))
        case Moment():
            return str(value.instant or value.day)
        case LotPick():
            return f"{value.lot}:{canonical(value.quantity)}"
        case tuple():
            return ";".join(map(canonical, value))
        case _:
            return "" if value is None else str(value)
