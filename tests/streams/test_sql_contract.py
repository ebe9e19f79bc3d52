"""The views for SQL: what queries show, described, for a role that can do nothing else."""

import logging
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.questions import Asker, Question
from api.read_models import READ_MODELS
from api.views import Shown
from domain.commands import RecordPrice, Request
from infra import postgres
from projections.registry import PROJECTIONS
from streams.ledger import Ledger
from streams.past import Past
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.sql_contract import contract_schema, ensure, is_current, reader_role
from streams.sql_views import VIEWS, SqlView
from tests.streams.books import rebuild
from tests.streams.sample_book import at, sample_requests

QUERIES = (
    *("accounts", "orders", "deals", "cash", "movements", "lots", "positions", "balances"),
    *("instruments", "prices"),
)
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sql.md"


@pytest.fixture
def models(dsn: str, schema: str, log: PostgresLog, ledger: Ledger) -> Iterator[ReadModels]:
    """Read models with a book in them."""
    ledger.submit([*sample_requests(), *_more_prices()])
    opened = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    Projector(log, opened).catch_up()
    yield opened
    drop_contract(dsn, schema)
    opened.close()


def drop_contract(dsn: str, schema: str) -> None:
    """Drop what is not in the schema itself."""
    connection = postgres.connect(dsn)
    connection.execute(f"DROP SCHEMA IF EXISTS {contract_schema(schema)} CASCADE".encode())
    connection.execute(f"DROP ROLE IF EXISTS {reader_role(schema)}".encode())
    connection.close()


def _more_prices() -> list[Request]:
    told = [
        ("MSFT", "412.123456789", "USD", "1", 1, "close"),
        ("MSFT", "41100", "USD", "0.01", 9, "last"),
        ("GOOG", "100", "EUR", "1", 3, "close"),
        ("AAPL", "1", "USD", "1", 9, "bid"),
    ]
    return [
        Request(
            command_id=f"price{number}",
            key=instrument,
            event_time=at(second),
            command=RecordPrice(
                price=Decimal(price), currency=currency, unit=Decimal(unit), kind=kind
            ),
        )
        for number, (instrument, price, currency, unit, second, kind) in enumerate(told)
    ]


def _named(view: SqlView) -> list[str]:
    """The columns of a view without the nanoseconds beside times."""
    names = [column.name for column in view.columns]
    return [name for name in names if not (name.endswith("_ns") and name[:-3] in names)]


def test_views_and_columns_are_all_described(models: ReadModels) -> None:
    rows = models.connection.execute(
        "SELECT c.relname, obj_description(c.oid, 'pg_class'), a.attname,"
        " col_description(c.oid, a.attnum), format_type(a.atttypid, a.atttypmod)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0"
        " WHERE c.relnamespace = to_regnamespace(%s) ORDER BY 1, a.attnum",
        (contract_schema(models.schema),),
    ).fetchall()
    described = {
        (view.name, view.comment, column.name, column.comment)
        for view in VIEWS
        for column in view.columns
    }
    assert {row[:4] for row in rows} == described
    assert all(len(comment) > 5 for *_, comment in described)
    types = {row[4] for row in rows}
    assert types == {
        *("text", "text[]", "jsonb", "numeric", "bigint", "integer", "date"),
        "timestamp with time zone",
    }


def test_views_have_the_columns_and_the_answers_of_the_queries(
    models: ReadModels, log: PostgresLog, ledger: Ledger
) -> None:
    parts: Any = type("Parts", (), {})()
    parts.log, parts.models, parts.ledger = log, models, ledger
    parts.past = Past(log, models)
    views_by_name = {view.name: view for view in VIEWS}
    for name in QUERIES:
        shown = READ_MODELS[name].ask(Asker(parts, Question(), is_current=True))
        columns = [column for column, _ in shown.columns]
        assert _named(views_by_name[name]) == columns, name
        assert shown.rows
        assert _rows(models, name, columns) == _as_sql(shown), name


def _rows(models: ReadModels, name: str, columns: list[str]) -> list[tuple[Any, ...]]:
    listed = ", ".join(f'"{column}"' for column in columns)
    query = f"SELECT {listed} FROM {contract_schema(models.schema)}.{name}"
    rows = models.connection.execute(query.encode()).fetchall()
    return sorted((tuple(map(_plain, row)) for row in rows), key=repr)


def _as_sql(shown: Shown) -> list[tuple[Any, ...]]:
    """Rows of a query as SQL has them: times to the microsecond."""
    kinds = [kind for _, kind in shown.columns]
    rows = [
        tuple(
            _micro(value) if kind == "time" and value is not None else _plain(value)
            for value, kind in zip(row, kinds, strict=True)
        )
        for row in shown.rows
    ]
    return sorted(rows, key=repr)


