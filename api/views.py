"""What the read models show: for each, its columns by name and how a stored row fills them."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from domain.times import from_ns, to_display
from projections.accounts.fold import ACCOUNTS
from projections.cash.tables import CASH
from projections.instruments.fold import INSTRUMENTS
from projections.orders.fold import ORDERS
from projections.positions.tables import DEALS, LOTS, MOVEMENTS
from projections.prices.fold import PRICES
from projections.rows import Table

Kind = Literal["text", "decimal", "time", "integer", "json"]
"""How a column is shown. Times are RFC 3339 text in UTC; JSON is lists and objects."""


class Column(Struct, frozen=True):
    """A column of a view; `read` takes its value out of a stored row.

    `sql` is the same of a row `t` of the table, for whole tables: times as nanoseconds since 1970,
    JSON as text.
    """

    name: str
    kind: Kind
    read: Callable[[Any], Any]
    sql: str


class View(Struct, frozen=True):
    """A table as it is shown."""

    table: Table
    columns: tuple[Column, ...]


class Shown(Struct, frozen=True):
    """The answer to a query: columns by name and kind, and rows in the order of their key."""

    columns: tuple[tuple[str, Kind], ...]
    rows: list[tuple[Any, ...]]


def show(view: View, rows: Sequence[Any]) -> Shown:
    """Return stored rows as they are shown."""
    columns = view.columns
    return Shown(
        tuple((column.name, column.kind) for column in columns),
        [tuple(column.read(row) for column in columns) for row in rows],
    )


def time_text(time_ns: int) -> str:
    """Return nanoseconds since 1970 as RFC 3339 in UTC."""
    return to_display(from_ns(time_ns))


def _text(name: str, attribute: str | None = None) -> Column:
    return Column(
        name, "text", _getter(attribute or name), f"nullif(t.\"{attribute or name}\", '')"
    )


def _decimal(name: str) -> Column:
    return Column(name, "decimal", _getter(name), f't."{name}"')


def _json(name: str) -> Column:
    return Column(name, "json", _getter(name), f't."{name}"::text')


def _texts(name: str) -> Column:
    return Column(name, "json", _getter(name), f'to_json(t."{name}")::text')


def _integer(name: str) -> Column:
    return Column(name, "integer", _getter(name), f't."{name}"')


def _time(name: str) -> Column:
    attribute = f"{name}_ns"
    return Column(name, "time", lambda row: time_text(getattr(row, attribute)), f't."{attribute}"')


def _getter(attribute: str) -> Callable[[Any], Any]:
    def read(row: Any) -> Any:
        value = getattr(row, attribute)
        return None if value == "" else value

    return read


def _detail(name: str, kind: Kind = "text") -> Column:
    arrow = "->>" if kind == "text" else "->"
    told = f"(t.details {arrow} '{name}')::text"
    # Text that reads "null" is text; a JSON null is none.
    told = told if kind == "text" else f"nullif({told}, 'null')"
    return Column(name, kind, lambda row: (row.details or {}).get(name), told)


def _ids(row: Any) -> dict[str, str]:
    return dict(row.ids or {})


def _deal_ids(row: Any) -> dict[str, Any]:
    return dict((row.details or {}).get("ids", {}))


ACCOUNTS_VIEW: Final = View(
    ACCOUNTS,
    (
        *map(
            _text,
            ("account", "base_currency", "portfolio", "method", "fees", "actions", "time_zone"),
        ),
        _text("from", "from_date"),
        _text("status"),
        _texts("flags"),
    ),
)
ORDERS_VIEW: Final = View(
    ORDERS,
    (
        _text("account"),
        _text("order_id"),
        Column("ids", "json", _ids, "coalesce(t.ids, '{}')::text"),
        *map(_text, ("cl_ord_id", "instrument", "side", "order_type", "status")),
        *map(
            _decimal,
            ("quantity", "limit_price", "cum_quantity", "leaves_quantity", "average_price"),
        ),
        _texts("flags"),
        _decimal("stop_price"),
        _text("time_in_force"),
        _time("event_time"),
    ),
)
DEALS_VIEW: Final = View(
    DEALS,
    (
        _text("account"),
        _text("deal_id"),
        Column("ids", "json", _deal_ids, "coalesce(t.details -> 'ids', '{}')::text"),
        *map(_text, ("order_id", "instrument", "side")),
        _decimal("quantity"),
        _decimal("price"),
        _text("currency"),
        _decimal("net"),
        _decimal("fees"),
        _text("status"),
        _time("event_time"),
        _text("trade_date"),
        _text("settlement_date"),
        _time("recorded_time"),
        _texts("flags"),
        _decimal("cost"),
        _text("kind"),
        _decimal("multiplier"),
        *map(_detail, ("venue", "broker", "trader", "strategy")),
        _detail("tags", "json"),
        _detail("versions", "json"),
    ),
)
CASH_VIEW: Final = View(
    CASH,
    (
        *map(_text, ("account", "cash_id", "kind")),
        _decimal("amount"),
        _text("currency"),
        _time("event_time"),
        *map(_text, ("booked_date", "settlement_date", "status", "instrument", "source_kind")),
        _json("relates_to"),
        _texts("flags"),
    ),
)
MOVEMENTS_VIEW: Final = View(
    MOVEMENTS,
    (
        *map(_text, ("account", "movement_id")),
        _integer("leg"),
        *map(_text, ("reason", "instrument", "currency")),
        _decimal("quantity"),
        _json("lots"),
        *map(_text, ("action_id", "status")),
        _time("event_time"),
        _text("trade_date"),
        _texts("flags"),
    ),
)
LOTS_VIEW: Final = View(
    LOTS,
    (
        *map(_text, ("account", "instrument", "currency", "lot_id", "deal_id")),
        _time("opened_at"),
        *map(_decimal, ("quantity", "remaining", "cost")),
    ),
)
INSTRUMENTS_VIEW: Final = View(
    INSTRUMENTS,
    (
        *map(_text, ("instrument", "kind", "currency", "symbol", "mic", "isin", "figi", "conid")),
        _decimal("multiplier"),
        _decimal("price_unit"),
        _text("expiry"),
        _decimal("strike"),
        *map(_text, ("right", "underlying", "time_zone", "sector", "country")),
        _text("from", "from_date"),
        _texts("flags"),
    ),
)
PRICES_VIEW: Final = View(
    PRICES,
    (
        _text("instrument"),
        _time("event_time"),
        _text("kind"),
        _decimal("price"),
        _text("currency"),
        _decimal("unit"),
        _text("price_date"),
        _text("source"),
        _integer("seq"),
    ),
)

BUSINESS_DATES: Final = {"deals": "trade_date", "cash": "booked_date", "movements": "trade_date"}
"""By table, the column of the business date that a date asked for is compared with."""

BALANCE_COLUMNS: Final[tuple[tuple[str, Kind], ...]] = (
    ("account", "text"),
    ("currency", "text"),
    ("balance", "decimal"),
    ("settled", "decimal"),
)


def show_balances(rows: Sequence[Any]) -> Shown:
    """Return rows of balances as they are shown."""
    return Shown(
        BALANCE_COLUMNS, [(row.account, row.currency, row.balance, row.settled) for row in rows]
    )
