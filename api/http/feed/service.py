"""What a serving process keeps for the feed, from its start to its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from api.http.feed.hub import Hub
from api.http.feed.reading import Reader
from api.http.security import Principal
from api.http.services import Services
from api.wiring import Parts, running
from infra.settings import Settings


class Feed:
    """The hub, and who may connect to it."""

    def __init__(self, hub: Hub, services: Services) -> None:
        self.hub = hub
        self._services = services

    async def admit(self, token: str | None) -> Principal:
        """Return who a token speaks for; raises Problem."""
        return await self._services.gate.admit(token)

    async def learn(self, principal: Principal, account: str) -> None:
        """Find out what a principal's rights to an account depend on, before they are asked."""
        await self._services.owns(principal, account)

    def record(self, principal: Principal, topic: str, account: str | None, *, taken: bool) -> None:
        """Record who subscribed to what, where tokens say who it is."""
        if self._services.gate.needs_tokens:
            self._services.audit.record(
                subject=principal.subject,
                role=principal.role,
                operation="feed",
                topic=topic,
                account=account,
                status=200 if taken else 403,
            )


@contextlib.asynccontextmanager
async def serving_feed(app: FastAPI) -> AsyncIterator[None]:
    """Run the feed of an application that has its services in `app.state.services`."""
    services: Services = app.state.services
    with contextlib.ExitStack() as stack:
        live, missed = await asyncio.gather(
            *(asyncio.to_thread(_open, stack, services.settings) for _ in range(2))
        )
        hub = Hub(_reader(live), _reader(missed), live.news)
        app.state.feed = Feed(hub, services)
        hub.start()
        try:
            yield
        finally:
            await hub.stop()


def _open(stack: contextlib.ExitStack, settings: Settings) -> Parts:
    return stack.enter_context(running(settings))


def _reader(parts: Parts) -> Reader:
    return Reader(lambda: parts.models.connection, parts.log)
