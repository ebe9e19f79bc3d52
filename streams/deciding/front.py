"""The ledger's front where the log is in Kafka: commands go to their owners, answers come back.

A command whose answer does not come is asked again under its id: asked twice, it is decided once.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, NoReturn

from aiokafka import TopicPartition  # type: ignore[import-untyped]
from msgspec import Struct
from msgspec.structs import replace

from domain import decider
from domain.commands import Request
from domain.entities import Entity
from infra.errors import ServerUnavailable
from schemas.partitioning import partition_of
from streams.answers import Answer
from streams.deciding.group import settle
from streams.deciding.order import waves
from streams.deciding.outbox import ALL_ACKS, Letter, Outbox
from streams.deciding.owning import OVERLOADED
from streams.deciding.rounds import Round
from streams.deciding.wire import (
    ASK,
    LookUp,
    Reply,
    Route,
    decode_reply,
    encode_look_up,
    encode_request,
    headers_of,
)
from streams.kafka_client import LoopThread, reporting_outage, stop_all
from streams.kafka_log import KafkaLog
from streams.kafka_reading import Reading
from streams.kafka_tail import Tail
from streams.kafka_topics import topic_name
from streams.log import TopicPartition as Place
from streams.memory import EntityRef
from streams.tracing import trace_answers, trace_requests

PATIENCE_S: Final = 30.0
"""How long commands wait without any answer before their asker is told that nobody answers."""
_AGAIN_S: Final = 4.0
"""How long without any answer until what is open is asked again."""
_LOOKS: Final = 8
"""How often within that time is looked."""
_LEAST_PAUSE_S: Final = 0.05
_WAIT_MS: Final = 500
_WINDOW: Final = 5_000
"""Commands of one submission that are open at a time."""
_LOOK_UP_S: Final = 10.0
"""As long for entities that may as well be looked up later."""
_PART: Final = "a decider"
_HINT: Final = "is one running? start it with `daybook decider`"
_REQUEST_S: Final = 10.0
_OVERLOAD_PAUSE_S: Final = 0.1
_LITTLE: Final = 256
_FLUSH_S: Final = 1
_GATHER_S: Final = 0.015
"""How long commands gather, at most, while those that were sent last are on their way."""


class _Asked(Struct, frozen=True):
    """A question on its way: its partition, its key, its value."""

    partition: int
    key: bytes
    value: bytes


class KafkaLedger:
    """Asks the deciders. Safe to share between threads.

    `patience_s`: how long to wait without any answer. `overload_s`: how long to try again what the
    deciders have no room for, before their refusal is the answer.
    """

    def __init__(
        self, log: KafkaLog, *, patience_s: float = PATIENCE_S, overload_s: float = PATIENCE_S
    ) -> None:
        self.log = log
        self._patience_s = patience_s
        self._overload_s = overload_s
        self._loop = LoopThread(f"kafka-ledger-{log.place.namespace}")
        self._asking = _Asking(log, patience_s)
        self._read: dict[int, int] = {}
        self._turn = threading.Lock()
        self._is_started = False

    def close(self) -> None:
        """Disconnect; the log stays open. A second call does nothing."""
        self._loop.close(self._asking.stop())

    def rehearsal(self) -> NoReturn:
        """Refuse: what other processes decide is recorded."""
        raise ServerUnavailable(
            "a rehearsal",
            "with the log in Kafka commands are decided by other processes, and recorded",
            "rehearse on an embedded ledger: DAYBOOK_LOG_URL=embedded:",
        )

    def submit(self, requests: Sequence[Request]) -> list[Answer]:
        """Have commands decided in order, and return their answers in that order, each durable.

        Raises ServerUnavailable when no decider answers: then it is not known of the commands that
        are open whether they were recorded, and asking again with the same ids finds out.
        """
        answers: list[Answer | None] = [None] * len(requests)
        for wave in waves(requests, decider.keys_of):
            for begin in range(0, len(wave), _WINDOW):
                indexes = wave[begin : begin + _WINDOW]
                for index, answer in zip(
                    indexes, self._ask([requests[i] for i in indexes]), strict=True
                ):
                    answers[index] = answer
        return [answer for answer in answers if answer is not None]

    def submit_soon(self, request: Request) -> Future[Answer]:
        """Have one command decided without waiting here; what `submit` raises, the future does."""
        after = self._ready()
        return self._loop.submit(self._ask_one(request, after))

    async def _ask_one(self, request: Request, after: Mapping[int, int]) -> Answer:
        trace_requests("asked", [request])
        with reporting_outage("asking the deciders"):
            (reply,) = await self._asking.ask([self._asked(request)], after)
        answer = _answer(request, reply)
        trace_answers("told", [(request, answer)])
        self._note([answer])
        return answer

    def fetch_entity(self, place: Place, ref: EntityRef) -> Entity | None:
        """Return an entity as its owner knows it, None where there is none."""
        (reply,) = self._run([_look_up(place, ref)])
        return _entity(reply)

    def fetch_entities(
        self, refs: Mapping[Place, Sequence[EntityRef]]
    ) -> dict[Place, list[Entity | None] | ServerUnavailable]:
        """Return entities of several partitions, or why the owner of one does not tell of its own.

        All are asked at once. One that stands still, or that nobody owns, holds up no other.
        """
        asked = [[_look_up(place, ref) for ref in of_place] for place, of_place in refs.items()]
        after = self._ready()
        with reporting_outage("asking the deciders"):
            told = self._loop.run(self._asking.ask_each(asked, after, _LOOK_UP_S))
            return {place: _entities(one) for place, one in zip(refs, told, strict=True)}

    def _ask(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask for what may be decided in any order; try again what there was no room for."""
        trace_requests("asked", requests)
        asked = [self._asked(request) for request in requests]
        answers: list[Answer] = []
        for request, reply in zip(requests, self._run(asked), strict=True):
            answers.append(_answer(request, reply))
        deadline = time.monotonic() + self._overload_s
        while again := [i for i, one in enumerate(answers) if one.reason == OVERLOADED]:
            if time.monotonic() > deadline:
                break
            # Little by little: what finds no room either delays who has found some.
            again = again[:_LITTLE]
            for index, reply in zip(again, self._run([asked[i] for i in again]), strict=True):
                answers[index] = _answer(requests[index], reply)
            if answers[again[0]].reason == OVERLOADED:
                time.sleep(_OVERLOAD_PAUSE_S)
            else:
                deadline = time.monotonic() + self._overload_s
        trace_answers("told", zip(requests, answers, strict=True))
        self._note(answers)
        return answers

    def _asked(self, request: Request) -> _Asked:
        partition = partition_of(request.key, self.log.partitions)
        return _Asked(partition, request.key.encode(), encode_request(request))

    def _ready(self) -> Mapping[int, int]:
        """Connect if nobody has; return what deciders must have read of reference."""
        with self._turn:
            if not self._is_started:
                with reporting_outage(f"connecting to {self.log.place.hosts}"):
                    self._loop.run(self._asking.start())
                self._is_started = True
            return dict(self._read)

    def _run(self, asked: Sequence[_Asked]) -> list[Reply]:
        after = self._ready()
        with reporting_outage("asking the deciders"):
            return self._loop.run(self._asking.ask(asked, after))

    def _note(self, answers: Sequence[Answer]) -> None:
        """Remember what was told of reference: whoever decides next for us must have read it."""
        with self._turn:
            for answer in answers:
                if answer.topic == "reference" and answer.offset is not None:
                    read = self._read.get(answer.partition, 0)
                    self._read[answer.partition] = max(read, answer.offset)


