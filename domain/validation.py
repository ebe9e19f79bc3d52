"""Check a command whose types are right: ids, currencies, numbers and times, and what must be > 0.

Times and dates are brought to their canonical form, so that the same command is the same text.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Final, NewType, get_args, get_type_hints

import msgspec
from msgspec import Struct

from domain import commands, events
from domain.commands import AmendDealTerms, Command, Request
from domain.currencies import check_currency
from domain.errors import InvalidValue
from domain.identifiers import check_id
from domain.money import check_cost, check_decimal
from domain.times import Day, Instant, parse_day, parse_instant, zone

Check = Callable[[Any, str], Any]

_CURRENCIES: Final = frozenset(
    ("currency", "base_currency", "settlement_currency", "cost_currency", "fee_currency")
)
_IDS: Final = frozenset(
    ("instrument", "to_account", "from_account", "portfolio", "parent", "lot", "new_instrument")
)
_ORIGIN: Final = ("actor", "correlation_id", "causation_id", "flags")
_NOTHING: Final = ()
_OTHER_THAN_ZERO: Final = "a number other than 0"
_NAMES: Final = frozenset(
    (
        (commands.RecordPrice, "source"),
        (commands.IdentifyInstrument, "scheme"),
        (commands.IdentifyInstrument, "value"),
    )
)
"""Texts that are parts of keys."""
_LEAST_WHOLE: Final = -(2**63)
_MOST_WHOLE: Final = 2**63 - 1


def check_request(request: Request) -> Request:
    """Return the request in canonical form; raises InvalidValue for the first bad field."""
    check_id(request.command_id, "command_id")
    check_id(request.key, "account")
    check_origin(request)
    command = check_command(request.command)
    event_time = parse_instant(request.event_time, "event_time")
    return msgspec.structs.replace(request, command=command, event_time=event_time)


def check_origin(request: Request) -> None:
    """Check what a request says of where it comes from; raises InvalidValue."""
    for name in _ORIGIN:
        if (told := getattr(request, name)) is not None:
            check_texts(told, name)
    if request.source is not None:
        check_texts(request.source.digest, "source.digest")


def check_command(command: Command) -> Command:
    """Return the command in canonical form; raises InvalidValue for the first bad field."""
    checked = _checked(command, "")
    assert isinstance(checked, type(command))
    if isinstance(checked, commands.MovePosition):
        for leg in checked.legs:
            if not leg.quantity:
                raise InvalidValue("legs.quantity", leg.quantity, _OTHER_THAN_ZERO)
    if isinstance(checked, AmendDealTerms):
        _check_exchange(checked.terms)
    return checked


def _check_exchange(terms: events.Terms) -> None:
    """Check that terms say what is exchanged where, and only where, a currency is."""
    if (terms.kind == "fx") is (terms.base_currency is None):
        expected = "the currency that is bought or sold, beside kind fx and no other"
        raise InvalidValue("terms.base_currency", terms.base_currency, expected)


def _checked(value: Struct, path: str) -> Struct:
    changed: dict[str, Any] = {}
    struct = type(value)
    # Most fields are not told: all are looked at in one go, and passed by in a step each.
    told = msgspec.structs.astuple(value)
    for name, check, before in zip(struct.__struct_fields__, _checks(struct), told, strict=True):
        if before is None or check is None or before is _NOTHING:
            continue
        after = check(before, path + name)
        if after is not before:
            changed[name] = after
    return msgspec.structs.replace(value, **changed) if changed else value


@cache
def _checks(struct: type[Struct]) -> tuple[Check | None, ...]:
    """Return what checks each field of a struct, in their order."""
    hints = get_type_hints(struct)
    return tuple(_check_of(struct, name, hints[name]) for name in struct.__struct_fields__)


def _check_of(struct: type[Struct], name: str, hint: Any) -> Check | None:
    parts = {hint, *get_args(hint)}
    if Instant in parts:
        return parse_instant
    if Day in parts:
        return parse_day
    if Decimal in parts:
        return _NUMBERS.get((struct, name), check_decimal)
    if int in parts:
        return _check_whole
    for part in parts:
        inner = next((one for one in (part, *get_args(part)) if _is_struct(one)), None)
        if inner is not None:
            return _check_nested
    if name in _CURRENCIES:
        return check_currency
    if name == "time_zone":
        return _check_zone
    if str in parts and (name in _IDS or name.endswith("_id") or name == "cl_ord_id"):
        return check_id
    if name in ("ids", "identifiers"):
        return _check_ids
    if (struct, name) in _NAMES:
        return _check_name
    return check_texts if str in parts else None


def _check_above_zero(value: Decimal, path: str) -> Decimal:
    checked = check_decimal(value, path)
    if not checked > 0:
        raise InvalidValue(path, value, "a number above 0")
    return checked


def _check_size(value: Decimal, path: str) -> Decimal:
    checked = check_decimal(value, path)
    if not checked > 0:
        raise InvalidValue(path, value, "a number above 0; `side` says which way")
    return checked


def _check_not_zero(value: Decimal, path: str) -> Decimal:
    checked = check_decimal(value, path)
    if not checked:
        raise InvalidValue(path, value, _OTHER_THAN_ZERO)
    return checked


def _check_whole(value: int, path: str) -> int:
    if not _LEAST_WHOLE <= value <= _MOST_WHOLE:
        raise InvalidValue(path, value, "a whole number of 64 bits")
    return value


_NUMBERS: Final[dict[tuple[type[Struct], str], Check]] = {
    (commands.RecordDeal, "quantity"): _check_size,
    (commands.CorrectDeal, "quantity"): _check_size,
    **{
        (struct, name): _check_above_zero
        for struct in (
            commands.RecordDeal,
            commands.CorrectDeal,
            commands.DefineInstrument,
            events.Terms,
        )
        for name in ("multiplier", "price_unit")
    },
    (commands.RecordPrice, "unit"): _check_above_zero,
    (events.LotPick, "quantity"): _check_above_zero,
    (events.LotTold, "quantity"): _check_not_zero,
    # A cost that the ledger made has more decimals than any that is told.
    (events.LotTold, "cost"): check_cost,
}
"""What a number has to be beside what every number is, by struct and field."""


def _is_struct(hint: Any) -> bool:
    if isinstance(hint, NewType):
        return False
    return isinstance(hint, type) and issubclass(hint, Struct)


def _check_nested(value: Any, path: str) -> Any:
    if isinstance(value, tuple):
        after = tuple(_checked(one, f"{path}[{index}].") for index, one in enumerate(value))
        same = all(new is old for new, old in zip(after, value, strict=True))
        return value if same else after
    return _checked(value, f"{path}.")


def _check_name(value: str, path: str) -> str:
    return check_id(value, path) if value else value


def _check_zone(value: str, path: str) -> str:
    zone(value, path)
    return value


def check_texts(value: Any, path: str) -> Any:
    """Return text, or a list or an object of it; raises InvalidValue for what no table can hold."""
    for text in (value,) if isinstance(value, str) else value:
        if "\x00" in text:
            raise InvalidValue(path, text, "text without NUL characters")
    if isinstance(value, dict):
        check_texts(tuple(value.values()), path)
    return value


def _check_ids(value: dict[str, str], path: str) -> dict[str, str]:
    for scheme, told in value.items():
        check_id(scheme, path)
        check_id(told, f"{path}.{scheme}")
    return value
