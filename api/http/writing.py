"""Writes: what has arrived from all requests is decided and committed together, by one thread.

While one batch is being made durable the next one gathers. So a command alone waits for nobody,
and many share a commit.
"""

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Sequence
from typing import Final

import psycopg
from msgspec import Struct

from api.front import Front, Missing
from api.http.following import Follower
from api.http.problems import OVERLOADED, UNAVAILABLE, Problem
from api.importing.lines import Fact
from api.wiring import Parts, running
from domain.commands import DefineInstrument, SendTransfer
from infra.errors import InfraError
from infra.settings import Settings
from streams.answers import Answer
from streams.log import TopicPartition

_log = logging.getLogger(__name__)
MOST_WAITING: Final = 20_000
"""Commands that may wait; who brings more is told to come again."""
MOST_AT_ONCE: Final = 2_000
ANSWER_S: Final = 20.0
"""After so long an asker is told that nobody decides: more than a decider takes to follow another,
less than every request may take."""
_LAST_S: Final = 2.0
"""How long the last batch is waited for when all requests have been answered, or given up."""

Answers = list[Answer | Missing]
_Fronts = dict[bool, Front]
"""By whether they assume nothing."""


class _Submission(Struct):
    facts: Sequence[Fact]
    strict: bool
    answers: asyncio.Future[Answers]


class Writer:
    """Submits the commands of all requests through one ledger."""

    def __init__(
        self, settings: Settings, loop: asyncio.AbstractEventLoop, follower: Follower
    ) -> None:
        self._settings = settings
        self._loop = loop
        self._follower = follower
        self._waiting = 0
        self._parts: Parts | None = None
        self._is_closing = False
        self.acknowledged: dict[TopicPartition, int] = {}
        """By partition, the offset of the last record that was answered with."""
        self._queue: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Answer what has arrived, and stop; no decider is waited for longer than seconds."""
        self._queue.put(None)
        if not self._thread.is_alive():
            return
        self._thread.join(_LAST_S)
        self._is_closing = True
        parts = self._parts
        if self._thread.is_alive() and parts is not None and parts.is_distributed:
            parts.ledger.close()
        self._thread.join()

    async def submit(self, facts: Sequence[Fact], *, strict: bool = False) -> Answers:
        """Return the answers to facts, each durable.

        Raises Problem when there is no room, and when there is no answer for ANSWER_S.
        """
        if self._waiting + len(facts) > MOST_WAITING:
            raise Problem(OVERLOADED, "too many commands are waiting; none of these was taken")
        submission = _Submission(facts, strict, self._loop.create_future())
        self._waiting += len(facts)
        # Decremented when it is answered, not when the asker gives up: it still takes its place.
        submission.answers.add_done_callback(lambda _: self._answered(len(facts)))
        self._queue.put(submission)
        try:
            async with asyncio.timeout(ANSWER_S):
                answers = await asyncio.shield(submission.answers)
        except TimeoutError as error:
            raise _undecided() from error
        for one in answers:
            if isinstance(one, Answer) and one.offset is not None:
                place = (one.topic, one.partition)
                self.acknowledged[place] = max(one.offset, self.acknowledged.get(place, 0))
        return answers

    def _answered(self, count: int) -> None:
        self._waiting -= count

    def _run(self) -> None:
        batch: list[_Submission] | None = []
        while batch is not None:
            try:
                with running(self._settings) as parts:
                    self._parts = parts
                    fronts = _fronts(parts)
                    while (batch := self._gathered()) is not None:
                        if not self._submit(parts, fronts, batch):
                            fronts = _fronts(parts)
            except Exception as error:  # told to whoever asked; who asks next is to be answered too
                foreseen = isinstance(error, InfraError | psycopg.Error)
                told = None if foreseen else error
                _log.warning("the ledger cannot be written to: %s", error, exc_info=told)
                # Where the ledger could not even be opened, who asks next must hear of it.
                batch = batch or self._gathered()
                self._fail(batch or [], error)
                batch = None if batch is None or self._is_closing else []

    def _gathered(self) -> list[_Submission] | None:
        """Return what has arrived, once there is anything; None when nothing more will come."""
        batch: list[_Submission] = []
        count = 0
        while count < MOST_AT_ONCE:
            try:
                one = self._queue.get(block=not batch)
            except queue.Empty:
                break
            if one is None:
                if batch:
                    self._queue.put(None)
                return batch or None
            batch.append(one)
            count += len(one.facts)
        return batch

    def _submit(self, parts: Parts, fronts: _Fronts, batch: list[_Submission]) -> bool:
        """Answer a batch; tell whether the fronts know what is so, and not what failed."""
        for strict, front in fronts.items():
            together = [one for one in batch if one.strict is strict]
            if not together:
                continue
            try:
                answers = front.submit([fact for one in together for fact in one.facts])
            except (InfraError, psycopg.Error):
                raise
            except Exception:  # one command's fault must not be another's: each by itself
                for one in together:
                    self._submit_alone(Front(parts, strict=strict), one)
                return False
            finally:
                self._follower.kick()
            self._note_what_followed(parts, together)
            start = 0
            for one in together:
                self._answer(one, answers[start : start + len(one.facts)])
                start += len(one.facts)
        return True

    def _note_what_followed(self, parts: Parts, together: list[_Submission]) -> None:
        """Count what commands led to in other streams as written by this process, too."""
        commands = (fact.request.command for one in together for fact in one.facts)
        if any(isinstance(command, SendTransfer | DefineInstrument) for command in commands):
            ends: dict[TopicPartition, int] = {
                ("events", partition): head - 1
                for partition, head in enumerate(parts.log.heads("events"))
            }
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self.acknowledged.update, ends)

    def _submit_alone(self, front: Front, one: _Submission) -> None:
        try:
            self._answer(one, front.submit(one.facts))
        except (InfraError, psycopg.Error):
            raise
        except Exception as error:  # told to whoever asked, and logged there
            self._fail([one], error)

    def _answer(self, one: _Submission, answers: Answers) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(_set_answers, one.answers, answers)

    def _fail(self, batch: list[_Submission], error: BaseException) -> None:
        for one in batch:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_set_error, one.answers, error)


def _fronts(parts: Parts) -> _Fronts:
    return {strict: Front(parts, strict=strict) for strict in (False, True)}


def _undecided() -> Problem:
    known = "it is not known whether this was recorded; send it again with the same key"
    return Problem(UNAVAILABLE, f"nobody has decided this in {ANSWER_S:g} s: {known}")


def _set_answers(future: asyncio.Future[Answers], answers: Answers) -> None:
    if not future.done():
        future.set_result(answers)


def _set_error(future: asyncio.Future[Answers], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
