"""LOBSTER message files: the orders of one stock on NASDAQ, and what became of them.

The book is seen as one account, `LOBSTER` unless the options name another, that holds every
resting order: a file does not say whose they are, and has no orders that take. A deal is on the
side of the resting order.

| type | is |
| --- | --- |
| 1 | a new limit order, on the book at once |
| 2 | a cancel of a part, `size` shares |
| 3 | a cancel of what is left |
| 4 | a deal on a visible order |
| 5 | a deal on a hidden order, which has no id: tagged `hidden` |
| 6 | a cross, such as an auction: has no resting side, listed |
| 7 | a halt or its end: listed |

The columns are seconds after midnight in New York, type, order id, size, price x 10,000, and side
of the resting order (1 buy, -1 sell); source: https://lobsterdata.com/info/DataStructure.php.
Orders that were there before the file began are cancelled and dealt on all the same: the ledger
flags them. `order_id` is `DATE/` and the file's id, 0 is no order.

The day is the options' date, else the one in the file's name (`AAPL_2012-06-21_...`), which flags
every fact `date_from_file_name`. The instrument is the symbol in that name, else `LOBSTER`.

Deals have no ids: one is made of day, symbol, the line's content and its ordinal among equal lines.
Equal lines have equal times, and times do not run backwards; a line whose time does is a problem.
Nanoseconds come from the digits. What a writer's floating point left beyond the ninth
(35821.088778456004) is rounded, and flagged `time_rounded`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Final
from zlib import error as ZlibError  # noqa: N812 - the name of its class

from msgspec import Struct

from api.importing.lines import ACTOR, Fact, Line, Listed, Options, Problem, open_input
from domain import times
from domain.commands import (
    Command,
    DefineInstrument,
    OpenAccount,
    PlaceOrder,
    RecordDeal,
    ReportOrderCanceled,
    Request,
    Source,
)
from domain.errors import InvalidValue, shorten
from domain.events import Side
from domain.identifiers import check_id
from domain.money import divide_half_even
from domain.times import Day

ACCOUNT: Final = "LOBSTER"
_UNNAMED: Final = "LOBSTER"
_ZONE: Final = "America/New_York"
_CURRENCY: Final = "USD"
_NAME: Final = re.compile(r"(?:([A-Z][A-Z0-9.\-]{0,9})_)?(\d{4}-\d\d-\d\d)(?:_|\.|$)", re.ASCII)
_TIME: Final = re.compile(r"(\d{1,5})(?:\.(\d{1,18}))?", re.ASCII)
_SECONDS_OF_DAY: Final = 86_400
_NS_PER_SECOND: Final = 1_000_000_000
_LONGEST_LINE: Final = 256
_COLUMNS: Final = 6
_SIDES: Final[dict[str, Side]] = {"1": "buy", "-1": "sell"}
_LISTED: Final = {
    "6": ("cross trade", "a cross has no resting side"),
    "7": ("trading halt", "a halt is no fact about an order"),
}
_EXPECTED_LINE: Final = "six columns: time, type, order id, size, price, side"


class _Day(Struct, frozen=True):
    """What holds for a whole file."""

    account: str
    instrument: str
    date: Day
    midnight_ns: int
    digest: str
    prefix: str
    flags: tuple[str, ...]
    opens: OpenAccount
    defines: tuple[tuple[str, DefineInstrument], ...]


class _Message(Struct):
    """One line in its fields. `ordinal` counts equal lines, `sequence` lines of the same time."""

    line: int
    text: str
    time_ns: int
    order_id: str | None
    size: Decimal
    price: Decimal
    side: Side
    sequence: int
    ordinal: int


def read_lobster(path: str, options: Options) -> Iterator[Line]:
    """Yield what a LOBSTER message file, plain or gzipped, holds; raises UnreadableFile."""
    with open_input(path) as file:
        try:
            day = _day(path, options)
        except InvalidValue as error:
            yield Problem(1, error.field, error.value, f"expected {error.expected}")
            return
        reader = _Reader(day)
        line = 0
        while True:
            line += 1
            try:
                text = file.readline(_LONGEST_LINE)
                if not text:
                    return
                if text.strip():
                    yield reader.read(line, text)
            except InvalidValue as error:
                yield Problem(line, error.field, error.value, f"expected {error.expected}")
                _skip_rest(file.readline, text)
            except (OSError, EOFError, ZlibError) as error:
                yield Problem(
                    line, "file", shorten(error), "expected a file that can be read to its end"
                )
                return


def _skip_rest(readline: Callable[[int], bytes], text: bytes) -> None:
    while len(text) == _LONGEST_LINE and not text.endswith(b"\n"):
        text = readline(_LONGEST_LINE)


def _day(path: str, options: Options) -> _Day:
    """Return what the options and the file's name tell; raises InvalidValue."""
    named = _NAME.match(Path(path).name)
    symbol = named.group(1) if named else None
    told = options.date or (named.group(2) if named else None)
    if told is None:
        raise InvalidValue("date", "", "the day of the file: --date 2012-06-21")
    date = times.parse_day(told, "date")
    account = check_id(options.account or ACCOUNT, "account")
    instrument = symbol or _UNNAMED
    prefix = hashlib.sha256(f"{account}\x1f{date}\x1f{instrument}".encode()).hexdigest()[:16]
    return _Day(
        account=account,
        instrument=instrument,
        date=date,
        midnight_ns=times.to_ns(times.start_of_day(date, _ZONE)),
        digest=options.digest,
        prefix=f"import:{prefix}",
        flags=() if options.date else ("date_from_file_name",),
        opens=OpenAccount(base_currency=_CURRENCY, time_zone=_ZONE),
        defines=((instrument, _definition(symbol)),),
    )


