"""The clients: one that waits, and one to be awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Self

import httpx

from .commands import Commands
from .feed import Place, Subscription, Update, follow, follow_sync
from .requests import (
    Answer,
    Call,
    answer_of,
    answers_of,
    attempts,
    awaited,
    driven,
)
from .tables import AsyncTable, Query, Table, Tables

DEFAULT_URL: Final = "http://127.0.0.1:8000"
_TIMEOUT: Final = httpx.Timeout(60.0, connect=5.0)

Token = str | Callable[[], str] | None
"""A token, or what returns one that is good now."""


def _tokens(token: Token) -> Callable[[], str | None]:
    if token is None or isinstance(token, str):
        return lambda: token
    return token


class _Sending:
    """What both clients share: where the server is, and what is sent along."""

    def __init__(self, base_url: str, token: Token) -> None:
        self._place = Place(base_url.rstrip("/"), _tokens(token))

    def _request(self, client: "httpx.Client | httpx.AsyncClient", call: Call) -> httpx.Request:
        return client.build_request(
            call.method,
            self._place.base_url + call.path,
            params=call.params,
            # As UTF-8, because an id of any script can be a key.
            headers=httpx.Headers({**self._place.headers(), **call.headers}, encoding="utf-8"),
            content=call.content,
        )


class Client(_Sending, Commands[Answer, list[Answer]], Tables[Table]):
    """A client that waits for each answer. Safe to share between threads."""

    def __init__(
        self, base_url: str = DEFAULT_URL, token: Token = None, *, timeout: Any = _TIMEOUT
    ) -> None:
        super().__init__(base_url, token)
        self._client = httpx.Client(timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def feed(
        self, topic: str, account: str | None = None, *, position: str | None = None
    ) -> Generator[Update, None, None]:
        """Yield updates of a topic: a snapshot, then each change, across reconnects.

        `position` goes on from one seen before. Raises FeedGap where updates were missed for good,
        ProblemError where the server refuses, or where the address or its certificate is wrong.
        """
        return follow_sync(self._place, Subscription(topic, account, position))

    def _send(self, call: Call) -> httpx.Response:
        return driven(attempts(lambda: self._request(self._client, call)), self._try)

    def _try(self, step: httpx.Request | float) -> httpx.Response | httpx.TransportError | None:
        if not isinstance(step, httpx.Request):
            time.sleep(step)
            return None
        try:
            return self._client.send(step)
        except httpx.TransportError as error:
            return error

    def _one(self, call: Call) -> Answer:
        return answer_of(self._send(call))

    def _many(self, call: Call) -> list[Answer]:
        return answers_of(self._send(call))

    def _table(self, query: Query) -> Table:
        return Table(query, self._send)


class AsyncClient(
    _Sending, Commands[Awaitable[Answer], Awaitable[list[Answer]]], Tables[AsyncTable]
):
    """A client to be awaited, for one event loop."""

    def __init__(
        self, base_url: str = DEFAULT_URL, token: Token = None, *, timeout: Any = _TIMEOUT
    ) -> None:
        super().__init__(base_url, token)
        self._client = httpx.AsyncClient(timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def feed(
        self, topic: str, account: str | None = None, *, position: str | None = None
    ) -> AsyncGenerator[Update, None]:
        """Yield updates of a topic: a snapshot, then each change, across reconnects.

        `position` goes on from one seen before. Raises FeedGap where updates were missed for good,
        ProblemError where the server refuses, or where the address or its certificate is wrong.
        """
        return follow(self._place, Subscription(topic, account, position))

    async def _send(self, call: Call) -> httpx.Response:
        return await awaited(attempts(lambda: self._request(self._client, call)), self._try)

    async def _try(
        self, step: httpx.Request | float
    ) -> httpx.Response | httpx.TransportError | None:
        if not isinstance(step, httpx.Request):
            await asyncio.sleep(step)
            return None
        try:
            return await self._client.send(step)
        except httpx.TransportError as error:
            return error

    async def _one(self, call: Call) -> Answer:
        return answer_of(await self._send(call))

    async def _many(self, call: Call) -> list[Answer]:
        return answers_of(await self._send(call))

    def _table(self, query: Query) -> AsyncTable:
        return AsyncTable(query, self._send)