def _look_up(place: Place, ref: EntityRef) -> _Asked:
    look_up = LookUp(place[0], *ref)
    return _Asked(place[1], look_up.key.encode(), encode_look_up(look_up))


def _entity(reply: Reply) -> Entity | None:
    if reply.answer is not None:
        raise ServerUnavailable(_PART, reply.answer.detail or "", "try again")
    return reply.entity


def _entities(told: list[Reply] | BaseException) -> list[Entity | None] | ServerUnavailable:
    try:
        if isinstance(told, BaseException):
            raise told
        return [_entity(reply) for reply in told]
    except ServerUnavailable as error:
        return error


def _answer(request: Request, reply: Reply) -> Answer:
    answer = reply.answer
    if answer is None:
        raise ServerUnavailable(_PART, "a reply is no answer", "is it of another version?")
    # A command that could not be decoded is answered without its id.
    return answer if answer.command_id else replace(answer, command_id=request.command_id)


class _Asking:
    """Asks and hears answers, in one event loop."""

    def __init__(self, log: KafkaLog, patience_s: float) -> None:
        self._log = log
        self._options = log.place.client_options()
        self._patience_s = patience_s
        self._commands = topic_name(log.place.namespace, "commands")
        self._replies = TopicPartition(
            topic_name(log.place.namespace, "replies"),
            random.randrange(log.partitions),  # noqa: S311 - no secret
        )
        self._asker = os.urandom(12)
        self._asked = 0
        self._open: dict[bytes, tuple[Round, int, int]] = {}
        self._rounds: set[Round] = set()
        self._next_offset = 0
        self._outbox: Outbox | None = None
        self._tail: Tail | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and listen from here on."""
        reading = Reading(self._options, _REQUEST_S)
        try:
            await reading.start([self._replies.topic])
            (self._next_offset,) = await reading.heads([self._replies])
        finally:
            await reading.stop()
        self._outbox = Outbox(self._options, self._commands, ALL_ACKS, gather_s=_GATHER_S)
        try:
            await self._outbox.start()
            await self._listen()
        except BaseException:
            await self.stop()
            raise

    async def _listen(self) -> None:
        self._tail = Tail(
            self._options,
            lambda: {self._replies: self._next_offset},
            self._took,
            wait_ms=_WAIT_MS,
        )
        await self._tail.start([self._replies.topic])
        self._hearing = asyncio.create_task(self._tail.run())
        self._hearing.add_done_callback(self._end_rounds)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Disconnect."""
        await settle([task for task in (self._watching, self._hearing) if task is not None])
        stops: list[Callable[[], Awaitable[None]]] = []
        if self._outbox is not None:
            stops.append(partial(self._outbox.stop, _FLUSH_S))
        if self._tail is not None:
            stops.append(self._tail.stop)
        await stop_all(*stops)

    async def _took(self, _at: TopicPartition, records: list[Any], head: int) -> None:
        if head < 0:
            # What was kept there is gone: whoever waits asks again.
            self._next_offset = await self._beginning()
            return
        assert self._outbox is not None
        # Replies mean that a round of requests is over, here, there and at the broker.
        self._outbox.hurry()
        for record in records:
            if record.offset < self._next_offset:
                continue
            self._next_offset = record.offset + 1
            for name, value in record.headers:
                asked = self._open.pop(value, None) if name == ASK else None
                if asked is not None:
                    asked[0].take(*asked[1:], decode_reply(record.value))

    async def _beginning(self) -> int:
        reading = Reading(self._options, _REQUEST_S)
        try:
            await reading.start([self._replies.topic])
            return (await reading.heads([self._replies]))[0]
        finally:
            await reading.stop()

    async def ask_each(
        self, asked: Sequence[Sequence[_Asked]], after: Mapping[int, int], patience_s: float
    ) -> list[list[Reply] | BaseException]:
        """Ask several things at once; return the replies to each, or why there are none."""
        asking = (self.ask(one, after, patience_s) for one in asked)
        return await asyncio.gather(*asking, return_exceptions=True)

    async def ask(
        self, asked: Sequence[_Asked], after: Mapping[int, int], patience_s: float | None = None
    ) -> list[Reply]:
        """Ask, and ask again what no answer comes to; return the replies in order.

        `patience_s` is how long without any, where it is less than for commands.
        """
        patience_s = self._patience_s if patience_s is None else min(patience_s, self._patience_s)
        told = Round(len(asked))
        asks: list[bytes] = []
        last_heard = time.monotonic()
        try:
            while told.rest:
                rest = told.rest
                await self._ask_once(told, asked, after, asks)
                if told.rest < rest:
                    last_heard = told.heard_at
                elif time.monotonic() - last_heard > patience_s:
                    reason = f"no answer in {patience_s:g} s to {rest} commands"
                    raise ServerUnavailable(_PART, reason, _HINT)
        finally:
            self._rounds.discard(told)
            for ask in asks:
                self._open.pop(ask, None)
        return [reply for reply in told.replies if reply is not None]

    async def _ask_once(
        self,
        told: Round,
        asked: Sequence[_Asked],
        after: Mapping[int, int],
        asks: list[bytes],
    ) -> None:
        """Put commands into their partitions, in order, and hear replies until none come.

        `asks` gets what they are asked under: who is slow answers that long after.
        """
        self._asked += 1
        asker = self._asker + self._asked.to_bytes(4)
        assert self._hearing is not None
        assert self._outbox is not None
        if self._hearing.done():
            self._hearing.result()
        by_partition: dict[int, list[Letter]] = {}
        # What they say besides is the same for all.
        _, *same = headers_of(Route(asker, self._replies.partition, after))
        for index in told.begin():
            ask, one = asker + index.to_bytes(4), asked[index]
            asks.append(ask)
            self._open[ask] = (told, index, told.times)
            letter = Letter(one.key, one.value, [(ASK, ask), *same])
            by_partition.setdefault(one.partition, []).append(letter)
        for partition, letters in by_partition.items():
            self._outbox.put(partition, letters)
        self._rounds.add(told)
        await told.is_over

    async def _watch(self) -> None:
        """End the rounds in which nothing was heard for a while."""
        silence_s = min(_AGAIN_S, self._patience_s)
        while True:
            await asyncio.sleep(max(silence_s / _LOOKS, _LEAST_PAUSE_S))
            now = time.monotonic()
            for told in [one for one in self._rounds if now - one.heard_at > silence_s]:
                told.end()

    def _end_rounds(self, hearing: "asyncio.Task[None]") -> None:
        """Tell those who wait that nothing will be heard any more."""
        error = None if hearing.cancelled() else hearing.exception()
        for told in self._rounds:
            told.end(error)
