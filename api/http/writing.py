"""Writes: what has arrived from all requests is decided and committed together, by one thread.

While one batch is being made durable the next one gathers. So a command alone waits for nobody,
and many share a commit. Where the log is in Kafka each partition has an owner of its own, which may
be away: there what concerns one partition has a thread of its own.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import psycopg
from msgspec import Struct

from api.assumptions import NotAmended
from api.front import Front, Missing
from api.http.following import Follower
from api.http.problems import OVERLOADED, UNAVAILABLE, Problem
from api.importing.lines import Fact
from api.wiring import Parts, running
from domain.commands import DefineInstrument, SendTransfer
from infra.errors import InfraError, ServerUnavailable
from infra.settings import Settings
from schemas.partitioning import partition_of
from streams.answers import Answer
from streams.log import TopicPartition

_log = logging.getLogger(__name__)
MOST_WAITING: Final = 20_000
"""Commands that may wait; who brings more is told to come again."""
MOST_AT_ONCE: Final = 2_000
ANSWER_S: Final = 20.0
"""After so long an asker is told that nobody decides: more than a decider takes to follow another,
less than every request may take."""
ENDING_S: Final = 5.0
"""How long answers are waited for once the server is to end."""
MOST_LANES: Final = 64
"""Threads that wait for owners of partitions; with more partitions some share one."""
_DEFINING: Final = -1
"""The lane of definitions, as these wait until the workers have projected what was there."""
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
    """Submits the commands of all requests through one ledger.

    One partition that nobody decides holds up nothing but what concerns it, and lists and
    transfers that concern several.
    """

    def __init__(
        self,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        follower: Follower,
        partitions: int,
    ) -> None:
        self._loop = loop
        self._follower = follower
        self._partitions = partitions
        self._is_distributed = settings.log_url.scheme == "kafka"
        self._waiting = 0
        self._answer_s = ANSWER_S
        self._limits: set[asyncio.Timeout] = set()
        self._shared = _SharedParts(settings)
        self._lanes: dict[int | None, _Lane] = {}
        self.acknowledged: dict[TopicPartition, int] = {}
        """By partition, the offset of the last record that was answered with."""

    def hurry(self) -> None:
        """Say that the server is to end: who waits is answered within ENDING_S, somehow."""
        self._answer_s = ENDING_S
        end = self._loop.time() + ENDING_S
        for limit in self._limits:
            if (when := limit.when()) is not None and when > end:
                limit.reschedule(end)

    def close(self) -> None:
        """Answer what has arrived, and stop; no decider is waited for longer than seconds."""
        for lane in self._lanes.values():
            lane.end()
        deadline = time.monotonic() + _LAST_S
        for lane in self._lanes.values():
            lane.join(deadline - time.monotonic())
        self._shared.close()
        for lane in self._lanes.values():
            lane.join()

    async def submit(self, facts: Sequence[Fact], *, strict: bool = False) -> Answers:
        """Return the answers to facts, each durable.

        Raises Problem when there is no room, and when there is no answer for ANSWER_S.
        """
        lane = self._lane(facts)
        if self._waiting + len(facts) > MOST_WAITING or not lane.has_room(len(facts)):
            raise Problem(OVERLOADED, "too many commands are waiting; none of these was taken")
        submission = _Submission(facts, strict, self._loop.create_future())
        self._waiting += len(facts)
        lane.waiting += len(facts)
        # Decremented when it is answered, not when the asker gives up: it still takes its place.
        submission.answers.add_done_callback(lambda _: self._answered(lane, len(facts)))
        lane.put(submission)
        answers = await self._answer(submission)
        for one in answers:
            if isinstance(one, Answer) and one.offset is not None:
                place = (one.topic, one.partition)
                self.acknowledged[place] = max(one.offset, self.acknowledged.get(place, 0))
        return answers

    async def _answer(self, submission: _Submission) -> Answers:
        answer_s = self._answer_s
        limit = asyncio.timeout(answer_s)
        try:
            async with limit:
                self._limits.add(limit)
                return await asyncio.shield(submission.answers)
        except TimeoutError as error:
            raise _undecided(answer_s) from error
        finally:
            self._limits.discard(limit)

    def _answered(self, lane: "_Lane", count: int) -> None:
        self._waiting -= count
        lane.waiting -= count

    def _lane(self, facts: Sequence[Fact]) -> "_Lane":
        place = self._place(facts) if self._is_distributed else None
        lane = self._lanes.get(place)
        if lane is None:
            most = MOST_WAITING if place is None else MOST_WAITING // 2
            lane = self._lanes[place] = _Lane(
                self._shared, self._follower, self.acknowledged, self._told, most
            )
        return lane

    def _place(self, facts: Sequence[Fact]) -> int | None:
        """Return which lane facts of one partition have; None where they touch others, or notes."""
        if all(isinstance(fact.request.command, DefineInstrument) for fact in facts):
            return _DEFINING
        places = set()
        for fact in facts:
            if fact.note or isinstance(fact.request.command, SendTransfer | DefineInstrument):
                return None
            places.add(partition_of(fact.request.key, self._partitions) % MOST_LANES)
        return places.pop() if len(places) == 1 else None

    def _told(self, what: Callable[..., None], *told: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(what, *told)


class _Lane:
    """A thread that submits what comes, in its order, as much at a time as has come."""

    def __init__(
        self,
        shared: "_SharedParts",
        follower: Follower,
        acknowledged: dict[TopicPartition, int],
        tell: Callable[..., None],
        most_waiting: int,
    ) -> None:
        self.waiting = 0
        self._shared = shared
        self._follower = follower
        self._acknowledged = acknowledged
        self._tell = tell
        self._most_waiting = most_waiting
        self._known: tuple[Parts, _Fronts] | None = None
        self._queue: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def has_room(self, count: int) -> bool:
        """Tell whether so many commands more may wait here."""
        return not self.waiting or self.waiting + count <= self._most_waiting

    def put(self, submission: _Submission) -> None:
        """Have it submitted."""
        self._queue.put(submission)

    def end(self) -> None:
        """Take nothing more."""
        self._queue.put(None)

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until everything is answered."""
        self._thread.join(None if timeout_s is None else max(0.0, timeout_s))

    def _run(self) -> None:
        while (batch := self._gathered()) is not None:
            try:
                with self._shared.lent() as parts:
                    self._submit(parts, batch)
            # Whatever it is, told to whoever asked and logged: who asks next is to be answered too.
            except Exception as error:
                foreseen = isinstance(error, InfraError | psycopg.Error)
                told = None if foreseen else error
                _log.warning("the ledger cannot be written to: %s", error, exc_info=told)
                self._fail(batch, error)

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

    def _submit(self, parts: Parts, batch: list[_Submission]) -> None:
        """Answer a batch."""
        if self._known is None or self._known[0] is not parts:
            self._known = parts, {strict: Front(parts, strict=strict) for strict in (False, True)}
        for strict, front in self._known[1].items():
            together = [one for one in batch if one.strict is strict]
            if not together:
                continue
            behind: NotAmended | None = None
            try:
                answers = front.submit([fact for one in together for fact in one.facts])
            except NotAmended as error:
                behind, answers = error, list(error.answers)
            except (InfraError, psycopg.Error):
                raise
            # One command's fault, whatever it is, must not be another's: each by itself, and who
            # gave the faulty one is told. What the fronts know may be what failed.
            except Exception:
                self._known = None
                for one in together:
                    self._submit_alone(Front(parts, strict=strict), one)
                continue
            finally:
                self._follower.kick()
            self._note_what_followed(parts, together)
            start = 0
            for one in together:
                if behind is not None and _defines(one, behind):
                    self._fail([one], _not_amended(behind))
                else:
                    self._tell(_set_answers, one.answers, answers[start : start + len(one.facts)])
                start += len(one.facts)

    def _note_what_followed(self, parts: Parts, together: list[_Submission]) -> None:
        """Count what commands led to in other streams as written by this process, too."""
        commands = (fact.request.command for one in together for fact in one.facts)
        if any(isinstance(command, SendTransfer | DefineInstrument) for command in commands):
            ends: dict[TopicPartition, int] = {
                ("events", partition): head - 1
                for partition, head in enumerate(parts.log.heads("events"))
            }
            self._tell(self._acknowledged.update, ends)

    def _submit_alone(self, front: Front, one: _Submission) -> None:
        try:
            self._tell(_set_answers, one.answers, front.submit(one.facts))
        except NotAmended as error:
            self._fail([one], _not_amended(error))
        except (InfraError, psycopg.Error):
            raise
        except Exception as error:  # whatever it is: told to whoever asked, and logged there
            self._fail([one], error)

    def _fail(self, batch: list[_Submission], error: BaseException) -> None:
        for one in batch:
            self._tell(_set_error, one.answers, error)


