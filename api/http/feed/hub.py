"""What a process serves the feed from: the channels, and the two threads that read for them.

One thread follows what is new, and whatever it reads is shared. The other reads for those who
begin or are far behind, so that none of them delays the rest.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg

from api.http.feed.channel import Channel
from api.http.feed.connection import Connection, Subscription
from api.http.feed.metrics import Counts
from api.http.feed.reading import Ask, Moment, Reader
from infra.errors import InfraError
from streams.log import LogError
from streams.news import ANYTHING, NewsSource

_log = logging.getLogger(__name__)
POLL_S: Final = 1.0
"""After so long without news it looks by itself: news may be lost."""
PACE_S: Final = 0.01
"""The least time between two looks: what comes in between is one update."""
HEARTBEAT_S: Final = 5.0
_BACK_OFF_S: Final = 1.0
_READ_TOGETHER: Final = 16
_STIRRED_AT_ONCE: Final = 50
"""So many are sent what is new, then requests have their turn: each costs some 20 us."""
_TOPIC: Final = "events"


class Hub:
    """Everything that the connections of one process share. For one event loop."""

    def __init__(self, live: Reader, missed: Reader, news: Sequence[NewsSource]) -> None:
        self.connections: set[Connection] = set()
        self.counts = Counts()
        self._channels: dict[tuple[str, str | None], Channel] = {}
        self._live = live
        self._missed = missed
        self._news = news
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="feed")
        self._stirred = asyncio.Event()
        self._moved: set[int] = set()
        self._look_at_all = False
        self._looked_at_all = float("-inf")
        self._asked = asyncio.Event()
        self._asks: dict[Ask, list[Subscription]] = {}
        self._reached = "0:0"
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow what the read models commit."""
        loop = asyncio.get_running_loop()
        for work in (self._follow, self._read_missed, self._beat):
            self._tasks.append(loop.create_task(work(), name=f"feed {work.__name__}"))
        for source in self._news:
            self._tasks.append(loop.create_task(self._listen(source), name="feed news"))

    async def stop(self) -> None:
        """Stop following, once what is being read is done."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown)

    # --- what connections ask for --------------------------------------------------------------

    def join(self, subscription: Subscription, topic: str, account: str | None) -> Channel:
        """Return the channel of a topic and account, with one more subscriber."""
        channel = self._channels.get((topic, account))
        if channel is None:
            channel = self._channels[topic, account] = Channel(topic, account)
        channel.subscribers[subscription] = None
        return channel

    def leave(self, subscription: Subscription) -> None:
        """Take a subscriber out; a channel without any is forgotten."""
        key = (subscription.topic, subscription.account)
        channel = self._channels[key]
        del channel.subscribers[subscription]
        if not channel.subscribers:
            del self._channels[key]

    def read(self, subscription: Subscription, ask: Ask) -> None:
        """Read what a subscription misses, once for all that ask for the same."""
        self._asks.setdefault(ask, []).append(subscription)
        self._asked.set()

    # --- what goes on by itself ----------------------------------------------------------------

    async def _listen(self, source: NewsSource) -> None:
        async with contextlib.aclosing(source.listen()) as heard:
            async for news in heard:
                if news.topic == _TOPIC:
                    self._moved.add(news.partition)
                    self._stirred.set()
                elif news == ANYTHING:
                    self._look_everywhere()

    def _look_everywhere(self) -> None:
        self._look_at_all = True
        self._stirred.set()

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._stirred.wait()
            self._stirred.clear()
            if time.monotonic() - self._looked_at_all >= POLL_S:
                self._look_at_all = True  # whatever news there was of some of it
            if self.connections:
                try:
                    await self._look()
                # Nothing narrower: outages are met below, and no other fault, which is logged,
                # may end the one task that shows everybody what is new.
                except Exception:
                    _log.exception("the feed cannot show what is new, trying again")
                    self._look_everywhere()
                    await asyncio.sleep(_BACK_OFF_S)
            await asyncio.sleep(PACE_S)

    async def _look(self) -> None:
        """Read what is new where something moved, as of one moment, and tell the subscribers."""
        moved = None if self._look_at_all else frozenset(self._moved)
        if moved is None:
            self._looked_at_all = time.monotonic()
        self._look_at_all = False
        self._moved.clear()
        asked = [
            (channel, ask)
            for channel in self._channels.values()
            if (ask := channel.live_ask(moved)) is not None
        ]
        moment = await self._moment(self._live, [ask for _, ask in asked])
        if moment is None:
            self._look_everywhere()
            return
        self._reached = moment.reached()
        for (channel, _), piece in zip(asked, moment.pieces, strict=True):
            if piece is None:
                continue
            subscribers, update = channel.advance(piece)
            for number, subscriber in enumerate(subscribers, 1):
                subscriber.stir(update)
                if number % _STIRRED_AT_ONCE == 0:
                    await asyncio.sleep(0)
            if not piece.is_whole:
                self._look_everywhere()

    async def _read_missed(self) -> None:
        while True:
            await self._asked.wait()
            asks = self._next_asks()
            if not asks or await self._is_answered(asks):
                continue
            # One of them is at fault, and not those that came with it.
            for ask in asks:
                if len(asks) == 1 or not await self._is_answered([ask]):
                    self._give_up(ask)

    def _next_asks(self) -> list[Ask]:
        """Return what is to be read next; what nobody waits for any more is dropped."""
        asks: list[Ask] = []
        for ask, waiting in list(self._asks.items()):
            if all(subscription.is_ended for subscription in waiting):
                del self._asks[ask]
            else:
                asks.append(ask)
            if len(asks) == _READ_TOGETHER:
                break
        self._rest_if_idle()
        return asks

    async def _is_answered(self, asks: Sequence[Ask]) -> bool:
        """Answer asks; tell whether they are, or will be after an outage. False for a fault."""
        try:
            moment = await self._moment(self._missed, asks)
        # Nothing narrower: any other fault than an outage is logged and told to those whose
        # questions these are; who reads goes on for all others, who would wait for ever.
        except Exception:
            _log.exception("the feed cannot read what was missed")
            return False
        if moment is not None:
            self._hand_out(asks, moment)
        return True

    def _hand_out(self, asks: Sequence[Ask], moment: Moment) -> None:
        for ask, piece in zip(asks, moment.pieces, strict=True):
            waiting = self._asks.pop(ask)
            self.counts.reads += 1
            assert piece is not None
            channel = self._channels.get((ask.topic, ask.account))
            if channel is not None and channel.position is None:
                channel.begin(piece)
                # News may have come while there was no position to read from.
                self._look_everywhere()
            for subscription in waiting:
                subscription.take(piece)
        self._rest_if_idle()

    def _give_up(self, ask: Ask) -> None:
        for subscription in self._asks.pop(ask):
            subscription.fail()
        self._rest_if_idle()

    def _rest_if_idle(self) -> None:
        if not self._asks:
            self._asked.clear()

    async def _moment(self, reader: Reader, asks: Sequence[Ask]) -> Moment | None:
        """Return what a reader finds; None after an outage, once it is worth trying again."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, reader.read, asks)
        except psycopg.DataError:
            raise  # no outage: what was asked will never be answered
        except (InfraError, LogError, psycopg.Error) as error:
            _log.warning("the feed cannot read, trying again: %s", error)
            await asyncio.sleep(_BACK_OFF_S)
            return None

    async def _beat(self) -> None:
        beats = 0.0
        while True:
            await asyncio.sleep(1.0)
            beats += 1.0
            for channel in self._channels.values():
                channel.age()
            for connection in list(self.connections):
                connection.check_stuck()
                if beats % HEARTBEAT_S == 0:
                    connection.beat(self._reached)
