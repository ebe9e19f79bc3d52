"""The views for SQL, column by column: what each is, and where it comes from."""

from typing import Final

from msgspec import Struct

_DAY_NS: Final = 86_400_000_000_000


class SqlColumn(Struct, frozen=True):
    """A column; `source` is an expression over the view's tables."""

    name: str
    comment: str
    source: str


class SqlView(Struct, frozen=True):
    """A view over `tables`; in `rows` and in sources, a table stands in braces."""

    name: str
    comment: str
    tables: tuple[str, ...]
    rows: str
    columns: tuple[SqlColumn, ...]

    def query(self) -> str:
        """Return the SELECT that the view is, with its tables in braces."""
        listed = ", ".join(f'{one.source} AS "{one.name}"' for one in self.columns)
        return f"SELECT {listed} {self.rows}"


def _key(name: str, comment: str) -> SqlColumn:
    """Return a column as it is stored, so that an index finds it."""
    return SqlColumn(name, comment, f't."{name}"')


_number = _key


def _text(name: str, comment: str, source: str | None = None) -> SqlColumn:
    return SqlColumn(name, comment, f"""nullif(t."{source or name}", '')""")


def _time(name: str, comment: str) -> tuple[SqlColumn, SqlColumn]:
    source = f't."{name}_ns"'
    return (
        SqlColumn(name, f"{comment} To the microsecond below.", microseconds(source)),
        SqlColumn(f"{name}_ns", f"{comment} Nanoseconds since 1970, exact.", source),
    )


def microseconds(source: str) -> str:
    """Return the expression of a time in nanoseconds as timestamptz, cut below microseconds."""
    return (
        f"(timestamptz 'epoch' + ({source} - mod(mod({source}, 1000) + 1000, 1000)) / 1000"
        " * interval '1 microsecond')"
    )


_FLAGS: Final = _number("flags", "What a person should know or look at: see the list of flags.")

ACCOUNTS: Final = SqlView(
    "accounts",
    "Accounts and the settings that hold.",
    ("accounts",),
    "FROM {accounts} t",
    (
        _key("account", "The account."),
        _text("base_currency", "Currency it is reported in."),
        _text("portfolio", "Portfolio it belongs to."),
        _text("method", "How lots are taken: fifo, lifo, hifo, average or specific."),
        _text("fees", "expensed, or capitalised into cost."),
        _text("actions", "Corporate actions: derived from announcements, or booked."),
        _text("time_zone", "Zone in which its days end."),
        _text("from", "Date from which the settings hold.", "from_date"),
        _text("status", "open or closed."),
        _FLAGS,
    ),
)

ORDERS: Final = SqlView(
    "orders",
    "Orders as they stand, one row each.",
    ("orders",),
    "FROM {orders} t",
    (
        _key("account", "The account."),
        _key("order_id", "The order; never changes."),
        SqlColumn(
            "ids", "All ids told: ClOrdID, ClOrdID.2, OrderID ...", "coalesce(t.ids, '{{}}'::jsonb)"
        ),
        _text("cl_ord_id", "The last ClOrdID that the venue accepted."),
        _text("instrument", "What is traded."),
        _text("side", "buy or sell, or FIX 4.4's other sides."),
        _text("order_type", "market, limit, stop ..."),
        _text("status", "FIX 4.4's OrdStatus in snake case."),
        _number("quantity", "As placed or replaced last; null while nobody told it."),
        _number("limit_price", "The limit."),
        _number("cum_quantity", "What is filled, after every bust and correction."),
        _number("leaves_quantity", "What may still be filled."),
        _number("average_price", "Of the fills; ten decimals, half-even; for display."),
        _FLAGS,
        _number("stop_price", "The stop."),
        _text("time_in_force", "day, good_till_cancel ..."),
        *_time("event_time", "When its last event happened."),
    ),
)


def _detail(name: str, comment: str) -> SqlColumn:
    return SqlColumn(name, comment, f"t.details ->> '{name}'")


