"""Positions as of a past time: sums say what the reference fold says, or leave it to the fold."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.types.json import Jsonb

from domain.times import Instant, to_ns
from infra import postgres
from infra.embedded import embedded_server
from infra.postgres import Connection
from projections.instruments.fold import PROJECTION as INSTRUMENTS_PROJECTION
from projections.instruments.fold import PortfolioRow
from projections.instruments.parents import HOLDS_TODAY, parents_on
from projections.positions.as_of import PastPosition, positions_of, summed_positions
from projections.positions.fold import PROJECTION
from projections.positions.lots import Method
from projections.positions.tables import DEALS, DealRow, PositionRow

_START_NS = to_ns(Instant("2024-01-02T14:30:00.000000000Z"))
_EVERY = sql.SQL("true")


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A database with the tables of the positions projection."""
    with embedded_server(tmp_path_factory.mktemp("home")) as dsn:
        opened = postgres.connect(dsn)
        opened.execute(PROJECTION.schema_sql.encode())
        opened.execute(INSTRUMENTS_PROJECTION.schema_sql.encode())
        yield opened
        opened.close()


def deal(number: int, **told: Any) -> DealRow:
    """One deal: by default a purchase of 10 for 1,000 in A1, `number` seconds after the start."""
    quantity = told.get("quantity", Decimal(10))
    default: dict[str, Any] = {
        "account": "A1", "deal_id": f"d{number}", "order_id": None, "instrument": "ACME",
        "currency": "USD", "side": "buy", "quantity": quantity, "price": None,
        "cost": Decimal(1000), "net": Decimal(-1000), "fees": Decimal(0), "capitalise_fees": False,
        "kind": "equity", "multiplier": Decimal(1), "price_unit": Decimal(1),
        "status": "effective", "event_time_ns": _START_NS + number * 10**9, "sequence": 0,
        "seq": number, "trade_date": "2024-01-02", "settlement_date": None,
        "recorded_time_ns": _START_NS, "flags": [], "details": None, "changed_offset": number,
    }  # fmt: skip
    return DealRow(**{**default, **told})


def store(connection: Connection, deals: Sequence[DealRow]) -> None:
    """Make these the deals that there are."""
    connection.execute("TRUNCATE deals, lot_methods")
    rows = [
        [Jsonb(value) if isinstance(value, dict) else value for value in msgspec.structs.astuple(d)]
        for d in deals
    ]
    places = ", ".join(["%s"] * len(DEALS.columns))
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO deals VALUES ({places})".encode(), rows)


def key(row: PositionRow | PastPosition) -> tuple[str, str, str]:
    return row.account, row.instrument, row.currency


def told(row: PositionRow | PastPosition) -> dict[str, Any]:
    """What is told of a position as of a past time, decimals as written."""
    return {name: str(getattr(row, name)) for name in PastPosition.__struct_fields__}


def both(
    connection: Connection, deals: Sequence[DealRow], method: Method | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], set[str]]:
    """Return what sums and what folding say of the accounts that sums decide, and the others."""
    store(connection, deals)
    summed, unfit = summed_positions(connection, _EVERY, (), method)
    folded, _ = positions_of(deals, (), {}, method)
    known = [told(row) for row in folded if row.account not in unfit]
    return [told(row) for row in summed], known, unfit


amounts = st.one_of(
    st.integers(1, 50).map(Decimal),
    st.decimals("0.01", "999.99", places=2),
    st.decimals("0.000001", "10", places=18),
)
deals_of_some_accounts = st.lists(
    st.fixed_dictionaries(
        {
            "account": st.sampled_from(["A1", "A2"]),
            "instrument": st.sampled_from(["ACME", "IBM"]),
            "side": st.sampled_from(["buy", "sell"]),
            "quantity": amounts,
            "cost": st.one_of(amounts, amounts.map(lambda amount: -amount)),
            "fees": st.sampled_from([Decimal(0), Decimal("1.25")]),
            "capitalise_fees": st.booleans(),
            "status": st.sampled_from(["effective", "effective", "corrected", "busted"]),
            "kind": st.sampled_from(["equity", "equity", "fx"]),
            "sequence": st.integers(0, 1),
            "event_time_ns": st.integers(_START_NS, _START_NS + 3),
            "multiplier": st.sampled_from([Decimal(1), Decimal(100)]),
        }
    ),
    max_size=25,
)


@given(deals_of_some_accounts)
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_sums_say_what_the_reference_fold_says(
    connection: Connection, drawn: list[dict[str, Any]]
) -> None:
    summed, folded, _ = both(connection, [deal(n, **one) for n, one in enumerate(drawn)])
    assert summed == folded


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 99)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_deals_at_whole_unit_prices_never_need_folding(
    connection: Connection, drawn: list[tuple[bool, int, int]]
) -> None:
    deals = [
        deal(n, side="buy" if buys else "sell", quantity=Decimal(size), cost=Decimal(size * price))
        for n, (buys, size, price) in enumerate(drawn)
    ]
    summed, folded, unfit = both(connection, deals)
    assert not unfit
    assert summed == folded


