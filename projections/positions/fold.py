"""Fold deals and moved units to the deals, movements, lots and positions read models.

A position is the fold of its effective facts in trade order. A fact that comes in order is applied
to the position as it stands; a late one, a bust, a correction or another lot method changes the
set of facts, and the position, with those that movements tie it to, is folded again from all of
them at the end of the batch. Either way the answer is the one that a fresh start would give. A
fresh fold does just that: it keeps the facts, and folds them once it is asked for positions.

A position that an effective fact has named once keeps its row, whatever became of the fact.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, Final

from domain import events
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from projections.plain import Folded, PlainDeal, whole
from projections.positions import deal_rows
from projections.positions.book import Place, PositionBook
from projections.positions.facts import PositionKey
from projections.positions.history import CHAINED, MOVED, POSITION, History, Keys, chains_of
from projections.positions.lots import Method
from projections.positions.plan import HANDLES, METHODS, Plan, plan_of
from projections.positions.row_facts import fact_keys
from projections.positions.tables import (
    DEALS,
    LOT_METHODS,
    LOTS,
    MOVEMENTS,
    POSITIONS,
    WAITING_FEES,
    LotMethodRow,
)
from projections.rows import Changed, Projection, Rows, Table, Wanted, bounded

_METHOD_OF: Final = {method.value: method for method in Method}


class PositionsFold:
    """The one fold of deals, movements, lots and positions."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._history = History()
        self._methods = Rows(LOT_METHODS)
        self._book = PositionBook(fresh=fresh)
        self._named: set[PositionKey] = set()
        self._kept = False
        self._plan = Plan((), ())

    # --- what must be seen first ---------------------------------------------------------------

    def wants(self, batch: Sequence[Folded]) -> Sequence[Wanted]:
        """Want the chains, positions and open lots that the batch touches.

        Then, where positions must be folded again, all of their facts.
        """
        if self._fresh:
            return ()
        plan = self._planned(batch)
        return self._wants_rows(plan) or self._wants_touched(plan) or self._wants_facts(plan)

    def _planned(self, batch: Sequence[Folded]) -> Plan:
        if self._plan.told is not batch:
            self._plan = plan_of(batch)
        return self._plan

    def _wants_rows(self, plan: Plan) -> list[Wanted]:
        history = self._history
        deals, movements = set(), set()
        for one in plan.unplain:
            deals.add((one.key, one.event.deal_id))  # type: ignore[attr-defined]
        for one in plan.others:
            event = one.event
            if type(event) in CHAINED:
                deals.update((one.key, chain_id) for chain_id in chains_of(event))
            elif isinstance(event, events.PositionMoveReversed):
                movements.add((one.key, event.ref_movement_id))
        unknown = [place for place in movements if not history.knows_movement(*place)]
        fees = [account for account in plan.accounts if account[0] not in history.fees_given]
        wanted = [
            Wanted(DEALS, DEALS.key, history.deals.unseen(deals)),
            Wanted(LOT_METHODS, LOT_METHODS.key, self._methods.unseen(plan.accounts)),
            Wanted(MOVEMENTS, MOVEMENTS.key[:2], sorted(unknown)),
            Wanted(WAITING_FEES, ("account",), sorted(fees)),
        ]
        return [one for one in wanted if one.values]

    def _wants_touched(self, plan: Plan) -> list[Wanted]:
        touched = plan.touched.copy()
        for one in plan.others:
            touched.update(self._history.keys_of(one))
        return self._wants_positions(touched)

    def _wants_positions(self, keys: set[PositionKey]) -> list[Wanted]:
        unknown = sorted(keys - self._book.given)
        if not unknown:
            return []
        return [
            Wanted(POSITIONS, POSITIONS.key, unknown),
            Wanted(LOTS, POSITION, unknown, only="remaining <> 0"),
        ]

    def _wants_facts(self, plan: Plan) -> list[Wanted]:
        stale = self._stale(plan)
        accounts = {key.account for key in stale} | self._accounts_changing_method(plan)
        accounts -= self._history.complete_accounts
        if accounts:
            listed = [(account,) for account in sorted(accounts)]
            return [
                Wanted(MOVEMENTS, ("account",), listed),
                Wanted(POSITIONS, ("account",), listed),
            ]
        plan.stale = tied = self._tied(plan, stale)
        unknown = sorted(tied - self._history.complete_positions)
        deals = [Wanted(DEALS, POSITION, unknown)] if unknown else []
        return [*self._wants_positions(tied), *deals]

    def _accounts_changing_method(self, plan: Plan) -> set[str]:
        return {
            one.key
            for one in plan.others
            if type(one.event) in METHODS and self._changes_method(one)
        }

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows, and know what was asked for to be all there is."""
        if wanted.table is DEALS:
            self._history.give_deals(wanted, rows)
        elif wanted.table is MOVEMENTS:
            self._history.give_movements(wanted, rows)
        elif wanted.table is WAITING_FEES:
            self._history.give_fees(wanted, rows)
        elif wanted.table is LOT_METHODS:
            self._methods.give(wanted, rows)
        else:
            self._book.give(wanted, rows)

    # --- which positions must be folded again --------------------------------------------------

    def _stale(self, plan: Plan) -> set[PositionKey]:
        """Return the positions that the batch changes out of trade order."""
        stale: set[PositionKey] = set()
        seen: dict[PositionKey, Place] = {}
        made: dict[tuple[str, str], Keys] = {}
        last = self._book.last
        for one, key in zip(plan.batch, plan.keys, strict=True):
            if key is not None:
                place = one.place if type(one) is PlainDeal else _place_of(one)
                held = seen.get(key) or last.get(key)
                if held is not None and place < held:
                    stale.add(key)
                else:
                    seen[key] = place
                continue
            assert type(one) is Stamped
            event = one.event
            if type(event) in MOVED:
                keys = self._history.keys_of(one)
                made[one.key, deal_rows.movement_id_of(event)] = keys  # type: ignore[arg-type]
                if has_effect(one.flags) and _is_late(one, keys, last, seen):
                    stale.update(keys)
            elif isinstance(event, events.PositionMoveReversed):
                stale.update(self._history.keys_of(one))
                stale.update(made.get((one.key, event.ref_movement_id), ()))
            elif type(event) in METHODS:
                if self._changes_method(one):
                    stale |= self._book.keys_of_account(one.key)
            elif type(event) in CHAINED:
                stale.update(self._history.keys_of(one))
        return stale | self._changed_within(plan)

    def _changed_within(self, plan: Plan) -> set[PositionKey]:
        """Return the positions of deals that the batch both makes and changes."""
        chains = {
            (one.key, chain_id)
            for one in plan.others
            if type(one.event) in CHAINED
            for chain_id in chains_of(one.event)
        }
        if not chains:
            return set()
        return {
            PositionKey(one.key, event.instrument, event.currency)
            for one in plan.batch
            if type(one) is Stamped
            and type(event := one.event) is events.DealRecorded
            and (one.key, event.deal_id) in chains
        }

    def _changes_method(self, one: Stamped) -> bool:
        before = self._methods.get(one.key)
        method = one.event.method  # type: ignore[attr-defined]
        return method is not None and before is not None and before.method != method

    def _tied(self, plan: Plan, stale: set[PositionKey]) -> set[PositionKey]:
        """Return positions with those that movements, the batch's own too, tie them to."""
        if not stale:
            return stale
        ties = [
            self._history.keys_of(one)
            for one in plan.others
            if type(one.event) in MOVED and has_effect(one.flags)
        ]
        for account in {key.account for key in stale}:
            ties += self._history.ties_of(account)
        tied = set(stale)
        while True:
            more = {key for keys in ties if not tied.isdisjoint(keys) for key in keys} - tied
            if not more:
                return tied
            tied |= more

    # --- folding -------------------------------------------------------------------------------

    def apply(self, batch: Sequence[Folded]) -> None:
        """Fold a batch: facts in order, then what must be folded again."""
        plan = self._planned(batch)
        for one in plan.others:
            if type(one.event) in METHODS:
                self._set_method(one)
        if self._fresh:
            self._keep(whole(batch))
        else:
            self._fold(plan)
        self._plan = Plan((), ())

    def _keep(self, batch: Sequence[Stamped]) -> None:
        self._kept = True
        for one in batch:
            if type(one.event) in HANDLES and type(one.event) not in METHODS:
                fact = self._history.apply(one)
                self._named.update(fact_keys(fact) if fact else self._newly_named(one))

    def _newly_named(self, one: Stamped) -> Keys:
        """Return the positions that a correction or amendment has named."""
        if isinstance(one.event, events.DealCorrected) and not has_effect(one.flags):
            return ()
        if isinstance(one.event, events.DealCorrected | events.DealTermsAmended):
            return self._history.effective_key(one.key, one.event.chain_id)
        return ()

    def _fold(self, plan: Plan) -> None:
        stale = self._tied(plan, self._stale(plan)) if plan.stale is None else plan.stale
        offsets: dict[PositionKey, int] = {}
        named: set[PositionKey] = set()
        history, book = self._history, self._book
        plain: list[PlainDeal] = []
        waiting: dict[PositionKey, list[PlainDeal]] = defaultdict(list)
        awaited = history.awaited
        methods = {account: self._method_of(account) for (account,) in plan.accounts}
        keys: Keys
        for told, key in zip(plan.batch, plan.keys, strict=True):
            if type(told) is PlainDeal:
                if key not in stale and (not awaited or (told.key, told.deal_id) not in awaited):
                    plain.append(told)
                    waiting[told.position].append(told)
                    continue
                one = told.stamped()
            else:
                one = told  # type: ignore[assignment]
            before: Keys = ()
            if key is not None:
                fact, keys = history.record(one, key), (key,)
            elif type(one.event) in METHODS or type(one.event) not in HANDLES:
                continue
            else:
                before, fact = history.keys_of(one), history.apply(one)
                keys = fact_keys(fact) if fact else self._newly_named(one)
            if fact is not None and keys[0] not in stale:
                for moved in keys:
                    if moved in waiting:
                        book.apply_plain(moved, waiting.pop(moved), methods[one.key])
                book.apply(fact, keys, methods[one.key], one.offset)
            else:
                named.update(keys)
                offsets.update(dict.fromkeys((*before, *keys), one.offset))
        for moved, deals in waiting.items():
            book.apply_plain(moved, deals, methods[moved.account])
        history.enter(plain)
        if stale and plan.batch:
            self._fold_again(stale, named, offsets, plan.batch[-1].offset)

    def _fold_again(
        self,
        stale: set[PositionKey],
        named: set[PositionKey],
        offsets: dict[PositionKey, int],
        last_offset: int,
    ) -> None:
        facts = self._history.facts_of(stale)
        for account in sorted({key.account for key in stale}):
            keys = {key for key in stale if key.account == account}
            self._book.fold_again(
                keys,
                facts.get(account, []),
                self._method_of(account),
                offsets,
                last_offset,
                named=named,
            )

    def _set_method(self, one: Stamped) -> None:
        method = one.event.method  # type: ignore[attr-defined]
        before = self._methods.get(one.key)
        if method is not None and (before is None or before.method != method):
            self._methods.put((one.key,), LotMethodRow(one.key, method, one.offset))

    def _method_of(self, account: str) -> Method:
        row = self._methods.by_key.get((account,))
        return Method.FIFO if row is None else _METHOD_OF[row.method]

    # --- what came of it -----------------------------------------------------------------------

    def changes(self) -> Sequence[Changed]:
        """Return the changed rows of all tables, and forget deals that are done with."""
        changed = (*self._history.changes(), self._methods.changes(), *self._book.changes())
        if not self._fresh:
            self._history.forget()
        return changed

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all rows of a table."""
        history = self._history
        if table is DEALS:
            return history.deals.by_key.values()
        if table is MOVEMENTS:
            return history.movements.by_key.values()
        if table is WAITING_FEES:
            return history.waiting_fees
        if table is LOT_METHODS:
            return self._methods.by_key.values()
        if self._kept:
            self._kept = False
            self._fold_again(self._named, self._named, {}, 0)
        return self._book.rows(table)


def _place_of(one: Any) -> Place:
    return one.event_time, bounded(one.event.sequence), one.seq


def _is_late(
    one: Stamped,
    keys: Keys,
    last: dict[PositionKey, Place],
    seen: dict[PositionKey, Place],
) -> bool:
    """Tell whether a movement comes before, in trade order, what its positions hold already.

    `last` has the positions' places, `seen` those that this batch has moved on; where the event is
    not late, its own are added to `seen`.
    """
    place = _place_of(one)
    for key in keys:
        held = seen.get(key) or last.get(key)
        if held is not None and place < held:
            return True
    for key in keys:
        seen[key] = place
    return False


PROJECTION: Final = Projection(
    name="positions",
    version=3,
    topic="events",
    handles=HANDLES,
    tables=(DEALS, MOVEMENTS, LOT_METHODS, LOTS, POSITIONS, WAITING_FEES),
    make=PositionsFold,
    schema_sql=files("projections.positions").joinpath("schema.sql").read_text(),
    takes_plain=True,
)
