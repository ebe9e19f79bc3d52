"""What a command says, apart from how it was said: the content that its hash is of.

Canonical content is a JSON object of `data`, `event_time`, `key` and `type` (the command's name),
names sorted in every object, no blanks, UTF-8. In `data`, fields at their default are absent, and
a decimal is a string by value: plain notation, no zeros at the end of its decimals, zero is `0`.
Who asked, from which file, under which command id, and what was assumed are not content: the same
fact told again is the same fact.
"""

import hashlib
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from functools import cache, lru_cache
from typing import Any, Final, get_args, get_type_hints

from msgspec import NODEFAULT, Struct, to_builtins
from msgspec.json import Encoder
from msgspec.structs import astuple, fields

from domain.commands import RecordDeal, Request
from domain.times import TimePrecision

_UNBOUNDED: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])
_PLAIN_DIGITS: Final = 400
_MOST_NAMED: Final = 65_536
_ENCODER: Final = Encoder(order="deterministic")
_TOLD: Final = RecordDeal.__struct_fields__
_BETWEEN: Final = slice(_TOLD.index("accrued_interest"), _TOLD.index("trade_date"))
_RARER: Final = slice(_TOLD.index("booked_date"), None)
_AMOUNTS: Final = slice(_TOLD.index("gross"), _TOLD.index("fees"))
_NO_AMOUNTS: Final = (None, None)
_NONE_BETWEEN: Final[tuple[Any, ...]] = (None, None, {}, {})
_NONE_RARER: Final = tuple(told.default for told in fields(RecordDeal))[_RARER]
_PRECISIONS: Final[dict[TimePrecision, str]] = {
    precision: "" if precision == "nano" else f',"time_precision":"{precision}"'
    for precision in get_args(TimePrecision)
}
_NOT_CONTENT: Final = ("note_id", "note_digest")
"""Where a note is kept, under a salt of its own each time: the same fact may be told again."""


class _Shape(Struct, frozen=True):
    """What in a struct's fields has to be looked at before its content is canonical."""

    decimals: tuple[str, ...]
    defaults: tuple[tuple[str, Any], ...]
    nested: tuple[tuple[str, "_Shape"], ...]


_named: Final[dict[int, tuple[Request, str]]] = {}
"""By the identity of their commands, requests that were named, and the hashes of them."""


def naming_hash(request: Request) -> str:
    """Return the hash of a request that is to be named by it.

    It is kept for the one time that the ledger will ask for it, about the same command.
    """
    content_hash = command_hash(request)
    if len(_named) >= _MOST_NAMED:
        _named.clear()
    _named[id(request.command)] = request, content_hash
    return content_hash


def command_hash(request: Request) -> str:
    """Return the SHA-256, in hex, of the canonical content of the command that is asked for."""
    before, content_hash = _named.pop(id(request.command), (None, ""))
    if before is not None and _same_content(before, request):
        return content_hash
    return hashlib.sha256(canonical_content(request)).hexdigest()


def _same_content(one: Request, other: Request) -> bool:
    same = one.command is other.command
    return same and one.key == other.key and one.event_time == other.event_time


def canonical_content(request: Request) -> bytes:
    """Return what the hash of a command is taken of."""
    command = request.command
    plain = _plain_content(request, command) if type(command) is RecordDeal else None
    if plain is not None:
        return plain
    data = to_builtins(command)
    for name in _NOT_CONTENT:
        data.pop(name, None)
    _make_canonical(data, _shape(type(command)))
    return _ENCODER.encode(
        {
            "data": data,
            "event_time": request.event_time,
            "key": request.key,
            "type": type(command).__name__,
        }
    )


