"""How many requests a principal may make: a bucket of tokens each, here or in Redis.

And how many places a principal may have of the few that there are for what takes long.
"""

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any, Final, Protocol

from api.http.problems import OVERLOADED, RATE_LIMITED, Problem
from infra.settings import Settings

_BUCKETS: Final = 65_536
_BURST_S: Final = 2.0
_SCRIPT: Final = """
local rate, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local told = redis.call('TIME')
local now = tonumber(told[1]) + tonumber(told[2]) / 1000000
local kept = redis.call('HMGET', KEYS[1], 'left', 'at')
local left = math.min(most, (tonumber(kept[1]) or most) + (now - (tonumber(kept[2]) or now)) * rate)
local wait = 0
if left < 1 then wait = (1 - left) / rate else left = left - 1 end
redis.call('HSET', KEYS[1], 'left', left, 'at', now)
redis.call('EXPIRE', KEYS[1], 60)
return tostring(wait)
"""
"""One step in the server, so that several processes share a bucket; the time is the server's."""


class Limiter(Protocol):
    """Counts requests."""

    async def wait_s(self, subject: str) -> float:
        """Count a request; return 0, or after how many seconds one will be let in."""
        ...

    async def close(self) -> None:
        """Give back what is held open."""
        ...


class LocalLimiter:
    """Buckets in this process. `rate` requests a second, twice as many at once; 0 is no limit."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def wait_s(self, subject: str) -> float:
        """Count a request; return 0, or after how many seconds one will be let in."""
        if not self._rate:
            return 0.0
        now, most = time.monotonic(), self._rate * _BURST_S
        left, at = self._buckets.get(subject, (most, now))
        left = min(most, left + (now - at) * self._rate)
        wait_s = 0.0 if left >= 1 else (1 - left) / self._rate
        self._buckets[subject] = (left if wait_s else left - 1, now)
        self._buckets.move_to_end(subject)
        while len(self._buckets) > _BUCKETS:
            self._buckets.popitem(last=False)
        return wait_s

    async def close(self) -> None:
        """Do nothing: nothing is held open."""


class RedisLimiter:
    """Buckets in Redis, shared by all processes of a ledger, which its namespace tells from others.

    Without Redis each process counts by itself.
    """

    def __init__(self, url: str, namespace: str, rate: int) -> None:
        import redis.asyncio

        self._rate = rate
        self._namespace = namespace
        self._alone = LocalLimiter(rate)
        self._client: Any = redis.asyncio.Redis.from_url(
            url, socket_timeout=0.2, socket_connect_timeout=0.2
        )
        self._script = self._client.register_script(_SCRIPT)
        self._down_until = 0.0

    async def wait_s(self, subject: str) -> float:
        """Count a request; return 0, or after how many seconds one will be let in."""
        from redis.exceptions import RedisError

        if not self._rate:
            return 0.0
        if time.monotonic() >= self._down_until:
            try:
                told = await self._script(
                    keys=[f"{self._namespace}:limit:{subject}"],
                    args=[self._rate, self._rate * _BURST_S],
                )
                return float(told)
            except (RedisError, OSError, TimeoutError):
                self._down_until = time.monotonic() + 1.0
        return await self._alone.wait_s(subject)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class Places:
    """A few places in this process, of which one principal may have some."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._count = 0
        self._taken: Counter[str] = Counter()
        self._given_back = asyncio.Event()

    def take(self, subject: str, most_of_one: int) -> Callable[[], None]:
        """Take a place; return what gives it back. Raises Problem where none is free."""
        if self._count >= self._most:
            raise Problem(OVERLOADED, f"{self._most} {self._what} are running; try again")
        if self._taken[subject] >= most_of_one:
            raise Problem(RATE_LIMITED, f"{most_of_one} {self._what} of yours are running")
        self._count += 1
        self._taken[subject] += 1

        def give_back() -> None:
            self._count -= 1
            self._taken[subject] -= 1
            if not self._taken[subject]:
                del self._taken[subject]
            given_back, self._given_back = self._given_back, asyncio.Event()
            given_back.set()

        return give_back

    async def wait(self, subject: str, most_of_one: int, longest_s: float) -> Callable[[], None]:
        """Take a place, as soon as there is one.

        Raises Problem where none has been given back in so long. Places are then given back in the
        thread of the event loop.
        """
        end = time.monotonic() + longest_s
        while True:
            try:
                return self.take(subject, most_of_one)
            except Problem as refused:
                left_s = end - time.monotonic()
                if left_s <= 0:
                    refused.headers.setdefault("Retry-After", str(round(longest_s)))
                    raise
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._given_back.wait()


def limiter_for(settings: Settings, namespace: str, rate: int) -> Limiter:
    """Return the limiter that the settings ask for."""
    if settings.cache_url.scheme in ("redis", "rediss") and rate:
        return RedisLimiter(settings.cache_url.text, namespace, rate)
    return LocalLimiter(rate)
