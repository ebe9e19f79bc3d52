"""The positions and open lots that a fold holds between batches, and the rows they become."""

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from decimal import Decimal
from typing import Any

from domain import money
from domain.money import COST_SCALE, QUANTITY_SCALE, from_scaled
from domain.times import Instant, from_ns
from projections.plain import PlainDeal
from projections.positions.facts import Deal, Fact, PositionKey, order_key
from projections.positions.lots import Book, Lot, Method, PositionState
from projections.positions.reference import apply, apply_plain
from projections.positions.row_facts import fact_keys, lot_line, lot_row, position_state
from projections.positions.tables import LOTS, POSITIONS, LotRow, PositionRow
from projections.rows import Changed, Table, Wanted, time_ns

Place = tuple[str, int, int]
"""Where a fact stands in trade order: event_time, sequence, seq."""
UnitTerms = tuple[Decimal, Decimal]
"""Multiplier and price unit of a position's last deal."""

_ONES: UnitTerms = (Decimal(1), Decimal(1))


class PositionBook:
    """Positions by key, each with its open lots and its last place in trade order."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self.given: set[PositionKey] = set()
        self.terms: dict[PositionKey, UnitTerms] = {}
        self.last: dict[PositionKey, Place] = {}
        self._book: Book = {}
        self._of_account: dict[str, set[PositionKey]] = defaultdict(set)
        self._pending: dict[PositionKey, PositionRow] = {}
        self._stored_opened: dict[PositionKey, int] = {}
        self._dirty_positions: dict[PositionKey, int] = {}
        self._dirty_lots: dict[PositionKey, dict[int, tuple[Lot, int]]] = defaultdict(dict)
        self._deleted_lots: list[tuple[Any, ...]] = []
        self._plain: set[PositionKey] = set()
        """Positions that plain deals have moved: in this batch they alone have opened lots."""

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored positions, then their open lots; those not stored are known to be new."""
        if wanted.table is POSITIONS:
            for values in rows:
                row = PositionRow(*values)
                key = PositionKey(row.account, row.instrument, row.currency)
                self._of_account[key.account].add(key)
                if wanted.columns != ("account",):
                    self._pending[key] = row
            return
        lots: dict[PositionKey, list[LotRow]] = defaultdict(list)
        for values in rows:
            lot = LotRow(*values)
            lots[PositionKey(lot.account, lot.instrument, lot.currency)].append(lot)
        for value in wanted.values:
            key = PositionKey(*value)
            self.given.add(key)
            if key in self._pending:
                self._restore(key, self._pending.pop(key), lots[key])

    def _restore(self, key: PositionKey, row: PositionRow, lots: list[LotRow]) -> None:
        self._book[key] = position_state(row, lots)
        self.terms[key] = (row.multiplier, row.price_unit)
        self.last[key] = (from_ns(row.last_event_time_ns), row.last_sequence, row.last_seq)
        self._stored_opened[key] = row.lots_opened

    def keys_of_account(self, account: str) -> set[PositionKey]:
        """Return the positions that an account has."""
        return set(self._of_account[account])

    def apply(self, fact: Fact, keys: tuple[PositionKey, ...], method: Method, offset: int) -> None:
        """Apply the next fact in trade order, which moves the positions of these keys."""
        place, dirty = order_key(fact), self._dirty_positions
        for key in keys:
            if key not in dirty:
                self._of_account[key.account].add(key)
            self.last[key] = place
            dirty[key] = offset
        self._keep_terms(fact)
        for lot in apply(self._book, fact, method):
            self._dirty_lots[lot.key][lot.ordinal] = (lot, offset)

    def apply_plain(self, key: PositionKey, deals: Sequence[PlainDeal], method: Method) -> None:
        """Apply plain deals, in trade order, that are next in their position."""
        last = deals[-1]
        self._plain.add(key)
        self._of_account[key.account].add(key)
        self.last[key] = last.place
        self._dirty_positions[key] = last.offset
        self.terms[key] = last.terms
        self._dirty_lots[key].update(apply_plain(self._book, key, deals, method))

    def fold_again(
        self,
        keys: set[PositionKey],
        facts: list[Fact],
        method: Method,
        offsets: dict[PositionKey, int],
        last_offset: int,
        *,
        named: Container[PositionKey] = (),
    ) -> None:
        """Fold positions anew from all their facts, in any order given.

        A position of no facts has a row only where it was stored with one, or is `named`.
        """
        for key in keys:
            self._forget(key)
        book: Book = {}
        touched: dict[PositionKey, dict[int, Lot]] = defaultdict(dict)
        for fact in sorted(facts, key=order_key):
            for lot in apply(book, fact, method):
                touched[lot.key][lot.ordinal] = lot
            for key in fact_keys(fact):
                self.last[key] = order_key(fact)
            self._keep_terms(fact)
        for key in keys:
            state = book.get(key) or PositionState(key)
            if key not in book and key not in self._stored_opened and key not in named:
                continue
            self._book[key] = state
            self._of_account[key.account].add(key)
            offset = self._dirty_positions[key] = offsets.get(key, last_offset)
            lots = touched.get(key, {})
            self._dirty_lots[key] = {ordinal: (lot, offset) for ordinal, lot in lots.items()}
            for ordinal in range(state.opened, self._stored_opened.get(key, 0)):
                self._deleted_lots.append((*key, ordinal))

    def _keep_terms(self, fact: Fact) -> None:
        if isinstance(fact, Deal) and fact.terms is not None:
            self.terms[fact.key] = fact.terms

    def _forget(self, key: PositionKey) -> None:
        self._book.pop(key, None)
        self.last.pop(key, None)
        self.terms.pop(key, None)
        self._dirty_lots.pop(key, None)

    def changes(self) -> Sequence[Changed]:
        """Return the lots and positions changed since this was asked last."""
        lots = Changed(LOTS, [], [], self._deleted_lots, [])
        for key, dirty in self._dirty_lots.items():
            opened = self._stored_opened.get(key, 0)
            told = "\t".join((*key, "")) if key in self._plain else ""
            for ordinal, (lot, offset) in dirty.items():
                if ordinal < opened:
                    lots.upserts.append(lot_row(lot, offset))
                elif told:
                    lots.lines.append(lot_line(told, lot, offset))
                else:
                    lots.inserts.append(lot_row(lot, offset))
        positions = Changed(POSITIONS, [], [])
        for key, offset in self._dirty_positions.items():
            new = key not in self._stored_opened
            row = self._position_row(key, offset)
            (positions.inserts if new else positions.upserts).append(row)
            self._stored_opened[key] = self._book[key].opened
        self._dirty_lots, self._dirty_positions, self._deleted_lots = defaultdict(dict), {}, []
        self._plain.clear()
        return lots, positions

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all lots or positions of a fresh fold."""
        if table is LOTS:
            return [
                lot_row(lot, offset)
                for dirty in self._dirty_lots.values()
                for lot, offset in dirty.values()
            ]
        assert table is POSITIONS
        return [self._position_row(key, offset) for key, offset in self._dirty_positions.items()]

    def _position_row(self, key: PositionKey, offset: int) -> PositionRow:
        state = self._book[key]
        quantity = from_scaled(state.quantity, QUANTITY_SCALE)
        cost_basis = from_scaled(state.cost36, COST_SCALE)
        multiplier, price_unit = self.terms.get(key, _ONES)
        event_time, sequence, seq = self.last.get(key, ("1970-01-01T00:00:00.000000000Z", 0, 0))
        return PositionRow(
            account=key.account,
            instrument=key.instrument,
            currency=key.currency,
            quantity=quantity,
            cost_basis=cost_basis,
            average_cost=money.average(cost_basis, quantity) if quantity else None,
            realised_pnl=from_scaled(state.realised36, COST_SCALE),
            fees=from_scaled(state.fees36, COST_SCALE),
            multiplier=multiplier,
            price_unit=price_unit,
            lots_opened=state.opened,
            flags=sorted(state.flags),
            last_event_time_ns=time_ns(Instant(event_time)),
            last_sequence=sequence,
            last_seq=seq,
            changed_offset=offset,
        )
