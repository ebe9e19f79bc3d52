"""The client package on the path, and a real server for it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.command_line import CommandLine
from tests.api.http.feed.serving import Served

PACKAGE = Path(__file__).parents[3] / "api" / "client"
sys.path.insert(0, str(PACKAGE))


@pytest.fixture(scope="module")
def served(new_daybook: Callable[[], CommandLine]) -> Iterator[Served]:
    """A running `daybook serve` for a whole module: accounts are each test's own."""
    server = Served(new_daybook())
    server.start()
    yield server
    server.stop()
