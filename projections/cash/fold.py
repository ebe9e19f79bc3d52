"""Fold everything that moves cash: deals, fees, cash movements, moved units, transfers."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import Any, Final

import msgspec

from domain import events, money
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from domain.events import CashLeg
from projections.cash.tables import (
    BALANCE_DAYS,
    CASH,
    CASH_LEGS,
    BalanceDayRow,
    CashLegRow,
    CashRow,
)
from projections.plain import Folded, PlainDeal, whole
from projections.rows import Changed, Projection, Rows, Table, Wanted, time_ns

_REPLACING: Final[frozenset[type[events.Event]]] = frozenset(
    (
        events.DealCorrected,
        events.DealBusted,
        events.DealTermsAmended,
        events.CashReversed,
        events.PositionMoveReversed,
    )
)
_MOVED: Final = (
    events.PositionMoved,
    events.TransferSent,
    events.TransferReceived,
    events.TransferReturned,
)
_HANDLES: Final[frozenset[type[events.Event]]] = frozenset(
    (events.DealRecorded, *_REPLACING, events.FeesRecorded, events.CashMoved, *_MOVED)
)
_KEPT: Final = 10_000
_LATE: Final = "fee/"
_EARLY: Final = "early_fee/"
"""A leg of a fee that came before what it is about, until a correction takes it on."""
_add: Final = money.EXACT.add
Origin = tuple[str, str, str]
"""Account, source and source_id: what the legs of one fact share."""
BalanceKey = tuple[str, str, str]


class CashFold:
    """Fold cash movements to rows, every fact's legs to rows, and the legs to balances."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._cash = Rows(CASH)
        self._legs = Rows(CASH_LEGS)
        self._balances = Rows(BALANCE_DAYS)
        self._totals: dict[BalanceKey, tuple[Decimal, int]] = {}
        self._of_origin: dict[Origin, list[tuple[str, ...]]] = defaultdict(list)
        self._origins_given: set[Origin] = set()
        self._told: Sequence[Folded] = ()
        self._batch: Sequence[Folded] = ()
        self._lines: list[str] = []

    def wants(self, batch: Sequence[Folded]) -> Sequence[Wanted]:
        """Want what is reversed or replaced, then the balances that the batch moves."""
        if self._fresh:
            return ()
        batch = self._opened(batch)
        cash: set[tuple[str, str]] = set()
        origins: set[Origin] = set()
        for one in batch:
            if type(one) is Stamped and type(one.event) in _REPLACING:
                replaced = _replaced(one)
                origins.update(replaced)
                cash.update(
                    (one.key, fact_id) for _, source, fact_id in replaced if source == "cash"
                )
        wanted = [
            Wanted(CASH, CASH.key, self._cash.unseen(cash)),
            Wanted(CASH_LEGS, CASH_LEGS.key[:3], sorted(origins - self._origins_given)),
        ]
        missing = [one for one in wanted if one.values]
        return missing or self._wants_balances(batch, origins)

    def _opened(self, batch: Sequence[Folded]) -> Sequence[Folded]:
        """Return a batch with the plain deals whole that something else in it may take out."""
        if self._told is not batch:
            self._told = batch
            mixed = {
                one.key for one in batch if type(one) is Stamped and type(one.event) in _REPLACING
            }
            self._batch = [
                one.stamped() if type(one) is PlainDeal and one.key in mixed else one
                for one in batch
            ]
        return self._batch

    def _wants_balances(self, batch: Sequence[Folded], replaced: set[Origin]) -> Sequence[Wanted]:
        days = set()
        for one in batch:
            if type(one) is PlainDeal:
                if one.amount:
                    days.add((one.key, one.leg_currency, one.settlement_date))
            else:
                for leg in _legs_of(one):  # type: ignore[arg-type]
                    days.add((one.key, leg.currency, leg.settlement_date or ""))
        for origin in replaced:
            for key in self._of_origin.get(origin, ()):
                row = self._legs.by_key[key]
                days.add((row.account, row.currency, row.settlement_date or ""))
        keys = self._balances.unseen(days)
        return (Wanted(BALANCE_DAYS, BALANCE_DAYS.key, keys),) if keys else ()

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows."""
        if wanted.table is CASH:
            self._cash.give(wanted, rows)
        elif wanted.table is BALANCE_DAYS:
            self._balances.give(wanted, rows)
        else:
            listed = list(rows)
            self._legs.give(wanted, listed)
            self._origins_given.update(wanted.values)
            for values in listed:
                row = CashLegRow(*values)
                self._enter(self._legs.key_of(row))

    def _enter(self, key: tuple[Any, ...]) -> None:
        known = self._of_origin[key[:3]]
        if key not in known:
            known.append(key)

    def apply(self, batch: Sequence[Folded]) -> None:
        """Fold a batch."""
        for one in whole(batch) if self._fresh else self._opened(batch):
            if type(one) is PlainDeal:
                self._enter_plain(one)
                continue
            assert type(one) is Stamped
            event = one.event
            kind = type(event)
            if kind not in _HANDLES:
                continue
            if isinstance(event, events.CashMoved):
                self._cash.insert((one.key, event.cash_id), _cash_row(one, event))
            elif isinstance(event, events.CashReversed):
                self._reverse_cash(one, event)
            # What a correction was told to replace goes, even where its own legs have no effect.
            origins = _replaced(one) if kind in _REPLACING else ()
            removed = [leg for origin in origins for leg in self._remove(one, origin)]
            if not one.flags or has_effect(one.flags):
                for leg in _leg_rows(one, removed):
                    self._add(leg)

    def _enter_plain(self, one: PlainDeal) -> None:
        """Enter the leg of a plain deal, which is not kept here: it is read if it is wanted."""
        if not one.amount:
            return
        self._lines.append(one.leg_line)
        if self._origins_given:
            self._origins_given.discard((one.key, "deal", one.deal_id))
        day = (one.key, one.leg_currency, one.settlement_date)
        self._move_day(day, Decimal(one.amount), one.offset)

    def _reverse_cash(self, one: Stamped, event: events.CashReversed) -> None:
        row = self._cash.get(one.key, event.ref_cash_id)
        if row is not None:
            after = msgspec.structs.replace(row, status="reversed", changed_offset=one.offset)
            self._cash.put((one.key, event.ref_cash_id), after)

    def _remove(self, one: Stamped, origin: Origin) -> list[CashLegRow]:
        """Take out the legs of a fact and return them, but for late fees that another takes on."""
        heir, removed = _heir(one), []
        own = _is_own(one, origin)
        for key in self._of_origin.pop(origin, ()):
            row: CashLegRow = self._legs.by_key[key]
            if own and not row.leg.startswith(_EARLY):
                # A correction of this one came first: the leg is its chain's, which goes on.
                self._of_origin[origin].append(key)
                continue
            if heir is not None and row.leg.startswith((_LATE, _EARLY)):
                self._hand_on(row, heir, one.offset)
                continue
            self._legs.delete(key)
            removed.append(row)
            self._move_balance(row, money.EXACT.minus(row.amount), one.offset)
        return removed

    def _hand_on(self, leg: CashLegRow, chain_id: str, offset: int) -> None:
        """Make a leg one of a deal's chain; what it moves stays as it is."""
        early = leg.leg.startswith(_EARLY)
        name = _LATE + leg.leg[len(_EARLY) :] if early else leg.leg
        key = (leg.account, leg.source, chain_id, name)
        if (leg.source_id, leg.leg) != (chain_id, name):
            self._legs.delete(self._legs.key_of(leg))
            moved = msgspec.structs.replace(
                leg, source_id=chain_id, leg=name, changed_offset=offset
            )
            self._legs.insert(key, moved)
        self._of_origin[key[:3]].append(key)

    def _add(self, leg: CashLegRow) -> None:
        key = (leg.account, leg.source, leg.source_id, leg.leg)
        self._legs.insert(key, leg)
        self._of_origin[key[:3]].append(key)
        self._move_balance(leg, leg.amount, leg.changed_offset)

    def _move_balance(self, leg: CashLegRow, amount: Decimal, offset: int) -> None:
        self._move_day((leg.account, leg.currency, leg.settlement_date or ""), amount, offset)

    def _move_day(self, key: BalanceKey, amount: Decimal, offset: int) -> None:
        moved = self._totals.get(key)
        if moved is None:
            row: BalanceDayRow | None = self._balances.by_key.get(key)
            before = None if row is None else row.amount
        else:
            before = moved[0]
        self._totals[key] = (amount if before is None else _add(before, amount), offset)

    def _set_balances(self) -> None:
        for key, (total, offset) in self._totals.items():
            self._balances.put(key, BalanceDayRow(*key, total, offset))
        self._totals.clear()

    def changes(self) -> Sequence[Changed]:
        """Return the changed rows, and forget legs that are done with."""
        self._set_balances()
        changed = (self._cash.changes(), self._legs.changes(), self._balances.changes())
        changed[1].lines, self._lines = self._lines, []
        self._told = self._batch = ()
        if not self._fresh and len(self._legs.by_key) > _KEPT:
            self._legs.forget(0)
            self._of_origin.clear()
            self._origins_given.clear()
        if not self._fresh:
            self._cash.forget(_KEPT)
            self._balances.forget(_KEPT)
        return changed

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all rows of a table."""
        self._set_balances()
        kept = {
            CASH.name: self._cash,
            CASH_LEGS.name: self._legs,
            BALANCE_DAYS.name: self._balances,
        }
        return kept[table.name].by_key.values()


def _replaced(one: Stamped) -> tuple[Origin, ...]:
    """Return whose legs an event takes out, for good or for its own.

    Fees may have come before the correction that they name.
    """
    event = one.event
    match event:
        case events.DealCorrected() if event.deal_id != event.chain_id:
            return (one.key, "deal", event.chain_id), (one.key, "deal", event.deal_id)
        case events.DealCorrected() | events.DealBusted() | events.DealTermsAmended():
            return ((one.key, "deal", event.chain_id),)
        case events.CashReversed():
            return ((one.key, "cash", event.ref_cash_id),)
        case events.PositionMoveReversed():
            return ((one.key, "movement", event.ref_movement_id),)
        case _:
            raise AssertionError(f"{type(one.event).__name__} replaces nothing")


def _is_own(one: Stamped, origin: Origin) -> bool:
    """Tell whether legs are of a correction's own id, and not of the chain that it corrects."""
    return isinstance(one.event, events.DealCorrected) and origin[2] != one.event.chain_id


