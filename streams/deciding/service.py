"""The decider: owns partitions by consumer group, decides their commands, answers when read back.

Whoever is assigned partition n of the commands owns partition n of events, prices and reference.
Every decider follows all partitions, so that taking one over reads no history.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import uuid_utils
from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka import errors
from msgspec import Struct

from domain import decider
from domain.commands import Request
from schemas.envelope import Record
from streams.answers import Answer
from streams.batch import Rules
from streams.deciding.following import Follower
from streams.deciding.group import Group, least_session_ms, settle
from streams.deciding.index import Store
from streams.deciding.lane import Flight, Lane, Waiting
from streams.deciding.log_following import SLICE, LogFollowing
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.owning import (
    QUEUE,
    OwnedPartition,
    halted,
    turned_away,
    undecidable,
    undecodable,
)
from streams.deciding.replying import Replying
from streams.deciding.steps import LaneRunner, Reader
from streams.deciding.wire import Route, Undecidable, decode_asked, encode_reply, route_of
from streams.kafka_client import KafkaPlace, reporting_outage
from streams.kafka_reading import Reading, recorded_at
from streams.kafka_tail import Tail
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
_COMMANDS_MS: Final = 100


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
        self._writing = Writing(self._options, _REQUEST_S, self._tail_ns)
        self._replying = Replying(self._options, log.place.namespace)
        self._runners: dict[TopicPartition, LaneRunner] = {}
        self._following = LogFollowing(
            self._options, self._reader, metrics, self._runners, self._settle
        )
        self._commands = Tail(
            self._options, self._commands_wanted, self._take_in_all, wait_ms=_COMMANDS_MS
        )
        self._tails = (*self._following.tails, self._commands)
        self._commands_topic = topic_name(log.place.namespace, "commands")
        self._changed = asyncio.Event()
        self._tasks: dict[TopicPartition, asyncio.Task[None]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._group: Group
        self._failed: asyncio.Future[None]

    def _hurry(self) -> None:
        self._following.hurry()

    async def run(self, stopping: asyncio.Event) -> None:
        """Decide until told to stop, then hand over; raises what no trying again mends."""
        self._failed = asyncio.get_running_loop().create_future()
        with reporting_outage(f"starting to decide {self._log.place.namespace}"):
            await self._connect()
        working = [tail.run() for tail in self._tails]
        working += [self._find_beginnings(), self._commit_often()]
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
            await settle([*tasks, *self._tasks.values()])
            await self._disconnect()

    async def _connect(self) -> None:
        topics = self._following.topics
        await self._reading.start({*topics, self._commands_topic})
        for tail in self._tails:
            await tail.start({self._commands_topic} if tail is self._commands else topics)
        await self._replying.start()
        session_ms = await least_session_ms(self._options)
        self._group = Group(
            self._options, self._log.place.namespace, session_ms, self._revoking, self._assigned
        )
        await self._group.join()

    async def _disconnect(self) -> None:
        await asyncio.gather(
            self._group.leave(),
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
        while self._answering:
            await asyncio.wait(self._answering, timeout=_LET_GO_S)
        await self._replying.flush()

    async def _tail_ns(self, at: KafkaPartition) -> int:
        (head,) = await self._reading.heads([at])
        records = await self._reading.read(at, head - 1, 1, recorded_at) if head else ()
        return max((record.time_ns or 0 for record in records), default=0)

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
        self._changed.set()
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
                settle=self._settle,
                give_up=self._give_up,
                stand_still=self._stand_still,
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

    # --- commands in ------------------------------------------------------------------------------

    async def _find_beginnings(self) -> None:
        """Find out where to go on in partitions that were assigned."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for number, owned in list(self.owned.items()):
                epoch = owned.epoch
                if owned.next_offset is not None:
                    continue
                try:
                    offset = await self._group.committed(number)
                    if offset is None:
                        (offset,) = await self._reading.beginnings([self._commands_at(number)])
                except errors.KafkaError as error:
                    _log.warning("asked again where to begin: %s", error)
                    await asyncio.sleep(_COMMIT_S)
                    self._changed.set()
                    continue
                if owned.epoch == epoch and owned.next_offset is None:
                    owned.next_offset = offset
                    self._commands.nudge()

    def _commands_at(self, number: int) -> KafkaPartition:
        return KafkaPartition(self._commands_topic, number)

    def _commands_wanted(self) -> Mapping[KafkaPartition, int]:
        return {
            self._commands_at(number): owned.next_offset
            for number, owned in self.owned.items()
            if owned.next_offset is not None
        }

    async def _take_in_all(self, at: KafkaPartition, told: list[Any], head: int) -> None:
        owned = self.owned.get(at.partition)
        if owned is None or owned.next_offset is None:
            return
        if head < 0:
            (owned.next_offset,) = await self._reading.beginnings([at])
            return
        for index, record in enumerate(told):
            # The group may have given the partition away, or begun anew with it, meanwhile.
            if self.owned.get(at.partition) is not owned or record.offset != owned.next_offset:
                break
            await self._take_in(owned, at, record)
            if index % SLICE == SLICE - 1:
                self._wake(owned)
                await asyncio.sleep(0)
        self._wake(owned)
        self.metrics.waiting.set(sum(len(one) for one in self.owned.values()))

    def _wake(self, owned: OwnedPartition) -> None:
        for lane in owned.lanes.values():
            if lane.queue and lane.place in self._runners:
                self._runners[lane.place].wake()

    async def _take_in(self, owned: OwnedPartition, at: KafkaPartition, record: Any) -> None:
        route = Route()
        try:
            route = route_of(record.headers, self._log.partitions)
            asked = decode_asked(
                record.key, record.value or b"", owned.number, self._log.partitions
            )
        except Undecidable as error:
            owned.pass_over(record)
            await self._bury(at, record, route, error.reason)
            return
        if owned.receive(record, asked, route) is None:
            answer = turned_away(asked, owned.number)
            self._replying.reply([(route, encode_reply(answer))])
            self.metrics.commands.labels("overloaded").inc()

    async def _bury(self, at: KafkaPartition, record: Any, route: Route, reason: str) -> None:
        _log.error(
            "a command goes to the dead letters",
            extra={"partition": at.partition, "at": record.offset, "reason": reason},
        )
        await self._replying.bury(at, record, reason)
        self.metrics.dead_letters.inc()
        answer = undecodable(at.partition, reason)
        self._replying.reply([(route, encode_reply(answer))])

    async def _give_up(self, lane: Lane, waiting: Waiting, reason: str) -> None:
        """Bury a command that the rules fail with."""
        at = self._commands_at(lane.place[1])
        for record in await self._reading.read(at, waiting.offset, 1, lambda told: told):
            await self._replying.bury(at, record, reason)
        self.metrics.dead_letters.inc()
        answer = undecidable(waiting.asked, at.partition, reason)
        if isinstance(waiting.asked, Request):
            _log_answer(waiting.asked, answer)
        self._tell([(waiting, encode_reply(answer))])

    # --- answers out ------------------------------------------------------------------------------

    def _settle(self, lane: Lane, flights: Sequence[Flight]) -> None:
        now = time.monotonic_ns()
        for flight in flights:
            if flight.drafts:
                self.metrics.read_back.observe((now - flight.written_ns) / 1e9)
            if flight.batch.known:
                task = asyncio.create_task(self._answer_known(lane, flight))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            else:
                self._answer(lane, flight, {})

    async def _answer_known(self, lane: Lane, flight: Flight) -> None:
        self._answer(lane, flight, await self._reader.records(lane.place, flight.known_offsets))

    def _answer(self, lane: Lane, flight: Flight, known: Mapping[int, Record]) -> None:
        answers = iter(lane.answers(flight, known))
        told: list[tuple[Waiting, bytes]] = []
        unrecorded: list[tuple[Waiting, bytes]] = []
        for one in flight.waiting:
            if isinstance(one.asked, Request):
                answer = next(answers)
                self.metrics.commands.labels(answer.status).inc()
                _log_answer(one.asked, answer)
                kind = unrecorded if answer.status == "lacking" else told
                kind.append((one, encode_reply(answer)))
            else:
                told.append((one, encode_reply(None, lane.entity(one.asked))))
        self._tell(told)
        self._tell_once_committed(lane.place[1], unrecorded)

    def _tell_once_committed(self, number: int, told: Sequence[tuple[Waiting, bytes]]) -> None:
        for one, _ in told:
            one.is_done = True
        if number in self.owned:
            self.owned[number].hold(told)

    def _tell(self, told: Sequence[tuple[Waiting, bytes]]) -> None:
        now = time.monotonic_ns()
        for one, _ in told:
            one.is_done = True
            self.metrics.answer.observe((now - one.since_ns) / 1e9)
        self._replying.reply([(one.route, value) for one, value in told])

    def _stand_still(self, lane: Lane) -> None:
        """Answer what waits for a lane whose partition is halted."""
        halt = lane.follower.halt
        if halt is None:
            return
        topic, partition = lane.place
        reason = f"{topic}/{partition}:{halt.offset}: {halt.reason}"
        told = []
        while lane.queue:
            one = lane.queue.popleft()
            told.append((one, encode_reply(halted(one.asked, partition, reason))))
        self._tell_once_committed(partition, told)

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
                    self._tell(self.owned[number].release(offset))


def _log_answer(request: Request, answer: Answer) -> None:
    """Log what a command came to: what was accepted or known only for who wants all the details."""
    level = logging.DEBUG if answer.status in ("accepted", "duplicate") else logging.INFO
    if _log.isEnabledFor(level):
        told = {
            "command_id": request.command_id,
            "correlation_id": request.correlation_id,
            "status": answer.status,
            "reason": answer.reason,
            "position": answer.position,
        }
        _log.log(level, "answered", extra=told)
