"""A few threads, each with connections of its own, that answer questions for the event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from api.http.problems import OVERLOADED, Problem
from api.wiring import Parts, running
from infra.postgres import Connection
from infra.settings import Settings

READERS: Final = 8
MOST_WAITING: Final = 400
STATEMENT_S: Final = 15
"""How long Postgres works on a statement of a reader before it gives up."""

_T = TypeVar("_T")


class Readers:
    """A bounded pool of threads with parts of their own. Who finds too many waiting is refused."""

    def __init__(self, settings: Settings, size: int = READERS) -> None:
        self._settings = settings
        self._size = size
        self._own = threading.local()
        self._stack = contextlib.ExitStack()
        self._stacking = threading.Lock()
        self._waiting = 0
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="reader")

    async def run(self, ask: Callable[[Parts], _T]) -> _T:
        """Return what a question gives in one of the threads; raises Problem when overloaded."""
        if self._waiting >= MOST_WAITING:
            raise Problem(OVERLOADED, "too many questions are waiting")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._asked, ask)
        finally:
            self._waiting -= 1

    def _asked(self, ask: Callable[[Parts], _T]) -> _T:
        parts: Parts | None = getattr(self._own, "parts", None)
        if parts is None:
            with self._stacking:
                parts = self._own.parts = self._stack.enter_context(running(self._settings))
        connection = parts.models.connection
        if connection is not getattr(self._own, "bounded", None):
            bound(connection, STATEMENT_S)
            self._own.bounded = connection
        return ask(parts)

    def close(self) -> None:
        """Wait for what is being asked, and close the connections."""
        self._threads.shutdown(cancel_futures=True)
        self._stack.close()


class Lender:
    """Lends parts to one asker at a time, for as long as it takes, and keeps them for the next."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._idle: list[tuple[contextlib.ExitStack, Parts]] = []

    @contextlib.contextmanager
    def parts(self) -> Iterator[Parts]:
        """Lend parts for a block. Those of a block that failed are not used again."""
        try:
            stack, parts = self._idle.pop()
        except IndexError:
            stack = contextlib.ExitStack()
            parts = stack.enter_context(running(self._settings))
        try:
            yield parts
        except BaseException:
            stack.close()
            raise
        self._idle.append((stack, parts))

    def close(self) -> None:
        """Close what nobody has."""
        while self._idle:
            self._idle.pop()[0].close()


def bound(connection: Connection, seconds: int) -> None:
    """Let no statement of a connection take longer."""
    connection.execute(f"SET statement_timeout = '{seconds}s'".encode())