def _micro(told: str) -> str:
    whole, _, part = told.removesuffix("Z").partition(".")
    return f"{whole}.{(part + '000000')[:6]}"


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return format(value or value.copy_abs(), "f")
        case list() | tuple():
            return [_plain(one) for one in value]
        case _ if hasattr(value, "isoformat"):
            return value.replace(tzinfo=None).isoformat(timespec="microseconds")
        case _:
            return value


def test_a_time_before_1970_is_cut_like_any_other(models: ReadModels) -> None:
    models.connection.execute(
        "INSERT INTO prices VALUES ('OLD', -1, 'close', '', 1, 1, 'USD', 1, NULL, 0, 0)"
    )
    query = f"SELECT event_time, event_time_ns FROM {contract_schema(models.schema)}.prices"
    row = models.connection.execute(f"{query} WHERE instrument = 'OLD'".encode()).fetchone()
    assert row is not None
    assert (row[0].isoformat(), row[1]) == ("1969-12-31T23:59:59.999999+00:00", -1)
    by_day = f"SELECT day FROM {contract_schema(models.schema)}.prices_by_day"
    row = models.connection.execute(f"{by_day} WHERE instrument = 'OLD'".encode()).fetchone()
    assert row is not None
    assert row[0].isoformat() == "1969-12-31"


def test_the_role_reads_the_views_and_nothing_else(models: ReadModels) -> None:
    connection, schema = models.connection, models.schema
    views_schema = contract_schema(schema)
    connection.execute(f"SET ROLE {reader_role(schema)}".encode())
    try:
        for view in VIEWS:
            connection.execute(f"SELECT * FROM {views_schema}.{view.name}".encode())
        for refused in (
            f"SELECT * FROM {schema}.deals",
            f"DELETE FROM {views_schema}.deals",
            f"CREATE TABLE {views_schema}.mine (a int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused.encode())
    finally:
        connection.execute("RESET ROLE")


def test_views_are_made_once_and_again_where_they_are_another_versions(
    models: ReadModels, log: PostgresLog
) -> None:
    connection, schema = models.connection, models.schema
    views_schema = contract_schema(schema)
    assert is_current(connection, schema)
    connection.execute(f"DROP VIEW {views_schema}.deals".encode())
    assert not is_current(connection, schema)
    connection.execute(f"CREATE VIEW {views_schema}.deals AS SELECT 1 AS gone".encode())
    connection.execute(f"COMMENT ON SCHEMA {views_schema} IS 'another version'".encode())
    ensure(connection, schema)
    assert is_current(connection, schema)
    before = _rows(models, "deals", ["deal_id", "net"])
    assert before
    rebuild(log, models, PROJECTIONS)
    assert is_current(connection, schema)
    assert _rows(models, "deals", ["deal_id", "net"]) == before


def test_who_may_not_make_schemas_goes_without(
    dsn: str, schema: str, log: PostgresLog, caplog: pytest.LogCaptureFixture
) -> None:
    connection = postgres.connect(dsn)
    user = f"{schema}_user"
    connection.execute(f"CREATE ROLE {user} LOGIN".encode())
    connection.execute(f"GRANT ALL ON SCHEMA {schema} TO {user}".encode())
    connection.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}".encode())
    theirs = psycopg.conninfo.make_conninfo(dsn, user=user)
    with caplog.at_level(logging.INFO):
        models = ReadModels(theirs, schema, log.log_id, PROJECTIONS)
    assert not is_current(connection, schema)
    assert "permission denied" in caplog.text
    assert Projector(log, models).catch_up() > 0
    models.close()
    connection.execute(f"DROP OWNED BY {user} CASCADE".encode())
    connection.execute(f"DROP ROLE {user}".encode())
    connection.close()


def test_the_page_says_what_the_views_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    _, _, told = text.partition("## The views\n\n")
    assert told == reference()


def reference() -> str:
    """The part of the page that is made from the views."""
    parts = []
    for view in VIEWS:
        lines = [f"### {view.name}", "", view.comment, "", "| column | is |", "| --- | --- |"]
        columns = iter(view.columns)
        for column in columns:
            name = f"`{column.name}`"
            comment = column.comment
            if f"{column.name}_ns" in {one.name for one in view.columns}:
                next(columns)
                name += f", `{column.name}_ns`"
                comment = comment.removesuffix(" To the microsecond below.")
            lines.append(f"| {name} | {comment} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)
