"""Prices by day: the same answers with TimescaleDB, where the server has it, and without."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from decimal import Decimal
from random import Random
from typing import Any

import psycopg
import pytest

from domain.commands import RecordPrice, Request
from infra import postgres
from projections.registry import PROJECTIONS
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog
from streams.projecting import Projector
from streams.read_models import ReadModels
from streams.rebuilding import rebuild_beside
from streams.sql_contract import contract_schema
from streams.timescale import add_series, extension_schema, refresh
from streams.verifying import verify
from tests.streams.read_rows import all_rows
from tests.streams.sample_book import at, sample_requests
from tests.streams.test_sql_contract import drop_contract

_NUMBERS = itertools.count(1)
_DAY_S = 86_400
QUERY = "SELECT * FROM {}.prices_by_day ORDER BY instrument, day, kind, source, currency, unit"


@pytest.fixture
def timescale(postgres_url: str) -> Iterator[tuple[str, str]]:
    """A server with TimescaleDB and the name of a schema for one test."""
    connection = postgres.connect(postgres_url)
    if extension_schema(connection) is None:
        connection.close()
        pytest.skip("the PostgreSQL server here has no TimescaleDB (community edition)")
    schema = f"test_{os.getpid()}_{next(_NUMBERS)}"
    yield postgres_url, schema
    # TimescaleDB works on it by itself, and may be in the way at just this moment.
    while True:
        with contextlib.suppress(psycopg.errors.DeadlockDetected):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE".encode())
            break
    connection.close()
    drop_contract(postgres_url, schema)


def price_requests(size: int, first: int = 0) -> list[Request]:
    """Prices over four years, some told again, some twice for the same moment."""
    random = Random(size + first)
    return [
        Request(
            command_id=f"price{number}",
            key=random.choice(("AAPL", "MSFT", "EUR/USD")),
            event_time=at(random.randrange(-700, 700) * _DAY_S + random.choice((0, 0, 60))),
            command=RecordPrice(
                price=Decimal(random.randrange(1, 99999)).scaleb(-2),
                currency=random.choice(("USD", "USD", "EUR")),
                unit=Decimal(random.choice(("1", "0.01"))),
                kind=random.choice(("close", "mid")),
            ),
        )
        for number in range(first, first + size)
    ]


def by_day(models: ReadModels) -> list[tuple[Any, ...]]:
    query = QUERY.format(contract_schema(models.schema))
    return models.connection.execute(query.encode()).fetchall()


def expected(models: ReadModels) -> list[tuple[Any, ...]]:
    """The last price of each day, found in Python."""
    last: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    counts: dict[tuple[Any, ...], int] = {}
    for row in all_rows(models)["prices"]:
        key = (
            *(row[name] for name in ("instrument", "kind", "source", "currency")),
            Decimal(row["unit"]),
            row["event_time_ns"] // (_DAY_S * 10**9),
        )
        counts[key] = counts.get(key, 0) + 1
        place = (row["event_time_ns"], row["seq"])
        last[key] = max(last.get(key, ((-1, 0), None)), (place, row["price"]))
    return sorted(
        (key[0], key[5], key[1], key[2], key[3], key[4], Decimal(price), place[0], counts[key])
        for key, (place, price) in last.items()
    )


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(
        (one[0], one[1].toordinal() - 719163, one[2], one[3] or "", *one[4:7], one[8], one[9])
        for one in rows
    )


def test_on_plain_postgres_a_view_sums_up(
    dsn: str, schema: str, log: PostgresLog, ledger: Ledger
) -> None:
    models = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    ledger.submit(price_requests(300))
    Projector(log, models).catch_up()
    assert plain(by_day(models)) == expected(models) != []
    refresh(models.connection)
    assert not add_series(models.connection, schema)
    models.close()
    drop_contract(dsn, schema)


def test_timescale_answers_the_same(
    timescale: tuple[str, str], dsn: str, schema: str, log: PostgresLog, ledger: Ledger
) -> None:
    url, theirs = timescale
    requests = [*sample_requests(100), *price_requests(300)]
    ledger.submit(requests)
    here = ReadModels(dsn, schema, log.log_id, PROJECTIONS)
    there = ReadModels(url, theirs, log.log_id, PROJECTIONS)
    for models in (here, there):
        Projector(log, models, batch=50).catch_up()
    assert _keeps(there) == ("prices", True)
    assert all_rows(there) == all_rows(here)
    refresh(there.connection)
    assert by_day(there) == by_day(here) != []
    _compress(there)
    assert by_day(there) == by_day(here)
    ledger.submit(price_requests(300, first=1000))
    for models in (here, there):
        Projector(log, models, batch=50).catch_up()
    refresh(there.connection)
    assert by_day(there) == by_day(here)
    assert verify(log, there).differences == []
    rebuild_beside(log, there, PROJECTIONS)
    refresh(there.connection)
    assert _keeps(there) == ("prices", True)
    assert all_rows(there) == all_rows(here)
    assert by_day(there) == by_day(here)
    here.close()
    there.close()
    drop_contract(dsn, schema)


def _keeps(models: ReadModels) -> tuple[Any, ...] | None:
    return models.connection.execute(
        "SELECT hypertable_name, compression_enabled FROM timescaledb_information.hypertables"
        " WHERE hypertable_schema = %s",
        (models.schema,),
    ).fetchone()


def _compress(models: ReadModels) -> None:
    schema = extension_schema(models.connection)
    rows = models.connection.execute(
        f"SELECT {schema}.compress_chunk(one)"
        f" FROM {schema}.show_chunks('{models.schema}.prices') AS one".encode()
    ).fetchall()
    assert len(rows) > 1
