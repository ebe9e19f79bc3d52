"""The questions that can be asked of the ledger: each read model, now or in the past."""

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from psycopg import sql

from api import views
from api.front import finish_transfers
from api.marks import NO_END, POSITION_COLUMNS, marked_position, marks
from api.views import Shown, View
from api.wiring import Parts
from domain import money
from domain.errors import InvalidValue
from domain.times import (
    Day,
    Instant,
    end_of_day,
    from_ns,
    is_day,
    local_day,
    parse_day,
    parse_instant,
)
from infra.errors import ServerUnavailable
from infra.postgres import Connection
from projections.cash.tables import CASH_LEGS
from projections.instruments.fold import PORTFOLIOS
from projections.instruments.parents import parents_on
from projections.positions.as_of import PastPosition, positions_of, summed_positions
from projections.positions.lots import Method
from projections.positions.tables import (
    DEALS,
    LOT_METHODS,
    LOTS,
    MOVEMENTS,
    POSITIONS,
    LotRow,
    PositionRow,
)
from projections.prices.fold import PRICES, PriceRow
from projections.rows import Table
from streams.log import LogError
from streams.past import NOW, AsOf
from streams.positions import (
    KnownAt,
    check_reached,
    known_at_instant,
    last_recorded,
    parse_vector,
)

_log = logging.getLogger(__name__)
_DATES: Final = ("trade_date", "booked_date", "business_date", "price_date")
"""Columns of a row that tell its business date."""
_DATE_OR_INSTANT: Final = (
    "a date such as 2024-01-02, or a time with a zone such as 2024-01-02T14:30:00Z,"
    " in the years 1678 to 2261"
)

_BEGINS_DATED: Final = re.compile(r"\s*\d{4}-\d\d-\d\d").match

MarksNow = Callable[[Connection, set[str]], dict[str, PriceRow]]
"""Returns what marks instruments now; may be asked in any thread."""


class Question(Struct, frozen=True):
    """Whose rows are asked for, and of which past. A portfolio has its children's accounts too."""

    account: str | None = None
    portfolio: str | None = None
    instrument: str | None = None
    as_of: AsOf = NOW
    known_at: KnownAt | Instant | None = None
    method: Method | None = None
    open_only: bool = False


class BalanceRow(Struct, frozen=True):
    """Cash of an account in a currency: all by trade date, and what of it has settled."""

    account: str
    currency: str
    balance: Decimal
    settled: Decimal


