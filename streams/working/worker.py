"""The worker: keeps the read models of a log in Kafka at its head, in the partitions it is given.

Faust tells which partitions those are, and hands on records as they come; one thread projects them
(`streams.working.keeping`). This is what joins the two, and waits where a server is away.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import psycopg
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from infra.errors import ServerUnavailable
from infra.telemetry import get_logger
from schemas.envelope import Record
from streams.deciding.group import least_session_ms
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, LogError, TopicPartition
from streams.read_models import ReadModels
from streams.working.consuming import SESSION_S, Consuming, Handlers, run_consuming
from streams.working.keeping import Heads, Keeper
from streams.working.lag import LagGauges
from streams.working.metrics import WorkerMetrics

_LOOK_S: Final = 1.0
_COMMIT_S: Final = 2.0
_RETRY_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_START_S: Final = 3.0
_STEADY_S: Final = 30.0
_MS_PER_S: Final = 1000
_AWAY: Final = (ServerUnavailable, psycopg.Error, LogError)
"""What the servers answer with while they cannot be used, or not yet."""

_log = get_logger(__name__)

T = TypeVar("T")


class Worker:
    """One worker of a log. From here on `models` is for its thread alone."""

    def __init__(self, log: KafkaLog, models: ReadModels, metrics: WorkerMetrics) -> None:
        self._source = log
        self._place = log.place
        self._metrics = metrics
        self._keeper = Keeper(log, models, metrics)
        self._gauges = LagGauges(log, self._keeper, metrics)
        self._thread = ThreadPoolExecutor(1, "projecting")
        self._aside_thread = ThreadPoolExecutor(1, "looking")
        self._wake = asyncio.Event()
        self._fault: asyncio.Queue[Exception] = asyncio.Queue()
        self._app: Consuming | None = None
        self._is_away = False

    async def run(self, stopping: asyncio.Event) -> None:
        """Project until `stopping` is set; raises what nobody foresaw."""
        _log.info("starting", log=f"kafka://{self._place.hosts}/{self._place.namespace}")
        works = (stopping.wait(), self._raise_fault(), self._look_after(), self._consume())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for thread in (self._thread, self._aside_thread):
                thread.shutdown(wait=False, cancel_futures=True)
        _log.info("stopped")

    async def _raise_fault(self) -> None:
        raise await self._fault.get()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _aside(self, work: Callable[[], T]) -> T:
        """Ask the log something while the other thread projects."""
        return await asyncio.get_running_loop().run_in_executor(self._aside_thread, work)

    def _heads(self) -> Heads:
        return {topic: self._source.heads(topic) for topic in TOPICS}

    # --- looking after ---------------------------------------------------------------------------

    async def _look_after(self) -> None:
        """Catch up what does not move by itself, each second and whenever there is a reason."""
        tries = 0
        committed_at = 0.0
        while True:
            try:
                heads = await self._aside(self._heads)
                await self._in_thread(partial(self._keeper.look, heads))
                while await self._in_thread(self._keeper.catch_up):
                    pass
                await self._in_thread(partial(self._gauges.measure, heads))
                await self._aside(self._gauges.measure_ages)
            except _AWAY as error:
                self._note_away(error)
                await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
                continue
            self._note_back()
            tries = 0
            if time.monotonic() - committed_at > _COMMIT_S:
                await self._commit()
                committed_at = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _LOOK_S)
            self._wake.clear()

    async def _commit(self) -> None:
        app, places = self._app, await self._in_thread(self._keeper.next_offsets)
        if places and app is not None and not app.should_stop and not app.rebalancing:
            await app.commit_places(places)

    def _note_away(self, error: Exception) -> None:
        self._metrics.waiting.set(1)
        if not self._is_away:
            _log.warning("a server is away: waiting for it", reason=" ".join(str(error).split()))
        self._is_away = True

    def _note_back(self) -> None:
        self._metrics.waiting.set(0)
        if self._is_away:
            _log.info("the servers are back")
        self._is_away = False

    # --- what Faust tells ------------------------------------------------------------------------

    async def _consume(self) -> None:
        """Keep Faust running: where it gives up, for a broker that is gone, it is made anew."""
        tries = 0
        while True:
            began = time.monotonic()
            handlers = Handlers(self._take, self._start_at, self._assign, self._revoke)
            least_ms = await least_session_ms(self._place.client_options())
            self._app = Consuming(self._place, handlers, max(SESSION_S, least_ms / _MS_PER_S))
            try:
                await run_consuming(self._app)
            except (KafkaError, OSError, TimeoutError) as error:
                _log.warning("left the group", reason=" ".join(str(error).split()))
            except Exception:
                # Whatever Faust ends with, it holds nothing that is not read again.
                _log.exception("Faust has ended, and is started anew")
            finally:
                self._thread.submit(self._keeper.assign, ())
            tries = 0 if time.monotonic() - began > _STEADY_S else tries + 1
            await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])

    async def _take(self, records: list[Record]) -> None:
        if self._is_away:
            self._thread.submit(self._keeper.want, records)
            return
        try:
            if await self._in_thread(lambda: self._keeper.take(records)):
                self._wake.set()
        except _AWAY:
            # Who looks after what does not move finds the same, says it, and tries again.
            self._thread.submit(self._keeper.want, records)
            self._wake.set()
        except Exception as fault:
            # Faust would log it and go on with the next records.
            self._fault.put_nowait(fault)
            raise

    async def _start_at(self, heads: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        try:
            async with asyncio.timeout(_START_S):
                return await self._in_thread(lambda: self._keeper.start_at(heads))
        except (TimeoutError, *_AWAY):
            return heads
        except Exception as fault:
            self._fault.put_nowait(fault)
            raise

    async def _assign(self, places: set[TopicPartition]) -> None:
        _log.info("partitions assigned", count=len(places))
        self._thread.submit(self._keeper.assign, places)
        self._wake.set()

    async def _revoke(self, places: set[TopicPartition]) -> None:
        self._thread.submit(self._keeper.revoke, places)
