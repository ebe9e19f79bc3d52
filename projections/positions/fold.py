"""Fold deals and moved units to the deals, movements, lots and positions read models.

A position is the fold of its effective facts in trade order. A fact that comes in order is applied
to the position as it stands; a late one, a bust, a correction or another lot method changes the
set of facts, and the position, with those that movements tie it to, is folded again from all of
them at the end of the batch. Either way the answer is the one that a fresh start would give.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec

from domain import events
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from projections.positions import deal_rows
from projections.positions.book import Place, PositionBook, is_late
from projections.positions.facts import Fact, PositionKey
from projections.positions.lots import Method
from projections.positions.row_facts import deal_fact, deal_key, fact_keys, movement_fact
from projections.positions.tables import (
    DEALS,
    LOT_METHODS,
    LOTS,
    MOVEMENTS,
    POSITIONS,
    DealRow,
    LotMethodRow,
    MovementRow,
)
from projections.rows import Changed, Projection, Rows, Table, Wanted

Cutoff = Callable[[int, str], bool]
"""Whether a fact counts, by its event_time_ns and its business date."""

_MOVED: Final = (
    events.PositionMoved,
    events.TransferSent,
    events.TransferReceived,
    events.TransferReturned,
)
_CHAINED: Final = (
    events.DealCorrected,
    events.DealBusted,
    events.DealTermsAmended,
    events.FeesRecorded,
    events.LotsAssigned,
)
_METHODS: Final = (events.AccountOpened, events.AccountChanged)
_HANDLES: Final = (
    events.DealRecorded,
    *_CHAINED,
    *_MOVED,
    events.PositionMoveReversed,
    *_METHODS,
)
_KEPT_DEALS: Final = 200_000
_POSITION: Final = ("account", "instrument", "currency")


class PositionsFold:
    """The one fold of deals, movements, lots and positions.

    `method` overrides the accounts' own; `counts` leaves facts out of the positions, for an answer
    as of a past time.
    """

    def __init__(
        self, *, fresh: bool, method: Method | None = None, counts: Cutoff | None = None
    ) -> None:
        self._fresh = fresh
        self._method = method
        self._counts = counts
        self._deals = Rows(DEALS)
        self._movements = Rows(MOVEMENTS)
        self._methods = Rows(LOT_METHODS)
        self._legs: dict[tuple[str, str], int] = {}
        self._book = PositionBook(fresh=fresh)
        self._facts_given: set[PositionKey] = set()
        self._accounts_given: set[str] = set()

    # --- what must be seen first ---------------------------------------------------------------

    def wants(self, batch: Sequence[Stamped]) -> Sequence[Wanted]:
        """Want the chains, positions and open lots that the batch touches.

        Then, where positions must be folded again, all of their facts.
        """
        if self._fresh:
            return ()
        return self._wants_rows(batch) or self._wants_positions(batch) or self._wants_facts(batch)

    def _wants_rows(self, batch: Sequence[Stamped]) -> list[Wanted]:
        deals, movements, accounts = set(), set(), set()
        for one in batch:
            event = one.event
            if not isinstance(event, _HANDLES):
                continue
            accounts.add((one.key,))
            if isinstance(event, _CHAINED):
                deals.add((one.key, event.chain_id))
            elif isinstance(event, events.DealRecorded) and not has_effect(one.flags):
                deals.add((one.key, event.deal_id))
            elif isinstance(event, events.PositionMoveReversed):
                movements.add((one.key, event.ref_movement_id))
        wanted = [
            Wanted(DEALS, DEALS.key, self._deals.unseen(deals)),
            Wanted(LOT_METHODS, LOT_METHODS.key, self._methods.unseen(accounts)),
            Wanted(MOVEMENTS, MOVEMENTS.key[:2], sorted(movements - self._legs.keys())),
        ]
        return [one for one in wanted if one.values]

    def _wants_positions(self, batch: Sequence[Stamped]) -> list[Wanted]:
        touched = {key for one in batch for key in self._keys_of(one)}
        unknown = sorted(touched - self._book.given)
        if not unknown:
            return []
        return [
            Wanted(POSITIONS, POSITIONS.key, unknown),
            Wanted(LOTS, _POSITION, unknown, only="remaining <> 0"),
        ]

    def _wants_facts(self, batch: Sequence[Stamped]) -> list[Wanted]:
        stale = self._stale(batch)
        accounts = {key.account for key in stale} | self._accounts_changing_method(batch)
        accounts -= self._accounts_given
        if accounts:
            listed = [(account,) for account in sorted(accounts)]
            return [
                Wanted(MOVEMENTS, ("account",), listed),
                Wanted(POSITIONS, ("account",), listed),
            ]
        unknown = sorted(self._tied(stale) - self._facts_given)
        if not unknown:
            return []
        return [Wanted(DEALS, _POSITION, unknown)]

    def _accounts_changing_method(self, batch: Sequence[Stamped]) -> set[str]:
        return {
            one.key
            for one in batch
            if isinstance(one.event, _METHODS) and self._changes_method(one.key, one.event)
        }

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows, and know what was asked for to be all there is."""
        if wanted.table is DEALS:
            self._deals.give(wanted, rows)
            if wanted.columns == _POSITION:
                self._facts_given.update(PositionKey(*value) for value in wanted.values)
        elif wanted.table is LOT_METHODS:
            self._methods.give(wanted, rows)
        elif wanted.table is MOVEMENTS:
            self._give_movements(wanted, rows)
        else:
            self._book.give(wanted, rows)

    def _give_movements(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        self._movements.give(wanted, rows)
        for account, movement_id, leg in self._movements.by_key:
            known = self._legs.get((account, movement_id), 0)
            self._legs[account, movement_id] = max(leg, known)
        if wanted.columns == ("account",):
            self._accounts_given.update(account for (account,) in wanted.values)
        else:
            for account, movement_id in wanted.values:
                self._legs.setdefault((account, movement_id), 0)

    # --- folding -------------------------------------------------------------------------------

    def apply(self, batch: Sequence[Stamped]) -> None:
        """Fold a batch: rows first, then facts in order, then what must be folded again."""
        stale = self._tied(self._stale(batch)) if not self._fresh else self._stale(batch)
        in_order: list[tuple[Fact, int]] = []
        offsets: dict[PositionKey, int] = {}
        for one in batch:
            if not isinstance(one.event, _HANDLES):
                continue
            keys = self._keys_of(one)
            fact = self._apply_rows(one)
            for key in (*keys, *(fact_keys(fact) if fact else ())):
                offsets[key] = one.offset
            if fact is not None:
                in_order.append((fact, one.offset))
        if stale:
            stale = self._tied(stale)
        for fact, offset in in_order:
            if fact_keys(fact)[0] not in stale:
                self._book.apply(fact, self._method_of(fact_keys(fact)[0].account), offset)
        if stale:
            self._fold_again(stale, offsets, batch[-1].offset)

    def _apply_rows(self, one: Stamped) -> Fact | None:
        """Change the rows that an event changes; return its fact where it is a plain new one."""
        event = one.event
        match event:
            case events.DealCorrected():
                before = self._deals.get(one.key, event.chain_id)
                self._correct(one, event, before)
            case events.DealRecorded():
                return self._record(one, event)
            case events.DealBusted():
                self._change_deal(
                    one, event.chain_id, lambda row: deal_rows.busted(one, row, event.deal_id)
                )
            case events.DealTermsAmended():
                self._change_deal(one, event.chain_id, lambda row: _amended(one, row, event))
            case events.FeesRecorded():
                self._change_deal(
                    one, event.chain_id, lambda row: deal_rows.with_late_fees(one, row, event.fees)
                )
            case events.LotsAssigned():
                self._change_deal(one, event.chain_id, lambda row: _assigned(one, row, event))
            case events.PositionMoveReversed():
                self._reverse(one, event)
            case events.AccountOpened() | events.AccountChanged():
                self._set_method(one, event)
            case _ if isinstance(event, _MOVED):
                return self._move(one, event)
            case _:
                raise AssertionError(f"{type(event).__name__} is not folded here")
        return None

    def _record(self, one: Stamped, event: events.DealRecorded) -> Fact | None:
        key = (one.key, event.deal_id)
        if has_effect(one.flags):
            row = deal_rows.deal_row(one, event, None)
            self._deals.insert(key, row)
            return self._counted(row)
        if self._deals.get(*key) is None:
            row = deal_rows.deal_row(one, event, None)
            self._deals.insert(key, msgspec.structs.replace(row, status="busted"))
        return None

    def _correct(self, one: Stamped, event: events.DealCorrected, before: DealRow | None) -> None:
        row = deal_rows.deal_row(one, event, before)
        if not has_effect(one.flags):
            row = msgspec.structs.replace(row, status="busted")
        self._deals.put((one.key, event.chain_id), row)

    def _change_deal(
        self, one: Stamped, chain_id: str, change: Callable[[DealRow], DealRow]
    ) -> None:
        before = self._deals.get(one.key, chain_id)
        if before is not None and before.status != "busted":
            self._deals.put((one.key, chain_id), change(before))

    def _move(self, one: Stamped, event: deal_rows.MovedEvent) -> Fact | None:
        rows = deal_rows.movement_rows(one, event)
        for row in rows:
            self._movements.insert(self._movements.key_of(row), row)
        if rows:
            self._legs[one.key, rows[0].movement_id] = len(rows)
        fact = movement_fact(rows) if rows else None
        return fact if rows and self._includes(rows[0]) else None

    def _reverse(self, one: Stamped, event: events.PositionMoveReversed) -> None:
        for row in self._legs_of(one.key, event.ref_movement_id):
            reversed_row = msgspec.structs.replace(
                row, status="reversed", changed_offset=one.offset
            )
            self._movements.put(self._movements.key_of(row), reversed_row)

    def _set_method(
        self, one: Stamped, event: events.AccountOpened | events.AccountChanged
    ) -> None:
        if event.method is not None:
            row = LotMethodRow(one.key, event.method, one.offset)
            before = self._methods.get(one.key)
            if before is None or before.method != event.method:
                self._methods.put((one.key,), row)

    def _fold_again(
        self, stale: set[PositionKey], offsets: dict[PositionKey, int], last_offset: int
    ) -> None:
        facts: dict[str, list[Fact]] = defaultdict(list)
        for row in self._deals.by_key.values():
            if deal_key(row) in stale and (fact := self._counted(row)) is not None:
                facts[row.account].append(fact)
        for account in {key.account for key in stale}:
            for fact in self._movement_facts(account):
                if not stale.isdisjoint(fact_keys(fact)):
                    facts[account].append(fact)
        for account in sorted({key.account for key in stale}):
            keys = {key for key in stale if key.account == account}
            self._book.fold_again(
                keys, facts[account], self._method_of(account), offsets, last_offset
            )

    # --- which positions an event moves --------------------------------------------------------

    def _keys_of(self, one: Stamped) -> tuple[PositionKey, ...]:
        event = one.event
        if isinstance(event, events.DealRecorded):
            key = PositionKey(one.key, event.instrument, event.currency)
            own = () if event.terms.kind == "fx" else (key,)
            if not isinstance(event, events.DealCorrected):
                return own
            return (*own, *self._chain_key(one.key, event.chain_id))
        if isinstance(event, _CHAINED):
            return self._chain_key(one.key, event.chain_id)
        if isinstance(event, _MOVED):
            return tuple(PositionKey(one.key, leg.instrument, leg.currency) for leg in event.legs)
        if isinstance(event, events.PositionMoveReversed):
            legs = self._legs_of(one.key, event.ref_movement_id)
            return tuple(
                PositionKey(row.account, row.instrument, row.currency)
                for row in legs
                if row.instrument is not None
            )
        return ()

    def _chain_key(self, account: str, chain_id: str) -> tuple[PositionKey, ...]:
        row = self._deals.get(account, chain_id)
        return () if row is None or row.kind == "fx" else (deal_key(row),)

    def _stale(self, batch: Sequence[Stamped]) -> set[PositionKey]:
        """Return the positions that the batch changes out of trade order."""
        stale: set[PositionKey] = set()
        seen: dict[PositionKey, Place] = {}
        made: dict[tuple[str, str], tuple[PositionKey, ...]] = {}
        for one in batch:
            event = one.event
            if isinstance(event, _METHODS):
                stale |= self._held_under_another_method(one.key, event)
            elif isinstance(event, _CHAINED):
                stale.update(self._keys_of(one), made.get((one.key, event.chain_id), ()))
            elif isinstance(event, events.PositionMoveReversed):
                stale.update(self._keys_of(one), made.get((one.key, event.ref_movement_id), ()))
            elif isinstance(event, (events.DealRecorded, *_MOVED)):
                keys = self._keys_of(one)
                if isinstance(event, events.DealRecorded):
                    made[one.key, event.deal_id] = keys
                else:
                    made[one.key, deal_rows.movement_id_of(event)] = keys
                if has_effect(one.flags) and is_late(
                    one, event.sequence, keys, self._book.last, seen
                ):
                    stale.update(keys)
        return stale

    def _held_under_another_method(
        self, account: str, event: events.AccountOpened | events.AccountChanged
    ) -> set[PositionKey]:
        changes = self._changes_method(account, event)
        return self._book.keys_of_account(account) if changes else set()

    def _changes_method(
        self, account: str, event: events.AccountOpened | events.AccountChanged
    ) -> bool:
        before = self._methods.get(account)
        return event.method is not None and before is not None and before.method != event.method

    def _tied(self, stale: set[PositionKey]) -> set[PositionKey]:
        """Return positions with those that movements tie them to."""
        if not stale:
            return stale
        tied = set(stale)
        facts = [
            set(fact_keys(fact))
            for account in {key.account for key in stale}
            for fact in self._movement_facts(account)
        ]
        while True:
            more = {key for keys in facts if not tied.isdisjoint(keys) for key in keys} - tied
            if not more:
                return tied
            tied |= more

    def _movement_facts(self, account: str) -> list[Fact]:
        facts: list[Fact] = []
        for owner, movement_id in list(self._legs):
            if owner != account:
                continue
            legs = self._legs_of(account, movement_id)
            fact = movement_fact(legs) if legs else None
            if fact is not None and self._includes(legs[0]):
                facts.append(fact)
        return facts

    def _legs_of(self, account: str, movement_id: str) -> list[MovementRow]:
        count = self._legs.get((account, movement_id), 0)
        rows = (self._movements.get(account, movement_id, leg) for leg in range(1, count + 1))
        return [row for row in rows if row is not None]

    def _counted(self, row: DealRow) -> Fact | None:
        return deal_fact(row) if self._includes(row) else None

    def _includes(self, row: DealRow | MovementRow) -> bool:
        return self._counts is None or self._counts(row.event_time_ns, row.trade_date)

    def _method_of(self, account: str) -> Method:
        if self._method is not None:
            return self._method
        row = self._methods.get(account)
        return Method.FIFO if row is None else Method(row.method)

    # --- what came of it -----------------------------------------------------------------------

    def changes(self) -> Sequence[Changed]:
        """Return the changed rows of all five tables, and forget deals that are done with."""
        changed = (
            self._deals.changes(),
            self._movements.changes(),
            self._methods.changes(),
            *self._book.changes(),
        )
        if not self._fresh and len(self._deals.by_key) > _KEPT_DEALS:
            self._deals.forget(0)
            self._facts_given.clear()
        return changed

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all rows of a table."""
        if table is DEALS:
            return self._deals.by_key.values()
        if table is MOVEMENTS:
            return self._movements.by_key.values()
        if table is LOT_METHODS:
            return self._methods.by_key.values()
        return self._book.rows(table)


def _amended(one: Stamped, row: DealRow, event: events.DealTermsAmended) -> DealRow:
    return msgspec.structs.replace(
        row,
        cost=event.cost,
        kind=event.terms.kind,
        multiplier=event.terms.multiplier,
        price_unit=event.terms.price_unit,
        flags=[flag for flag in row.flags if flag != "terms_assumed"],
        changed_offset=one.offset,
    )


def _assigned(one: Stamped, row: DealRow, event: events.LotsAssigned) -> DealRow:
    lots = [[pick.lot, format(pick.quantity, "f")] for pick in event.lots]
    details = {**(row.details or {}), "lots": lots}
    return msgspec.structs.replace(row, details=details, changed_offset=one.offset)


PROJECTION: Final = Projection(
    name="positions",
    version=1,
    topic="events",
    handles=frozenset(_HANDLES),
    tables=(DEALS, MOVEMENTS, LOT_METHODS, LOTS, POSITIONS),
    make=PositionsFold,
    schema_sql=files("projections.positions").joinpath("schema.sql").read_text(),
)
