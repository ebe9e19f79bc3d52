"""The decider: owns partitions by consumer group, decides their commands, answers when read back.

Whoever is assigned partition n of the commands owns partition n of events, prices and reference.
Every decider follows all partitions, so that taking one over reads no history.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import uuid_utils
from msgspec import Struct

from domain import decider
from streams.batch import Rules
from streams.deciding.following import Follower
from streams.deciding.group import Group, least_session_ms, settle
from streams.deciding.index import Store
from streams.deciding.lane import Lane
from streams.deciding.log_following import LogFollowing
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.owning import QUEUE, OwnedPartition
from streams.deciding.replying import Replying
from streams.deciding.steps import LaneRunner, Reader
from streams.deciding.taking import Taking
from streams.deciding.telling import Telling
from streams.kafka_client import KafkaPlace, reporting_outage
from streams.kafka_reading import Reading
from streams.kafka_topics import topic_name
from streams.kafka_writing import Writing
from streams.ledger import program_version
from streams.log import TOPICS, TopicPartition

_log = logging.getLogger(__name__)
_COMMIT_S: Final = 0.1
_LET_GO_S: Final = 0.4
"""How long what is in flight is waited for before partitions go to others."""
_POLL_S: Final = 0.005
_REQUEST_S: Final = 10.0


class LogPlace(Struct, frozen=True):
    """A log in Kafka: where it is, its id, and how many partitions it has."""

    place: KafkaPlace
    log_id: str
    partitions: int


class Decider:
    """One process's part in deciding. For one event loop; `name` is what the log calls it."""

    def __init__(
        self,
        log: LogPlace,
        store: Store,
        name: str,
        metrics: DeciderMetrics,
        *,
        clock: Callable[[], int] = time.time_ns,
        queue: int = QUEUE,
    ) -> None:
        self.metrics = metrics
        self.owned: dict[int, OwnedPartition] = {}
        self._log = log
        self._queue = queue
        self._options = log.place.client_options()
        self._rules = Rules(
            decide=decider.decide,
            evolve=decider.evolve,
            clock=clock,
            new_id=lambda: str(uuid_utils.uuid7()),
            code=program_version(),
        )
        self.followers: dict[TopicPartition, Follower] = {
            (topic, number): Follower(
                (topic, number), log.log_id, log.partitions, store, decider.evolve, name
            )
            for topic in TOPICS
            for number in range(log.partitions)
        }
        self._reference = [self.followers["reference", n] for n in range(log.partitions)]
        self._reading = Reading(self._options, _REQUEST_S)
        self._reader = Reader(self._reading, log.place.namespace, self.followers, self._hurry)
        self._writing = Writing(self._options, _REQUEST_S, self._reading.tail_ns)
        self._replying = Replying(self._options, log.place.namespace)
        self._runners: dict[TopicPartition, LaneRunner] = {}
        self._telling = Telling(self.owned, self._reader, self._replying, metrics)
        self._following = LogFollowing(
            self._options, self._reader, metrics, self._runners, self._telling.settle
        )
        self._taking = Taking(
            self._options,
            topic_name(log.place.namespace, "commands"),
            log.partitions,
            self.owned,
            self._runners,
            self._reading,
            self._replying,
            self._telling,
            metrics,
        )
        self._tails = (*self._following.tails, self._taking.tail)
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._group: Group
        self._failed: asyncio.Future[None]

    def _hurry(self) -> None:
        self._following.hurry()

    async def run(self, stopping: asyncio.Event) -> None:
        """Decide until told to stop, then hand over; raises what no trying again mends."""
        self._failed = asyncio.get_running_loop().create_future()
        try:
            with reporting_outage(f"starting to decide {self._log.place.namespace}"):
                await self._connect()
            with reporting_outage(f"deciding {self._log.place.namespace}"):
                await self._work(stopping)
        finally:
            await settle(self._tasks.values())
            await self._disconnect()

    async def _work(self, stopping: asyncio.Event) -> None:
        working = [tail.run() for tail in self._tails]
        working += [self._taking.find_beginnings(self._group), self._commit_often()]
        tasks = [asyncio.create_task(one) for one in working]
        try:
            ending = asyncio.create_task(stopping.wait())
            watched: list[asyncio.Future[Any]] = [ending, self._failed, *tasks]
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            ending.cancel()
            for one in (self._failed, *tasks):
                if one.done():
                    one.result()
            await self._hand_over(tasks)
        finally:
            await settle(tasks)

    async def _connect(self) -> None:
        topics = self._following.topics
        await self._reading.start({*topics, self._taking.topic})
        for tail in self._tails:
            await tail.start({self._taking.topic} if tail is self._taking.tail else topics)
        await self._replying.start()
        session_ms = await least_session_ms(self._options)
        self._group = Group(
            self._options, self._log.place.namespace, session_ms, self._revoking, self._assigned
        )
        await self._group.join()

    async def _disconnect(self) -> None:
        group: Group | None = getattr(self, "_group", None)
        await asyncio.gather(
            *([] if group is None else [group.leave()]),
            *(tail.stop() for tail in self._tails),
            self._writing.stop(),
            self._replying.stop(),
            self._reading.stop(),
            return_exceptions=True,
        )

    async def _hand_over(self, tasks: Sequence["asyncio.Task[Any]"]) -> None:
        """Finish what is in flight, take nothing new, and let others have the partitions."""
        await settle(tasks[len(self._tails) - 1 :])
        await self._let_go()
        await self._group.leave()
        await self._telling.finish()

    # --- the group --------------------------------------------------------------------------------

    async def _revoking(self, _numbers: set[int]) -> None:
        await self._let_go()

    async def _let_go(self) -> None:
        """Start nothing new, wait for what is in flight, and write down what was answered."""
        for runner in self._runners.values():
            runner.is_paused = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO_S):
                while any(runner.lane.in_flight for runner in self._runners.values()):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        await self._commit()

    async def _assigned(self, numbers: set[int]) -> None:
        for number in self.owned.keys() - numbers:
            await self._release(number)
        for number, kept in self.owned.items():
            kept.restart()
            _log.debug("partition %d is kept", number)
        for number in sorted(numbers - self.owned.keys()):
            self._take(number)
        for runner in self._runners.values():
            runner.is_paused = False
            runner.wake()
        self._taking.divide_anew()
        self._following.divide_anew()
        self.metrics.owned.set(len(self.owned))
        _log.info("assigned partitions", extra={"partitions": sorted(numbers)})

    def _take(self, number: int) -> None:
        lanes = {
            topic: Lane(self.followers[topic, number], self._reference, self._rules)
            for topic in TOPICS
        }
        self.owned[number] = OwnedPartition(number, lanes, limit=self._queue)
        for lane in lanes.values():
            runner = LaneRunner(
                lane,
                self._reader,
                self._writing,
                self.metrics,
                still_assigned=lambda: self._group.confirms(number),
                hurry=self._hurry,
                settle=self._telling.settle,
                give_up=self._taking.give_up,
                stand_still=self._telling.stand_still,
            )
            task = asyncio.create_task(runner.run())
            task.add_done_callback(self._ended)
            self._runners[lane.place], self._tasks[lane.place] = runner, task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def _release(self, number: int) -> None:
        owned = self.owned.pop(number)
        places = [lane.place for lane in owned.lanes.values()]
        await settle([self._tasks.pop(place) for place in places])
        for place in places:
            del self._runners[place]
        for lane in owned.lanes.values():
            lane.lose_track()

    # --- offsets ----------------------------------------------------------------------------------

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(_COMMIT_S)
            self._group.check()
            await self._commit()
            self.metrics.behind.set(self._following.behind)

    async def _commit(self) -> None:
        offsets = {}
        for number, owned in self.owned.items():
            offset = owned.done_offset
            if offset is not None and offset != owned.committed:
                offsets[number] = offset
        if offsets and await self._group.commit(offsets):
            for number, offset in offsets.items():
                if number in self.owned:
                    self.owned[number].committed = offset
                    self._telling.tell_held(self.owned[number].release(offset))
            self._taking.tail.nudge()
