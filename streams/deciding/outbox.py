"""Sending to the partitions of one topic: what gathers while a batch is on its way is the next.

One batch of a partition is on its way at a time, so that its records keep their order, and many
small ones never queue up behind each other.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from aiokafka import AIOKafkaProducer, errors  # type: ignore[import-untyped]
from msgspec import Struct

from streams.deciding.wire import Headers

_log = logging.getLogger(__name__)
BATCH_BYTES: Final = 1024 * 1024
"""What a producer given to an outbox must take as its largest batch."""


class Letter(Struct, frozen=True, gc=False):
    """A record to send."""

    key: bytes | None
    value: bytes
    headers: Headers


class Outbox:
    """What waits to be sent to a topic. Whatever cannot be sent is dropped: it is asked for again.

    For one event loop; the producer is the caller's to start and stop.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._waiting: dict[int, list[Letter]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}

    def put(self, partition: int, letters: Iterable[Letter]) -> None:
        """Send to a partition, after what was put there before."""
        self._waiting.setdefault(partition, []).extend(letters)
        if partition not in self._sending:
            self._sending[partition] = asyncio.create_task(self._send(partition))

    async def flush(self) -> None:
        """Wait until all is sent."""
        while self._sending:
            await asyncio.wait(list(self._sending.values()))

    async def _send(self, partition: int) -> None:
        try:
            while letters := self._waiting.pop(partition, None):
                for batch in self._packed(letters):
                    batch.close()
                    sent = await self._producer.send_batch(batch, self._topic, partition=partition)
                    await sent
        except errors.KafkaError as error:
            # What comes after it is dropped too: the order is kept, or nothing is sent.
            dropped = len(self._waiting.pop(partition, ()))
            _log.warning("not sent to %s: %r, and %d after it", self._topic, error, dropped)
        finally:
            del self._sending[partition]

    def _packed(self, letters: list[Letter]) -> Iterator[Any]:
        now_ms = time.time_ns() // 1_000_000
        batch = self._producer.create_batch()
        for one in letters:
            row = {"timestamp": now_ms, "key": one.key, "value": one.value, "headers": one.headers}
            if batch.append(**row) is None:
                yield batch
                batch = self._producer.create_batch()
                batch.append(**row)
        yield batch
