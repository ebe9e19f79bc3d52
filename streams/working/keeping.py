"""Keeping partitions at the head of the log: what a worker's one thread does.

Records that come in order are projected as they come. A partition that does not move although there
is more of it (much history, a gap, a server that was away, a halt that a person has lifted) is read
on from its checkpoint, in bulk. Both ways lead through the same step, so nothing is applied twice.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final

from msgspec import Struct
from prometheus_client import Counter

from domain.commands import Topic
from infra.telemetry import get_logger
from schemas.envelope import Record
from schemas.validity import look_ahead
from streams.log import Log, LogHalted, TopicPartition
from streams.projecting import SCANS_FROM, Projector
from streams.read_models import Advance, CheckpointMoved, ReadModels
from streams.tracing import is_traced, trace_values
from streams.working.metrics import WorkerMetrics

NEAR: Final = 5000
"""A partition no more records than this behind the head is left to those that come."""
_STEPS_IN_A_ROW: Final = 5
_TOGETHER: Final = 2
_READ_TOGETHER: Final = 1000
"""Partitions that are so little behind are caught up together, so many records at once."""
_LOOKED_AT: Final = 1000
_HALTED_LOOKS: Final = 30
"""A halt for which no parking was found is tried again after so many looks."""

_log = get_logger(__name__)

Heads = Mapping[Topic, Sequence[int]]


class _Due(Struct, frozen=True):
    """A partition that has to be read on up to where the log ended when it was looked at.

    What came later is handed on: to read that as well would have no end while records come.
    """

    place: TopicPartition
    head: int


class _Seen(Struct, frozen=True):
    """Where a partition stood when it was looked at, and where the log ended."""

    next_offset: int
    head: int


class _Halted(Struct):
    """At which record a partition stands, and up to where its parking was looked for."""

    offset: int
    looked_to: int
    looks: int = 0


class Keeper:
    """Projects the partitions that it is assigned. For one thread; each call is short.

    Any call may raise what the log and the store raise when they are away. Nothing is lost by that:
    the next look finds the partitions that did not move.
    """

    def __init__(self, log: Log, models: ReadModels, metrics: WorkerMetrics) -> None:
        self._source = log
        self._models = models
        self._metrics = metrics
        self.projector = Projector(log, models, watch=self._note_written)
        self.assigned: set[TopicPartition] = set()
        self.halted: dict[TopicPartition, _Halted] = {}
        self.moved_at: dict[tuple[str, int], float] = {}
        self._counted: dict[str, tuple[Counter, Counter, Counter]] = {}
        self._wanted: set[TopicPartition] = set()
        self._overtaken: set[TopicPartition] = set()
        self._seen: dict[TopicPartition, _Seen] = {}
        self._due: deque[_Due] = deque()
        self._is_far = False

    # --- partitions ------------------------------------------------------------------------------

    def assign(self, places: Iterable[TopicPartition]) -> None:
        """Take over exactly these partitions, each from its stored checkpoint."""
        self.revoke(self.assigned)
        self.assigned = set(places)
        self._wanted = set(self.assigned)

    def revoke(self, places: Iterable[TopicPartition]) -> None:
        """Throw away what is kept of partitions: another worker may have them by now."""
        for place in list(places):
            self.projector.forget(*place)
            self.assigned.discard(place)
            self._wanted.discard(place)
            self._seen.pop(place, None)
            self.halted.pop(place, None)
        self._due = deque(due for due in self._due if due.place in self.assigned)

    def start_at(self, heads: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return from where records are wanted: from the checkpoint, or from the head if it is far.

        What lies between is read in bulk.
        """
        places = {}
        for place, head in heads.items():
            next_offset = self.next_offset(place)
            is_near = next_offset is not None and head - NEAR <= next_offset <= head
            places[place] = next_offset if is_near and next_offset is not None else head
        return places

    def next_offset(self, place: TopicPartition) -> int | None:
        """Return the least offset at which a projection goes on; None where all have failed."""
        return min(self.projector.places(*place).values(), default=None)

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return where the assigned partitions go on."""
        found = {place: self.next_offset(place) for place in self.assigned}
        return {place: offset for place, offset in found.items() if offset is not None}

    # --- records that come -----------------------------------------------------------------------

    def take(self, records: Sequence[Record]) -> bool:
        """Project records that came; return whether a partition is left to be caught up.

        What is below a checkpoint is passed over, and what is not next is left to be read.
        """
        ordered = sorted(records, key=lambda one: (one.topic, one.partition, one.offset))
        # Nobody checks or rebuilds the tables in the meantime.
        with self._models.sharing_lock():
            groups = {place: list(group) for place, group in groupby(ordered, key=_place)}
            before = {place: self.next_offset(place) for place in groups} if is_traced() else {}
            self._take_together(groups)
            # Those that could not go with the others, and what is left of them.
            for place, group in groups.items():
                self._take_partition(place, group)
            for place, at in before.items():
                self._trace(place, at, groups[place])
        return bool(self._wanted)

    def want(self, records: Iterable[Record]) -> None:
        """Leave records that came to be read again from the log."""
        self._wanted |= {_place(one) for one in records} & self.assigned

    def _take_together(self, groups: Mapping[TopicPartition, list[Record]]) -> None:
        """Project what comes next in several partitions in one transaction, if nothing is amiss."""
        ready = {place: group for place, group in groups.items() if self._is_next(place, group)}
        if len(ready) < _TOGETHER:
            return
        started = time.perf_counter()
        before = {place: self.next_offset(place) for place in ready}
        try:
            self.projector.step_together(ready)
        except LogHalted:
            # It is found again, and noted, where its partition takes a step by itself.
            return
        except CheckpointMoved as moved:
            for place, at in before.items():
                if self.next_offset(place) != at:
                    self._note_moved(place, moved)
            return
        for place in ready:
            self._note_projected(place, started)

    def _is_next(self, place: TopicPartition, records: list[Record]) -> bool:
        if place not in self.assigned or place in self.halted:
            return False
        first, last = records[0].offset, records[-1].offset
        at = self.next_offset(place)
        return last - first == len(records) - 1 and at is not None and first <= at <= last

    def _take_partition(self, place: TopicPartition, records: list[Record]) -> None:
        if place not in self.assigned or place in self.halted:
            return
        end = records[-1].offset + 1
        is_whole = end - records[0].offset == len(records)
        while (at := self.next_offset(place)) is not None and at < end:
            if not is_whole or at < records[0].offset:
                self._wanted.add(place)
                return
            if not self._project(place, lambda: self.projector.step(*place, records)):
                return

    # --- records that are read -------------------------------------------------------------------

    def look(self, heads: Heads | None = None) -> None:
        """Note the partitions that have to be read on, by where the log ended a moment ago.

        Without `heads` the log is asked. A topic that they leave out is not looked at.
        """
        if heads is None:
            topics = {topic for topic, _ in self.assigned}
            heads = {topic: self._source.heads(topic) for topic in sorted(topics)}
        due = []
        for place in sorted(self.assigned):
            topic, partition = place
            if topic in heads and self._is_due(place, heads[topic][partition]):
                due.append(_Due(place, heads[topic][partition]))
        self._wanted.clear()
        self._due = deque(due)
        self._is_far = sum(self._behind(one) for one in due) >= SCANS_FROM

    def catch_up(self) -> bool:
        """Read a few batches of what is due; return whether there is more to do."""
        if self._due and not self._catch_up_together():
            due = self._due.popleft()
            with self._models.sharing_lock():
                read = self._project(due.place, lambda: self._read_on(due))
            if read and self._behind(due) > 0:
                self._due.append(due)
        return bool(self._due)

    def _read_on(self, due: _Due) -> int:
        steps = _STEPS_IN_A_ROW
        return self.projector.read_on(*due.place, steps, due.head, scans=self._is_far)

    def _catch_up_together(self) -> bool:
        """Project what little is due of several partitions as if it had come; tell if any was."""
        near = self._near()
        if len(near) < _TOGETHER:
            return False
        records: list[Record] = []
        for due in near:
            behind = self._behind(due)
            found = self._source.read(*due.place, due.head - behind, behind)
            if found:
                self._due.remove(due)
                records += found
        if records:
            self.take(records)
        return bool(records)

    def _near(self) -> list[_Due]:
        """Return what is due and comes to no more records than may be read together."""
        near: list[_Due] = []
        left = _READ_TOGETHER
        for due in self._due:
            behind = self._behind(due)
            if due.place not in self.halted and 0 < behind <= left:
                near.append(due)
                left -= behind
        return near

    def _behind(self, due: _Due) -> int:
        """Return how many records a partition is behind what it is due to reach."""
        next_offset = self.next_offset(due.place)
        return 0 if next_offset is None else due.head - next_offset

    def _is_due(self, place: TopicPartition, head: int) -> bool:
        at = self.next_offset(place)
        if at is None:
            return False
        if place in self.halted:
            return self._may_go_on(place, head)
        last = self._seen.get(place)
        self._seen[place] = _Seen(at, head)
        stands = last is not None and at == last.next_offset
        if at > head:
            # Records have come since, or the log ends where it cannot: reading it says so.
            return stands
        # What had been written at the last look has had the time to come.
        is_left = stands and last is not None and at < last.head
        return at < head and (is_left or place in self._wanted or head - at > NEAR)

    def _may_go_on(self, place: TopicPartition, head: int) -> bool:
        """Tell whether a halted partition is worth a try: its record was parked, or long ago."""
        halted = self.halted[place]
        halted.looks += 1
        parked = False
        while halted.looked_to < head:
            records = self._source.read(*place, halted.looked_to, _LOOKED_AT)
            if not records:
                break
            parked = parked or halted.offset in look_ahead(records)
            halted.looked_to = records[-1].offset + 1
        return parked or halted.looks % _HALTED_LOOKS == 0

    def _project(self, place: TopicPartition, project: Callable[[], int]) -> int:
        """Return how many records were projected; 0 as well where the partition stands still."""
        started = time.perf_counter()
        try:
            read = project()
        except LogHalted as halted:
            self._note_halt(place, halted)
            return 0
        except CheckpointMoved as moved:
            self._note_moved(place, moved)
            self._wanted.add(place)
            return 0
        if read:
            self._note_projected(place, started)
        return read

    # --- notes -----------------------------------------------------------------------------------

    def _note_projected(self, place: TopicPartition, started: float) -> None:
        self._overtaken.discard(place)
        self._metrics.step_seconds.labels(place[0]).observe(time.perf_counter() - started)
        if self.halted.pop(place, None) is not None:
            _log.info("goes on", place=_text(place))

    def _note_moved(self, place: TopicPartition, moved: CheckpointMoved) -> None:
        self._metrics.moved.labels(place[0]).inc()
        if place not in self._overtaken:
            told = {"place": _text(place), "reason": str(moved)}
            _log.warning("somebody else has projected this partition", **told)
        self._overtaken.add(place)

    def _trace(self, place: TopicPartition, before: int | None, records: list[Record]) -> None:
        """Log the commands of records that were projected since a partition stood at `before`."""
        after = self.next_offset(place) or 0
        first = after if before is None else before
        projected = ((one.offset, one.value) for one in records if first <= one.offset < after)
        trace_values("projected", place, projected)

    def _note_halt(self, place: TopicPartition, halted: LogHalted) -> None:
        known = self.halted.get(place)
        if known is None or known.offset != halted.offset:
            self.halted[place] = _Halted(halted.offset, halted.offset + 1)

    def _note_written(self, advance: Advance) -> None:
        name = advance.projection.name
        records, voids, written = self._counters(name)
        records.inc(advance.state.next_offset - advance.from_offset)
        voids.inc(advance.voids)
        rows = (
            len(one.inserts) + len(one.lines) + len(one.upserts) + len(one.deletes)
            for one in advance.changed
        )
        written.inc(sum(rows))
        self.moved_at[name, advance.partition] = time.monotonic()

    def _counters(self, name: str) -> tuple[Counter, Counter, Counter]:
        """Return the counters of a projection, which cost as much to find as to count on."""
        found = self._counted.get(name)
        if found is None:
            metrics = self._metrics
            counters = (metrics.records, metrics.voids, metrics.rows)
            records, voids, rows = (one.labels(name) for one in counters)
            found = self._counted[name] = (records, voids, rows)
        return found


def _place(record: Record) -> TopicPartition:
    topic: Topic = record.topic  # type: ignore[assignment]
    return topic, record.partition


def _text(place: TopicPartition) -> str:
    return f"{place[0]}/{place[1]}"
