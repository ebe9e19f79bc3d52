"""The questions that can be asked of the ledger: each read model, now or in the past."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from msgspec import Struct
from psycopg import sql

from api import views
from api.front import finish_transfers
from api.views import Shown, View, show
from api.wiring import Parts
from domain import money
from domain.errors import InvalidValue
from domain.times import Day, Instant, end_of_day, is_day, parse_day, parse_instant
from projections.cash.tables import BALANCE_DAYS, CASH_LEGS
from projections.instruments.fold import PORTFOLIOS
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
from streams.past import NOW, AsOf
from streams.positions import (
    KnownAt,
    check_reached,
    known_at_instant,
    last_recorded,
    parse_vector,
)

_MARKS: Final = ("close", "last", "mid")


class Question(Struct, frozen=True):
    """Whose rows are asked for, and of which past. A portfolio has its children's accounts too."""

    account: str | None = None
    portfolio: str | None = None
    instrument: str | None = None
    as_of: AsOf = NOW
    known_at: KnownAt | Instant | None = None
    method: Method | None = None
    open_only: bool = False


class Asker:
    """Answers questions from read models that have been brought to the log's head."""

    def __init__(self, parts: Parts, question: Question) -> None:
        finish_transfers(parts)
        parts.projector.catch_up()
        self._parts = parts
        self._question = question
        known_at = question.known_at
        if isinstance(known_at, str):
            known_at = known_at_instant(parts.log, known_at)
        elif known_at is not None:
            known_at = check_reached(parts.log, known_at)
        self.known_at: KnownAt | None = known_at
        self._accounts = self._accounts_asked()

    # --- the read models -----------------------------------------------------------------------

    def accounts(self) -> Shown:
        """Return the accounts and their settings."""
        return self._events_view(views.ACCOUNTS_VIEW)

    def orders(self) -> Shown:
        """Return the orders."""
        return self._events_view(views.ORDERS_VIEW)

    def deals(self) -> Shown:
        """Return the deals, one row for each chain of corrections."""
        return self._dated_view(views.DEALS_VIEW, "trade_date")

    def cash(self) -> Shown:
        """Return the movements of cash that are no deals."""
        return self._dated_view(views.CASH_VIEW, "booked_date")

    def movements(self) -> Shown:
        """Return the legs of movements of units."""
        return self._dated_view(views.MOVEMENTS_VIEW, "trade_date")

    def instruments(self) -> Shown:
        """Return the instruments as defined last."""
        names = None if self._question.instrument is None else [self._question.instrument]
        return show(views.INSTRUMENTS_VIEW, self._as_then(views.INSTRUMENTS_VIEW.table, names))

    def prices(self) -> Shown:
        """Return the prices, revisions in the order they came."""
        return show(views.PRICES_VIEW, self._prices(self._question.instrument))

    def balances(self) -> Shown:
        """Return cash by account and currency: `balance` by trade date, `settled` beside it."""
        question = self._question
        day = question.as_of.day or self._today()
        totals: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [money.ZERO, money.ZERO])
        for account, currency, settles, amount in self._cash_amounts():
            total = totals[account, currency]
            total[0] = money.EXACT.add(total[0], amount)
            if not settles or settles <= day:
                total[1] = money.EXACT.add(total[1], amount)
        columns: tuple[tuple[str, views.Kind], ...] = (
            ("account", "text"),
            ("currency", "text"),
            ("balance", "decimal"),
            ("settled", "decimal"),
        )
        return Shown(columns, [(*key, *totals[key]) for key in sorted(totals)])

    def lots(self) -> Shown:
        """Return the lots that positions are made of, closed ones too unless only open ones."""
        lots = self._of_instrument(self._lots())
        rows = [lot for lot in lots if lot.remaining or not self._question.open_only]
        return show(views.LOTS_VIEW, rows)

    def positions(self) -> Shown:
        """Return positions with the mark of the time asked for, and what it makes of them."""
        positions = self._of_instrument(self._positions())
        rows = [row for row in positions if row.quantity or not self._question.open_only]
        marks = self._marks({row.instrument for row in rows})
        return Shown(_POSITION_COLUMNS, [_marked(row, marks.get(row.instrument)) for row in rows])

    def _today(self) -> str:
        """Return the date that settles cash; for a vector it is the same whenever it is asked."""
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
        rows = self._as_then(PORTFOLIOS, None)
        parents = {row.portfolio: row.parent for row in rows}
        members = {portfolio}
        while more := {name for name, parent in parents.items() if parent in members} - members:
            members |= more
        return members

    def _events_view(self, view: View) -> Shown:
        """Show a view whose rows have no single business date: as of then, it is folded again."""
        return show(view, self._of_instrument(self._as_then(view.table, self._accounts)))

    def _as_then(self, table: Table, streams: list[str] | None) -> list[Any]:
        """Return rows as the events that had happened make them."""
        as_of = self._question.as_of
        return self._parts.past.rows(table, streams, self.known_at, as_of, refold=as_of is not NOW)

    def _dated_view(self, view: View, date_column: str) -> Shown:
        rows = self._dated_rows(view.table, date_column, self._accounts)
        return show(view, self._of_instrument(rows))

    def _dated_rows(self, table: Table, date_column: str, accounts: list[str] | None) -> list[Any]:
        """Return rows that had happened, as they are known."""
        rows = self._parts.past.rows(table, accounts, self.known_at)
        return _happened(rows, self._question.as_of, date_column)

    def _of_instrument(self, rows: list[Any]) -> list[Any]:
        wanted = self._question.instrument
        if wanted is None:
            return rows
        return [row for row in rows if getattr(row, "instrument", wanted) == wanted]

    def _cash_amounts(self) -> Iterable[tuple[str, str, str | None, Decimal]]:
        """Yield account, currency, settlement date and amount of all cash that counts."""
        question = self._question
        if question.as_of is NOW and self.known_at is None:
            for row in self._parts.past.rows(BALANCE_DAYS, self._accounts):
                yield row.account, row.currency, row.settlement_date, row.amount
            return
        for leg in self._dated_rows(CASH_LEGS, "business_date", self._accounts):
            yield leg.account, leg.currency, leg.settlement_date, leg.amount

    def _is_stored(self) -> bool:
        """Tell whether positions and lots are asked for as they are stored."""
        question = self._question
        return question.as_of is NOW and self.known_at is None and question.method is None

    def _positions(self) -> list[Any]:
        """Return positions: as stored, summed up, or folded again from the deals that count."""
        past = self._parts.past
        if self._is_stored():
            return past.rows(POSITIONS, self._accounts)
        if self.known_at is not None:
            return self._folded(self._accounts)[0]
        moved = past.accounts_with_movements(self._accounts)
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
        for condition, value in (
            ("account = ANY(%s)", self._accounts),
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
            return self._parts.past.rows(LOTS, self._accounts)
        return self._folded(self._accounts)[1]

    def _folded(self, accounts: list[str] | None) -> tuple[list[PositionRow], list[LotRow]]:
        """Return positions and lots folded again from the deals and movements that count."""
        deals = self._dated_rows(DEALS, "trade_date", accounts)
        movements = self._dated_rows(MOVEMENTS, "trade_date", accounts)
        methods = {
            row.account: Method(row.method)
            for row in self._parts.past.rows(LOT_METHODS, accounts, self.known_at)
        }
        return positions_of(deals, movements, methods, self._question.method)

    # --- prices --------------------------------------------------------------------------------

    def _prices(self, instrument: str | None) -> list[PriceRow]:
        names = None if instrument is None else [instrument]
        rows = self._parts.past.rows(PRICES, names, self.known_at)
        return _happened(rows, self._question.as_of, "price_date")

    def _marks(self, instruments: set[str]) -> dict[str, PriceRow]:
        """Return the price that marks each instrument: the latest close, last or mid by then."""
        if not instruments:
            return {}
        condition, values = self._price_condition()
        names = sorted(instruments)
        ends = self._parts.past.ends_of("prices", names, self.known_at)
        query = sql.SQL(
            "SELECT price.* FROM unnest(%s::text[], %s::bigint[]) AS asked (instrument, known_end)"
            " CROSS JOIN LATERAL (SELECT {columns} FROM prices AS t"
            " WHERE t.instrument = asked.instrument AND t.changed_offset < asked.known_end"
            " AND t.kind = ANY(%s){condition}"
            " ORDER BY t.event_time_ns DESC, t.seq DESC LIMIT 1) AS price"
        ).format(
            columns=sql.SQL(", ").join(sql.Identifier("t", name) for name in PRICES.columns),
            condition=condition,
        )
        rows = self._parts.models.connection.execute(
            query, (names, ends, list(_MARKS), *values)
        ).fetchall()
        return {row[0]: PriceRow(*row) for row in rows}

    def _price_condition(self) -> tuple[sql.SQL, list[Any]]:
        as_of = self._question.as_of
        if as_of.ns is not None:
            return sql.SQL(" AND t.event_time_ns <= %s"), [as_of.ns]
        if as_of.day is not None:
            date = "to_char(to_timestamp(t.event_time_ns / 1000000000), 'YYYY-MM-DD')"
            return sql.SQL(f" AND coalesce(t.price_date, {date}) <= %s"), [as_of.day]
        return sql.SQL(""), []


def _happened(rows: list[Any], as_of: AsOf, date_column: str) -> list[Any]:
    if as_of is NOW:
        return rows
    return [
        row for row in rows if as_of.includes(row.event_time_ns, _business_date(row, date_column))
    ]


def _business_date(row: Any, date_column: str) -> str:
    told = getattr(row, date_column)
    return told or views.time_text(row.event_time_ns)[:10]


_POSITION_COLUMNS: Final[tuple[tuple[str, views.Kind], ...]] = (
    ("account", "text"),
    ("instrument", "text"),
    ("currency", "text"),
    ("quantity", "decimal"),
    ("cost_basis", "decimal"),
    ("average_cost", "decimal"),
    ("realised_pnl", "decimal"),
    ("fees", "decimal"),
    ("mark", "decimal"),
    ("market_value", "decimal"),
    ("unrealised_pnl", "decimal"),
    ("mark_time", "time"),
    ("flags", "json"),
)


def _position_key(row: PositionRow | PastPosition) -> tuple[str, str, str]:
    return row.account, row.instrument, row.currency


def _marked(row: PositionRow | PastPosition, price: PriceRow | None) -> tuple[Any, ...]:
    mark, value, unrealised, time = None, None, None, None
    if price is not None and price.currency == row.currency:
        in_currency = price.unit != 1
        mark = money.multiply(price.price, price.unit) if in_currency else price.price
        unit = money.ZERO + 1 if in_currency else row.price_unit
        value = money.multiply(row.quantity, mark, row.multiplier, unit)
        unrealised = money.EXACT.subtract(value, row.cost_basis)
        time = views.time_text(price.event_time_ns)
    return (
        row.account,
        row.instrument,
        row.currency,
        row.quantity,
        row.cost_basis,
        row.average_cost,
        row.realised_pnl,
        row.fees,
        mark,
        value,
        unrealised,
        time,
        row.flags,
    )


QUESTIONS: Final[dict[str, Callable[[Asker], Shown]]] = {
    "accounts": Asker.accounts,
    "orders": Asker.orders,
    "deals": Asker.deals,
    "cash": Asker.cash,
    "movements": Asker.movements,
    "balances": Asker.balances,
    "positions": Asker.positions,
    "lots": Asker.lots,
    "instruments": Asker.instruments,
    "prices": Asker.prices,
}


def as_of_from(text: str | None) -> AsOf:
    """Return the time that `as_of` asks for: a date, or an instant; raises InvalidValue."""
    if text is None:
        return NOW
    if is_day(text):
        return AsOf(day=Day(parse_day(text, "as_of")))
    return AsOf(instant=parse_instant(text, "as_of"))


def known_at_from(text: str | None) -> KnownAt | Instant | None:
    """Return what `known_at` asks for: an instant, a date's end, or a vector of positions.

    Raises InvalidValue.
    """
    if text is None:
        return None
    if is_day(text):
        return end_of_day(parse_day(text, "known_at"), "UTC")
    if "T" in text or "t" in text:
        return parse_instant(text, "known_at")
    return parse_vector(text)


def method_from(text: str | None) -> Method | None:
    """Return a lot method by its name; raises InvalidValue."""
    if text is None:
        return None
    try:
        return Method(text)
    except ValueError:
        raise InvalidValue("method", text, "one of " + ", ".join(Method)) from None
