"""Sending what a decider has to say: replies to who asked, dead letters for people."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition, errors  # type: ignore[import-untyped]

from streams.deciding.wire import ASK, Route
from streams.kafka_topics import LARGEST_APPEND, topic_name

_log = logging.getLogger(__name__)
_BATCH_BYTES: Final = 1024 * 1024
_REQUEST_MS: Final = 10_000


class Replying:
    """Sends replies, and dead letters durably. For one event loop."""

    def __init__(self, options: Mapping[str, Any], namespace: str) -> None:
        self._replies = topic_name(namespace, "replies")
        self._dead_letters = topic_name(namespace, "dead-letters")
        # A reply that is lost is asked for again: nobody waits for copies of it.
        self._producer = AIOKafkaProducer(
            **options,
            acks=1,
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=LARGEST_APPEND,
            request_timeout_ms=_REQUEST_MS,
        )
        self._letters = AIOKafkaProducer(
            **options,
            acks="all",
            enable_idempotence=True,
            max_request_size=LARGEST_APPEND,
            request_timeout_ms=_REQUEST_MS,
        )
        self._pending: dict[int, list[tuple[bytes, bytes]]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Connect."""
        await self._producer.start()
        await self._letters.start()

    async def stop(self) -> None:
        """Send what is waiting, and disconnect."""
        await asyncio.gather(self._producer.stop(), self._letters.stop(), return_exceptions=True)

    def reply(self, told: Iterable[tuple[Route, bytes]]) -> None:
        """Send replies, in their order, to those who named where."""
        for route, value in told:
            if route.ask is None or route.reply_to is None:
                continue
            self._pending.setdefault(route.reply_to, []).append((route.ask, value))
        for partition in self._pending.keys() - self._sending.keys():
            self._sending[partition] = asyncio.create_task(self._send_pending(partition))

    async def flush(self) -> None:
        """Wait until what was told is sent."""
        while self._sending:
            await asyncio.wait(self._sending.values())

    async def _send_pending(self, partition: int) -> None:
        """Send what there is for a partition, and what comes in meanwhile."""
        try:
            while replies := self._pending.pop(partition, None):
                for batch in self._packed(replies):
                    await self._send(batch, partition)
        finally:
            del self._sending[partition]

    def _packed(self, replies: list[tuple[bytes, bytes]]) -> Iterator[Any]:
        now_ms = time.time_ns() // 1_000_000
        batch = self._producer.create_batch()
        for ask, value in replies:
            row = {"timestamp": now_ms, "key": None, "value": value, "headers": [(ASK, ask)]}
            if batch.append(**row) is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(**row)
        yield batch

    async def _send(self, batch: Any, partition: int) -> None:
        batch.close()
        try:
            sent = await self._producer.send_batch(batch, self._replies, partition=partition)
            await sent
        except errors.KafkaError as error:
            # Whoever waits for them asks again.
            _log.warning("replies were not sent: %s", error)

    async def bury(self, at: TopicPartition, record: Any, reason: str) -> None:
        """Keep a record of the commands topic for people, with the reason; durable on return."""
        headers = [
            ("daybook-reason", reason.encode()),
            ("daybook-from", f"{at.topic}/{at.partition}:{record.offset}".encode()),
            *record.headers,
        ]
        while True:
            try:
                await self._letters.send_and_wait(
                    self._dead_letters, record.value or b"", record.key, headers=headers
                )
            except errors.KafkaError as error:
                if not error.retriable:
                    raise
                _log.warning("a dead letter is sent again", extra={"reason": str(error)})
            else:
                return
