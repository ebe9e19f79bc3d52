"""Servers for the tests: one without keys, one with; each over a database of its own.

The client package is put on the path.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.http.server import Server, served

sys.path.insert(0, str(Path(__file__).parents[3] / "api" / "client"))


@pytest.fixture(scope="module")
def open_server(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server on loopback that asks for no tokens."""
    with served(tmp_path_factory.mktemp("home"), new_database()) as server:
        yield server


@pytest.fixture(scope="module")
def api(open_server: Server) -> Iterator[httpx.Client]:
    """A client of the server that asks for no tokens."""
    with open_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def guarded(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with a key: every request needs a token."""
    from api.http.keys import signing_key

    home = tmp_path_factory.mktemp("guarded")
    signing_key(home)
    with served(home, new_database()) as server:
        yield server
