"""What a batch of events touches, before any of it is folded."""

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct, field

from domain import events
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from projections.plain import Folded, PlainDeal
from projections.positions.facts import PositionKey
from projections.positions.history import CHAINED, MOVED

METHODS: Final[frozenset[type[events.Event]]] = frozenset(
    (events.AccountOpened, events.AccountChanged)
)
ABOUT_OTHERS: Final[frozenset[type[events.Event]]] = frozenset(
    (*CHAINED, *MOVED, events.PositionMoveReversed)
)
HANDLES: Final[frozenset[type[events.Event]]] = frozenset(
    (events.DealRecorded, *CHAINED, *MOVED, events.PositionMoveReversed, *METHODS)
)


class Plan(Struct):
    """What a batch touches: the position of each deal (None for other events), the others.

    Where an account's deals are not all, they are whole: what else there is may be about them.
    """

    batch: Sequence[Folded]
    told: Sequence[Folded]
    keys: list[PositionKey | None] = []
    touched: set[PositionKey] = field(default_factory=set)
    others: list[Stamped] = []
    unplain: list[Stamped] = []
    accounts: set[tuple[str]] = field(default_factory=set)
    stale: set[PositionKey] | None = None


def plan_of(told: Sequence[Folded]) -> Plan:
    """Return what a batch touches."""
    mixed = {one.key for one in told if type(one) is Stamped and type(one.event) in ABOUT_OTHERS}
    batch: Sequence[Folded] = told
    if mixed:
        batch = [
            one.stamped() if type(one) is PlainDeal and one.key in mixed else one for one in told
        ]
    plan = Plan(batch, told, keys=[], others=[], unplain=[])
    for one in batch:
        plan.keys.append(one.position if type(one) is PlainDeal else _key_of(plan, one))
    plan.touched.update(key for key in plan.keys if key is not None)
    plan.accounts.update((account,) for account in {one.key for one in batch})
    return plan


def _key_of(plan: Plan, one: Any) -> PositionKey | None:
    """Return the position of a deal that was recorded; note what else an event is."""
    event = one.event
    if type(event) is not events.DealRecorded:
        if type(event) in HANDLES:
            plan.others.append(one)
        return None
    if one.flags and not has_effect(one.flags):
        plan.unplain.append(one)
        return None
    if event.terms.kind == "fx":
        return None
    return PositionKey(one.key, event.instrument, event.currency)