DEALS: Final = SqlView(
    "deals",
    "Deals (executions), one row for each chain of corrections.",
    ("deals",),
    "FROM {deals} t",
    (
        _key("account", "The account."),
        _key("deal_id", "The deal: the id of its chain's first."),
        SqlColumn("ids", "All ids told.", "coalesce(t.details -> 'ids', '{{}}'::jsonb)"),
        _text("order_id", "The order it fills, if any."),
        _key("instrument", "What was traded."),
        _text("side", "buy or sell."),
        _number("quantity", "Units, above 0."),
        _number("price", "Null where only an amount was told."),
        _text("currency", "Of price and cost."),
        _number("net", "Cash of the deal in that currency; into the account positive."),
        _number("fees", "In that currency; positive for a cost."),
        _text("status", "effective, corrected (and effective) or busted."),
        *_time("event_time", "When it was done."),
        _text("trade_date", "Business date."),
        _text("settlement_date", "Date on which it settles."),
        *_time("recorded_time", "When the ledger recorded it."),
        _FLAGS,
        _number("cost", "Gross amount; negative for a negative price alone."),
        _text("kind", "Kind of instrument that it was booked with."),
        _number("multiplier", "Multiplier that it was booked with."),
        _detail("venue", "Where it was done."),
        _detail("broker", "By whom."),
        _detail("trader", "For whom at the desk."),
        _detail("strategy", "Strategy told."),
        SqlColumn("tags", "Tags told, as JSON.", "t.details -> 'tags'"),
        SqlColumn(
            "versions", "Ids of its corrections, in order, as JSON.", "t.details -> 'versions'"
        ),
    ),
)

CASH: Final = SqlView(
    "cash",
    "Cash that moved without a deal.",
    ("cash",),
    "FROM {cash} t",
    (
        _key("account", "The account."),
        _key("cash_id", "The movement's id."),
        _text("kind", "dividend, withholding, deposit ..."),
        _number("amount", "Into the account positive."),
        _text("currency", "Of the amount."),
        *_time("event_time", "When it moved."),
        _text("booked_date", "Business date: the balance changes then."),
        _text("settlement_date", "Date on which it settles."),
        _text("status", "effective or reversed."),
        _text("instrument", "What it was paid for."),
        _text("source_kind", "The kind as its source told it."),
        _number("relates_to", "Date, deal or corporate action it belongs to, as JSON."),
        _FLAGS,
    ),
)

MOVEMENTS: Final = SqlView(
    "movements",
    "Units and cash that moved without a trade, one row a leg.",
    ("movements",),
    "FROM {movements} t",
    (
        _key("account", "The account."),
        _key("movement_id", "The movement's id; a transfer's are transfer/ID/sent and so on."),
        _number("leg", "Number of the leg, from 0."),
        _text("reason", "opening, transfer, corporate_action ..."),
        _text("instrument", "Null for a leg of cash."),
        _text("currency", "Of cost, or of the cash."),
        _number("quantity", "Into the account positive; an amount for a leg of cash."),
        _number("lots", "Of each lot told: id, quantity, opened at, cost; as JSON."),
        _text("action_id", "Corporate action it belongs to."),
        _text("status", "effective or reversed."),
        *_time("event_time", "When it moved."),
        _text("trade_date", "Business date."),
        _FLAGS,
    ),
)

LOTS: Final = SqlView(
    "lots",
    "Lots that positions are made of; closed ones stay, with nothing remaining.",
    ("lots",),
    "FROM {lots} t",
    (
        _key("account", "The account."),
        _key("instrument", "The instrument."),
        _key("currency", "Currency of cost."),
        _key("lot_id", "The deal's id, or the name that a movement told."),
        _text("deal_id", "The deal that first opened the units, where it is known."),
        *_time("opened_at", "When it was opened; kept when it moves to another account."),
        _number("quantity", "What was opened; signed like the position."),
        _number("remaining", "What is left of it."),
        _number("cost", "The whole cost of what is left."),
    ),
)

INSTRUMENTS: Final = SqlView(
    "instruments",
    "Instruments as defined last.",
    ("instruments",),
    "FROM {instruments} t",
    (
        _key("instrument", "The ledger's name of it; permanent."),
        _text("kind", "equity, etf, fund, bond, future, option, fx, crypto or index."),
        _text("currency", "Currency it is priced in."),
        _text("symbol", "Ticker."),
        _text("mic", "Market, ISO 10383."),
        _text("isin", "ISO 6166."),
        _text("figi", "OpenFIGI's identifier."),
        _text("conid", "Interactive Brokers' number."),
        _number("multiplier", "Gross is price x quantity x multiplier x price unit."),
        _number("price_unit", "What a price counts: 0.01 for pence and percent."),
        _text("expiry", "Last day of a derivative."),
        _number("strike", "Strike of an option."),
        _text("right", "call or put."),
        _text("underlying", "Instrument it derives from."),
        _text("time_zone", "Zone in which its days end."),
        _text("sector", "Sector told."),
        _text("country", "Country told."),
        _text("from", "Date from which the definition holds.", "from_date"),
        _FLAGS,
    ),
)

