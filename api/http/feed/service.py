"""What a serving process keeps for the feed, from its start to its end."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import psycopg
from fastapi import FastAPI

from api.http.feed.hub import Hub
from api.http.feed.metrics import FeedMetrics
from api.http.feed.reading import Reader
from api.http.limits import Places
from api.http.problems import RATE_LIMITED, UNAVAILABLE, Problem
from api.http.security import Principal
from api.http.services import Services
from api.wiring import Parts, running
from infra.errors import InfraError
from infra.settings import Settings
from streams.news import NewsSource

_log = logging.getLogger(__name__)
MOST_FEEDS: Final = 3_500
"""Of the connections that a process takes (protocol.py): the rest is for requests."""
MOST_FEEDS_OF_ONE: Final = 2_500
"""A thousand that come back are not kept out by the thousand that have not been seen to end.

Where no tokens tell subjects apart, this is nobody's limit.
"""


class Feed:
    """The hub, and who may connect to it."""

    def __init__(self, hub: Hub, services: Services) -> None:
        self.hub = hub
        self._services = services
        self._places = Places("feeds", MOST_FEEDS)

    async def admit(self, token: str | None) -> Principal:
        """Return who a token speaks for; raises Problem."""
        return await self._services.gate.admit(token)

    async def take_place(self, principal: Principal) -> Callable[[], None]:
        """Take a place for one more feed; return what gives it back.

        Raises Problem for a subject that asks too often, or has too many, and where all are taken.
        """
        wait_s = await self._services.limiter.wait_s(principal.subject)
        if wait_s:
            retry = {"Retry-After": str(max(1, round(wait_s)))}
            raise Problem(RATE_LIMITED, "connect less often", headers=retry)
        most = MOST_FEEDS_OF_ONE if self._services.gate.needs_tokens else MOST_FEEDS
        return self._places.take(principal.subject, most)

    async def learn(self, principal: Principal, account: str) -> None:
        """Find out what a principal's rights to an account depend on, before they are asked.

        Raises Problem where that cannot be found out now.
        """
        try:
            await self._services.owns(principal, account)
        except (InfraError, psycopg.Error) as error:
            _log.warning("whose account %r is cannot be found out: %s", account, error)
            raise Problem(UNAVAILABLE, "the ledger's store does not answer; try again") from error

    def record(self, principal: Principal, topic: str, account: str | None, status: int) -> None:
        """Record who subscribed to what, where tokens say who it is."""
        if self._services.gate.needs_tokens:
            self._services.audit.record(
                subject=principal.subject,
                role=principal.role,
                operation="feed",
                topic=topic,
                account=account,
                status=status,
            )

    def record_denial(self, status: int, client: str | None) -> None:
        """Record that somebody was turned away before anything was asked."""
        self._services.audit.record(
            subject=None, role=None, operation="feed", status=status, client=client
        )


@contextlib.asynccontextmanager
async def serving_feed(app: FastAPI) -> AsyncIterator[None]:
    """Run the feed of an application that has its services in `app.state.services`."""
    services: Services = app.state.services
    with contextlib.ExitStack() as stack:
        opening = asyncio.create_task(asyncio.to_thread(_open, stack, services.settings))
        try:
            live, missed, news = await asyncio.shield(opening)
        finally:
            # A thread cannot be cancelled: all that it opens is to be on the stack that closes.
            await asyncio.wait([opening])
        hub = Hub(live, missed, news)
        app.state.feed = Feed(hub, services)
        services.registry.register(FeedMetrics(hub.connections, hub.counts))
        hub.start()
        try:
            yield
        finally:
            await hub.stop()


def _open(
    stack: contextlib.ExitStack, settings: Settings
) -> tuple[Reader, Reader, Sequence[NewsSource]]:
    """Open what is read with, for two threads, one after the other."""
    live = stack.enter_context(running(settings))
    missed = stack.enter_context(running(settings))
    return _reader(live), _reader(missed), live.news


def _reader(parts: Parts) -> Reader:
    return Reader(lambda: parts.models.connection, parts.log)
