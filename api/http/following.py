"""Keeps the read models at the log's head, and tells who waits for a position when it is reached.

One thread does it. Embedded it projects; where workers project, it only looks. News of other
processes may be lost, so it looks by itself as well.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Final

import psycopg
from msgspec import Struct

from api.front import finish_transfers
from api.wiring import Parts, running
from domain.commands import Topic
from infra.errors import InfraError
from infra.settings import Settings
from projections.registry import PROJECTIONS
from streams.log import LogError, TopicPartition

_log = logging.getLogger(__name__)
IDLE_S: Final = 0.1
WAITED_FOR_S: Final = 0.01
BACK_OFF_S: Final = 1.0
_REST: Final = 2.0
"""So many times as long as it projected it rests while nobody waits. Many events projected together
cost little more than one, and who writes them has the processor meanwhile."""
_MOST_REST_S: Final = 0.05
_SETTLES_S: Final = 1.0
"""So often transfers are looked for that a crash has left on their way: who sends one carries it
to its end."""
TOPIC_OF: Final[dict[str, Topic]] = {one.name: one.topic for one in PROJECTIONS}
"""Topics by the projection that folds them."""

Reached = Mapping[tuple[str, int], int]
"""By projection and partition, the offset that it reads next."""


class _Waiter(Struct):
    projections: tuple[str, ...]
    places: Mapping[TopicPartition, int]
    done: asyncio.Future[None]

    def is_met(self, reached: Reached) -> bool:
        return all(
            reached.get((name, partition), 0) > offset
            for (topic, partition), offset in self.places.items()
            for name in _folding(topic, self.projections)
        )


@cache
def _folding(topic: Topic, projections: tuple[str, ...]) -> tuple[str, ...]:
    """Return whose checkpoints count: those asked for that fold the topic, else all that do."""
    asked = tuple(name for name in projections if TOPIC_OF[name] == topic)
    return asked or tuple(name for name, folded in TOPIC_OF.items() if folded == topic)


class Follower:
    """Brings the read models to the head all the time, or where others do, follows them."""

    def __init__(self, settings: Settings, loop: asyncio.AbstractEventLoop) -> None:
        self._settings = settings
        self._loop = loop
        self._projects = settings.log_url.scheme != "kafka"
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._stopped = threading.Event()
        self._waiters: list[_Waiter] = []
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.reached: Reached = {}
        self.prices_reached: tuple[int, ...] = ()
        self.looked_at = float("-inf")
        """When it was last certain, on the monotonic clock, that `reached` is how it is."""
        self.on_change: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop, once the step under way is done."""
        self._stopped.set()
        self._wake.set()
        self._hurry.set()
        if self._thread.is_alive():
            self._thread.join()

    def kick(self) -> None:
        """Say that there is something new. Any thread may."""
        self._wake.set()

    async def wait(
        self,
        places: Mapping[TopicPartition, int],
        projections: Iterable[str],
        timeout_s: float,
    ) -> bool:
        """Wait until read models hold the records at these offsets; tell whether they do."""
        waiter = _Waiter(tuple(projections), places, self._loop.create_future())
        if waiter.is_met(self.reached):
            return True
        self._waiters.append(waiter)
        self.kick()
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done
        except TimeoutError:
            return False
        finally:
            self._waiters.remove(waiter)
        return True

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                with running(self._settings) as parts:
                    self._follow(parts)
            # Nothing narrower: whatever it is, it is logged and tried again. Were this thread to
            # end, every read that waits for a position would wait in vain.
            except Exception as error:
                foreseen = isinstance(error, InfraError | LogError | psycopg.Error)
                told = None if foreseen else error
                _log.warning("following the log failed, trying again: %s", error, exc_info=told)
                self._stopped.wait(BACK_OFF_S)

    def _follow(self, parts: Parts) -> None:
        settles_at = float("-inf")
        while not self._stopped.is_set():
            self._wake.clear()
            began = looked_at = time.monotonic()
            if self._projects:
                parts.projector.catch_up()
                looked_at = time.monotonic()
            rested_at = looked_at + min(_REST * (looked_at - began), _MOST_REST_S)
            found = parts.models.checkpoints()
            reached = {place: one.next_offset for place, one in found.items()}
            if reached == self.reached:
                self.looked_at = looked_at
            else:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(self._tell, reached, looked_at)
            if self._projects and looked_at >= settles_at:
                finish_transfers(parts)
                settles_at = looked_at + _SETTLES_S
            self._wake.wait(WAITED_FOR_S if self._waiters else IDLE_S)
            self._rest(rested_at)

    def _rest(self, until: float) -> None:
        """Let more gather for a while, unless somebody waits for what there is."""
        self._hurry.clear()
        if not self._waiters and not self._stopped.is_set():
            self._hurry.wait(max(0.0, until - time.monotonic()))

    def _tell(self, reached: Reached, looked_at: float) -> None:
        self.reached = reached
        self.prices_reached = tuple(
            offset for (projection, _), offset in sorted(reached.items()) if projection == "prices"
        )
        self.looked_at = looked_at
        for waiter in self._waiters:
            if not waiter.done.done() and waiter.is_met(reached):
                waiter.done.set_result(None)
        self.on_change()
