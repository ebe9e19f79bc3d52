"""Answers out: told once what they say is read back, or once the group knows of their command."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from domain.commands import Request
from schemas.envelope import Record
from streams.answers import Answer
from streams.deciding.lane import Flight, Lane, Waiting
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.owning import Held, OwnedPartition, halted
from streams.deciding.replying import Replying
from streams.deciding.steps import Reader
from streams.deciding.wire import encode_reply
from streams.tracing import trace_values

_log = logging.getLogger(__name__)
_LOOK_S: Final = 0.4

Told = Sequence[tuple[Waiting, bytes]]


class Telling:
    """Tells who asked. `owned` are the partitions as they are owned at any time."""

    def __init__(
        self,
        owned: Mapping[int, OwnedPartition],
        reader: Reader,
        replying: Replying,
        metrics: DeciderMetrics,
    ) -> None:
        self._owned = owned
        self._reader = reader
        self._replying = replying
        self._metrics = metrics
        self._answering: set[asyncio.Task[None]] = set()

    async def finish(self) -> None:
        """Wait until what is to be told is sent."""
        while self._answering:
            await asyncio.wait(self._answering, timeout=_LOOK_S)
        await self._replying.flush()

    def settle(self, lane: Lane, flights: Sequence[Flight]) -> None:
        """Answer flights that have landed."""
        now = time.monotonic_ns()
        for flight in flights:
            if flight.drafts:
                self._metrics.read_back.observe((now - flight.written_ns) / 1e9)
                trace_values("read back", lane.place, flight.placed())
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
        statuses: Counter[str] = Counter()
        for one in flight.waiting:
            if isinstance(one.asked, Request):
                answer = next(answers)
                statuses[answer.status] += 1
                log_answer(one.asked, answer)
                kind = unrecorded if answer.status == "lacking" else told
                kind.append((one, encode_reply(answer)))
            else:
                told.append((one, encode_reply(None, lane.entity(one.asked))))
        for status, count in statuses.items():
            self._metrics.commands.labels(status).inc(count)
        self._tell(told)
        self.tell_once_committed(lane.place[1], unrecorded)

    def _tell(self, told: Told) -> None:
        now = time.monotonic_ns()
        for one, _ in told:
            one.is_done = True
        self._metrics.answer.observe_all([(now - one.since_ns) / 1e9 for one, _ in told])
        self._replying.reply([(one.route, value) for one, value in told])

    def tell_once_committed(self, number: int, told: Told) -> None:
        """Answer commands of which nothing is recorded, once they cannot be decided again."""
        if number in self._owned:
            self._owned[number].hold_back(told)

    def tell_held(self, held: Sequence[Held]) -> None:
        """Tell answers that were held back."""
        now = time.monotonic_ns()
        self._metrics.answer.observe_all([(now - one.since_ns) / 1e9 for one in held])
        self._replying.reply([(one.route, one.value) for one in held])

    def stand_still(self, lane: Lane) -> None:
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
        self.tell_once_committed(partition, told)


def log_answer(request: Request, answer: Answer) -> None:
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
