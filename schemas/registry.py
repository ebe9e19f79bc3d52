"""Which event types there are, in which versions, and in which logs they may stand."""

from typing import Any, Final, get_args

from domain.commands import Topic
from domain.events import AccountEvent, ControlEvent, Event, PriceEvent, ReferenceEvent


def _members(union: Any) -> tuple[type[Event], ...]:
    return get_args(union)


CONTROL_TYPES: Final = frozenset(struct.__name__ for struct in _members(ControlEvent))
"""Types of records about a partition itself: they have no stream, and stand in every log."""

STRUCTS_OF: Final[dict[Topic, tuple[type[Event], ...]]] = {
    "events": _members(AccountEvent),
    "prices": _members(PriceEvent),
    "reference": _members(ReferenceEvent),
}

TYPES_OF: Final[dict[str, frozenset[str]]] = {
    topic: frozenset(struct.__name__ for struct in structs) | CONTROL_TYPES
    for topic, structs in STRUCTS_OF.items()
}
"""By topic, the names of the types that its log may hold."""

EVENT_STRUCTS: Final[dict[str, type[Event]]] = {
    struct.__name__: struct
    for structs in (*STRUCTS_OF.values(), _members(ControlEvent))
    for struct in structs
}

_REVISED: Final[dict[str, int]] = {}
"""Types past version 1. A new version of a type is a line here and an upcaster for the old one."""

CURRENT_VERSIONS: Final[dict[str, int]] = {name: _REVISED.get(name, 1) for name in EVENT_STRUCTS}
"""The version of each type that is written now, and that its struct stands for."""

STRUCTS: Final[dict[tuple[str, int], type[Event]]] = {
    (name, CURRENT_VERSIONS[name]): struct for name, struct in EVENT_STRUCTS.items()
}


def event_type(event: Event | type[Event]) -> str:
    """Return the name under which an event, or a class of events, stands in the envelope."""
    return event.__name__ if isinstance(event, type) else type(event).__name__
