"""A real server for each test, on a database of its own."""

from collections.abc import Callable, Iterator

import pytest

from tests.api.command_line import CommandLine
from tests.api.http.feed.serving import Served


@pytest.fixture
def served(daybook: CommandLine) -> Iterator[Served]:
    """A running `daybook serve`."""
    server = Served(daybook)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def shared(new_daybook: Callable[[], CommandLine]) -> Iterator[Served]:
    """A running `daybook serve` for a whole module: accounts are each test's own."""
    server = Served(new_daybook())
    server.start()
    yield server
    server.stop()
