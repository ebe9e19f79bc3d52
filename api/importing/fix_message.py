"""One FIX 4.4 message of a line: split, checked, and its fields as values.

Source: FIX 4.4, Volume 1: tag=value fields, each ended by SOH (here also `|`), BodyLength(9) and
CheckSum(10) over the bytes as sent.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Final, TypeVar

from domain.currencies import check_currency
from domain.errors import InvalidValue
from domain.identifiers import check_id
from domain.money import parse_decimal
from domain.times import Day, Instant, TimePrecision, parse_day, parse_instant, precision_of

Value = TypeVar("Value")

SOH: Final = b"\x01"
_PIPE: Final = b"|"
_BEGIN: Final = b"8="
_VERSION: Final = b"FIX.4.4"
_DIGITS: Final = frozenset(b"0123456789")
_LONGEST_TAG: Final = 6
_LONGEST_NUMBER: Final = 64
_NUMBER: Final = re.compile(r"-?\d+\.?\d*|-?\.\d+", re.ASCII)
_TIMESTAMP: Final = re.compile(r"(\d{4})(\d\d)(\d\d)-(\d\d:\d\d:\d\d)(\.\d{1,9})?", re.ASCII)
_DATE: Final = re.compile(r"\d{8}", re.ASCII)

# A field of data may hold any byte: how long it is says the field before it.
_DATA_OF: Final = {
    90: 91, 93: 89, 95: 96, 212: 213, 348: 349, 350: 351, 352: 353, 354: 355, 356: 357,
    358: 359, 360: 361, 362: 363, 364: 365, 445: 446, 618: 619, 621: 622,
}  # fmt: skip
NAMES: Final = {
    1: "Account", 6: "AvgPx", 8: "BeginString", 9: "BodyLength", 10: "CheckSum", 11: "ClOrdID",
    12: "Commission", 13: "CommType", 14: "CumQty", 15: "Currency", 17: "ExecID", 19: "ExecRefID",
    22: "SecurityIDSource", 30: "LastMkt", 31: "LastPx", 32: "LastQty", 35: "MsgType",
    37: "OrderID", 38: "OrderQty", 39: "OrdStatus", 40: "OrdType", 41: "OrigClOrdID", 44: "Price",
    48: "SecurityID", 52: "SendingTime", 54: "Side", 55: "Symbol", 59: "TimeInForce",
    60: "TransactTime", 64: "SettlDate", 75: "TradeDate", 77: "PositionEffect", 99: "StopPx",
    102: "CxlRejReason", 103: "OrdRejReason", 118: "NetMoney", 119: "SettlCurrAmt",
    120: "SettlCurrency", 122: "OrigSendingTime", 126: "ExpireTime", 137: "MiscFeeAmt",
    138: "MiscFeeCurr", 139: "MiscFeeType", 150: "ExecType", 151: "LeavesQty",
    155: "SettlCurrFxRate", 159: "AccruedInterestAmt", 167: "SecurityType", 198: "SecondaryOrderID",
    200: "MaturityMonthYear", 201: "PutOrCall", 202: "StrikePrice", 207: "SecurityExchange",
    231: "ContractMultiplier", 378: "ExecRestatementReason", 381: "GrossTradeAmt",
    423: "PriceType", 432: "ExpireDate", 434: "CxlRejResponseTo", 479: "CommCurrency",
    526: "SecondaryClOrdID", 527: "SecondaryExecID", 528: "OrderCapacity", 541: "MaturityDate",
}  # fmt: skip
_GROUPED: Final = frozenset((137, 138, 139))


@lru_cache(maxsize=1024)
def label(tag: int) -> str:
    """Return a field's name for people: `CheckSum(10)`."""
    return f"{NAMES[tag]}({tag})" if tag in NAMES else f"tag {tag}"


class FixMessage:
    """The fields of a message. Every reader of a field raises InvalidValue, naming it."""

    def __init__(self, fields: Iterable[tuple[int, str]]) -> None:
        self._fields: dict[int, str] = {}
        self.groups: list[tuple[int, str]] = []
        for tag, value in fields:
            if tag in _GROUPED:
                self.groups.append((tag, value))
            elif tag not in self._fields:
                self._fields[tag] = value
            elif tag in NAMES:
                raise InvalidValue(label(tag), value, "the field once in a message")

    def text(self, tag: int) -> str | None:
        """Return a field as it stands; None where it is absent."""
        return self._fields.get(tag)

    def need(self, tag: int) -> str:
        """Return a field that must be there."""
        value = self._fields.get(tag)
        if value is None:
            raise InvalidValue(label(tag), "", "a value: the field is required")
        return value

    def name(self, tag: int) -> str | None:
        """Return an id or a name that may be kept."""
        value = self._fields.get(tag)
        return None if value is None else check_id(value, label(tag))

    def number(self, tag: int) -> Decimal | None:
        """Return a number at the scale it was written with."""
        value = self._fields.get(tag)
        return None if value is None else parse_number(value, tag)

    def need_number(self, tag: int) -> Decimal:
        """Return a number that must be there."""
        return parse_number(self.need(tag), tag)

    def positive(self, tag: int) -> Decimal:
        """Return a number above zero that must be there."""
        number = self.need_number(tag)
        if number <= 0:
            raise InvalidValue(label(tag), self.need(tag), "a number above zero")
        return number

    def day(self, tag: int) -> Day | None:
        """Return a LocalMktDate, `20240102`."""
        value = self._fields.get(tag)
        if value is None:
            return None
        if not _DATE.fullmatch(value):
            raise InvalidValue(label(tag), value, "a date such as 20240102")
        return parse_day(value, label(tag))

    def time(self, tag: int) -> Instant | None:
        """Return a UTCTimestamp, `20240102-14:30:00.123`: UTC by the standard."""
        value = self._fields.get(tag)
        return None if value is None else _parse_timestamp(value, tag)[0]

    def moment(self) -> tuple[Instant, TimePrecision]:
        """Return when the message's matter happened: TransactTime, else when it was sent."""
        for tag in (60, 122, 52):
            value = self._fields.get(tag)
            if value is not None:
                return _parse_timestamp(value, tag)
        raise InvalidValue(label(60), "", "a time here or in SendingTime(52)")

    def currency(self, tag: int) -> str | None:
        """Return a currency that money may be in."""
        value = self._fields.get(tag)
        return None if value is None else check_currency(value, label(tag))

    def code(self, tag: int, meanings: Mapping[str, Value]) -> Value | None:
        """Return what a field's code means; None where it is absent."""
        value = self._fields.get(tag)
        if value is None:
            return None
        if value not in meanings:
            raise InvalidValue(label(tag), value, f"one of {', '.join(meanings)}")
        return meanings[value]

    def need_code(self, tag: int, meanings: Mapping[str, Value]) -> Value:
        """Return what the code of a field that must be there means."""
        self.need(tag)
        meaning = self.code(tag, meanings)
        assert meaning is not None
        return meaning


