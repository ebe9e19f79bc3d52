"""Mirror types: a struct as it stands in JSON, where exact numbers and times are strings.

The domain's structs say what a value means; their mirrors say which text is allowed. A mirror
refuses unknown fields. The strict one holds only text; the published one, which JSON Schemas are
made from, also says what the text looks like.
"""

import inspect
import types
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Meta, Raw, Struct, defstruct, field
from msgspec.structs import fields

from domain.money import to_plain
from domain.times import Day, Instant

Leaves = Mapping[Any, Any]
"""What stands in JSON in the place of a Python type."""

_TEXT: Final[Leaves] = {Decimal: str, Instant: str, Day: str, Raw: dict[str, Any]}

_PUBLISHED: Final[Leaves] = {
    Decimal: Annotated[
        str,
        Meta(
            pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$",
            description="An exact decimal number in plain notation, with the scale it was told.",
            examples=["100", "-0.00005528"],
        ),
    ],
    Instant: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z$",
            description="An RFC 3339 time in UTC, always to the nanosecond.",
            examples=["2024-01-02T14:30:00.000000000Z"],
            extra_json_schema={"format": "date-time"},
        ),
    ],
    Day: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
            description="A business date.",
            examples=["2024-01-02"],
            extra_json_schema={"format": "date"},
        ),
    ],
    Raw: dict[str, Any],
}


@cache
def strict_type(struct: type[Struct]) -> type[Struct]:
    """Return the mirror that takes text, and nothing but text, where the struct has exact types."""
    return _mirror(struct, _TEXT, strict_type)


@cache
def published_type(struct: type[Struct]) -> type[Struct]:
    """Return the mirror that also says what the text of numbers, times and dates looks like."""
    return _mirror(struct, _PUBLISHED, published_type)


def _mirror(
    struct: type[Struct], leaves: Leaves, nested: Callable[[type[Struct]], type[Struct]]
) -> type[Struct]:
    hints = get_type_hints(struct)
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for told in fields(struct):
        kind = _translate(hints[told.name], leaves, nested)
        if told.required:
            members.append((told.name, kind))
        elif told.default is NODEFAULT:
            members.append((told.name, kind, field(default_factory=told.default_factory)))
        else:
            default = told.default
            text = to_plain(default) if isinstance(default, Decimal) else default
            members.append((told.name, kind, field(default=text)))
    return defstruct(
        struct.__name__,
        members,
        namespace={"__doc__": inspect.cleandoc(struct.__doc__ or "")},
        module=struct.__module__,
        frozen=True,
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=True,
    )


def _translate(kind: Any, leaves: Leaves, nested: Callable[[type[Struct]], type[Struct]]) -> Any:
    if kind in leaves:
        return leaves[kind]
    if isinstance(kind, type) and issubclass(kind, Struct):
        return nested(kind)
    origin = get_origin(kind)
    if origin in (types.UnionType, Union):
        return Union[tuple(_translate(part, leaves, nested) for part in get_args(kind))]  # noqa: UP007
    if origin is tuple:
        return cast("Any", tuple)[_translate(get_args(kind)[0], leaves, nested), ...]
    return kind