def test_a_part_of_a_lot_whose_cost_does_not_divide_is_left_to_the_fold(
    connection: Connection,
) -> None:
    sale = deal(2, side="sell", quantity=Decimal(2), cost=Decimal(7))
    summed, _, unfit = both(connection, [deal(1, quantity=Decimal(3), cost=Decimal(10)), sale])
    assert (summed, unfit) == ([], {"A1"})


def test_a_half_that_divides_is_left_to_the_fold_where_its_quarter_does_not(
    connection: Connection,
) -> None:
    least = Decimal(1).scaleb(-36)
    quarter = {"side": "sell", "quantity": Decimal(1), "cost": Decimal(1)}
    bought = deal(1, quantity=Decimal(4), cost=2 * least)
    summed, _, unfit = both(connection, [bought, deal(2, **quarter), deal(3, **quarter)])
    assert (summed, unfit) == ([], {"A1"})


@pytest.mark.parametrize("method", [Method.LIFO, Method.HIFO, Method.AVERAGE])
def test_methods_that_take_other_lots_are_left_to_the_fold(
    connection: Connection, method: Method
) -> None:
    _, _, unfit = both(connection, [deal(1)], method)
    assert unfit == {"A1"}


def test_an_account_is_left_to_the_fold_by_its_own_method(connection: Connection) -> None:
    store(connection, [deal(1), deal(2, account="A2")])
    connection.execute("INSERT INTO lot_methods VALUES ('A2', 'average', 0)")
    summed, unfit = summed_positions(connection, _EVERY, ())
    assert ([row.account for row in summed], unfit) == (["A1"], {"A2"})


def test_an_account_that_names_lots_is_left_to_the_fold_whole(connection: Connection) -> None:
    naming = deal(2, side="sell", instrument="IBM", details={"lots": [["d1", "1"]]})
    summed, folded, unfit = both(connection, [deal(1), naming, deal(3, account="A2")])
    assert unfit == {"A1"}
    assert summed == folded
    assert [row["account"] for row in summed] == ["A2"]


def test_only_what_had_happened_counts(connection: Connection) -> None:
    deals = [deal(n, side="buy" if n % 3 else "sell") for n in range(1, 40)]
    store(connection, deals)
    for upto in (1, 7, 20, 39):
        end_ns = _START_NS + upto * 10**9
        summed, _ = summed_positions(connection, sql.SQL("event_time_ns <= %s"), (end_ns,))
        folded, _ = positions_of([d for d in deals if d.event_time_ns <= end_ns], (), {})
        assert [told(row) for row in summed] == [told(row) for row in folded]


def test_the_sums_are_read_from_the_index_alone(connection: Connection) -> None:
    store(connection, [deal(n, account=f"A{n % 50}") for n in range(5000)])
    connection.execute("VACUUM ANALYZE deals")
    plan = connection.execute(
        "EXPLAIN SELECT account, instrument, currency, event_time_ns, sequence, seq, side,"
        " quantity, cost, fees, capitalise_fees, multiplier, price_unit FROM deals"
        " WHERE status <> 'busted' AND kind <> 'fx' AND account = 'A1' AND trade_date <= '2024'"
    ).fetchall()
    assert "Index Only Scan using deals_by_position" in " ".join(line for (line,) in plan)


_TOLD = st.tuples(
    st.sampled_from(("P", "Q")),
    st.sampled_from(("", "1990-05-01", "2024-01-02", "2024-01-10", "2200-01-01")),
    st.sampled_from((None, "X", "Y", "Z")),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(_TOLD, max_size=8))
def test_the_parent_that_holds_today_is_the_same_by_sql_and_by_rows(
    connection: Connection, told: list[tuple[str, str, str | None]]
) -> None:
    rows = {
        (portfolio, from_date): PortfolioRow(portfolio, from_date, parent, offset)
        for offset, (portfolio, from_date, parent) in enumerate(told, start=1)
    }
    connection.execute("TRUNCATE portfolios")
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO portfolios VALUES (%s, %s, %s, %s)",
            [msgspec.structs.astuple(row) for row in rows.values()],
        )
    query = sql.SQL("SELECT portfolio, parent FROM portfolios AS t WHERE {}")
    found = connection.execute(query.format(sql.SQL(HOLDS_TODAY))).fetchall()
    (today,) = connection.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")
    assert sorted(found) == sorted(parents_on(rows.values(), today[0]).items())


def test_a_parent_holds_from_its_date_until_the_next() -> None:
    told = (("2024-01-01", "A"), ("2020-01-01", "B"), ("2030-01-01", "C"))
    rows = [PortfolioRow("P", *one, offset) for offset, one in enumerate(told, start=1)]
    days = ("2019-12-31", "2020-01-01", "2023-12-31", "2024-01-01", "2030-01-01")
    assert [parents_on(rows, day).get("P") for day in days] == [None, "B", "B", "A", "C"]
    rows.append(PortfolioRow("P", "", "D", 4))
    assert [parents_on(rows, day)["P"] for day in days] == ["D", "B", "B", "A", "C"]
