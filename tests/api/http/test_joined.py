"""Pages of joined columns hold what COPY tells row by row, whatever the values are."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from api.http import joined
from api.http.stored import Stored
from api.read_models import READ_MODELS
from api.wiring import Parts, running
from projections.positions.tables import DEALS
from streams.row_text import copy_text
from tests.api.http.server import Server

MODEL = READ_MODELS["deals"]
ACCOUNT = "J1"
_ODD = ("\x01", "\x01\x01", "=", '"', "\\N", "\\", "a,b", "line\nbreak", "\r\n", "null", "é", " ")
texts = st.sampled_from(_ODD) | st.text(
    st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6
)
some_texts = st.none() | texts
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=18).filter(
    lambda number: len(number.as_tuple().digits) <= 38
) | st.sampled_from([Decimal("9" * 38), Decimal("-" + "9" * 38), Decimal("1E+20"), Decimal(0)])
small_numbers = st.decimals(-1000, 1000, places=2)
instants = st.integers(-(2**62), 2**62)
details = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "fees": st.lists(texts, max_size=1),
        "ids": st.dictionaries(texts, texts, max_size=2),
        "venue": some_texts,
        "strategy": some_texts,
        "tags": st.none() | st.lists(texts, max_size=2),
        "versions": st.none() | st.dictionaries(texts, st.integers(), max_size=1),
    },
)


@st.composite
def deals(draw: st.DrawFn, deal_id: str, amounts: st.SearchStrategy[Decimal]) -> Any:
    """A row of a deal, whether the ledger would take it or not: what is stored makes a page."""
    told = {name: draw(texts) for name in ("instrument", "currency", "side", "kind", "status")}
    return DEALS.row(
        account=ACCOUNT,
        deal_id=deal_id,
        order_id=draw(some_texts),
        quantity=draw(amounts),
        price=draw(st.none() | amounts),
        cost=draw(small_numbers),
        net=draw(small_numbers),
        fees=Decimal("1.50"),
        capitalise_fees=False,
        multiplier=Decimal(1),
        price_unit=Decimal(1),
        event_time_ns=draw(instants),
        sequence=0,
        seq=1,
        trade_date=draw(texts),
        settlement_date=draw(some_texts),
        recorded_time_ns=draw(instants),
        flags=draw(st.lists(texts, max_size=2)),
        details=draw(details),
        changed_offset=1,
        **told,
    )


@st.composite
def books(draw: st.DrawFn) -> list[Any]:
    """Some rows; their amounts together fit decimal128, or they do not."""
    amounts = draw(st.sampled_from([numbers, small_numbers]))
    ids = draw(st.lists(texts, unique=True, max_size=12))
    return [draw(deals(deal_id, amounts)) for deal_id in ids]


@pytest.fixture(scope="module")
def parts(open_server: Server) -> Iterator[Parts]:
    """The server's ledger, by a connection of the test's own."""
    with running(open_server.settings) as own:
        yield own


def _stored(parts: Parts, rows: list[Any]) -> Stored:
    connection = parts.models.connection
    connection.execute("DELETE FROM deals WHERE account = %s", [ACCOUNT])
    columns = sql.SQL(", ").join(map(sql.Identifier, DEALS.columns))
    filling = sql.SQL("COPY deals ({}) FROM STDIN").format(columns)
    with connection.cursor() as cursor, cursor.copy(filling) as copy:
        if rows:
            copy.write(copy_text(DEALS, rows))
    return Stored(parts, MODEL, ("true", "t.account = %s"), [ACCOUNT])


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=books())
def test_pages_hold_what_copy_tells(
    rows: list[Any], parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "_ROWS", 4)
    with parts.models.connection.transaction(force_rollback=True):
        stored = _stored(parts, rows)
        count, extents = stored.extents()
        assert count == len(rows)
        none = stored.schema(extents).empty_table()
        paged = list(stored.whole(extents))
        assert [one.num_rows for one in paged[:-1]] == [4] * (len(paged) - 1)
        copied = pa.concat_tables([none, *stored.tables(extents)])
        assert pa.concat_tables([none, *paged]).equals(copied)


def test_pages_that_are_not_taken_are_not_waited_for(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joined, "_ROWS", 2)
    connection = parts.models.connection
    with connection.transaction(force_rollback=True):
        connection.execute(
            "INSERT INTO deals SELECT (jsonb_populate_record(NULL::deals, %s::jsonb ||"
            " jsonb_build_object('deal_id', 'D' || n))).* FROM generate_series(1, 9) AS n",
            [_PLAIN],
        )
        stored = Stored(parts, MODEL, ("true", "t.account = %s"), [ACCOUNT])
        pages = stored.whole(stored.extents()[1])
        assert next(pages)["deal_id"].to_pylist() == ["D1", "D2"]
        pages.close()
        # The connection is free again: nothing runs on it that somebody has left.
        assert connection.execute("SELECT count(*) FROM deals WHERE account = %s", [ACCOUNT])


_PLAIN = """{"account": "J1", "instrument": "AAPL", "currency": "USD", "side": "buy", "quantity": 1,
"cost": 1, "net": -1, "fees": 0, "capitalise_fees": false, "kind": "equity", "multiplier": 1,
"price_unit": 1, "status": "effective", "event_time_ns": 0, "sequence": 0, "seq": 1,
"trade_date": "", "recorded_time_ns": 0, "flags": [], "changed_offset": 1}"""
