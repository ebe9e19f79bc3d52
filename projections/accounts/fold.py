"""Fold accounts from their own events."""

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any, Final

from msgspec import Struct

from domain.accounts import evolve_account
from domain.decisions import Stamped
from domain.entities import Account
from domain.events import AccountChanged, AccountClosed, AccountOpened
from domain.times import Day
from projections.rows import Changed, Projection, Rows, Table, Wanted


class AccountRow(Struct, frozen=True):
    """An account as it is now; `status` is open or closed."""

    account: str
    base_currency: str
    portfolio: str | None
    method: Any
    fees: Any
    actions: Any
    time_zone: str
    from_date: str | None
    status: str
    flags: list[str]
    changed_offset: int


ACCOUNTS: Final = Table("accounts", AccountRow, ("account",))
_HANDLES: Final = (AccountOpened, AccountChanged, AccountClosed)


class AccountsFold:
    """Fold AccountOpened, AccountChanged and AccountClosed to one row an account."""

    def __init__(self, *, fresh: bool) -> None:
        self._fresh = fresh
        self._rows = Rows(ACCOUNTS)

    def wants(self, batch: Sequence[Stamped]) -> Sequence[Wanted]:
        """Want the rows of the accounts that the batch changes."""
        if self._fresh:
            return ()
        keys = self._rows.unseen((one.key,) for one in batch if isinstance(one.event, _HANDLES))
        return (Wanted(ACCOUNTS, ("account",), keys),) if keys else ()

    def give(self, wanted: Wanted, rows: Iterable[tuple[Any, ...]]) -> None:
        """Take stored rows."""
        self._rows.give(wanted, rows)

    def apply(self, batch: Sequence[Stamped]) -> None:
        """Fold the batch's account events."""
        for one in batch:
            if isinstance(one.event, _HANDLES):
                account_id = one.key
                self._rows.put((account_id,), _after(self._rows.get(account_id), one))

    def changes(self) -> Sequence[Changed]:
        """Return the changed accounts."""
        return (self._rows.changes(),)

    def rows(self, table: Table) -> Iterable[Any]:
        """Return all accounts seen."""
        assert table is ACCOUNTS
        return self._rows.by_key.values()


def _after(row: AccountRow | None, one: Stamped) -> AccountRow:
    account = evolve_account(_entity(row), one)
    settings = account.settings
    return AccountRow(
        account=one.key,
        base_currency=settings.base_currency,
        portfolio=settings.portfolio,
        method=settings.method,
        fees=settings.fees,
        actions=settings.actions,
        time_zone=settings.time_zone,
        from_date=settings.from_date,
        status="closed" if account.closed else "open",
        flags=["assumed"] if account.assumed else [],
        changed_offset=one.offset,
    )


def _entity(row: AccountRow | None) -> Account | None:
    if row is None:
        return None
    settings = AccountOpened(
        base_currency=row.base_currency,
        portfolio=row.portfolio,
        method=row.method,
        fees=row.fees,
        actions=row.actions,
        time_zone=row.time_zone,
        from_date=None if row.from_date is None else Day(row.from_date),
    )
    return Account(
        settings=settings,
        offset=row.changed_offset,
        seq=0,
        assumed="assumed" in row.flags,
        closed=row.status == "closed",
    )


PROJECTION: Final = Projection(
    name="accounts",
    version=1,
    topic="events",
    handles=frozenset(_HANDLES),
    tables=(ACCOUNTS,),
    make=AccountsFold,
    schema_sql=files("projections.accounts").joinpath("schema.sql").read_text(),
)