def _plain_content(request: Request, deal: RecordDeal) -> bytes | None:
    """Return the content of a deal that tells what most tell and no more, None for another.

    Deals are most of what is asked for: what the general way gives is here written out.
    """
    values = astuple(deal)
    price, date, fees = deal.price, deal.trade_date, deal.fees
    precision = _PRECISIONS.get(deal.time_precision)
    if price is None or date is None or precision is None:
        return None
    if values[_RARER] != _NONE_RARER or values[_BETWEEN] != _NONE_BETWEEN:
        return None
    if values[_AMOUNTS] != _NO_AMOUNTS or deal.sequence or deal.action_time is not None:
        return None
    charged = ""
    if fees:
        fee = fees[0]
        if len(fees) > 1 or fee.settlement_date is not None:
            return None
        charged = (
            f',"fees":[{{"amount":"{_number(fee.amount)}"'
            f',"currency":{_text(fee.currency)},"kind":{_text(fee.kind)}}}]'
        )
    content = (
        f'{{"data":{{"currency":{_text(deal.currency)},"deal_id":{_new_text(deal.deal_id)}{charged}'
        f',"instrument":{_text(deal.instrument)},"price":"{_number(price)}"'
        f',"quantity":"{_number(deal.quantity)}","side":{_text(deal.side)}{precision}'
        f',"trade_date":{_text(date)}}},"event_time":{_new_text(request.event_time)}'
        f',"key":{_text(request.key)},"type":"RecordDeal"}}'
    )
    return content.encode()


def _number(number: Decimal) -> str:
    text = str(number)
    # Most numbers are canonical as they are: few digits, no zero at their end.
    return _decimal_text(text) if text[-1] == "0" or "E" in text or len(text) > 40 else text


def _new_text(text: str) -> str:
    return _ENCODER.encode(text).decode()


_text: Final = lru_cache(4096)(_new_text)
"""For texts that many commands share."""


def _make_canonical(data: dict[str, Any], shape: _Shape) -> None:
    """Change a struct's fields, in place, to canonical content."""
    get = data.get
    for name in shape.decimals:
        text = get(name)
        # Most numbers are canonical as they are: an integer in a few digits.
        if text is not None and ("." in text or "E" in text or text == "-0" or len(text) > 40):
            data[name] = _decimal_text(text)
    for name, part in shape.nested:
        held = get(name)
        if isinstance(held, dict):
            _make_canonical(held, part)
        elif held is not None:
            for member in held:
                _make_canonical(member, part)
    # msgspec leaves out what is the default itself; what only equals it is left out here.
    for name, default in shape.defaults:
        if name in data and data[name] == default:
            del data[name]


def _decimal_text(text: str) -> str:
    """Return a decimal's text by value alone.

    A number far beyond what the ledger takes stays in scientific notation, normalised, so that
    hashing neither fails nor fills the memory.
    """
    if "E" not in text and len(text) <= _PLAIN_DIGITS:
        stripped = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if stripped == "-0" else stripped
    number = Decimal(text)
    if number.is_zero():
        return "0"
    if abs(number.adjusted()) < _PLAIN_DIGITS:
        plain = format(number, "f")
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return str(number.normalize(_UNBOUNDED))


@cache
def _shape(struct: type[Struct]) -> _Shape:
    hints = get_type_hints(struct)
    decimals: list[str] = []
    defaults: list[tuple[str, Any]] = []
    nested: list[tuple[str, _Shape]] = []
    for told in fields(struct):
        parts = _parts(hints[told.name])
        if Decimal in parts:
            decimals.append(told.name)
        nested += [(told.name, _shape(part)) for part in parts if issubclass(part, Struct)]
        if told.default is not NODEFAULT and told.default not in (None, ()):
            default = told.default
            text = _decimal_text(str(default)) if isinstance(default, Decimal) else default
            defaults.append((told.name, text))
    return _Shape(tuple(decimals), tuple(defaults), tuple(nested))


def _parts(kind: Any) -> list[type]:
    """Return the classes a type is made of: of `tuple[Fee, ...] | None`, Fee and NoneType."""
    if isinstance(kind, type) and not get_args(kind):
        return [kind]
    return [found for part in get_args(kind) for found in _parts(part)]
