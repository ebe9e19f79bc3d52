"""The steps of a lane, one after the other: claim, make ready, decide, append."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, assert_never

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka import errors

from domain import decider
from domain.commands import Request
from infra.errors import ServerUnavailable
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams.deciding.following import Follower
from streams.deciding.lane import DEPTH, Flight, Lane, Waiting
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.pace import Pace
from streams.kafka_reading import Reading, record_maker
from streams.kafka_topics import topic_name
from streams.kafka_writing import Writing
from streams.log import Draft, LogError, TopicPartition
from streams.tracing import trace_requests, trace_values

_log = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 1_500_000
"""Of commands that are decided together: what they make must fit into one append."""
_DENSE: Final = 200
"""Records worth reading over, to read others in one go."""
_PATIENCE_S: Final = 5.0
"""How long a reference that was promised is waited for."""
_AGAIN_S: Final = 0.1


class Reader:
    """What a decider reads beside following: single records, heads, and waiting for followers."""

    def __init__(
        self,
        reading: Reading,
        namespace: str,
        followers: Mapping[TopicPartition, Follower],
        hurry: Callable[[], None],
    ) -> None:
        self.followers = followers
        self._hurry = hurry
        self._reading = reading
        self._namespace = namespace
        self._awaited: dict[TopicPartition, list[tuple[int, asyncio.Future[None]]]] = {}

    def at(self, place: TopicPartition) -> KafkaPartition:
        """Return what Kafka calls a partition of the log."""
        return KafkaPartition(topic_name(self._namespace, place[0]), place[1])

    async def heads(self, places: Sequence[TopicPartition]) -> list[int]:
        """Return the offset that the next record of each partition will get."""
        return await self._reading.heads([self.at(place) for place in places])

    async def records(self, place: TopicPartition, offsets: Collection[int]) -> dict[int, Record]:
        """Return records that were read before, by offset; those that stand close in one go.

        A broker that has only begun to lead may not give them yet: then they are waited for, as
        they are where none answers.
        """
        found: dict[int, Record] = {}
        while missing := [offset for offset in offsets if offset not in found]:
            with contextlib.suppress(errors.KafkaError, ServerUnavailable, TimeoutError):
                found |= await self._found(place, missing)
            if len(found) < len(set(offsets)):
                await asyncio.sleep(_AGAIN_S)
        return found

    async def _found(self, place: TopicPartition, offsets: Iterable[int]) -> dict[int, Record]:
        wanted = sorted(set(offsets))
        found: dict[int, Record] = {}
        begin = 0
        for end in range(1, len(wanted) + 1):
            if end == len(wanted) or wanted[end] - wanted[end - 1] > _DENSE:
                first, last = wanted[begin], wanted[end - 1]
                for record in await self._run(place, first, last - first + 1):
                    found[record.offset] = record
                begin = end
        return found

    async def _run(self, place: TopicPartition, offset: int, count: int) -> list[Record]:
        return await self._reading.read(self.at(place), offset, count, record_maker(*place))

    async def follow_to(self, places: Mapping[TopicPartition, int]) -> bool:
        """Wait until followers have read up to offsets; tell whether they have, in time."""
        behind = {
            place: offset
            for place, offset in places.items()
            if self.followers[place].next_offset < offset
        }
        if not behind:
            return True
        try:
            async with asyncio.timeout(_PATIENCE_S):
                for place, offset in behind.items():
                    await self.reach(place, offset)
        except TimeoutError:
            return False
        return True

    def awaited(self) -> set[TopicPartition]:
        """Return the partitions that somebody waits for."""
        return set(self._awaited)

    async def reach(self, place: TopicPartition, offset: int) -> None:
        """Wait until a follower has read up to an offset."""
        if self.followers[place].next_offset < offset:
            reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._awaited.setdefault(place, []).append((offset, reached))
            self._hurry()
            await reached

    def reached(self, place: TopicPartition) -> None:
        """Wake whoever waits for what a follower has read now."""
        waiting = self._awaited.pop(place, None)
        if waiting is None:
            return
        next_offset = self.followers[place].next_offset
        for offset, reached in waiting:
            if reached.done():
                continue
            if offset <= next_offset:
                reached.set_result(None)
            else:
                self._awaited.setdefault(place, []).append((offset, reached))


class LaneRunner:
    """Runs a lane while its partition is assigned. `settle` is given what has landed."""

    def __init__(
        self,
        lane: Lane,
        reader: Reader,
        writing: Writing,
        metrics: DeciderMetrics,
        *,
        still_assigned: Callable[[], Awaitable[bool]],
        hurry: Callable[[], None],
        settle: Callable[[Lane, Sequence[Flight]], None],
        give_up: Callable[[Lane, Waiting, str], Awaitable[None]],
        stand_still: Callable[[Lane], None],
    ) -> None:
        self.lane = lane
        self.is_paused = False
        self._reader = reader
        self._writing = writing
        self._metrics = metrics
        self._still_assigned = still_assigned
        self._hurry = hurry
        self._settle = settle
        self._give_up = give_up
        self._stand_still = stand_still
        self._pace = Pace()
        self._wake = asyncio.Event()
        self._appending: set[asyncio.Task[None]] = set()
        self._at = reader.at(lane.place)
        self._source = f"/daybook/{lane.place[0]}".encode()
        self.wake()

    @property
    def awaits_records(self) -> bool:
        """Tell whether something of this owner's is to be read back."""
        phase = self.lane.follower.ownership.phase
        return phase == "claiming" or bool(self.lane.in_flight)

    def wake(self) -> None:
        """Have it look whether there is something to do."""
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._step():
                    pass
            except (errors.KafkaError, ServerUnavailable, TimeoutError) as error:
                _log.warning("tried again: %s", error, extra=self._told())
                await asyncio.sleep(_AGAIN_S)
                self.wake()

    def _told(self) -> dict[str, Any]:
        topic, partition = self.lane.place
        return {"topic": topic, "partition": partition}

    async def _step(self) -> bool:
        """Do the next thing; tell whether there may be another."""
        lane = self.lane
        if lane.follower.halt is not None:
            lane.lose_track()
            self._stand_still(lane)
            return False
        if self.is_paused:
            return False
        phase = lane.follower.ownership.phase
        match phase:
            case "owning":
                return await self._decide_some()
            case "following":
                await self._claim()
                return False
            case "claiming":
                return False
            case "deposed":
                return await self._take_again()
            case _:
                assert_never(phase)

    # --- owning -----------------------------------------------------------------------------------

    async def _claim(self) -> None:
        lane = self.lane
        (head,) = await self._reader.heads([lane.place])
        await self._reader.reach(lane.place, head)
        if lane.follower.ownership.phase != "following" or lane.follower.halt is not None:
            self.wake()
            return
        if not await self._appended([lane.claim()]):
            lane.lose_track()
            self.wake()

    async def _take_again(self) -> bool:
        """Claim what another took, if the group still says that it is this decider's."""
        # Two that both claim would depose each other for as long as they are in step.
        await asyncio.sleep(_AGAIN_S * (1 + random.random()))  # noqa: S311 - no secret
        lane = self.lane
        if not await self._still_assigned():
            self.wake()
            return False
        lane.stand_again()
        return True

    # --- deciding ---------------------------------------------------------------------------------

    async def _decide_some(self) -> bool:
        lane = self.lane
        if not lane.has_work or len(lane.in_flight) >= DEPTH:
            return False
        if not lane.is_proven:
            return await self._prove()
        chunk = self._chunk()
        if not chunk:
            return False
        term = lane.follower.ownership.claim_term
        try:
            ready = await self._ready(chunk)
        except BaseException:
            self._put_back(chunk)
            raise
        if not (self._still_owns(term) and lane.is_proven):
            self._put_back(chunk)
            return True
        await self._fly([one for one in chunk if not one.is_stale], ready)
        return True

    async def _prove(self) -> bool:
        """Ask the group whether the partition is ours, and read up to where the log ends then."""
        lane, term = self.lane, self.lane.follower.ownership.claim_term
        if not await self._still_assigned():
            await asyncio.sleep(_AGAIN_S)
            self.wake()
            return False
        (head,) = await self._reader.heads([lane.place])
        await self._reader.reach(lane.place, head)
        if self._still_owns(term):
            lane.prove(term)
        return True

    def _still_owns(self, term: int) -> bool:
        return self.lane.owns and self.lane.follower.ownership.claim_term == term

    def _put_back(self, chunk: Sequence[Waiting]) -> None:
        """Let commands wait again, but for those that the group has given anew meanwhile."""
        self.lane.queue.extendleft(one for one in reversed(chunk) if not one.is_stale)

    def _chunk(self) -> list[Waiting]:
        """Take commands off the queue, up to one that is in flight already."""
        queue, chunk, size = self.lane.queue, list[Waiting](), 0
        while queue and len(chunk) < self._pace.most and size < _CHUNK_BYTES:
            one = queue.popleft()
            chunk.append(one)
            size += one.size
        self.lane.prepare(chunk)
        flying = self.lane.in_flight_refs()
        if flying:
            cut = next((i for i, one in enumerate(chunk) if one.ref in flying), len(chunk))
            queue.extendleft(reversed(chunk[cut:]))
            del chunk[cut:]
        return chunk

    async def _ready(self, chunk: Sequence[Waiting]) -> dict[bytes, Record]:
        """Have read what deciding needs; return the records that answered commands before."""
        lane = self.lane
        if lane.place[0] == "events":
            await self._follow_reference(chunk)
        before = lane.asked_before(chunk)
        if not before:
            return {}
        records = await self._reader.records(lane.place, before.values())
        return {ref: records[offset] for ref, offset in before.items()}

    async def _follow_reference(self, chunk: Sequence[Waiting]) -> None:
        promised: dict[TopicPartition, int] = {}
        # One asking says the same with each of its commands.
        for after in {id(one.route.after): one.route.after for one in chunk}.values():
            for partition, offset in after.items():
                place: TopicPartition = ("reference", partition)
                promised[place] = max(promised.get(place, 0), offset + 1)
        if promised:
            await self._reader.follow_to(promised)
        unknown = self._unknown(chunk)
        if unknown:
            heads = await self._reader.heads(unknown)
            await self._reader.follow_to(dict(zip(unknown, heads, strict=True)))

    def _unknown(self, chunk: Sequence[Waiting]) -> list[TopicPartition]:
        """Return the reference partitions of instruments that are not known yet."""
        lane, found = self.lane, dict[TopicPartition, None]()
        partitions = lane.follower.ownership.partition.partitions
        for one in chunk:
            if not isinstance(one.asked, Request):
                continue
            for kind, name in decider.keys_of(one.asked):
                if kind == "instrument" and name:
                    place: TopicPartition = ("reference", partition_of(name, partitions))
                    if not self._reader.followers[place].knows((name, "instrument", "")):
                        found[place] = None
        return list(found)

    async def _fly(self, chunk: list[Waiting], first: dict[bytes, Record]) -> None:
        lane = self.lane
        if not chunk:
            return
        started = time.perf_counter()
        try:
            flight = lane.decide(chunk, first)
        # Whatever the rules fail with on a command is told, and does not stop the others.
        except Exception as error:
            if len(chunk) > 1:
                await self._fly_singly(chunk, first)
                return
            _log.exception("a command cannot be decided", extra=self._told())
            await self._give_up(lane, chunk[0], f"deciding it failed: {error!r}")
            return
        flight.written_ns = time.monotonic_ns()
        took_s = time.perf_counter() - started
        self._pace.note(len(chunk), took_s)
        self._metrics.decide.observe(took_s)
        self._metrics.batch.observe(len(chunk))
        trace_requests("decided", (one.asked for one in chunk), **self._told())
        if flight.drafts:
            task = asyncio.create_task(self._append(flight))
            self._appending.add(task)
            task.add_done_callback(self._appending.discard)
        self._settle(lane, lane.landed())

    async def _fly_singly(self, chunk: list[Waiting], first: dict[bytes, Record]) -> None:
        term = self.lane.follower.ownership.claim_term
        for index, one in enumerate(chunk):
            # Giving one up takes a while, in which the others may have become somebody else's.
            if not (self._still_owns(term) and self.lane.is_proven):
                self._put_back(chunk[index:])
                return
            await self._fly([] if one.is_stale else [one], first)

    async def _append(self, flight: Flight) -> None:
        started = time.perf_counter()
        if await self._appended(flight.drafts):
            self._metrics.append.observe(time.perf_counter() - started)
            trace_values("written", self.lane.place, flight.placed())
        elif flight in self.lane.in_flight:
            self.lane.lose_track()
            self.wake()

    async def _appended(self, drafts: list[Draft]) -> bool:
        self._hurry()
        try:
            await self._writing.append(self._at, drafts, self._source)
        except (LogError, ServerUnavailable) as error:
            _log.warning("an append may have failed: %s", error, extra=self._told())
            return False
        return True
