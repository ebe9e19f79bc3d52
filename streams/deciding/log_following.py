"""Reading the log for a decider: at once what it waits for, now and then what is quietly owned.

Each partition has one follower; the three questions differ in how long a broker waits with them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]

from schemas.envelope import Record
from schemas.validity import Halt, Void
from streams.deciding.lane import Flight, Lane
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.steps import LaneRunner, Reader
from streams.kafka_reading import record_maker
from streams.kafka_tail import Tail
from streams.log import TopicPartition
from streams.ownership import Observed

_log = logging.getLogger(__name__)
SLICE: Final = 250
"""Records taken at a time: in between, other tasks have their turn."""
_HOT_MS: Final = 20
_IDLE_S: Final = 0.2
_STANDBY_MS: Final = 250

Runners = Mapping[TopicPartition, LaneRunner]
Settle = Callable[[Lane, Sequence[Flight]], None]


class LogFollowing:
    """Follows all partitions, and tells those that are owned what was read. For one event loop.

    `runners` are those of the partitions that are owned, as they are at any time; `settle` is given
    what has landed.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        reader: Reader,
        metrics: DeciderMetrics,
        runners: Runners,
        settle: Settle,
    ) -> None:
        self._reader = reader
        self._followers = reader.followers
        self._metrics = metrics
        self._runners = runners
        self._settle = settle
        self._at = {place: reader.at(place) for place in self._followers}
        self._places = {at: place for place, at in self._at.items()}
        self._heads: dict[TopicPartition, int] = {}
        self._ahead: dict[TopicPartition, int] = {}
        self._hot = Tail(options, self._hot_wanted, self._took, wait_ms=_HOT_MS)
        self._idle = Tail(options, self._idle_wanted, self._took, wait_ms=0, pause_s=_IDLE_S)
        self._standby = Tail(options, self._standby_wanted, self._took, wait_ms=_STANDBY_MS)
        self.tails = (self._hot, self._idle, self._standby)

    @property
    def topics(self) -> set[str]:
        """What the logs are called in Kafka."""
        return {at.topic for at in self._places}

    def hurry(self) -> None:
        """Read what is waited for now."""
        self._hot.nudge()

    def divide_anew(self) -> None:
        """Look again at what is owned."""
        self._idle.nudge()
        self._standby.nudge()

    @property
    def behind(self) -> int:
        """The records that were not read yet."""
        return sum(
            max(0, head - self._followers[place].next_offset) for place, head in self._heads.items()
        )

    def _hot_wanted(self) -> Mapping[KafkaPartition, int]:
        """Say which partitions have something that is waited for."""
        awaited = self._reader.awaited()
        hot = {place for place, runner in self._runners.items() if runner.awaits_records}
        return self._offsets(hot | awaited)

    def _idle_wanted(self) -> Mapping[KafkaPartition, int]:
        """Say which partitions are owned: nobody but us writes there, unless to end our term."""
        return self._offsets(self._runners.keys())

    def _standby_wanted(self) -> Mapping[KafkaPartition, int]:
        return self._offsets(self._followers.keys() - self._runners.keys())

    def _offsets(self, places: Iterable[TopicPartition]) -> Mapping[KafkaPartition, int]:
        return {
            self._at[place]: self._ahead.get(place, self._followers[place].next_offset)
            for place in places
        }

    async def _took(self, at: KafkaPartition, told: list[Any], head: int) -> None:
        place = self._places[at]
        follower = self._followers[place]
        if head < 0:
            self._halt(place, Halt(follower.next_offset, "the log ends before it"))
            return
        self._heads[place] = head
        make = record_maker(*place)
        if told and told[0].offset != self._ahead.get(place, follower.next_offset):
            # Another question was answered first.
            told = [one for one in told if one.offset >= follower.next_offset]
        for begin in range(0, len(told), SLICE):
            if begin:
                await asyncio.sleep(0)
            records = [make(one) for one in told[begin : begin + SLICE]]
            if place in self._ahead:
                self._look_ahead(place, records)
            else:
                self._take_records(place, records)

    def _take_records(self, place: TopicPartition, records: list[Record]) -> None:
        follower = self._followers[place]
        # Two brokers may have been asked while the partition moved from one to the other.
        records = [record for record in records if record.offset >= follower.next_offset]
        taken = follower.take(records)
        if taken.halt is not None:
            self._halt(place, taken.halt)
            self._look_ahead(place, records[len(taken.observed) + 1 :])
        self._note(place, taken.observed)
        if place in self._runners:
            runner = self._runners[place]
            self._settle(runner.lane, runner.lane.learn(taken.observed))
            runner.wake()
        self._reader.reached(place)

    def _note(self, place: TopicPartition, observed: Sequence[Observed]) -> None:
        told = {"topic": place[0], "partition": place[1]}
        for one in observed:
            if isinstance(one.outcome, Void):
                self._metrics.voids.labels(place[0]).inc()
                _log.warning(
                    "void record",
                    extra={**told, "at": one.outcome.offset, "why": one.outcome.reason},
                )
            if one.effect == "owned":
                self._metrics.terms.inc()
            elif one.effect == "deposed":
                self._metrics.deposed.inc()
                _log.warning("another owner took over", extra=told)

    def _halt(self, place: TopicPartition, halt: Halt) -> None:
        self._followers[place].halt = halt
        if place not in self._ahead:
            _log.error(
                "ALERT: a partition stands still; look at the record and park it",
                extra={
                    "topic": place[0],
                    "partition": place[1],
                    "at": halt.offset,
                    "reason": halt.reason,
                },
            )
        self._ahead[place] = halt.offset + 1
        self._metrics.halted.set(len(self._ahead))
        if place in self._runners:
            self._runners[place].wake()

    def _look_ahead(self, place: TopicPartition, records: Sequence[Record]) -> None:
        """Look for the parking of a record that halts, and go back to it where it was parked."""
        follower = self._followers[place]
        if records:
            self._ahead[place] = records[-1].offset + 1
        if follower.look_ahead(records):
            follower.halt = None
            del self._ahead[place]
            self._metrics.halted.set(len(self._ahead))
            _log.info("a parked record is passed", extra={"topic": place[0], "partition": place[1]})
            if place in self._runners:
                self._runners[place].wake()
