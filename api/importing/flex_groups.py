"""Lines of a Flex statement that are one movement together: all their legs move at once.

The lines of a corporate action (a tender's units out and in), of an exercise, assignment or
expiry (the option and what it delivers), and of an opening balance (one line a currency). The
first line of a group becomes the movement, the others are listed as parts of it.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from api.importing.flex_rows import Defines, Moment, Row, fact, listed
from api.importing.lines import Line, Ordinals, Problem
from domain.commands import MovePosition
from domain.events import CashLeg, MovementReason, UnitLeg
from domain.times import Day

_MOST_WAITING: Final = 1000


class Leg(Struct, frozen=True):
    """One line of a movement. Lines with the same `group` are one.

    `movement_id` is what the line would be called alone, None where its content has to do.
    """

    row: Row
    group: tuple[str, ...]
    reason: MovementReason
    at: Moment
    movement_id: str | None
    booked_date: Day | None = None
    trade_date: Day | None = None
    action_id: str | None = None
    unit: UnitLeg | None = None
    cash: CashLeg | None = None
    ids: dict[str, str] = {}
    identifiers: dict[str, str] = {}
    defines: Defines = ()
    flags: tuple[str, ...] = ()


class Groups:
    """The legs that wait for the end of their section; a thousand groups at most."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, ...], list[Leg]] = {}

    def add(self, leg: Leg, ordinals: Ordinals) -> Iterator[Line]:
        """Take a leg; yield the oldest group when too many wait."""
        self._waiting.setdefault(leg.group, []).append(leg)
        if len(self._waiting) > _MOST_WAITING:
            yield from _lines(self._waiting.pop(next(iter(self._waiting))), ordinals)

    def close(self, ordinals: Ordinals) -> Iterator[Line]:
        """Yield all groups: their section has ended."""
        while self._waiting:
            yield from _lines(self._waiting.pop(next(iter(self._waiting))), ordinals)

    def abandon(self) -> Iterator[Line]:
        """Yield a problem for every leg that waits: the file broke off, others may be missing."""
        expected = "expected the whole section: this line may be one of several that move together"
        for legs in self._waiting.values():
            for leg in legs:
                yield Problem(leg.row.line, leg.row.tag, "", expected, counts=leg is legs[0])
        self._waiting.clear()


def _lines(legs: list[Leg], ordinals: Ordinals) -> Iterator[Line]:
    units = tuple(leg.unit for leg in legs if leg.unit is not None)
    cash = tuple(leg.cash for leg in legs if leg.cash is not None)
    first = legs[0]
    if not units and not cash:
        for leg in legs:
            yield listed(leg.row, "moves neither units nor cash")
        return
    command = MovePosition(
        movement_id=_movement_id(legs, ordinals),
        reason=first.reason,
        legs=units,
        cash=cash,
        action_id=first.action_id,
        booked_date=first.booked_date,
        trade_date=first.trade_date,
        ids=_merged([("", leg.ids) for leg in legs]),
        identifiers=_merged(
            [(leg.unit.instrument if leg.unit else "", leg.identifiers) for leg in legs]
        ),
        time_precision=first.at.precision,
    )
    defines = tuple(dict(define for leg in legs for define in leg.defines).items())
    flags = dict.fromkeys(flag for leg in legs for flag in leg.flags)
    yield fact(
        first.row,
        command,
        first.at.instant,
        defines=defines,
        flags=tuple(flags),
        # Each statement of an account begins with some cash: the first one opens the book.
        or_listed=first.row.tag if first.reason == "opening" else None,
    )
    for leg in legs[1:]:
        # The same words for all: lines are told together by their reasons.
        yield listed(leg.row, "part of a movement that an earlier line tells")


def _movement_id(legs: list[Leg], ordinals: Ordinals) -> str:
    """Return the least of the lines' ids, so that their order does not matter."""
    told = [leg.movement_id for leg in legs if leg.movement_id is not None]
    if told:
        return min(told)
    content = sorted(f"{leg.unit} {leg.cash}" for leg in legs)
    return ordinals.content_id("movement", *legs[0].group, *content)


def _merged(parts: list[tuple[str, dict[str, str]]]) -> dict[str, str]:
    """Return the entries of all legs; one that says something else says whose it is."""
    merged: dict[str, str] = {}
    for number, (owner, entries) in enumerate(parts, 1):
        for name, value in entries.items():
            if merged.setdefault(name, value) != value:
                merged[f"{name} {owner or number}"] = value
    return merged
