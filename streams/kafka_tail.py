"""Following many partitions at once at their ends: one long question to each broker at a time.

A broker answers as soon as any of its partitions has something new, so what was appended is read
back without being asked for again and again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from aiokafka import TopicPartition, errors  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]

from streams.kafka_client import AWAY, reporting_outage
from streams.kafka_reading import UNCOMMITTED, check, parse
from streams.kafka_requests import Fetch

_PARTITION_BYTES: Final = 1024 * 1024
_ANSWER_BYTES: Final = 4 * 1024 * 1024
_BACKOFF_S: Final = 0.05
_REQUEST_MS: Final = 10_000

Wanted = Callable[[], Mapping[TopicPartition, int]]
"""Say, whenever it is asked, which partitions to read and from which offsets."""
Took = Callable[[TopicPartition, list[Any], int], Awaitable[None]]
"""Take the next records of a partition, and the offset at which it ends. No records where the
offset that was wanted is not there."""


class Tail:
    """Reads what `wanted` says and hands it to `took`, until cancelled. For one event loop.

    A broker waits for something new for `wait_ms`, and is asked again after `pause_s`. `nudge` says
    that something is wanted where nothing was.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        wanted: Wanted,
        took: Took,
        *,
        wait_ms: int,
        pause_s: float = 0.0,
    ) -> None:
        self._client = AIOKafkaClient(
            **options, request_timeout_ms=_REQUEST_MS, retry_backoff_ms=int(_BACKOFF_S * 1000)
        )
        self._wanted = wanted
        self._took = took
        self._wait_ms = wait_ms
        self._pause_s = pause_s
        self._nudged = asyncio.Event()
        self._asking: dict[int, asyncio.Task[None]] = {}

    async def start(self, topics: Iterable[str]) -> None:
        """Connect."""
        with reporting_outage("connecting"):
            await self._client.bootstrap()
            await self._client.set_topics(topics)

    async def stop(self) -> None:
        """Disconnect."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        await self._client.close()

    def nudge(self) -> None:
        """Have it look at what is wanted."""
        self._nudged.set()

    async def run(self) -> None:
        """Follow; raises what `took` raises. A broker that is away is asked again."""
        while True:
            led, homeless = self._by_leader()
            if len(led) == 1 and not homeless and not self._asking:
                ((node, wanted),) = led.items()
                await self._ask(node, wanted)
                await asyncio.sleep(self._pause_s)
                continue
            for node, wanted in led.items():
                if node not in self._asking:
                    self._asking[node] = asyncio.create_task(self._ask(node, wanted))
            if not self._asking:
                await (self._look_again() if homeless else self._wait_for_nudge())
                continue
            patience = _BACKOFF_S if homeless else None
            done, _ = await asyncio.wait(
                self._asking.values(), timeout=patience, return_when=asyncio.FIRST_COMPLETED
            )
            for node in [node for node, task in self._asking.items() if task in done]:
                self._asking.pop(node).result()
            if homeless:
                await self._look_again()
            elif self._pause_s:
                await asyncio.sleep(self._pause_s)

    async def _wait_for_nudge(self) -> None:
        self._nudged.clear()
        if not self._wanted():
            await self._nudged.wait()

    def _by_leader(self) -> tuple[dict[int, dict[TopicPartition, int]], bool]:
        """Return what to ask of each broker, and whether a partition has no leader."""
        led: dict[int, dict[TopicPartition, int]] = {}
        homeless = False
        for at, offset in self._wanted().items():
            leader = self._client.cluster.leader_for_partition(at)
            if leader is None or leader < 0:
                homeless = True
            else:
                led.setdefault(int(leader), {})[at] = offset
        return led, homeless

    async def _ask(self, node: int, wanted: Mapping[TopicPartition, int]) -> None:
        by_topic: dict[str, list[tuple[int, int, int]]] = {}
        for at, offset in wanted.items():
            asked = by_topic.setdefault(at.topic, [])
            asked.append((at.partition, offset, _PARTITION_BYTES))
        request = Fetch(
            self._wait_ms, 1, _ANSWER_BYTES, UNCOMMITTED, list(by_topic.items()), rack_id=""
        )
        try:
            response = await self._client.send(node, request)
        except errors.KafkaError as error:
            if not (error.retriable or isinstance(error, AWAY)):
                raise
            await self._look_again()
            return
        stale = False
        for topic, answers in response.topics:
            for partition, code, head, *_, data in answers:
                at = TopicPartition(topic, partition)
                stale |= not await self._hand_over(at, wanted[at], code, head, data)
        if stale:
            await self._look_again()

    async def _hand_over(
        self, at: TopicPartition, offset: int, code: int, head: int, data: bytes
    ) -> bool:
        """Hand over a partition's records; tell whether its broker could be asked for them."""
        try:
            check(code)
        except errors.OffsetOutOfRangeError:
            await self._took(at, [], -1)
            return False
        except errors.KafkaError as error:
            if not error.retriable:
                raise
            return False
        await self._took(at, list(parse(data, offset)) if data else [], head)
        return True

    async def _look_again(self) -> None:
        await asyncio.sleep(_BACKOFF_S)
        await self._client.force_metadata_update()
