"""Fold the reference topic: what is defined and announced, as it was told last."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import Struct

from domain import events
from domain.decisions import Stamped
from domain.identifiers import MAX_ID_LENGTH
from projections.rows import Changed, Projection, Rows, Table, Wanted, indexed

_DEFINING: Final = (events.InstrumentDefined, events.InstrumentChanged)
_ACTIONS: Final = (
    events.CorporateActionAnnounced,
    events.CorporateActionCorrected,
    events.CorporateActionCancelled,
)
_HANDLES: Final = (*_DEFINING, events.InstrumentIdentified, events.PortfolioDefined, *_ACTIONS)


class InstrumentRow(Struct, frozen=True):
    """An instrument as defined last; `flags` has `assumed` while nobody told its terms."""

    instrument: str
    kind: str
    currency: str
    from_date: str | None
    symbol: str | None
    mic: str | None
    isin: str | None
    figi: str | None
    conid: str | None
    multiplier: Decimal
    price_unit: Decimal
    expiry: str | None
    strike: Decimal | None
    right: str | None
    underlying: str | None
    time_zone: str | None
    sector: str | None
    country: str | None
    flags: list[str]
    changed_offset: int


class IdentifierRow(Struct, frozen=True):
    """An identifier of an instrument between two dates; `from_date` '' is since ever."""

    instrument: str
    scheme: str
    value: str
    from_date: str
    to_date: str | None
    changed_offset: int


class PortfolioRow(Struct, frozen=True):
    """A portfolio's parent from a date on; '' is since ever."""

    portfolio: str
    from_date: str
    parent: str | None
    changed_offset: int


class CorporateActionRow(Struct, frozen=True):
    """A corporate action as told; `status` is announced, corrected or cancelled.

    One that was corrected or cancelled before it was announced has no kind yet.
    """

    instrument: str
    action_id: str
    kind: str | None
    ex_date: str | None
    record_date: str | None
    pay_date: str | None
    options: list[dict[str, Any]] | None
    status: str
    ref_action_id: str | None
    changed_offset: int


INSTRUMENTS: Final = Table("instruments", InstrumentRow, ("instrument",))
IDENTIFIERS: Final = Table(
    "identifiers", IdentifierRow, ("instrument", "scheme", "value", "from_date")
)
PORTFOLIOS: Final = Table("portfolios", PortfolioRow, ("portfolio", "from_date"))
CORPORATE_ACTIONS: Final = Table(
    "corporate_actions", CorporateActionRow, ("instrument", "action_id")
)
_TABLES: Final = (INSTRUMENTS, IDENTIFIERS, PORTFOLIOS, CORPORATE_ACTIONS)


class InstrumentsFold:
    """Fold the reference topic. Every row is told whole; only actions look at what was before."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._rows = {table.name: Rows(table) for table in _TABLES}

    def wants(self, batch: Sequence[Stamped]) -> Sequence[Wanted]:
        """Want the actions that the batch tells, corrects or cancels."""
        if self._fresh:
            return ()
        keys = self._rows[CORPORATE_ACTIONS.name].unseen(
            (one.key, action_id)
            for one in batch
            if isinstance(one.event, _ACTIONS)
            for action_id in (one.event.action_id, getattr(one.event, "ref_action_id", None))
            if action_id is not None
        )
        return (Wanted(CORPORATE_ACTIONS, CORPORATE_ACTIONS.key, keys),) if keys else ()

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows."""
        self._rows[wanted.table.name].give(wanted, rows)

    def apply(self, batch: Sequence[Stamped]) -> None:
        """Fold a batch."""
        for one in batch:
            event = one.event
            match event:
                case events.InstrumentDefined() | events.InstrumentChanged():
                    self._put(INSTRUMENTS, _instrument(one, event))
                case events.InstrumentIdentified():
                    self._put(IDENTIFIERS, _identifier(one, event))
                case events.PortfolioDefined():
                    row = PortfolioRow(one.key, event.from_date or "", event.parent, one.offset)
                    self._put(PORTFOLIOS, row)
                case events.CorporateActionAnnounced() | events.CorporateActionCorrected():
                    self._tell(one, event)
                case events.CorporateActionCancelled():
                    self._mark(one, event.ref_action_id, "cancelled")
                case _:
                    continue

    def _put(self, table: Table, row: Any) -> None:
        rows = self._rows[table.name]
        rows.put(rows.key_of(row), row)

    def _tell(
        self, one: Stamped, event: events.CorporateActionAnnounced | events.CorporateActionCorrected
    ) -> None:
        """Put down an action; one that was corrected or cancelled before it came stays that."""
        before = self._rows[CORPORATE_ACTIONS.name].get(one.key, event.action_id)
        status = before.status if before is not None and before.kind is None else "announced"
        self._put(CORPORATE_ACTIONS, _action(one, event, status))
        ref_id = getattr(event, "ref_action_id", event.action_id)
        if ref_id != event.action_id:
            self._mark(one, ref_id, "corrected")

    def _mark(self, one: Stamped, ref_id: str, status: str) -> None:
        rows = self._rows[CORPORATE_ACTIONS.name]
        row = rows.get(one.key, ref_id)
        if row is None:
            unknown = (None, None, None, None, None)
            row = CorporateActionRow(one.key, ref_id, *unknown, status, None, one.offset)
        after = msgspec.structs.replace(row, status=status, changed_offset=one.offset)
        rows.put((one.key, ref_id), after)

    def changes(self) -> Sequence[Changed]:
        """Return the changed rows."""
        return tuple(rows.changes() for rows in self._rows.values())

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all rows of a table."""
        return self._rows[table.name].by_key.values()


def _instrument(
    one: Stamped, event: events.InstrumentDefined | events.InstrumentChanged
) -> InstrumentRow:
    return InstrumentRow(
        instrument=one.key,
        **msgspec.structs.asdict(event),
        flags=list(one.flags),
        changed_offset=one.offset,
    )


def _identifier(one: Stamped, event: events.InstrumentIdentified) -> IdentifierRow:
    return IdentifierRow(
        instrument=one.key,
        scheme=indexed(event.scheme, MAX_ID_LENGTH),
        value=indexed(event.value),
        from_date=event.from_date or "",
        to_date=event.to_date,
        changed_offset=one.offset,
    )


def _action(
    one: Stamped,
    event: events.CorporateActionAnnounced | events.CorporateActionCorrected,
    status: str,
) -> CorporateActionRow:
    return CorporateActionRow(
        instrument=one.key,
        action_id=event.action_id,
        kind=event.kind,
        ex_date=event.ex_date,
        record_date=event.record_date,
        pay_date=event.pay_date,
        options=[msgspec.to_builtins(option) for option in event.options] or None,
        status=status,
        ref_action_id=getattr(event, "ref_action_id", None),
        changed_offset=one.offset,
    )


PROJECTION: Final = Projection(
    name="instruments",
    version=3,
    topic="reference",
    handles=frozenset(_HANDLES),
    tables=_TABLES,
    make=InstrumentsFold,
    schema_sql=files("projections.instruments").joinpath("schema.sql").read_text(),
)
