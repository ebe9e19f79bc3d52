"""The deals and movements that positions are folded from, as rows and as facts.

Rows are kept as far as they were given or made; what is known to be all of a position's deals, or
all of an account's movements, is remembered as complete.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from domain import events
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from projections.plain import PlainDeal
from projections.positions import deal_rows
from projections.positions.facts import Fact, PositionKey
from projections.positions.row_facts import deal_fact, deal_key, movement_fact
from projections.positions.tables import (
    DEALS,
    MOVEMENTS,
    WAITING_FEES,
    DealRow,
    MovementRow,
    WaitingFeesRow,
)
from projections.rows import Changed, Rows, Wanted

MOVED: Final[frozenset[type[events.Event]]] = frozenset(
    (
        events.PositionMoved,
        events.TransferSent,
        events.TransferReceived,
        events.TransferReturned,
    )
)
CHAINED: Final[frozenset[type[events.Event]]] = frozenset(
    (
        events.DealCorrected,
        events.DealBusted,
        events.DealTermsAmended,
        events.FeesRecorded,
        events.LotsAssigned,
    )
)
POSITION: Final = ("account", "instrument", "currency")
_ACCOUNT: Final = ("account",)
_KEPT: Final = 10_000
Keys = tuple[PositionKey, ...]


class History:
    """Deals, movements, and fees whose deal has not come, with what each event does to them."""

    def __init__(self) -> None:
        self.complete_positions: set[PositionKey] = set()
        self.complete_accounts: set[str] = set()
        self.fees_given: set[str] = set()
        self.deals = Rows(DEALS)
        self.movements = Rows(MOVEMENTS)
        self._fees = Rows(WAITING_FEES)
        self._waiting: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._legs: dict[str, dict[str, int]] = defaultdict(dict)
        self._lines: list[str] = []

    # --- what was stored -----------------------------------------------------------------------

    def knows_movement(self, account: str, movement_id: str) -> bool:
        """Tell whether a movement was given or made, or is known not to be stored."""
        return movement_id in self._legs[account]

    def give_deals(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored deals; what was wanted by position is all that it has."""
        self.deals.give(wanted, rows)
        if wanted.columns == POSITION:
            self.complete_positions.update(PositionKey(*value) for value in wanted.values)

    def give_movements(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored movements; what was wanted by account is all that it has."""
        listed = list(rows)
        self.movements.give(wanted, listed)
        for account, movement_id, leg, *_ in listed:
            legs = self._legs[account]
            legs[movement_id] = max(leg, legs.get(movement_id, 0))
        if wanted.columns == _ACCOUNT:
            self.complete_accounts.update(account for (account,) in wanted.values)
        else:
            for account, movement_id in wanted.values:
                self._legs[account].setdefault(movement_id, 0)

    def give_fees(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take the fees of accounts that wait for their deals."""
        listed = list(rows)
        self._fees.give(wanted, listed)
        for account, fee_id, deal_id, *_ in listed:
            self._waiting[account, deal_id].append(fee_id)
        self.fees_given.update(account for (account,) in wanted.values)

    # --- what an event does --------------------------------------------------------------------

    def apply(self, one: Stamped) -> Fact | None:
        """Change the rows that an event changes; return its fact where it is a plain new one."""
        event = one.event
        match event:
            case events.DealCorrected():
                self._correct(one, event)
            case events.DealRecorded():
                return self.record(one)
            case events.DealBusted():
                self._taken_fees(one.key, event.chain_id)
                self._change(
                    one, event.chain_id, lambda row: deal_rows.busted(one, row, event.deal_id)
                )
            case events.DealTermsAmended():
                self._change(one, event.chain_id, lambda row: deal_rows.amended(one, row, event))
            case events.FeesRecorded():
                self._charge(one, event)
            case events.LotsAssigned():
                self._change(one, event.chain_id, lambda row: deal_rows.assigned(one, row, event))
            case events.PositionMoveReversed():
                self._reverse(one, event)
            case (
                events.PositionMoved()
                | events.TransferSent()
                | events.TransferReceived()
                | events.TransferReturned()
            ):
                return self._move(one, event)
            case _:
                raise AssertionError(f"{type(event).__name__} is not folded here")
        return None

    def record(self, one: Stamped, key: PositionKey | None = None) -> Fact | None:
        """Enter a deal that was recorded; return its fact where it has an effect.

        `key`, where it is at hand, is that of its position.
        """
        event = one.event
        assert isinstance(event, events.DealRecorded)
        if one.flags and not has_effect(one.flags):
            if self.deals.get(one.key, event.deal_id) is None:
                row = deal_rows.deal_row(one, event, None, "busted")
                self.deals.insert((one.key, event.deal_id), row)
            return None
        row = deal_rows.deal_row(one, event, None, "effective")
        if self._waiting:
            waited = self._taken_fees(one.key, event.deal_id)
            row = deal_rows.with_late_fees(row, waited, one.offset)
        self.deals.insert((one.key, event.deal_id), row)
        return deal_fact(row, one.event_time, key)

    @property
    def awaited(self) -> Collection[tuple[str, str]]:
        """Name the deals, by account and id, for which fees are waiting."""
        return self._waiting

    def enter(self, deals: Sequence[PlainDeal]) -> None:
        """Enter rows of plain deals, which are not kept here: they are read if they are wanted."""
        self._lines += [one.line for one in deals]
        self.deals.note_stored((one.key, one.deal_id) for one in deals)
        if self.complete_positions:
            self.complete_positions.difference_update([one.position for one in deals])

    def _correct(self, one: Stamped, event: events.DealCorrected) -> None:
        before: DealRow | None = self.deals.get(one.key, event.chain_id)
        late = [*self._taken_fees(one.key, event.chain_id)]
        if event.deal_id != event.chain_id:
            late += self._taken_fees(one.key, event.deal_id)
        if before is not None and before.status == "busted":
            row = deal_rows.told_after_bust(one, before, event)
        else:
            if before is not None:
                late = [*deal_rows.late_fees(before), *late]
            status = "corrected" if has_effect(one.flags) else "busted"
            row = deal_rows.deal_row(one, event, before, status)
            if has_effect(one.flags):
                row = deal_rows.with_late_fees(row, late, one.offset)
        self.deals.put((one.key, event.chain_id), row)
        if event.continues_as is not None:
            self._change(
                one,
                event.continues_as,
                lambda heir: deal_rows.with_late_fees(heir, late, one.offset),
            )

    def _change(self, one: Stamped, chain_id: str, change: Callable[[DealRow], DealRow]) -> None:
        before = self.deals.get(one.key, chain_id)
        if before is not None and before.status != "busted":
            self.deals.put((one.key, chain_id), change(before))

    def _charge(self, one: Stamped, event: events.FeesRecorded) -> None:
        if self.deals.get(one.key, event.chain_id) is not None:
            self._change(
                one,
                event.chain_id,
                lambda row: deal_rows.with_late_fees(row, event.fees, one.offset),
            )
        elif has_effect(one.flags):
            fees = [deal_rows.fee_told(fee) for fee in event.fees]
            row = WaitingFeesRow(one.key, event.fee_id, event.chain_id, fees, one.offset)
            self._fees.insert((one.key, event.fee_id), row)
            self._waiting[one.key, event.chain_id].append(event.fee_id)

    def _taken_fees(self, account: str, deal_id: str) -> list[events.Fee]:
        """Return the fees that wait for a deal, which then wait no more."""
        taken: list[events.Fee] = []
        for fee_id in self._waiting.pop((account, deal_id), ()):
            waiting: WaitingFeesRow = self._fees.by_key[account, fee_id]
            taken += map(deal_rows.fee_of, waiting.fees)
            self._fees.delete((account, fee_id))
        return taken

    def _move(self, one: Stamped, event: deal_rows.MovedEvent) -> Fact | None:
        rows = deal_rows.movement_rows(one, event)
        for row in rows:
            self.movements.insert(self.movements.key_of(row), row)
        self._legs[one.key][deal_rows.movement_id_of(event)] = len(rows)
        return movement_fact(rows) if rows else None

    def _reverse(self, one: Stamped, event: events.PositionMoveReversed) -> None:
        for row in self._legs_of(one.key, event.ref_movement_id):
            self.movements.put(self.movements.key_of(row), deal_rows.reversed_leg(one, row))

    # --- what the rows say ---------------------------------------------------------------------

    def keys_of(self, one: Stamped) -> Keys:
        """Return the positions that an event moves, as the rows are now."""
        event = one.event
        if isinstance(event, events.DealRecorded):
            key = PositionKey(one.key, event.instrument, event.currency)
            own = () if event.terms.kind == "fx" else (key,)
            if not isinstance(event, events.DealCorrected):
                return own
            replaced = [self._chain_key(one.key, chain_id) for chain_id in chains_of(event)]
            return (*own, *(key for keys in replaced for key in keys))
        if isinstance(event, events.DealTermsAmended):
            # The terms may make a position of an exchange of currencies, or the other way round.
            row = self.deals.get(one.key, event.chain_id)
            return () if row is None else (deal_key(row),)
        if type(event) in CHAINED:
            return self._chain_key(one.key, event.chain_id)  # type: ignore[attr-defined]
        if type(event) in MOVED:
            legs: tuple[events.UnitLeg, ...] = event.legs  # type: ignore[attr-defined]
            return tuple(PositionKey(one.key, leg.instrument, leg.currency) for leg in legs)
        if isinstance(event, events.PositionMoveReversed):
            return _keys_of_legs(self._legs_of(one.key, event.ref_movement_id))
        return ()

    def _chain_key(self, account: str, chain_id: str) -> Keys:
        row = self.deals.get(account, chain_id)
        return () if row is None or row.kind == "fx" else (deal_key(row),)

    def effective_key(self, account: str, chain_id: str) -> Keys:
        """Return the position that a chain moves now; none where it moves none."""
        row = self.deals.get(account, chain_id)
        return () if row is None or row.status == "busted" else self._chain_key(account, chain_id)

    def _legs_of(self, account: str, movement_id: str) -> list[MovementRow]:
        count = self._legs[account].get(movement_id, 0)
        rows = (self.movements.get(account, movement_id, leg) for leg in range(1, count + 1))
        return [row for row in rows if row is not None]

    def _movements_of(self, account: str) -> Iterable[list[MovementRow]]:
        for movement_id in list(self._legs[account]):
            legs = self._legs_of(account, movement_id)
            if legs and legs[0].status == "effective":
                yield legs

    def ties_of(self, account: str) -> list[Keys]:
        """Return the positions that each effective movement of an account ties together."""
        return [_keys_of_legs(legs) for legs in self._movements_of(account)]

    def facts_of(self, keys: set[PositionKey]) -> dict[str, list[Fact]]:
        """Return all facts of positions, by account."""
        facts: dict[str, list[Fact]] = defaultdict(list)
        for row in self.deals.by_key.values():
            key = (row.account, row.instrument, row.currency)
            if key in keys and (fact := deal_fact(row)) is not None:
                facts[row.account].append(fact)
        for account in {key.account for key in keys}:
            for legs in self._movements_of(account):
                moved = None if keys.isdisjoint(_keys_of_legs(legs)) else movement_fact(legs)
                if moved is not None:
                    facts[account].append(moved)
        return facts

    def changes(self) -> tuple[Changed, ...]:
        """Return the rows changed since this was asked last."""
        deals = self.deals.changes()
        deals.lines, self._lines = self._lines, []
        return deals, self.movements.changes(), self._fees.changes()

    def forget(self) -> None:
        """Drop what is done with, so that memory stays bounded: it is given again when wanted."""
        if len(self.deals.by_key) > _KEPT:
            self.deals.forget(0)
            self.complete_positions.clear()
        if len(self.movements.by_key) > _KEPT:
            self.movements.forget(0)
            self._legs.clear()
            self.complete_accounts.clear()

    @property
    def waiting_fees(self) -> Iterable[WaitingFeesRow]:
        """Return the fees whose deal has not come."""
        return self._fees.by_key.values()


def chains_of(event: events.Event) -> tuple[str, ...]:
    """Return the chains of deals that an event about one changes."""
    chain_id: str = event.chain_id  # type: ignore[attr-defined]
    heir = event.continues_as if isinstance(event, events.DealCorrected) else None
    return (chain_id,) if heir is None else (chain_id, heir)


def _keys_of_legs(legs: list[MovementRow]) -> Keys:
    return tuple(
        PositionKey(row.account, row.instrument, row.currency)
        for row in legs
        if row.instrument is not None
    )
