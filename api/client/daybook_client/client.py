"""The clients: one that waits, and one to be awaited."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Self

import httpx

from .commands import Commands
from .errors import Unavailable
from .feed import Place, Subscription, Update, follow, follow_sync
from .requests import (
    ATTEMPTS,
    Answer,
    Call,
    answer_of,
    answers_of,
    is_worth_retrying,
    wait_s,
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
            headers={**self._place.headers(), **call.headers},
            content=call.content,
        )


def _pause(attempt: int, response: httpx.Response | None) -> float | None:
    """Return how long to wait before sending again; None where the answer is final."""
    if attempt + 1 >= ATTEMPTS:
        return None
    if response is None:
        return wait_s(attempt)
    if is_worth_retrying(response.status_code):
        return wait_s(attempt, response.headers.get("Retry-After"))
    return None


def _unreachable(error: httpx.TransportError) -> Unavailable:
    detail = f"{type(error).__name__}: {error}"
    return Unavailable({"title": "the server does not answer", "detail": detail}, 503)


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

        `position` goes on from one seen before. Raises FeedGap where updates were missed for good.
        """
        return follow_sync(self._place, Subscription(topic, account, position))

    def _send(self, call: Call) -> httpx.Response:
        for attempt in range(ATTEMPTS):
            response = None
            try:
                response = self._client.send(self._request(self._client, call))
            except httpx.TransportError as error:
                if attempt + 1 >= ATTEMPTS:
                    raise _unreachable(error) from error
            pause_s = _pause(attempt, response)
            if pause_s is None:
                assert response is not None
                return response
            time.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

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

        `position` goes on from one seen before. Raises FeedGap where updates were missed for good.
        """
        return follow(self._place, Subscription(topic, account, position))

    async def _send(self, call: Call) -> httpx.Response:
        for attempt in range(ATTEMPTS):
            response = None
            try:
                response = await self._client.send(self._request(self._client, call))
            except httpx.TransportError as error:
                if attempt + 1 >= ATTEMPTS:
                    raise _unreachable(error) from error
            pause_s = _pause(attempt, response)
            if pause_s is None:
                assert response is not None
                return response
            await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def _one(self, call: Call) -> Answer:
        return answer_of(await self._send(call))

    async def _many(self, call: Call) -> list[Answer]:
        return answers_of(await self._send(call))

    def _table(self, query: Query) -> AsyncTable:
        return AsyncTable(query, self._send)