class Asker:
    """Answers questions from read models that it has brought to the log's head.

    With `is_current` the caller says that somebody brings them there all the time, and answers
    are given from the read models as they are. `marks_now` tells the marks that count now, where
    the caller knows them better than by asking each time.
    """

    def __init__(
        self,
        parts: Parts,
        question: Question,
        *,
        is_current: bool = False,
        marks_now: MarksNow | None = None,
    ) -> None:
        if not is_current:
            _finish_transfers(parts)
            parts.projector.catch_up()
        self._parts = parts
        self._question = question
        self._marks_now = marks_now
        known_at = question.known_at
        if isinstance(known_at, str):
            known_at = known_at_instant(parts.log, known_at)
        elif known_at is not None:
            known_at = check_reached(parts.log, known_at)
        self.known_at: KnownAt | None = known_at
        self.accounts_asked: list[str] | None = self._accounts_asked()
        self._zones: dict[str, dict[str, str]] = {}

    def keep_to(self, accounts: list[str] | None) -> None:
        """Leave out the accounts that are not among these; None leaves out nothing."""
        if accounts is None:
            return
        if self.accounts_asked is not None:
            accounts = sorted(set(accounts).intersection(self.accounts_asked))
        self.accounts_asked = accounts

    # --- rows of read models, in the order of their key ----------------------------------------

    def events_rows(self, view: View) -> list[Any]:
        """Return rows that have no single business date: as of then, they are folded again."""
        return self._of_instrument(self._as_then(view.table, self.accounts_asked))

    def dated_rows(self, view: View) -> list[Any]:
        """Return rows that have a business date, those that had happened."""
        return self._of_instrument(self._dated_rows(view.table, self.accounts_asked))

    def instrument_rows(self) -> list[Any]:
        """Return rows of instruments."""
        names = None if self._question.instrument is None else [self._question.instrument]
        return self._as_then(views.INSTRUMENTS_VIEW.table, names)

    def price_rows(self) -> list[PriceRow]:
        """Return rows of prices."""
        return self._prices(self._question.instrument)

    def balance_rows(self) -> list[BalanceRow]:
        """Return sums of cash by account and currency."""
        day = self._day_asked()
        totals: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [money.ZERO, money.ZERO])
        for account, currency, settles, amount in self._cash_amounts():
            total = totals[account, currency]
            total[0] = money.EXACT.add(total[0], amount)
            if not settles or settles <= day:
                total[1] = money.EXACT.add(total[1], amount)
        return [BalanceRow(*key, *totals[key]) for key in sorted(totals)]

    def lot_rows(self) -> list[LotRow]:
        """Return rows of lots."""
        lots = self._of_instrument(self._lots())
        return [lot for lot in lots if lot.remaining or not self._question.open_only]

    def position_rows(self) -> list[Any]:
        """Return rows of positions."""
        positions = self._of_instrument(self._positions())
        return [row for row in positions if row.quantity or not self._question.open_only]

    def show_positions(self, rows: Sequence[Any]) -> Shown:
        """Return rows of positions as they are shown, with their marks."""
        found = self._marks({row.instrument for row in rows})
        shown = [marked_position(row, found.get(row.instrument)) for row in rows]
        return Shown(POSITION_COLUMNS, shown)

    def _day_asked(self) -> str:
        """Return the date that settles cash, and on which portfolios lie below one another.

        For a vector it is the same whenever it is asked.
        """
        if self._question.as_of.day is not None:
            return self._question.as_of.day
        if self._question.as_of.instant is not None:
            return self._question.as_of.instant[:10]
        if self.known_at is not None:
            return (last_recorded(self._parts.log, self.known_at) or "")[:10]
        return datetime.now(UTC).date().isoformat()

    # --- what is read for them -----------------------------------------------------------------

    def _accounts_asked(self) -> list[str] | None:
        """Return the accounts that the question is about, None for all."""
        question = self._question
        if question.portfolio is None:
            return None if question.account is None else [question.account]
        members = self._members(question.portfolio)
        rows = self._as_then(views.ACCOUNTS_VIEW.table, None)
        found = [row.account for row in rows if row.portfolio in members]
        if question.account is not None:
            found = [account for account in found if account == question.account]
        return found

    def _members(self, portfolio: str) -> set[str]:
        """Return a portfolio and all below it."""
        parents = parents_on(self._as_then(PORTFOLIOS, None), self._day_asked())
        members = {portfolio}
        while more := {name for name, parent in parents.items() if parent in members} - members:
            members |= more
        return members

    def _as_then(self, table: Table, streams: list[str] | None) -> list[Any]:
        """Return rows as the events that had happened make them."""
        as_of = self._question.as_of
        return self._parts.past.rows(table, streams, self.known_at, as_of, refold=as_of is not NOW)

    def _dated_rows(self, table: Table, accounts: list[str] | None) -> list[Any]:
        """Return rows that had happened, as they are known."""
        rows = self._parts.past.rows(table, accounts, self.known_at)
        return self._happened(rows)

    def _happened(self, rows: list[Any]) -> list[Any]:
        as_of = self._question.as_of
        if as_of is NOW:
            return rows
        if (ns := as_of.ns) is not None:  # a date can take the zones of all accounts to tell
            return [row for row in rows if row.event_time_ns <= ns]
        return [row for row in rows if as_of.includes(row.event_time_ns, self.day_of(row))]

    def day_of(self, row: Any) -> str:
        """Return a row's business date: as told, else that of its time in its owner's zone."""
        told = (getattr(row, name, None) for name in _DATES)
        return next(filter(None, told), None) or self._local_day(row)

    def _local_day(self, row: Any) -> Day:
        view = views.INSTRUMENTS_VIEW if isinstance(row, PriceRow) else views.ACCOUNTS_VIEW
        table = view.table
        if table.name not in self._zones:
            self._zones[table.name] = self._zones_of(table, self._owners_asked(table))
        zones = self._zones[table.name]
        return local_day(from_ns(row.event_time_ns), zones.get(getattr(row, table.key[0]), "UTC"))

    def zones_set(self, table: Table) -> list[str]:
        """Return the time zones that are set for accounts or instruments now, UTC first."""
        names = self._owners_asked(table)
        query = sql.SQL(
            "SELECT DISTINCT time_zone FROM {} WHERE time_zone <> 'UTC'"
            " AND (%s::text[] IS NULL OR {} = ANY(%s))"
        ).format(sql.Identifier(table.name), sql.Identifier(table.key[0]))
        rows = self._parts.models.connection.execute(query, (names, names)).fetchall()
        return ["UTC", *sorted(name for (name,) in rows)]

    def _owners_asked(self, table: Table) -> list[str] | None:
        """Return the accounts or instruments that the question is about, None for all."""
        if table is views.ACCOUNTS_VIEW.table:
            return self.accounts_asked
        return None if self._question.instrument is None else [self._question.instrument]

    def _zones_of(self, table: Table, names: list[str] | None) -> dict[str, str]:
        """Return the time zones that are set for accounts or instruments, None for all."""
        rows = self._parts.past.rows(table, names, self.known_at)
        return {getattr(row, table.key[0]): row.time_zone or "UTC" for row in rows}

    def _of_instrument(self, rows: list[Any]) -> list[Any]:
        wanted = self._question.instrument
        if wanted is None:
            return rows
        return [row for row in rows if getattr(row, "instrument", wanted) == wanted]

    def _cash_amounts(self) -> Iterable[tuple[str, str, str | None, Decimal]]:
        """Yield account, currency, settlement date and amount of all cash that counts."""
        question = self._question
        if question.as_of is NOW and self.known_at is None:
            yield from self._balance_days()
            return
        for leg in self._dated_rows(CASH_LEGS, self.accounts_asked):
            yield leg.account, leg.currency, leg.settlement_date, leg.amount

    def _balance_days(self) -> Iterable[tuple[str, str, str | None, Decimal]]:
        """Return the sums of cash by the day that they settle."""
        accounts = self.accounts_asked
        condition = "" if accounts is None else " WHERE account = ANY(%s)"
        query = f"SELECT account, currency, settlement_date, amount FROM balance_days{condition}"
        values = () if accounts is None else (accounts,)
        return self._parts.models.connection.execute(query.encode(), values).fetchall()

    def _is_stored(self) -> bool:
        """Tell whether positions and lots are asked for as they are stored."""
        question = self._question
        return question.as_of is NOW and self.known_at is None and question.method is None

    def _positions(self) -> list[Any]:
        """Return positions: as stored, summed up, or folded again from the deals that count."""
        past = self._parts.past
        if self._is_stored():
            return past.rows(POSITIONS, self.accounts_asked)
        if self.known_at is not None:
            return self._folded(self.accounts_asked)[0]
        moved = past.accounts_with_movements(self.accounts_asked)
        happened, values = self._happened_deals()
        rows, unfit = summed_positions(
            self._parts.models.connection,
            sql.SQL("{} AND account <> ALL(%s)").format(happened),
            [*values, moved],
            self._question.method,
        )
        again = sorted(unfit.union(moved))
        if not again:
            return rows
        return sorted([*rows, *self._folded(again)[0]], key=_position_key)

    def _happened_deals(self) -> tuple[sql.Composable, list[Any]]:
        """Return the condition on deals that had happened in the accounts asked for."""
        as_of, conditions, values = self._question.as_of, [], []
        accounts = self.accounts_asked
        only = accounts[0] if accounts is not None and len(accounts) == 1 else None
        for condition, value in (
            # The server plans for one account once, and for a list of them each time.
            ("account = %s", only),
            ("account = ANY(%s)", accounts if only is None else None),
            ("instrument = %s", self._question.instrument),
            ("event_time_ns <= %s", as_of.ns),
            ("trade_date <= %s", as_of.day),
        ):
            if value is not None:
                conditions.append(sql.SQL(condition))
                values.append(value)
        return sql.SQL(" AND ").join([sql.SQL("true"), *conditions]), values

    def _lots(self) -> list[LotRow]:
        """Return lots: as stored, or folded again from the deals that count."""
        if self._is_stored():
            return self._parts.past.rows(LOTS, self.accounts_asked)
        return self._folded(self.accounts_asked)[1]

    def _folded(self, accounts: list[str] | None) -> tuple[list[PositionRow], list[LotRow]]:
        """Return positions and lots folded again from the deals and movements that count."""
        deals = self._dated_rows(DEALS, accounts)
        movements = self._dated_rows(MOVEMENTS, accounts)
        methods = {
            row.account: Method(row.method)
            for row in self._parts.past.rows(LOT_METHODS, accounts, self.known_at)
        }
        return positions_of(deals, movements, methods, self._question.method)

    # --- prices --------------------------------------------------------------------------------

    def _prices(self, instrument: str | None) -> list[PriceRow]:
        names = None if instrument is None else [instrument]
        rows = self._parts.past.rows(PRICES, names, self.known_at)
        return self._happened(rows)

    def _marks(self, instruments: set[str]) -> dict[str, PriceRow]:
        """Return the price that marks each instrument: the latest close, last or mid by then."""
        if not instruments:
            return {}
        connection = self._parts.models.connection
        if self._marks_now is not None and self.known_at is None and self._question.as_of is NOW:
            return self._marks_now(connection, instruments)
        names = sorted(instruments)
        if self.known_at is None:
            ends = [NO_END] * len(names)
        else:
            ends = self._parts.past.ends_of("prices", names, self.known_at)
        as_of = self._question.as_of
        zones = {} if as_of.day is None else self._zones_of(views.INSTRUMENTS_VIEW.table, names)
        return marks(connection, names, ends, as_of, zones)


