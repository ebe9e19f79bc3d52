"""Cash and units that move without a deal, also from one account to another."""

from decimal import Decimal

from msgspec import field

from domain.events.parts import CashLeg, Relation, Timed, UnitLeg
from domain.events.words import CashKind, MovementReason
from domain.times import Day


class CashMoved(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Cash moved without a deal: `amount` into the account is positive."""

    cash_id: str
    kind: CashKind
    amount: Decimal
    currency: str
    source_kind: str | None = None
    booked_date: Day | None = None
    settlement_date: Day | None = None
    relates_to: Relation | None = None
    instrument: str | None = None
    identifiers: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    note_id: str | None = None
    note_digest: str | None = None


class CashReversed(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A cash movement, named by `ref_cash_id`, was taken back whole."""

    cash_id: str
    ref_cash_id: str
    booked_date: Day | None = None
    note_id: str | None = None
    note_digest: str | None = None


class PositionMoved(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Units moved without a deal; all legs together."""

    movement_id: str
    reason: MovementReason
    legs: tuple[UnitLeg, ...]
    cash: tuple[CashLeg, ...] = ()
    action_id: str | None = None
    booked_date: Day | None = None
    trade_date: Day | None = None
    ids: dict[str, str] = field(default_factory=dict)
    identifiers: dict[str, str] = field(default_factory=dict)


class PositionMoveReversed(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A movement of units, named by `ref_movement_id`, was taken back whole."""

    movement_id: str
    ref_movement_id: str
    booked_date: Day | None = None


class TransferSent(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Cash or lots left for another account and are in transit: amounts and quantities > 0."""

    transfer_id: str
    to_account: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()
    booked_date: Day | None = None


class TransferReceived(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """Cash or lots arrived from another account, with the cost and the dates they left with."""

    transfer_id: str
    from_account: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()
    booked_date: Day | None = None


class TransferReturned(Timed, frozen=True, kw_only=True, omit_defaults=True):
    """A transfer that the other account did not take came back."""

    transfer_id: str
    to_account: str
    reason: str
    cash: tuple[CashLeg, ...] = ()
    legs: tuple[UnitLeg, ...] = ()
    booked_date: Day | None = None