def parse_number(text: str, tag: int) -> Decimal:
    """Return a FIX float: digits with at most a sign and a point; raises InvalidValue."""
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        raise InvalidValue(label(tag), text, "a number such as -12.50, of at most 38 digits")
    return parse_decimal(text, label(tag))


def _parse_timestamp(text: str, tag: int) -> tuple[Instant, TimePrecision]:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise InvalidValue(label(tag), text, "a UTC time such as 20240102-14:30:00.123")
    year, month, day, clock, fraction = match.groups()
    told = f"{year}-{month}-{day}T{clock}{fraction or ''}Z"
    return parse_instant(told, label(tag)), precision_of(told)


def parse_message(raw: bytes) -> FixMessage:
    """Return the message of a line without its end; raises InvalidValue.

    BodyLength and CheckSum are checked where they are there. A last field that nothing ends is
    taken as ended.
    """
    if not raw.startswith(_BEGIN):
        raise InvalidValue("line", _shown(raw), "a FIX message, which begins with 8=FIX.4.4")
    if b"\0" in raw:
        raise InvalidValue("line", _shown(raw), "a message without NUL bytes")
    ender = SOH if SOH in raw else _PIPE
    if not raw.endswith(ender):
        raw += ender
    fields = _split(raw, ender)
    if fields[0][1] != _VERSION:
        raise InvalidValue(label(8), _shown(fields[0][1]), "FIX.4.4")
    _check_length(raw, fields)
    _check_sum(raw, fields)
    return FixMessage((tag, _decode(value)) for tag, value, _ in fields)


def _split(raw: bytes, ender: bytes) -> list[tuple[int, bytes, int]]:
    """Return tag, value and end of each field; the end is behind what ends it."""
    fields: list[tuple[int, bytes, int]] = []
    position, data_tag, data_length = 0, 0, 0
    while position < len(raw):
        equals = raw.find(b"=", position)
        text = raw[position:equals] if equals >= 0 else b""
        if not 0 < len(text) <= _LONGEST_TAG or not _DIGITS.issuperset(text):
            shown = _shown(raw[position : position + 80])
            raise InvalidValue("line", shown, "fields of the form tag=value, each ended alike")
        tag = int(text)
        if tag == data_tag:
            end = equals + 1 + data_length
            if raw[end : end + 1] != ender:
                raise InvalidValue(label(tag), "", f"{data_length} bytes, as the field before says")
        else:
            end = raw.index(ender, equals)
        value = raw[equals + 1 : end]
        if not value:
            raise InvalidValue(label(tag), "", "a value")
        position = end + 1
        fields.append((tag, value, position))
        data_tag = _DATA_OF.get(tag, 0)
        if data_tag:
            data_length = _count(tag, value)
    return fields


def _count(tag: int, value: bytes) -> int:
    if not _DIGITS.issuperset(value) or len(value) > _LONGEST_TAG:
        raise InvalidValue(label(tag), _shown(value), "a count of bytes")
    return int(value)


def _check_length(raw: bytes, fields: list[tuple[int, bytes, int]]) -> None:
    for index, (tag, value, end) in enumerate(fields):
        if tag != 9:
            continue
        last_tag = fields[-1][0]
        body_end = fields[-2][2] if last_tag == 10 else len(raw)
        told = _count(9, value)
        if index != 1 or told != body_end - end:
            raise InvalidValue(label(9), _shown(value), f"{body_end - end}, as second field")


def _check_sum(raw: bytes, fields: list[tuple[int, bytes, int]]) -> None:
    for index, (tag, value, _) in enumerate(fields):
        if tag != 10:
            continue
        if index != len(fields) - 1:
            raise InvalidValue(label(10), _shown(value), "the checksum as the last field")
        summed = raw[: fields[index - 1][2]]
        # Fields may be ended by something else than SOH here; the sum is of what was sent.
        total = sum(summed) - index * (raw[-1] - SOH[0])
        if value != f"{total % 256:03d}".encode():
            raise InvalidValue(label(10), _shown(value), f"{total % 256:03d}")


def _decode(value: bytes) -> str:
    """Return a value as text: UTF-8 where it is, else Latin-1, FIX's default."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _shown(value: bytes) -> str:
    return value[:200].decode("latin-1").replace("\x01", "|")
