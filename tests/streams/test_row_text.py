"""Rows come back from the database as they were written, whatever text is in them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from infra import postgres
from infra.postgres import Connection
from projections.rows import Table
from streams.row_text import copy_text


class SampleRow(Struct, frozen=True):
    """A column of every kind that a table has."""

    name: str
    maybe: str | None
    count: int
    amount: Decimal
    price: Decimal | None
    is_so: bool
    flags: list[str]
    details: dict[str, Any] | None


SAMPLES = Table("samples", SampleRow, ("name",))
TEXTS = st.text(
    st.one_of(
        st.sampled_from("\\\t\n\r\",{}NULL 'é"),
        st.characters(exclude_categories=("Cs",), exclude_characters="\x00"),
    )
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=10) | st.just(Decimal("1E+3"))
ROWS = st.builds(
    SampleRow,
    name=TEXTS,
    maybe=st.none() | st.just("") | st.just("\\N") | TEXTS,
    count=st.integers(-(2**63), 2**63 - 1),
    amount=DECIMALS,
    price=st.none() | DECIMALS,
    is_so=st.booleans(),
    flags=st.lists(TEXTS, max_size=3),
    details=st.none() | st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS), max_size=3),
)


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[Connection]:
    """A connection with the table of samples."""
    opened = postgres.connect(dsn)
    opened.execute(
        "CREATE TEMP TABLE samples (name text, maybe text, count bigint, amount numeric,"
        " price numeric, is_so boolean, flags text[], details jsonb)"
    )
    yield opened
    opened.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(ROWS, min_size=1, max_size=5))
def test_rows_are_kept_as_they_are(connection: Connection, rows: list[SampleRow]) -> None:
    connection.execute("TRUNCATE samples")
    with connection.cursor() as cursor, cursor.copy("COPY samples FROM STDIN") as copy:
        copy.write(copy_text(SAMPLES, rows))
    stored = [SampleRow(*row) for row in connection.execute("TABLE samples").fetchall()]
    assert stored == rows
    assert [format(one.amount, "f") for one in stored] == [
        format(one.amount or abs(one.amount), "f") for one in rows
    ]
