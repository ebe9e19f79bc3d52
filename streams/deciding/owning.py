"""A partition of commands while it is owned: what waits, what was answered, and the three lanes.

Whoever is assigned partition n of the commands owns partition n of events, prices and reference.
Commands are answered lane by lane; the group's offset is that of the first not answered.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec import Struct

from domain.commands import Request, Topic
from streams.answers import Answer
from streams.deciding.lane import Lane, Waiting
from streams.deciding.wire import LookUp, Route, asked_topic

QUEUE: Final = 50_000
"""Commands that may wait for one partition; more are turned away."""
_TURNED_AWAY: Final = 10_000
_ASKER_BYTES: Final = 16
OVERLOADED: Final = "overloaded"


class Held(Struct, frozen=True, gc=False):
    """An answer that is not told yet: to the command at an offset, which came in at a time.

    `undecided` is what was asked where nobody has looked yet whether it is in the log.
    """

    offset: int
    route: Route
    since_ns: int
    value: bytes
    undecided: Request | LookUp | None = None


class OwnedPartition:
    """The commands of one partition on their way.

    `next_offset` is that of the command to read next, None until the group has told it; a new
    `epoch` begins whenever it is to be asked again.
    """

    def __init__(self, number: int, lanes: Mapping[Topic, Lane], *, limit: int = QUEUE) -> None:
        self.number = number
        self.lanes = lanes
        self._limit = limit
        self._waiting: deque[Waiting] = deque()
        self.next_offset: int | None = None
        self.epoch = 0
        self._turned_away: OrderedDict[tuple[bytes, str], None] = OrderedDict()
        self.committed: int | None = None
        self._held: list[Held] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Tell whether so many answers are held back that no command should be read for now."""
        return len(self._held) >= self._limit

    def receive(self, record: Any, asked: Any, route: Route) -> Waiting | None:
        """Queue what a record asks; return None where it is turned away.

        Once a command of an asker's stream was turned away, so are those after it that came in the
        same asking: the stream's commands are decided in their order, or not at all.
        """
        self.next_offset = record.offset + 1
        asker = (route.ask or b"")[:_ASKER_BYTES], asked.key
        if len(self._waiting) >= self._limit or asker in self._turned_away:
            self._turned_away[asker] = None
            if len(self._turned_away) > _TURNED_AWAY:
                self._turned_away.popitem(last=False)
            return None
        one = Waiting(record.offset, asked, route, len(record.value or b""), time.monotonic_ns())
        self._waiting.append(one)
        self.lanes[asked_topic(asked)].queue.append(one)
        return one

    def pass_over(self, record: Any) -> None:
        """Take note of a record that needs no deciding: it was buried."""
        self.next_offset = record.offset + 1

    @property
    def done_offset(self) -> int | None:
        """The offset of the first command that is not answered; None where none came in yet."""
        while self._waiting and self._waiting[0].is_done:
            self._waiting.popleft()
        return self._waiting[0].offset if self._waiting else self.next_offset

    def hold(self, told: Iterable[Held]) -> None:
        """Keep answers that nothing records until the group knows that their commands are done.

        Until then they may be decided once more, by another owner, and come to something else.
        """
        for one in told:
            self._held.append(one)
            if one.undecided is not None:
                lane = self.lanes[asked_topic(one.undecided)]
                lane.is_awaited = not lane.is_proven

    def hold_back(self, told: Iterable[tuple[Waiting, bytes]]) -> None:
        """Take commands for done whose answers nothing records, and keep these likewise.

        A command that was given anew since is answered when it is decided anew.
        """
        for one, value in told:
            one.is_done = True
            if not one.is_stale:
                self._held.append(Held(one.offset, one.route, one.since_ns, value))

    def release(self, committed: int) -> list[Held]:
        """Return the answers held back of commands that stand below an offset committed.

        Of what nobody decided, only once it is sure that no owner has: what is found in the log is
        asked again by who asked, and told then.
        """
        due, held = list[Held](), list[Held]()
        for one in self._held:
            asked = one.undecided
            lane = None if asked is None else self.lanes[asked_topic(asked)]
            if one.offset >= committed or not (lane is None or lane.is_proven):
                held.append(one)
            elif asked is None or lane is None or not lane.has_recorded(asked):
                due.append(one)
        self._held = held
        return due

    def restart(self) -> None:
        """Forget what waits: the group gives it anew, from the offset committed last."""
        for one in self._waiting:
            one.is_stale = True
        self._waiting = deque()
        self._held = []
        self.next_offset = None
        self.committed = None
        self.epoch += 1
        self._turned_away.clear()
        for lane in self.lanes.values():
            lane.queue.clear()
            lane.doubt()


def turned_away(asked: Any, partition: int) -> Answer:
    """Return what is said to a command that there is no room for."""
    return _lacking(asked, partition, OVERLOADED, "too many commands are waiting; try again")


def halted(asked: Any, partition: int, reason: str) -> Answer:
    """Return what is said to a command whose partition stands still."""
    return _lacking(asked, partition, "halted", f"the partition stands still at {reason}")


def undecidable(asked: Any, partition: int, reason: str) -> Answer:
    """Return what is said to a command that can never be decided."""
    return _lacking(asked, partition, "undecidable", reason)


def undecodable(partition: int, reason: str) -> Answer:
    """Return what is said to who sent what is no command: it has no id that could be told."""
    return Answer(
        status="lacking",
        command_id="",
        topic="events",
        partition=partition,
        reason="undecodable",
        detail=reason,
    )


def _lacking(asked: Any, partition: int, reason: str, detail: str) -> Answer:
    return Answer(
        status="lacking",
        command_id="" if isinstance(asked, LookUp) else asked.command_id,
        topic=asked_topic(asked),
        partition=partition,
        reason=reason,
        detail=detail,
    )
