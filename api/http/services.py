"""What a serving process runs beside its routes: readers, a writer, a follower, the gate."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from msgspec import Struct
from prometheus_client import CollectorRegistry

from api.http.audit import AuditTrail
from api.http.copies import Copies
from api.http.directory import Directory
from api.http.following import TOPIC_OF, Follower
from api.http.hot import HotAnswers
from api.http.keys import KeyRing
from api.http.limits import Limiter, Places, limiter_for
from api.http.metrics import Metrics, SlowLog
from api.http.problems import NOT_REACHED, Problem
from api.http.readers import Lender, Readers
from api.http.security import Gate, Principal
from api.http.settling import Settling
from api.http.writing import Writer
from infra.settings import Settings
from schemas.partitioning import partition_of
from streams.log import TopicPartition

WAIT_S: Final = 5.0
OWN_WRITES_S: Final = 1.0
MOST_EXPORTS: Final = 4
"""Exports at once: each holds a connection."""
MOST_EXPORTS_OF_ONE: Final = 2
"""How many of them one subject may have, where tokens tell subjects apart."""
EXPORT_WAIT_S: Final = 5.0
"""How long an export waits for a place: most are small, and a client reads some at once."""
LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "[::1]"))


class Options(Struct, frozen=True, kw_only=True):
    """How a server is set up. `hosts` are the names it goes by, without ports.

    `requests_a_second` is what a principal may ask, 0 for no limit.
    """

    hosts: frozenset[str] = LOOPBACK
    jwks: str | None = None
    audience: str = "daybook"
    issuer: str | None = None
    requests_a_second: int = 1_000
    slow_s: float = 0.5
    readers: int = 8


class Services:
    """The running parts of a server, for one event loop."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        loop: asyncio.AbstractEventLoop,
        partitions: int,
        log_id: str,
        namespace: str,
    ) -> None:
        self.settings = settings
        self.options = options
        self.partitions = partitions
        self.log_id = log_id
        self.readers = Readers(settings, options.readers)
        self.follower = Follower(settings, loop)
        self.settling = Settling(settings)
        self.hot = HotAnswers(self.follower)
        self.writer = Writer(settings, loop, self.follower, partitions)
        self.directory = Directory(self.readers)
        keys = KeyRing(settings.home, options.jwks)
        self.gate = Gate(
            keys,
            self.directory.portfolios_of,
            audience=options.audience,
            issuer=options.issuer,
        )
        self.limiter: Limiter = limiter_for(settings, namespace, options.requests_a_second)
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.audit = AuditTrail(settings.home)
        self.exporters = Lender(settings)
        self.copies = Copies(settings.home)
        self._behind = SlowLog()
        self.export_places = Places("exports", MOST_EXPORTS)

    async def export_place(self, principal: Principal) -> Callable[[], None]:
        """Take a place for an export, soon; return what gives it back.

        Raises Problem where none becomes free.
        """
        most = MOST_EXPORTS_OF_ONE if self.gate.needs_tokens else MOST_EXPORTS
        return await self.export_places.wait(principal.subject, most, EXPORT_WAIT_S)

    async def owns(self, principal: Principal, account: str) -> bool:
        """Tell whether an account is a principal's own, by its portfolio as it is now."""
        if principal.accounts is None or account in principal.accounts:
            return True
        if not principal.portfolios:
            return False
        if not self.directory.has_just_learnt(account):
            await self.wait_for({}, ("accounts", "instruments"))
            await self.directory.learn(account)
        return principal.owns(account)

    async def owns_portfolio(self, principal: Principal, portfolio: str) -> bool:
        """Tell whether a portfolio is a principal's own, or lies below one that is."""
        if principal.accounts is None or portfolio in principal.portfolios:
            return True
        if not principal.portfolios:
            return False
        return not principal.portfolios.isdisjoint(await self.directory.above(portfolio))

    async def wait_for(
        self,
        places: Mapping[TopicPartition, int],
        projections: tuple[str, ...],
        key: str | None = None,
    ) -> None:
        """Wait until read models hold these positions; raises Problem when it takes too long.

        What this process was the one to write is waited for as well, for a moment. Of the first
        projection's topic it is the stream of that key, or all of them without one.
        """
        own = self._own_writes(projections, key)
        if own and not await self.follower.wait(own, projections, OWN_WRITES_S):
            self._behind.tell("reads are answered from before the last writes")
        if not places or await self.follower.wait(places, projections, WAIT_S):
            return
        raise Problem(
            NOT_REACHED,
            f"min_position: not reached in {WAIT_S:g} s; ask again",
            field="min_position",
        )

    def _own_writes(
        self, projections: tuple[str, ...], key: str | None
    ) -> Mapping[TopicPartition, int]:
        if self.settings.log_url.scheme == "kafka":
            return {}
        acknowledged = self.writer.acknowledged
        topics = {TOPIC_OF[name] for name in projections}
        topic = None if key is None else TOPIC_OF[projections[0]]
        partition = None if key is None else partition_of(key, self.partitions)
        return {
            place: offset
            for place, offset in acknowledged.items()
            if place[0] in topics and (place[0] != topic or place[1] == partition)
        }


@contextlib.asynccontextmanager
async def running_services(settings: Settings, options: Options) -> AsyncIterator[Services]:
    """Start the parts of a server and stop them; raises ServerUnavailable for one not there."""
    loop = asyncio.get_running_loop()
    log_id, partitions, namespace = await asyncio.to_thread(_log_facts, settings)
    services = Services(settings, options, loop, partitions, log_id, namespace)
    services.follower.start()
    if settings.log_url.scheme == "kafka":
        services.settling.start()
    fresh_keys = asyncio.create_task(services.gate.keys.keep_fresh())
    try:
        yield services
    finally:
        fresh_keys.cancel()
        await asyncio.to_thread(_close, services)
        await services.limiter.close()


def _log_facts(settings: Settings) -> tuple[str, int, str]:
    from api.wiring import running

    with running(settings) as parts:
        assert parts.models is not None  # the tables are made before anybody asks
        return parts.log.log_id, parts.log.partitions, parts.namespace


def _close(services: Services) -> None:
    services.writer.close()
    services.settling.close()
    services.follower.close()
    services.readers.close()
    services.exporters.close()
    services.audit.close()