def _heir(one: Stamped) -> str | None:
    """Return the chain whose late fees stay when an event takes out a deal's legs, if one's do."""
    match one.event:
        case events.DealTermsAmended(chain_id=chain_id):
            return chain_id
        case events.DealCorrected() as event:
            return event.chain_id if has_effect(one.flags) else event.continues_as
        case _:
            return None


def _legs_of(one: Stamped) -> tuple[CashLeg, ...]:
    """Return the cash that an event moves, into the account positive."""
    event = one.event
    match event:
        case events.DealRecorded() | events.DealTermsAmended() | events.FeesRecorded():
            return event.legs
        case events.CashMoved():
            settles = event.settlement_date
            return (CashLeg(currency=event.currency, amount=event.amount, settlement_date=settles),)
        case events.TransferSent():
            return tuple(
                msgspec.structs.replace(leg, amount=money.EXACT.minus(leg.amount))
                for leg in event.cash
            )
        case events.PositionMoved() | events.TransferReceived() | events.TransferReturned():
            return event.cash
        case _:
            return ()


def _leg_rows(one: Stamped, removed: list[CashLegRow]) -> list[CashLegRow]:
    legs = _legs_of(one)
    if not legs:
        return []
    source, source_id, prefix = _origin_of(one)
    business_date: str | None = getattr(one.event, "trade_date", None)
    business_date = business_date or getattr(one.event, "booked_date", None)
    event_time_ns = time_ns(one.event_time)
    if removed and isinstance(one.event, events.DealTermsAmended):
        # The deal is where it was: only what it moved has become known.
        business_date, event_time_ns = removed[0].business_date, removed[0].event_time_ns
    return [
        CashLegRow(
            one.key,
            source,
            source_id,
            f"{prefix}{number}",
            leg.currency,
            leg.amount,
            business_date or one.event_time[:10],
            leg.settlement_date,
            event_time_ns,
            one.offset,
        )
        for number, leg in enumerate(legs, 1)
    ]