def _finish_transfers(parts: Parts) -> None:
    """Carry transfers to their end that can be: where nobody decides, questions are answered."""
    try:
        finish_transfers(parts)
    except (ServerUnavailable, LogError) as error:
        _log.warning("transfers are left on their way: %s", error)


def _position_key(row: PositionRow | PastPosition) -> tuple[str, str, str]:
    return row.account, row.instrument, row.currency


def as_of_from(text: str | None) -> AsOf:
    """Return the time that `as_of` asks for: a date, or an instant; raises InvalidValue."""
    if text is None:
        return NOW
    if is_day(text):
        return AsOf(day=Day(parse_day(text, "as_of")))
    try:
        return AsOf(instant=parse_instant(text, "as_of"))
    except InvalidValue:
        raise InvalidValue("as_of", text, _DATE_OR_INSTANT) from None


def known_at_from(text: str | None) -> KnownAt | Instant | None:
    """Return what `known_at` asks for: an instant, a date's end, or a vector of positions.

    Raises InvalidValue.
    """
    if text is None:
        return None
    if is_day(text):
        return end_of_day(parse_day(text, "known_at"), "UTC")
    is_time = _BEGINS_DATED(text) or "T" in text.upper().replace("EVENTS/", "")
    if not is_time:
        return parse_vector(text)
    try:
        return parse_instant(text, "known_at")
    except InvalidValue:
        expected = f"{_DATE_OR_INSTANT}, or positions such as 0:12,3:55"
        raise InvalidValue("known_at", text, expected) from None


def method_from(text: str | None) -> Method | None:
    """Return a lot method by its name; raises InvalidValue."""
    if text is None:
        return None
    try:
        return Method(text)
    except ValueError:
        raise InvalidValue("method", text, "one of " + ", ".join(Method)) from None
