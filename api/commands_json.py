"""Commands as JSON, as `daybook submit` and the API take them."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, get_args

import msgspec

from api.front import Missing
from api.importing.lines import Fact
from api.importing.reading import assumed_instrument, begun
from domain import commands
from domain.commands import Command, DefineInstrument, OpenAccount, Request
from domain.errors import InvalidValue
from domain.times import Instant
from domain.validation import check_request
from streams.answers import Answer

Definitions = tuple[tuple[str, DefineInstrument], ...]
"""Instruments by name, each with how it is defined where it is not known."""

_PUBLIC: Final = ("accepted", "duplicate", "refused")


def _members(union: Any) -> dict[str, type[msgspec.Struct]]:
    return {one.__name__: one for one in get_args(union)}


_OURS: Final = frozenset(("ReceiveTransfer", "ReturnTransfer"))
"""What carries a transfer to its end: from anybody else, it would make cash out of nothing."""

COMMANDS: Final = {name: struct for name, struct in _members(Command).items() if name not in _OURS}
"""Command structs by the name that `type` gives them."""

_DECODER: Final = msgspec.json.Decoder(float_hook=Decimal)
"""Numbers keep every digit they are written with, in quotes or without."""

_ACCOUNT_COMMANDS: Final = tuple(get_args(commands.AccountCommand))
_FIELDS: Final = frozenset(
    ("command_id", "type", "account", "key", "event_time", "data", "actor", "correlation_id")
)


def fact_from_json(text: bytes, line: int) -> Fact:
    """Return the command of a JSON object, with what it says of its account and instrument.

    Raises InvalidValue, naming the field, for anything that is not a command.
    """
    try:
        told = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidValue("command", text.decode(errors="replace"), f"JSON: {error}") from None
    if not isinstance(told, dict):
        raise InvalidValue("command", told, "a JSON object")
    return fact_from_object(told, line)


def command_id_in(text: bytes) -> str | None:
    """Return the id of a command that may be wrong in all else, None where it tells none."""
    try:
        told = _DECODER.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    command_id = told.get("command_id") if isinstance(told, dict) else None
    return command_id if isinstance(command_id, str) else None


def fact_from_object(told: dict[str, Any], line: int = 0) -> Fact:
    """Return the command of an object that was JSON; raises InvalidValue."""
    for name in told:
        if name not in _FIELDS:
            raise InvalidValue(name, told[name], "one of " + ", ".join(sorted(_FIELDS)))
    struct = COMMANDS.get(_text(told, "type"))
    if struct is None:
        raise InvalidValue("type", told.get("type"), "one of " + ", ".join(sorted(COMMANDS)))
    data = told.get("data")
    if not isinstance(data, dict):
        raise InvalidValue("data", data, f"an object with the fields of {struct.__name__}")
    key_name = "key" if "key" in told else "account"
    request = check_request(
        Request(
            command_id=_text(told, "command_id"),
            key=_text(told, key_name),
            event_time=Instant(_text(told, "event_time")),
            command=_command(struct, data),
            actor=_text(told, "actor") if told.get("actor") else "local",
            correlation_id=(
                None if told.get("correlation_id") is None else _text(told, "correlation_id")
            ),
        )
    )
    if isinstance(request.command, OpenAccount | DefineInstrument):
        begun(request.command.from_date, "data.from_date")
    return Fact(line, request, _opens(request.command), _defines(request))


def answer_json(command_id: str | None, answer: Answer | Missing | None) -> dict[str, Any]:
    """Return the answer to a command as JSON; None is one that was not even submitted."""
    told: dict[str, Any] = {
        "command_id": command_id,
        "status": "refused",
        "position": None,
        "event": None,
        "reason": None,
    }
    match answer:
        case Missing():
            return {**told, "reason": answer.reason, "field": answer.field, "value": answer.value}
        case Answer():
            told["status"] = answer.status if answer.status in _PUBLIC else "refused"
            told["position"] = answer.position
            told["event"] = answer.event_type
            told["reason"] = "conflict" if answer.status == "conflict" else answer.reason
            more = {
                "detail": answer.detail,
                "numbers": answer.numbers or None,
                "flags": list(answer.flags) or None,
            }
            return told | {name: value for name, value in more.items() if value is not None}
        case None:
            return told


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str):
        raise InvalidValue(name, value, "a string")
    return value


def _command(struct: type[msgspec.Struct], data: dict[str, Any]) -> Any:
    known = set(struct.__struct_fields__)
    for name in data:
        if name not in known:
            raise InvalidValue(f"data.{name}", data[name], "one of " + ", ".join(sorted(known)))
    try:
        return msgspec.convert(data, struct)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        field = "data." + path.rstrip("`") if path else "data"
        raise InvalidValue(field, data.get(path.rstrip("`").split("[")[0]), problem) from None


def _opens(command: Command) -> OpenAccount | None:
    if not isinstance(command, _ACCOUNT_COMMANDS):
        return None
    currency = getattr(command, "currency", None)
    return OpenAccount(base_currency=currency if isinstance(currency, str) else "USD")


def _defines(request: Request) -> Definitions:
    """Return how unknown instruments of a command are defined: as by a file that tells the same."""
    command = request.command
    match command:
        case commands.RecordDeal():
            return _of_deal(command)
        case commands.PlaceOrder():
            return assumed_instrument(command.instrument, None)
        case commands.MoveCash():
            return _assumed([(command.instrument, command.currency)])
        case commands.MovePosition():
            return _assumed((leg.instrument, leg.currency) for leg in command.legs)
        case commands.RecordPrice():
            return assumed_instrument(request.key, command.currency)
        case commands.AnnounceCorporateAction() | commands.CorrectCorporateAction():
            options = command.options
            told = [(request.key, one.currency) for one in options] or [(request.key, None)]
            return _assumed([*told, *((one.new_instrument, one.currency) for one in options)])
        case commands.CancelCorporateAction():
            return assumed_instrument(request.key, None)
        case _:
            return ()


def _of_deal(command: commands.RecordDeal) -> Definitions:
    told = (command.instrument, command.currency, command.kind, command.multiplier)
    definitions = assumed_instrument(*told)
    if command.price_unit is None:
        return definitions
    ((name, terms),) = definitions
    return ((name, msgspec.structs.replace(terms, price_unit=command.price_unit)),)


def _assumed(told: Iterable[tuple[str | None, str | None]]) -> Definitions:
    """Return definitions by instruments and their currencies: the last one told of each."""
    named: dict[str, str | None] = {}
    for name, currency in told:
        if name is not None:
            named[name] = currency or named.get(name)
    return tuple(one for item in named.items() for one in assumed_instrument(*item))
