"""A real server for the tests of this folder."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from infra.embedded import embedded_server
from infra.postgres import Connection, connect


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An embedded server, one for the session."""
    with embedded_server(tmp_path_factory.mktemp("home")) as url:
        yield url


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    """The name of a schema that does not exist yet; it is dropped afterwards."""
    name = f"t_{uuid.uuid4().hex}"
    yield name
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


@pytest.fixture
def connection(dsn: str, schema: str) -> Iterator[Connection]:
    """A connection with an empty schema of its own."""
    with connect(dsn, schema=schema) as opened:
        opened.execute(f"CREATE SCHEMA {schema}".encode())
        yield opened
