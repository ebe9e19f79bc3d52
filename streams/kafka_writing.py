"""Appending to Kafka's partitions: one batch is one append, whole or not at all."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaProducer,
    TopicPartition,
    errors,
)

from domain.times import from_ns
from infra.errors import ServerUnavailable
from streams.kafka_client import PART, end_producer, reporting_outage
from streams.kafka_headers import headers
from streams.kafka_topics import LARGEST_APPEND
from streams.log import Draft, LogError

_NS_PER_MS: Final = 1_000_000
_FRAME: Final = 1024
"""Room for a batch's own header within the largest append."""
_FLUSH_S: Final = 5
_REFUSALS: Final = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.InvalidTimestampError,
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.PolicyViolationError,
)
"""Answers after which nothing was appended; after any other failure that is not known."""


class AppendUnknown(ServerUnavailable):
    """Nobody answered whether records were appended: they may be there, or still land.

    An owner starts a new term, and reads up to it.
    """


class Writing:
    """Appends with acks=all through an idempotent producer. To be used in one event loop.

    After a failure its producer is given up and another is made: a failed batch leaves a hole in
    its sequence numbers.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        timeout_s: float,
        tail_ns: Callable[[TopicPartition], Awaitable[int]],
    ) -> None:
        self._options = options
        self._timeout_s = timeout_s
        self._tail_ns = tail_ns
        self._producer: AIOKafkaProducer = None
        self._starting = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self._turns: dict[TopicPartition, asyncio.Lock] = {}
        self._last_ns: dict[TopicPartition, int] = {}

    async def append(self, at: TopicPartition, drafts: Sequence[Draft], source: bytes) -> int:
        """Append drafts and return the first one's offset.

        Raises LogError when they are refused, AppendUnknown when nobody can tell.
        """
        place = f"{at.topic}/{at.partition}"
        # In the order of the calls, though the answers are not waited for.
        async with self._turns.setdefault(at, asyncio.Lock()):
            producer = self._producer
            if producer is None or at not in self._last_ns:
                producer = await self._prepared(at, place)
            batch, last_ns = _pack(producer, place, drafts, self._last_ns[at], source)
            try:
                async with asyncio.timeout(self._timeout_s):
                    sent = await producer.send_batch(batch, at.topic, partition=at.partition)
            except (errors.KafkaError, TimeoutError) as error:
                raise await self._failed(producer, at, error) from error
            self._last_ns[at] = last_ns
        try:
            metadata = await asyncio.wait_for(sent, self._timeout_s)
        except (errors.KafkaError, TimeoutError) as error:
            raise await self._failed(producer, at, error) from error
        if metadata.offset < 0:
            raise AppendUnknown(PART, f"{place} took a batch twice over", "read it to know")
        return int(metadata.offset)

    async def _prepared(self, at: TopicPartition, place: str) -> AIOKafkaProducer:
        with reporting_outage(f"preparing to append to {place}"):
            async with asyncio.timeout(self._timeout_s):
                producer = await self._started()
                if at not in self._last_ns:
                    self._last_ns[at] = await self._tail_ns(at)
                return producer

    async def _failed(
        self, producer: AIOKafkaProducer, at: TopicPartition, error: Exception
    ) -> LogError | ServerUnavailable:
        self._last_ns.pop(at, None)
        is_refused = isinstance(error, _REFUSALS)
        if self._producer is producer:
            self._producer = None
            # Whoever stops waiting for the append does not stop the ending.
            await asyncio.shield(self._end(producer, _FLUSH_S if is_refused else 0))
        place, name = f"{at.topic}/{at.partition}", type(error).__name__
        if is_refused:
            return LogError(f"{place} takes no such record: {name}")
        told = f"no answer in {self._timeout_s:g} s" if isinstance(error, TimeoutError) else name
        reason = f"{told} while appending to {place}: records may have landed"
        return AppendUnknown(PART, reason, "read the partition to know")

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._options,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    max_batch_size=LARGEST_APPEND - _FRAME,
                    max_request_size=LARGEST_APPEND,
                    retry_backoff_ms=50,
                    request_timeout_ms=int(self._timeout_s * 1000),
                )
                try:
                    await producer.start()
                    if self._is_stopped:
                        raise errors.ProducerClosed
                except BaseException:
                    await end_producer(producer, 0)
                    raise
                self._producer = producer
            return self._producer

    def _end(self, producer: AIOKafkaProducer, patience_s: float) -> "asyncio.Task[None]":
        ending = asyncio.create_task(end_producer(producer, patience_s))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    async def stop(self) -> None:
        """Send what is waiting, within seconds, and disconnect."""
        self._is_stopped = True
        producer, self._producer = self._producer, None
        if producer is not None:
            self._end(producer, _FLUSH_S)
        if self._ending:
            await asyncio.wait(list(self._ending))


def _pack(
    producer: AIOKafkaProducer, place: str, drafts: Sequence[Draft], last_ns: int, source: bytes
) -> tuple[Any, int]:
    batch = producer.create_batch()
    for draft in drafts:
        recorded_ns = draft.recorded_ns or last_ns
        if recorded_ns < last_ns:
            raise LogError(f"{place}: a recorded time before {from_ns(last_ns)}")
        last_ns = recorded_ns
        packed = batch.append(
            timestamp=recorded_ns // _NS_PER_MS,
            key=None if draft.key is None else draft.key.encode(),
            value=draft.value,
            headers=headers(draft.value, source, recorded_ns),
        )
        if packed is None or batch.size() > LARGEST_APPEND:
            raise LogError(
                f"{place}: an append of {len(drafts)} records is over {LARGEST_APPEND} bytes,"
                " the most that Kafka keeps whole or not at all; append fewer at a time"
            )
    batch.close()
    return batch, last_ns
