"""Sending to the partitions of one topic: what gathers while a request is on its way is the next.

One request is on its way to each broker, with a batch of each partition that it leads: so records
keep their order, and many small ones never queue up behind each other. aiokafka's producer comes to
the same in three tasks and many futures for each record.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition, errors  # type: ignore[import-untyped]
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.record.default_records import (  # type: ignore[import-untyped]
    DefaultRecordBatchBuilder,
)
from msgspec import Struct

from streams.deciding.wire import Headers
from streams.kafka_client import end_client
from streams.kafka_requests import Produce

_log = logging.getLogger(__name__)
_BATCH_BYTES: Final = 1024 * 1024
_REQUEST_MS: Final = 10_000
_PATIENCE_S: Final = 10.0
"""How long a partition that nobody leads is waited for."""
_BACKOFF_S: Final = 0.05
_MAGIC: Final = 2
_NONE: Final = -1
ALL_ACKS: Final = -1
LEADERS_ACK: Final = 1

_MAY_HAVE_LANDED: Final = (errors.RequestTimedOutError, errors.NotEnoughReplicasAfterAppendError)


class Letter(Struct, frozen=True, gc=False):
    """A record to send."""

    key: bytes | None
    value: bytes
    headers: Headers


Post = Mapping[int, Sequence[Letter]]
"""What one request takes, by partition."""


class Outbox:
    """What waits to be sent to a topic. Whatever cannot be sent is dropped: it is asked for again.

    For one event loop. Sent again is only what cannot have landed: the same asking twice could be
    answered once, and then decided once more. After a request, what is put gathers for `gather_s`
    from when that was sent, or until `hurry`; what is put after a while of quiet goes at once.
    """

    def __init__(
        self, options: Mapping[str, Any], topic: str, acks: int, *, gather_s: float = 0.0
    ) -> None:
        self._client = AIOKafkaClient(
            **options, request_timeout_ms=_REQUEST_MS, retry_backoff_ms=int(_BACKOFF_S * 1000)
        )
        self._topic = topic
        self._acks = acks
        self._gather_s = gather_s
        self._hurried = asyncio.Event()
        self._has_rest = False
        self._waiting: dict[int, list[Letter]] = {}
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._failing_since: dict[int, float] = {}

    async def start(self) -> None:
        """Connect."""
        await self._client.bootstrap()
        await self._client.set_topics([self._topic])

    async def stop(self, patience_s: float) -> None:
        """Send what is waiting, for so long, and disconnect."""
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.flush(), patience_s)
        finally:
            sending = list(self._sending.values())
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
            await end_client(self._client)

    def put(self, partition: int, letters: Iterable[Letter]) -> None:
        """Send to a partition, after what was put there before."""
        self._waiting.setdefault(partition, []).extend(letters)
        self._begin(self._leader(partition))

    def hurry(self) -> None:
        """Send what has gathered."""
        self._hurried.set()

    async def flush(self) -> None:
        """Wait until all is sent."""
        self._gather_s = 0.0  # whoever waits for it puts nothing more
        self.hurry()
        while self._sending:
            await asyncio.wait(list(self._sending.values()))

    def _leader(self, partition: int) -> int:
        """Return the node that leads a partition, -1 where none does."""
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        return _NONE if leader is None else int(leader)

    def _begin(self, leader: int) -> None:
        if leader not in self._sending:
            self._sending[leader] = asyncio.create_task(self._send(leader))

    async def _send(self, leader: int) -> None:
        try:
            while post := self._take(leader):
                self._hurried.clear()
                self._has_rest = False
                sent_at = asyncio.get_running_loop().time()
                if again := await self._sent(leader, post):
                    self._put_back(again)
                    await asyncio.sleep(_BACKOFF_S)
                    await self._client.force_metadata_update()
                elif self._gather_s and not self._has_rest:
                    await self._gather(sent_at + self._gather_s)
        finally:
            del self._sending[leader]
        for partition in self._waiting:
            self._begin(self._leader(partition))

    async def _gather(self, until: float) -> None:
        """Wait while what is put gathers, in the event loop's time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._hurried.wait()

    def _take(self, leader: int) -> dict[int, list[Letter]]:
        """Take all that waits for partitions of a leader."""
        mine = [one for one in self._waiting if self._leader(one) == leader]
        return {partition: self._waiting.pop(partition) for partition in mine}

    def _put_back(self, post: Post) -> None:
        """Let what has certainly not landed wait again, before what came since."""
        now = time.monotonic()
        for partition, letters in post.items():
            if now - self._failing_since.setdefault(partition, now) > _PATIENCE_S:
                self._drop(partition, len(letters), f"nobody took it for {_PATIENCE_S:g} s")
            else:
                self._waiting[partition] = [*letters, *self._waiting.get(partition, ())]

    def _drop(self, partition: int, count: int, reason: str) -> None:
        """Drop what could not be sent, and what comes after it: the order is kept."""
        self._failing_since.pop(partition, None)
        dropped = count + len(self._waiting.pop(partition, ()))
        _log.warning("not sent to %s/%d: %s, %d records", self._topic, partition, reason, dropped)

    async def _sent(self, leader: int, post: Post) -> dict[int, Sequence[Letter]]:
        """Send letters; return those that have certainly not landed, and may yet."""
        if leader == _NONE:
            return dict(post)
        packed = {partition: _pack(letters) for partition, letters in post.items()}
        bodies = [(partition, body) for partition, (body, _) in packed.items()]
        request = Produce(None, self._acks, _REQUEST_MS, [(self._topic, bodies)])
        try:
            response = await self._client.send(leader, request)
        except errors.NodeNotReadyError:
            return dict(post)
        except errors.KafkaError as error:
            for partition, letters in post.items():
                self._drop(partition, len(letters), repr(error))
            return {}
        codes = {one[0]: one[1] for _, told in response.topics for one in told}
        again: dict[int, Sequence[Letter]] = {}
        for partition, letters in post.items():
            rest = self._settled(partition, letters, packed[partition][1], codes[partition])
            if rest:
                again[partition] = rest
        return again

    def _settled(
        self, partition: int, letters: Sequence[Letter], sent: int, code: int
    ) -> Sequence[Letter]:
        """Take a broker's answer; return what is to be sent again."""
        error = errors.for_code(code)
        if error is errors.NoError:
            self._failing_since.pop(partition, None)
            if sent < len(letters):
                self._has_rest = True
                self._waiting[partition] = [*letters[sent:], *self._waiting.get(partition, ())]
            return ()
        if error.retriable and not issubclass(error, _MAY_HAVE_LANDED):
            return letters
        self._drop(partition, len(letters), error.__name__)
        return ()


def _pack(letters: Sequence[Letter]) -> tuple[bytes, int]:
    """Return a batch of records, and how many of the letters it took."""
    now_ms = time.time_ns() // 1_000_000
    batch = DefaultRecordBatchBuilder(_MAGIC, 0, False, _NONE, _NONE, _NONE, _BATCH_BYTES)
    append = batch.append
    for index, one in enumerate(letters):
        if append(index, now_ms, one.key, one.value, one.headers) is None:
            return bytes(batch.build()), index
    return bytes(batch.build()), len(letters)
