"""JSON Schemas of what may be written, made from the structs of the commands."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, get_args, get_type_hints

import msgspec

from api.commands_json import COMMANDS
from domain.times import Day, Instant

Schema = dict[str, Any]
_ID: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 128}
_INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
_DAY: Final[Schema] = {"type": "string", "format": "date"}
_DECIMAL: Final[Schema] = {
    "type": ["string", "number"],
    "pattern": r"^-?[0-9]{1,20}(\.[0-9]{1,18})?$",
    "description": "A decimal: a string in plain notation, or a number.",
}
ANSWER: Final[Schema] = {
    "type": "object",
    "required": ["command_id", "status", "position", "event", "reason"],
    "properties": {
        "command_id": {"type": ["string", "null"]},
        "status": {"enum": ["accepted", "duplicate", "refused"]},
        "position": {"type": ["string", "null"]},
        "event": {"type": ["string", "null"]},
        "reason": {"type": ["string", "null"]},
        "detail": {"type": "string"},
        "numbers": {"type": "object"},
        "flags": {"type": "array", "items": {"type": "string"}},
        "field": {"type": "string"},
        "value": {"type": "string"},
        "line": {"type": "integer"},
    },
}


def command_schema(
    struct: type[msgspec.Struct], told_elsewhere: Iterable[str | None] = ()
) -> Schema:
    """Return the schema of a body that holds a command's fields, its account and its time."""
    data = data_schema(struct)
    elsewhere = {name for name in told_elsewhere if name is not None}
    required = [name for name in data["required"] if name not in elsewhere]
    return {
        **data,
        "required": ["account", "event_time", *required],
        "properties": {"account": _ID, "event_time": _INSTANT, **data["properties"]},
    }


def commands_schema(most: int) -> Schema:
    """Return the schema of a command, or of a list of them, as `daybook submit` takes them."""
    command = {
        "type": "object",
        "required": ["type", "event_time", "data"],
        "properties": {
            "command_id": _ID,
            "type": {"enum": sorted(COMMANDS)},
            "account": _ID,
            "key": _ID,
            "event_time": _INSTANT,
            "data": {"type": "object"},
            "actor": _ID,
            "correlation_id": _ID,
        },
        "additionalProperties": False,
    }
    # A list is answered item by item: one that is no command is refused, and the others are taken.
    return {
        "anyOf": [command, {"type": "array", "items": {"anyOf": [command, {}]}, "maxItems": most}]
    }


def data_schema(struct: type[msgspec.Struct]) -> Schema:
    """Return the schema of a command's own fields."""
    hints = get_type_hints(struct)
    fields = msgspec.structs.fields(struct)
    return {
        "type": "object",
        "required": [one.name for one in fields if one.required],
        "properties": {one.name: _of(hints[one.name], one.name) for one in fields},
        "additionalProperties": False,
    }


def _of(hint: Any, name: str) -> Schema:
    parts = get_args(hint)
    if type(None) in parts:
        (inner,) = (one for one in parts if one is not type(None))
        return {"anyOf": [_of(inner, name), {"type": "null"}]}
    if hint is Instant:
        return _INSTANT
    if hint is Day:
        return _DAY
    if hint is Decimal:
        return _DECIMAL
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return data_schema(hint)
    if getattr(hint, "__origin__", None) is tuple:
        return {"type": "array", "items": _of(parts[0], name)}
    if hint is str and (name.endswith("_id") or name in ("instrument", "to_account")):
        return _ID
    made: Schema = msgspec.json.schema(hint)
    return made