def _origin_of(one: Stamped) -> tuple[str, str, str]:
    """Return source, source_id and what the legs' numbers start with."""
    event = one.event
    if type(event) is events.DealRecorded:
        return "deal", event.deal_id, ""
    match event:
        case events.DealCorrected() | events.DealTermsAmended() | events.DealBusted():
            return "deal", event.chain_id, ""
        case events.FeesRecorded():
            came = _EARLY if "unknown_deal" in one.flags else _LATE
            return "deal", event.chain_id, f"{came}{event.fee_id}/"
        case events.CashMoved() | events.CashReversed():
            return "cash", event.cash_id, ""
        case events.PositionMoved() | events.PositionMoveReversed():
            return "movement", event.movement_id, ""
        case events.TransferSent():
            return "movement", f"transfer/{event.transfer_id}/sent", ""
        case events.TransferReceived():
            return "movement", f"transfer/{event.transfer_id}/received", ""
        case events.TransferReturned():
            return "movement", f"transfer/{event.transfer_id}/returned", ""
        case _:
            raise AssertionError(f"{type(event).__name__} moves no cash")


def _cash_row(one: Stamped, event: events.CashMoved) -> CashRow:
    relates_to = event.relates_to
    return CashRow(
        account=one.key,
        cash_id=event.cash_id,
        kind=event.kind,
        amount=event.amount,
        currency=event.currency,
        event_time_ns=time_ns(one.event_time),
        booked_date=event.booked_date or one.event_time[:10],
        settlement_date=event.settlement_date,
        status="effective" if has_effect(one.flags) else "reversed",
        source_kind=event.source_kind,
        instrument=event.instrument,
        relates_to=None if relates_to is None else msgspec.to_builtins(relates_to),
        ids=event.ids or None,
        seq=one.seq,
        recorded_time_ns=time_ns(one.recorded_time),
        flags=list(one.flags),
        changed_offset=one.offset,
    )


PROJECTION: Final = Projection(
    name="cash",
    version=3,
    topic="events",
    handles=_HANDLES,
    tables=(CASH, CASH_LEGS, BALANCE_DAYS),
    make=CashFold,
    schema_sql=files("projections.cash").joinpath("schema.sql").read_text(),
    takes_plain=True,
)
