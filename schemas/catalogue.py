"""The event catalogue, docs/reference/events.md, written from the structs themselves."""

import inspect
import types
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Literal, NewType, Union, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Raw, Struct, UnsetType
from msgspec.structs import FieldInfo, fields

from schemas.envelope import Envelope
from schemas.registry import CONTROL_TYPES, CURRENT_VERSIONS, EVENT_STRUCTS, STRUCTS_OF

_HEADER: Final = """\
# Events

Written by `python -m schemas.publish` from the structs in `domain/events/`; do not edit.

Every record's value is one JSON object: an envelope with one event in its `data`. Decimals are
strings in plain notation with the scale they were told, `"0.270"`; instants are RFC 3339 strings in
UTC with nine decimals, `"2024-01-02T14:30:00.000000000Z"`; days are `"2024-01-02"`. A field at its
default is left out. The JSON Schema of each type is `schemas/published/TYPE.vN.json`, an example
`schemas/examples/TYPE.vN.json`.
"""
_TITLES: Final = {
    "events": ("Log of events", "By account."),
    "prices": ("Log of prices", "By instrument."),
    "reference": ("Log of reference", "By instrument or portfolio."),
}


def catalogue() -> str:
    """Return the catalogue as Markdown."""
    parts = [_HEADER, _section("##", "Envelope", Envelope)]
    for topic, structs in STRUCTS_OF.items():
        title, key = _TITLES[topic]
        parts.append(f"## {title}\n\n{key}\n")
        parts += [_event(struct) for struct in structs]
    parts.append("## Every log\n\nRecords about a partition itself. They are of no stream.\n")
    parts += [_event(EVENT_STRUCTS[name]) for name in EVENT_STRUCTS if name in CONTROL_TYPES]
    parts.append("## Parts\n\nWhat events are made of.\n")
    parts += [_section("###", part.__name__, part) for part in _parts(EVENT_STRUCTS.values())]
    return "\n".join(parts)


def _event(struct: type[Struct]) -> str:
    name = struct.__name__
    return _section("###", f"{name} (version {CURRENT_VERSIONS[name]})", struct)


def _section(level: str, title: str, struct: type[Struct]) -> str:
    hints = get_type_hints(struct)
    rows = [
        f"| `{told.name}` | {_type_text(hints[told.name])} | {_default_text(told)} |"
        for told in fields(struct)
    ]
    lines = [f"{level} {title}", "", inspect.cleandoc(struct.__doc__ or ""), ""]
    if rows:
        lines += ["| field | type | if absent |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines)


def _default_text(told: FieldInfo) -> str:
    if told.required:
        return "*required*"
    default = told.default if told.default is not NODEFAULT else told.default_factory()
    if default is None or isinstance(default, UnsetType) or str(told.default) == "UNSET":
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if default in ("", (), {}):
        return "empty"
    return f"`{default}`"


def _type_text(kind: Any) -> str:
    origin = get_origin(kind)
    parts = get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (types.UnionType, Union):
        told = [part for part in parts if part not in (type(None), UnsetType)]
        return " or ".join(_type_text(part) for part in told)
    if origin is tuple:
        return f"list of {_type_text(parts[0])}"
    if origin is dict:
        return f"object of {_type_text(parts[1])}"
    if isinstance(kind, NewType):
        return kind.__name__.lower()
    if isinstance(kind, type) and issubclass(kind, Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    return _NAMES[kind]


_NAMES: Final[dict[Any, str]] = {
    str: "string",
    int: "integer",
    bool: "true or false",
    Decimal: "decimal",
    Any: "anything",
    Raw: "the event",
}


def _parts(structs: Iterable[type[Struct]]) -> list[type[Struct]]:
    """Return the structs that events and the envelope hold, each once, by name."""
    found: dict[str, type[Struct]] = {}
    waiting: list[Any] = [Envelope, *structs]
    while waiting:
        for kind in get_type_hints(waiting.pop()).values():
            for part in _structs_in(kind):
                if part.__name__ not in found:
                    found[part.__name__] = part
                    waiting.append(part)
    return [found[name] for name in sorted(found)]


def _structs_in(kind: Any) -> list[type[Struct]]:
    if isinstance(kind, type) and not get_args(kind) and issubclass(kind, Struct):
        return [kind]
    return [found for part in get_args(kind) for found in _structs_in(part)]