PRICES: Final = SqlView(
    "prices",
    "Prices as told; of rows equal but for seq the last one holds.",
    ("prices",),
    "FROM {prices} t",
    (
        _key("instrument", "The instrument; an exchange rate is EUR/USD."),
        *_time("event_time", "When it was the price."),
        _key("kind", "close, mid, last, bid or ask."),
        _number("price", "Price x unit is in currency."),
        _text("currency", "Of the price."),
        _number("unit", "What the price counts: 0.01 for pence and percent."),
        _text("price_date", "Business date, where one was told."),
        _text("source", "Who told it."),
        _number("seq", "Its number in the instrument's stream: a later one is a revision."),
    ),
)

PRICES_BY_DAY: Final = SqlView(
    "prices_by_day",
    "The last price of each day in UTC. A TimescaleDB keeps it summed up; there, a price told late"
    " for a day that is past shows within a minute.",
    ("price_days",),
    "FROM {price_days} t",
    (
        _key("instrument", "The instrument."),
        SqlColumn("day", "Day in UTC.", f"(date '1970-01-01' + (t.day_ns / {_DAY_NS})::integer)"),
        _key("kind", "close, mid, last, bid or ask."),
        _text("source", "Who told it."),
        _text("currency", "Of the price."),
        _number("unit", "What the price counts."),
        _number("price", "The last of the day, revisions applied."),
        *_time("event_time", "When it was the price."),
        _number("prices", "How many were told for the day, revisions among them."),
    ),
)

BALANCES: Final = SqlView(
    "balances",
    "Cash by account and currency, from the legs of all facts that count.",
    ("balance_days",),
    "FROM {balance_days} t GROUP BY t.account, t.currency",
    (
        _key("account", "The account."),
        _key("currency", "The currency."),
        SqlColumn("balance", "By trade date.", "sum(t.amount)"),
        SqlColumn(
            "settled",
            "What has settled by today in UTC; a leg without a settlement date counts.",
            "coalesce(sum(t.amount) FILTER (WHERE t.settlement_date = '' OR t.settlement_date"
            " <= to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')), 0)",
        ),
    ),
)

_MARK: Final = "m.price * CASE WHEN m.unit = 1 THEN 1 ELSE m.unit END"
_VALUE: Final = (
    f"t.quantity * {_MARK} * t.multiplier * CASE WHEN m.unit = 1 THEN t.price_unit ELSE 1 END"
)
POSITIONS: Final = SqlView(
    "positions",
    "Positions with their latest mark; closed ones stay, with quantity 0.",
    ("positions", "prices"),
    "FROM {positions} t LEFT JOIN LATERAL (SELECT p.* FROM (SELECT p.price, p.unit, p.currency,"
    " p.event_time_ns FROM {prices} p WHERE p.instrument = t.instrument"
    " AND p.kind IN ('close', 'last', 'mid') ORDER BY p.event_time_ns DESC, p.seq DESC LIMIT 1) p"
    " WHERE p.currency = t.currency) m ON true",
    (
        _key("account", "The account."),
        _key("instrument", "The instrument."),
        _key("currency", "Currency of cost."),
        _number("quantity", "Negative when short."),
        _number("cost_basis", "Of the open lots; signed like quantity."),
        _number("average_cost", "For one unit; ten decimals, half-even; for display."),
        _number("realised_pnl", "Before fees."),
        _number("fees", "Positive for a cost; without those that are part of the cost."),
        SqlColumn("mark", "The latest close, last or mid, if it is in currency.", _MARK),
        SqlColumn("market_value", "Quantity x mark x multiplier x price unit.", _VALUE),
        SqlColumn("unrealised_pnl", "Market value less cost basis.", f"{_VALUE} - t.cost_basis"),
        SqlColumn(
            "mark_time",
            "When the mark was the price. To the microsecond below.",
            microseconds("m.event_time_ns"),
        ),
        SqlColumn(
            "mark_time_ns",
            "When the mark was the price. Nanoseconds since 1970, exact.",
            "m.event_time_ns",
        ),
        _FLAGS,
    ),
)

VIEWS: Final[tuple[SqlView, ...]] = (
    ACCOUNTS,
    ORDERS,
    DEALS,
    CASH,
    MOVEMENTS,
    LOTS,
    POSITIONS,
    BALANCES,
    INSTRUMENTS,
    PRICES,
    PRICES_BY_DAY,
)
