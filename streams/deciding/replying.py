"""Sending what a decider has to say: replies to who asked, dead letters for people."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition, errors  # type: ignore[import-untyped]

from streams.deciding.outbox import LEADERS_ACK, Letter, Outbox
from streams.deciding.wire import ASK, Route
from streams.kafka_client import AWAY, end_producer
from streams.kafka_topics import LARGEST_APPEND, topic_name

_log = logging.getLogger(__name__)
_REQUEST_MS: Final = 10_000
_FLUSH_S: Final = 1
_AGAIN_S: Final = 0.1


class Replying:
    """Sends replies, and dead letters durably. For one event loop."""

    def __init__(self, options: Mapping[str, Any], namespace: str) -> None:
        self._dead_letters = topic_name(namespace, "dead-letters")
        # A reply that is lost is asked for again: nobody waits for copies of it.
        self._outbox = Outbox(options, topic_name(namespace, "replies"), LEADERS_ACK)
        # Not idempotent: after a day without a letter brokers would not know who sends it. One that
        # is there twice says twice where it is from.
        self._letters = AIOKafkaProducer(
            **options,
            acks="all",
            max_request_size=LARGEST_APPEND,
            request_timeout_ms=_REQUEST_MS,
        )

    async def start(self) -> None:
        """Connect."""
        await self._outbox.start()
        await self._letters.start()

    async def stop(self) -> None:
        """Send what is waiting, within seconds, and disconnect."""
        await asyncio.gather(self._outbox.stop(_FLUSH_S), end_producer(self._letters, _FLUSH_S))

    def reply(self, told: Iterable[tuple[Route, bytes]]) -> None:
        """Send replies, in their order, to those who named where."""
        by_partition: dict[int, list[Letter]] = {}
        for route, value in told:
            if route.ask is None or route.reply_to is None:
                continue
            letter = Letter(None, value, [(ASK, route.ask)])
            by_partition.setdefault(route.reply_to, []).append(letter)
        for partition, letters in by_partition.items():
            self._outbox.put(partition, letters)

    async def flush(self) -> None:
        """Wait until what was told is sent."""
        await self._outbox.flush()

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
                if not (error.retriable or isinstance(error, AWAY)):
                    raise
                _log.warning("a dead letter is sent again", extra={"reason": str(error)})
                await asyncio.sleep(_AGAIN_S)
            else:
                return
