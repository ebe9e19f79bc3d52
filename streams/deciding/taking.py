"""Commands in: read from where the group says, decoded, queued.

What is no command goes to the dead letters. Each partition is read from the offset committed last.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka import errors

from domain.commands import Request
from infra.errors import ServerUnavailable
from streams.deciding.group import Group
from streams.deciding.lane import Lane, Waiting
from streams.deciding.log_following import SLICE, Runners
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.owning import (
    Held,
    OwnedPartition,
    turned_away,
    undecidable,
    undecodable,
)
from streams.deciding.replying import Replying
from streams.deciding.telling import Telling, log_answer
from streams.deciding.wire import Route, Undecidable, decode_asked, encode_reply, route_of
from streams.kafka_reading import Reading
from streams.kafka_tail import Tail
from streams.tracing import trace_requests

_log = logging.getLogger(__name__)
_AGAIN_S: Final = 0.1
_WAIT_MS: Final = 100


class Taking:
    """Takes commands in, for one event loop. `owned` and `runners` are as they are at any time."""

    def __init__(
        self,
        options: Mapping[str, Any],
        topic: str,
        partitions: int,
        owned: Mapping[int, OwnedPartition],
        runners: Runners,
        reading: Reading,
        replying: Replying,
        telling: Telling,
        metrics: DeciderMetrics,
    ) -> None:
        self.topic = topic
        self.tail = Tail(options, self._wanted, self._take_in_all, wait_ms=_WAIT_MS)
        self._partitions = partitions
        self._owned = owned
        self._runners = runners
        self._reading = reading
        self._replying = replying
        self._telling = telling
        self._metrics = metrics
        self._changed = asyncio.Event()

    def divide_anew(self) -> None:
        """Look again at what is owned."""
        self._changed.set()

    async def find_beginnings(self, group: Group) -> None:
        """Find out where to go on in partitions that were assigned."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for number, owned in list(self._owned.items()):
                epoch = owned.epoch
                if owned.next_offset is not None:
                    continue
                try:
                    offset = await group.committed(number)
                    if offset is None:
                        (offset,) = await self._reading.beginnings([self.at(number)])
                except (errors.KafkaError, TimeoutError) as error:
                    _log.warning("asked again where to begin: %r", error)
                    await asyncio.sleep(_AGAIN_S)
                    self._changed.set()
                    continue
                if owned.epoch == epoch and owned.next_offset is None:
                    owned.next_offset = offset
                    self.tail.nudge()

    def at(self, number: int) -> KafkaPartition:
        """Return what Kafka calls a partition of the commands."""
        return KafkaPartition(self.topic, number)

    def _wanted(self) -> Mapping[KafkaPartition, int]:
        return {
            self.at(number): owned.next_offset
            for number, owned in self._owned.items()
            if owned.next_offset is not None and not owned.is_full
        }

    async def _take_in_all(self, at: KafkaPartition, told: list[Any], head: int) -> None:
        owned = self._owned.get(at.partition)
        if owned is None or owned.next_offset is None:
            return
        if head < 0:
            with contextlib.suppress(errors.KafkaError, TimeoutError):  # or it is found so again
                (owned.next_offset,) = await self._reading.beginnings([at])
            return
        for index, record in enumerate(told):
            # The group may have given the partition away, or begun anew with it, meanwhile.
            if self._owned.get(at.partition) is not owned or record.offset != owned.next_offset:
                break
            await self._take_in(owned, at, record)
            if index % SLICE == SLICE - 1:
                self._wake(owned)
                await asyncio.sleep(0)
        self._wake(owned)
        self._metrics.waiting.set(sum(len(one) for one in self._owned.values()))

    def _wake(self, owned: OwnedPartition) -> None:
        for lane in owned.lanes.values():
            if lane.has_work and lane.place in self._runners:
                self._runners[lane.place].wake()

    async def _take_in(self, owned: OwnedPartition, at: KafkaPartition, record: Any) -> None:
        route = Route()
        try:
            route = route_of(record.headers, self._partitions)
            asked = decode_asked(record.key, record.value or b"", owned.number, self._partitions)
        except Undecidable as error:
            await self._bury(owned, at, record, route, error.reason)
            return
        if owned.receive(record, asked, route) is None:
            answer = encode_reply(turned_away(asked, owned.number))
            owned.hold([Held(record.offset, route, time.monotonic_ns(), answer, asked)])
            self._metrics.commands.labels("overloaded").inc()
            trace_requests("turned away", [asked], partition=owned.number)
        else:
            trace_requests("taken", [asked], partition=owned.number, at=record.offset)

    async def _bury(
        self, owned: OwnedPartition, at: KafkaPartition, record: Any, route: Route, reason: str
    ) -> None:
        _log.error(
            "a command goes to the dead letters",
            extra={"partition": at.partition, "at": record.offset, "reason": reason},
        )
        epoch, since_ns = owned.epoch, time.monotonic_ns()
        await self._replying.bury(at, record, reason)
        self._metrics.dead_letters.inc()
        if owned.epoch == epoch:
            answer = encode_reply(undecodable(at.partition, reason))
            owned.pass_over(record)
            owned.hold([Held(record.offset, route, since_ns, answer)])

    async def give_up(self, lane: Lane, waiting: Waiting, reason: str) -> None:
        """Bury a command that the rules fail with, however long Kafka is away."""
        at = self.at(lane.place[1])
        while True:
            try:
                for record in await self._reading.read(at, waiting.offset, 1, lambda told: told):
                    await self._replying.bury(at, record, reason)
                break
            except (errors.KafkaError, ServerUnavailable, TimeoutError) as error:
                _log.warning("a command is buried later: %r", error)
                await asyncio.sleep(_AGAIN_S)
        self._metrics.dead_letters.inc()
        answer = undecidable(waiting.asked, at.partition, reason)
        if isinstance(waiting.asked, Request):
            log_answer(waiting.asked, answer)
        self._telling.tell_once_committed(at.partition, [(waiting, encode_reply(answer))])