class _Opened(Struct, eq=False):
    stack: contextlib.ExitStack
    parts: Parts
    users: int = 0


class _SharedParts:
    """Parts that all lanes use. After a failure they are opened anew, and closed once unused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._turn = threading.Lock()
        self._current: _Opened | None = None
        self._used: list[_Opened] = []
        self._is_closed = False

    @contextlib.contextmanager
    def lent(self) -> Iterator[Parts]:
        """Lend parts for a block."""
        opened = self._taken()
        try:
            yield opened.parts
        except BaseException:
            with self._turn:
                if self._current is opened:
                    self._current = None
            raise
        finally:
            self._give_back(opened)

    def close(self) -> None:
        """Close what nobody uses. Who waits for a decider waits no longer, and gets no parts."""
        with self._turn:
            self._is_closed = True
            current, self._current = self._current, None
            used = list(self._used)
        if current is not None and not current.users:
            current.stack.close()
        for opened in used:
            if opened.parts.is_distributed:
                opened.parts.ledger.close()

    def _taken(self) -> _Opened:
        with self._turn:
            if self._is_closed:
                raise ServerUnavailable("the ledger", "this server is ending", "ask another one")
            if self._current is None:
                with contextlib.ExitStack() as stack:
                    parts = stack.enter_context(running(self._settings))
                    # Made before it is shared: two threads might make it twice.
                    assert parts.ledger is not None
                    self._current = _Opened(stack.pop_all(), parts)
            opened = self._current
            opened.users += 1
            if opened.users == 1:
                self._used.append(opened)
            return opened

    def _give_back(self, opened: _Opened) -> None:
        with self._turn:
            opened.users -= 1
            if opened.users == 0:
                self._used.remove(opened)
            is_over = opened.users == 0 and self._current is not opened
        if is_over:
            opened.stack.close()


def _undecided(answer_s: float) -> Problem:
    known = "it is not known whether this was recorded; send it again with the same key"
    return Problem(UNAVAILABLE, f"nobody has decided this in {answer_s:g} s: {known}")


def _defines(one: _Submission, behind: NotAmended) -> bool:
    requests = (fact.request for fact in one.facts)
    return any(
        isinstance(request.command, DefineInstrument) and request.key in behind.instruments
        for request in requests
    )


def _not_amended(error: NotAmended) -> Problem:
    _log.warning("%s", error)
    return Problem(UNAVAILABLE, f"{error.reason}; send it again with the same key")


def _set_answers(future: asyncio.Future[Answers], answers: Answers) -> None:
    if not future.done():
        future.set_result(answers)


def _set_error(future: asyncio.Future[Answers], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
