"""A real server for the session, and a schema of its own for each test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import postgres
from infra.embedded import embedded_server
from streams.ledger import Ledger
from streams.postgres_log import PostgresLog

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running embedded server."""
    home: Path = tmp_path_factory.mktemp("home")
    with embedded_server(home) as url:
        yield url


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    """The name of a schema that is there for one test."""
    name = f"test_{next(_NUMBERS)}"
    yield name
    connection = postgres.connect(dsn)
    for made in (name, f"{name}_snapshots"):
        connection.execute(f"DROP SCHEMA IF EXISTS {made} CASCADE".encode())
    connection.close()


@pytest.fixture
def log(dsn: str, schema: str) -> Iterator[PostgresLog]:
    """A fresh Postgres log."""
    opened = PostgresLog.open(dsn, schema)
    yield opened
    opened.close()


@pytest.fixture
def ledger(log: PostgresLog) -> Iterator[Ledger]:
    """A ledger over a fresh log."""
    opened = Ledger(log)
    yield opened
    opened.close()
