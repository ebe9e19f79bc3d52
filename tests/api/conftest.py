"""One running server for the tests of the command line; each gets a database of its own in it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.embedded import embedded_server
from tests.api.command_line import CommandLine

_NUMBERS = itertools.count(1)
NewDaybook = Callable[[], CommandLine]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running server."""
    with embedded_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(scope="session")
def new_database(server: str) -> Callable[[], str]:
    """What makes an empty database and returns its URL."""

    def make() -> str:
        name = f"daybook_{next(_NUMBERS)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return server.replace("/postgres?", f"/{name}?")

    return make


@pytest.fixture(scope="session")
def new_daybook(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> NewDaybook:
    """What makes a command line with an empty ledger."""

    def make() -> CommandLine:
        url = new_database()
        folder: Path = tmp_path_factory.mktemp("daybook")
        return CommandLine(folder, DAYBOOK_LOG_URL=url, DAYBOOK_STORE_URL=url)

    return make


@pytest.fixture
def daybook(new_daybook: NewDaybook) -> CommandLine:
    """A command line with an empty ledger."""
    return new_daybook()
