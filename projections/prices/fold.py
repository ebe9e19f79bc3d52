"""Fold prices: one row each, revisions beside what they revise."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import Any, Final

from msgspec import Struct

from domain.decisions import Stamped
from domain.events import PriceRecorded
from projections.rows import Changed, Projection, Rows, Table, Wanted, indexed, time_ns


class PriceRow(Struct, frozen=True):
    """A price as told: `price` x `unit` is in `currency`. The highest `seq` of equals holds."""

    instrument: str
    event_time_ns: int
    kind: str
    source: str
    seq: int
    price: Decimal
    currency: str
    unit: Decimal
    price_date: str | None
    recorded_time_ns: int
    changed_offset: int


PRICES: Final = Table("prices", PriceRow, ("instrument", "event_time_ns", "kind", "source", "seq"))


class PricesFold:
    """Fold PriceRecorded to rows that are only ever added."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._rows = Rows(PRICES)

    def wants(self, batch: Sequence[Stamped]) -> Sequence[Wanted]:  # noqa: ARG002 - the interface
        """Want nothing: every price is a new row."""
        return ()

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows."""
        self._rows.give(wanted, rows)

    def apply(self, batch: Sequence[Stamped]) -> None:
        """Add the batch's prices."""
        for one in batch:
            event = one.event
            if isinstance(event, PriceRecorded):
                row = PriceRow(
                    instrument=one.key,
                    event_time_ns=time_ns(one.event_time),
                    kind=event.kind,
                    source=indexed(event.source),
                    seq=one.seq,
                    price=event.price,
                    currency=event.currency,
                    unit=event.unit,
                    price_date=event.price_date,
                    recorded_time_ns=time_ns(one.recorded_time),
                    changed_offset=one.offset,
                )
                self._rows.insert(self._rows.key_of(row), row)

    def changes(self) -> Sequence[Changed]:
        """Return the new prices."""
        changed = self._rows.changes()
        if not self._fresh:
            self._rows.forget(0)
        return (changed,)

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all prices seen."""
        assert table is PRICES
        return self._rows.by_key.values()


PROJECTION: Final = Projection(
    name="prices",
    version=3,
    topic="prices",
    handles=frozenset((PriceRecorded,)),
    tables=(PRICES,),
    make=PricesFold,
    schema_sql=files("projections.prices").joinpath("schema.sql").read_text(),
)