def _definition(symbol: str | None) -> DefineInstrument:
    return DefineInstrument(
        kind="equity", currency=_CURRENCY, symbol=symbol, mic="XNAS", time_zone=_ZONE
    )


class _Reader:
    """Reads line by line; remembers the lines of one nanosecond."""

    def __init__(self, day: _Day) -> None:
        self._day = day
        self._time_ns = -1
        self._sequence = -1
        self._equal: Counter[str] = Counter()

    def read(self, line: int, raw: bytes) -> Line:
        """Return what a line says; raises InvalidValue."""
        text = raw.decode("ascii", "replace").rstrip("\r\n")
        if len(raw) == _LONGEST_LINE:
            raise InvalidValue("line", text, _EXPECTED_LINE)
        columns = text.split(",")
        if len(columns) != _COLUMNS:
            raise InvalidValue("line", text, _EXPECTED_LINE)
        time, kind, order_id, size, price, side = columns
        time_ns, rounded = _time_ns(time)
        if kind in _LISTED:
            return Listed(line, *_LISTED[kind])
        make = _MAKERS.get(kind)
        if make is None:
            raise InvalidValue("type", kind, "1 to 7")
        if side not in _SIDES:
            raise InvalidValue("side", side, "1 or -1")
        message = _Message(
            line,
            text,
            time_ns,
            _order_id(order_id, self._day.date),
            _size(size),
            _price(price),
            _SIDES[side],
            0,
            0,
        )
        self._place(message, time)
        return self._fact(message, make(message, self._day), rounded)

    def _place(self, message: _Message, time: str) -> None:
        """Number a line among those of its time and among its equals."""
        if message.time_ns < self._time_ns:
            raise InvalidValue("time", time, "a time that is not before the line above")
        if message.time_ns > self._time_ns:
            self._time_ns = message.time_ns
            self._sequence = -1
            self._equal.clear()
        self._sequence += 1
        self._equal[message.text] += 1
        message.sequence = self._sequence
        message.ordinal = self._equal[message.text]

    def _fact(self, message: _Message, command: Command, rounded: bool) -> Fact:
        day = self._day
        request = Request(
            command_id=f"{day.prefix}/{message.text}/{message.ordinal}",
            key=day.account,
            event_time=times.from_ns(day.midnight_ns + message.time_ns),
            command=command,
            actor=ACTOR,
            source=Source(digest=day.digest, line=message.line),
            flags=(*day.flags, "time_rounded") if rounded else day.flags,
        )
        return Fact(message.line, request, day.opens, day.defines)


def _time_ns(text: str) -> tuple[int, bool]:
    """Return nanoseconds after midnight, and whether digits beyond them were rounded away."""
    match = _TIME.fullmatch(text)
    if match is None or int(match.group(1)) >= _SECONDS_OF_DAY:
        raise InvalidValue("time", text, "seconds after midnight such as 34200.004241176")
    fraction = match.group(2) or ""
    whole_ns = int(match.group(1)) * _NS_PER_SECOND
    if len(fraction) <= 9:
        return whole_ns + int(fraction.ljust(9, "0")), False
    return whole_ns + divide_half_even(int(fraction), 10 ** (len(fraction) - 9)), True


def _order_id(text: str, date: Day) -> str | None:
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise InvalidValue("order id", text, "a number of at most 20 digits, 0 for no order")
    return None if not int(text) else f"{date}/{text}"


@lru_cache(maxsize=4096)
def _size(text: str) -> Decimal:
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or not int(text):
        raise InvalidValue("size", text, "a whole number of shares above 0")
    return Decimal(text)


@lru_cache(maxsize=65536)
def _price(text: str) -> Decimal:
    """Return the price in dollars: the file counts ten-thousandths."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidValue("price", text, "a whole number of ten-thousandths of a dollar")
    return Decimal(text).scaleb(-4)


def _named_order(message: _Message) -> str:
    if message.order_id is None:
        raise InvalidValue("order id", "0", "the id of an order: 0 is none")
    return message.order_id


def _placed(message: _Message, day: _Day) -> Command:
    return PlaceOrder(
        order_id=_named_order(message),
        instrument=day.instrument,
        side=message.side,
        quantity=message.size,
        order_type="limit",
        limit_price=message.price,
        sequence=message.sequence,
    )


def _cut(message: _Message, _day: _Day) -> Command:
    return ReportOrderCanceled(
        order_id=_named_order(message), quantity=message.size, sequence=message.sequence
    )


def _cancelled(message: _Message, _day: _Day) -> Command:
    return ReportOrderCanceled(order_id=_named_order(message), sequence=message.sequence)


def _dealt(message: _Message, day: _Day) -> Command:
    return _deal(message, day, ())


def _dealt_hidden(message: _Message, day: _Day) -> Command:
    return _deal(message, day, ("hidden",))


def _deal(message: _Message, day: _Day, tags: tuple[str, ...]) -> Command:
    return RecordDeal(
        deal_id=f"{day.date}/{day.instrument}/{message.text}/{message.ordinal}",
        instrument=day.instrument,
        side=message.side,
        quantity=message.size,
        price=message.price,
        currency=_CURRENCY,
        order_id=message.order_id,
        trade_date=day.date,
        venue="XNAS",
        kind="equity",
        tags=tags,
        sequence=message.sequence,
    )


_MAKERS: Final[dict[str, Callable[[_Message, _Day], Command]]] = {
    "1": _placed,
    "2": _cut,
    "3": _cancelled,
    "4": _dealt,
    "5": _dealt_hidden,
}
