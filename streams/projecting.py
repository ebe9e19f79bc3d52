"""The runner: reads each partition once, through the validity rules, and feeds the projections.

Folds are kept between batches; one whose write failed is thrown away. A record that halts stops
every projection of its partition, a fold that fails only its own. Far behind, a batch is written
while the next one is read and folded.
"""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from domain.commands import Topic
from domain.decisions import Stamped
from infra.garbage import no_cycle_search
from projections.rows import Changed, Fold, Projection, Wanted
from schemas.envelope import Record, Recorded
from schemas.validity import PartitionState
from streams.log import TOPICS, Log, LogHalted, TopicPartition
from streams.read_models import (
    Advance,
    Checkpoint,
    CheckpointMoved,
    ReadModels,
    RowsRefused,
)
from streams.reader import ValidBatch, fresh_state, read_valid
from streams.write_behind import RefusedBehind, WriteBehind

_log = logging.getLogger(__name__)
BATCH: Final = 5000


class Lag(Struct, frozen=True):
    """Where a projection stands in a partition; `lag` counts the records that it has not read."""

    name: str
    topic: str
    partition: int
    checkpoint: int
    lag: int
    halted: str | None


class Projector:
    """Brings the read models of a log to its head. For one thread.

    `watch` is told of every step that was written.
    """

    def __init__(
        self,
        log: Log,
        models: ReadModels,
        *,
        batch: int = BATCH,
        watch: Callable[[Advance], None] | None = None,
    ) -> None:
        self._source = log
        self._models = WriteBehind(models)
        self._batch = batch
        self._watch = watch
        self._folds: dict[tuple[str, int], Fold] = {}
        self._states: dict[TopicPartition, PartitionState] = {}
        self._failed: dict[tuple[str, int], int] = {}
        self._places: dict[TopicPartition, dict[str, int]] = {}
        self._halts: dict[TopicPartition, str] = {}

    def catch_up(self) -> int:
        """Project to the head of every partition as it is now; return how many records were read.

        A process that is projecting already is waited for. Halts are written down, not raised:
        `status` tells them.
        """
        if not self._behind():
            return 0
        done = 0
        with self._models.projecting_lock():
            behind = self._behind()
            is_far = sum(behind.values()) > self._batch and self._watch is None
            try:
                with self._models.overlapping() if is_far else contextlib.nullcontext():
                    for read in self._steps(behind):
                        done += read
            except BaseException as error:
                # What was folded ahead of what is written may be of any partition.
                for place in behind:
                    self.forget(*place)
                if not isinstance(error, RefusedBehind):
                    raise
                # Whose rows they were is found a step at a time, from where all was written.
                for read in self._steps(self._behind()):
                    done += read
        return done

    def _steps(self, behind: Iterable[TopicPartition]) -> Iterator[int]:
        """Project partitions to their heads, yielding how many records each step has read."""
        for topic, partition in behind:
            with contextlib.suppress(LogHalted):
                while read := self.step(topic, partition):
                    yield read

    def step(self, topic: Topic, partition: int, delivered: Sequence[Record] = ()) -> int:
        """Project one batch of a partition and return how many records were read; 0 at the head.

        Those that are furthest behind go first, and where they reach others they go on together.
        `delivered` are records that were read elsewhere, in order and without a gap; what is not
        among them is read from the log. Raises LogHalted once that is written down, and
        CheckpointMoved when somebody else has projected the partition: nothing was written, and
        the next step goes on from where the checkpoint is then.
        """
        try:
            places = self.places(topic, partition)
            with no_cycle_search():
                return self._advance(topic, partition, places, delivered) if places else 0
        except LogHalted as halted:
            self._halt_all(topic, partition, str(halted))
            raise
        except BaseException:
            self.forget(topic, partition)
            raise

    def read_on(self, topic: Topic, partition: int, steps: int) -> int:
        """Project up to so many batches of a partition; return how many records were read.

        Each is folded while the one before is written; all are written at the end. Raises what
        `step` raises.
        """
        done = 0
        try:
            with self._models.overlapping():
                for _ in range(steps):
                    read = self.step(topic, partition)
                    if not read:
                        break
                    done += read
        except RefusedBehind:
            # Whose rows they were is found a step at a time, from where all was written.
            self.forget(topic, partition)
            return self.step(topic, partition)
        except BaseException:
            self.forget(topic, partition)
            raise
        return done

    def places(self, topic: Topic, partition: int) -> Mapping[str, int]:
        """Return where the projections of a partition go on, but for those that failed there."""
        found = self._places.get((topic, partition))
        if found is None:
            found = self._stored_places(self._models.checkpoints(), topic, partition)
            self._places[topic, partition] = found
        return found

    def forget(self, topic: Topic, partition: int) -> None:
        """Throw away what is kept of a partition: the next step starts at the stored checkpoint."""
        for projection in self._of_topic(topic):
            self._folds.pop((projection.name, partition), None)
        self._states.pop((topic, partition), None)
        self._places.pop((topic, partition), None)
        self._halts.pop((topic, partition), None)

    def status(self) -> list[Lag]:
        """Return where every projection stands in every partition."""
        checkpoints = self._models.checkpoints()
        lags = []
        for topic in TOPICS:
            for partition, head in enumerate(self._source.heads(topic)):
                for projection in self._of_topic(topic):
                    found = checkpoints.get((projection.name, partition))
                    next_offset = found.next_offset if found else 0
                    lags.append(
                        Lag(
                            projection.name,
                            topic,
                            partition,
                            next_offset - 1,
                            head - next_offset,
                            found.halted if found else None,
                        )
                    )
        return lags

    def _of_topic(self, topic: Topic) -> list[Projection]:
        return [one for one in self._models.projections if one.topic == topic]

    def _behind(self) -> dict[TopicPartition, int]:
        """Return the partitions that are behind, and by how many records."""
        checkpoints = self._models.checkpoints()
        behind: dict[TopicPartition, int] = {}
        for topic in TOPICS:
            for partition, head in enumerate(self._source.heads(topic)):
                places = self._stored_places(checkpoints, topic, partition)
                self._places[topic, partition] = places
                if any(place < head for place in places.values()):
                    behind[topic, partition] = head - min(places.values())
        return behind

    def _stored_places(
        self, checkpoints: dict[tuple[str, int], Checkpoint], topic: Topic, partition: int
    ) -> dict[str, int]:
        """Return where the projections of a partition go on, but for those that failed there.

        A fold is pure: what it failed with once it fails with again, until it is another program.
        """
        places = {}
        for projection in self._of_topic(topic):
            place = (projection.name, partition)
            found = checkpoints.get(place)
            next_offset = found.next_offset if found else 0
            if self._failed.get(place) != next_offset:
                places[projection.name] = next_offset
        return places

    def _advance(
        self,
        topic: Topic,
        partition: int,
        places: Mapping[str, int],
        delivered: Sequence[Record],
    ) -> int:
        offset = min(places.values())
        group = [one for one in self._of_topic(topic) if places.get(one.name) == offset]
        ahead = [place - offset for place in places.values() if place > offset]
        state = self._state(topic, partition, offset, group[0])
        source: Any = Delivered(self._source, delivered) if delivered else self._source
        batch = read_valid(source, topic, partition, state, min([self._batch, *ahead]))
        if batch.is_empty:
            return 0
        running = {one.name for one in self._step(partition, offset, state, batch, group)}
        self._places[topic, partition] = {
            name: place if place > offset else state.next_offset
            for name, place in places.items()
            if place > offset or name in running
        }
        self._halts.pop((topic, partition), None)
        return state.next_offset - offset

    def _step(
        self,
        partition: int,
        from_offset: int,
        state: PartitionState,
        batch: ValidBatch,
        running: list[Projection],
    ) -> list[Projection]:
        """Fold a batch and write it; return the projections that can go on."""
        stamped = [stamp(one) for one in batch.records]
        touched = {one.envelope.stream for one in batch.records}
        heads = {stream: state.heads[stream] for stream in touched if stream is not None}
        advances, reached = [], copy.copy(state)
        for projection in running:
            changed = self._fold(projection, partition, from_offset, stamped)
            if changed is not None:
                advances.append(
                    Advance(
                        *(projection, partition, from_offset, reached),
                        *(len(batch.voids), heads, changed),
                    )
                )
        written = self._write(advances)
        if self._watch is not None:
            for advance in written:
                self._watch(advance)
        return [advance.projection for advance in written]

    def _write(self, advances: list[Advance]) -> list[Advance]:
        """Write what was folded, together; where rows are refused, each projection by itself."""
        try:
            self._models.write(advances)
        except RowsRefused:
            return [advance for advance in advances if self._is_written(advance)]
        return advances

    def _is_written(self, advance: Advance) -> bool:
        try:
            self._models.write([advance])
        except RowsRefused as refused:
            self._halt(advance.projection, advance.partition, advance.from_offset, refused)
            return False
        return True

    def _fold(
        self, projection: Projection, partition: int, from_offset: int, stamped: Sequence[Stamped]
    ) -> Sequence[Changed] | None:
        """Fold a batch; return what changed, or None where the fold failed and is halted."""
        handles = projection.handles
        handled = [one for one in stamped if type(one.event) in handles]
        fold = self._folds.get((projection.name, partition))
        if fold is None:
            fold = self._folds[projection.name, partition] = projection.make(fresh=False)
        wanted: Sequence[Wanted] = ()
        while True:
            for one in wanted:
                fold.give(one, self._models.fetch(one))
            try:
                wanted = fold.wants(handled)
                if not wanted:
                    fold.apply(handled)
                    return fold.changes()
            # Whatever a fold fails with is a fault of its own: it stands still, the others go on.
            except Exception as error:
                self._halt(projection, partition, from_offset, error)
                return None

    def _halt(
        self, projection: Projection, partition: int, from_offset: int, error: Exception
    ) -> None:
        told = {"projection": projection.name, "topic": projection.topic, "partition": partition}
        _log.error(
            "%s halted in partition %d", projection.name, partition, exc_info=error, extra=told
        )
        reason = f"the fold failed: {type(error).__name__}: {error}"
        self._models.halt(projection.name, projection.topic, partition, reason)
        del self._folds[projection.name, partition]
        self._failed[projection.name, partition] = from_offset

    def _state(
        self, topic: Topic, partition: int, next_offset: int, projection: Projection
    ) -> PartitionState:
        """Return the reader's state at an offset: the one kept, or as it was stored there."""
        kept = self._states.get((topic, partition))
        if kept is not None and kept.next_offset == next_offset:
            return kept
        for one in self._of_topic(topic):
            self._folds.pop((one.name, partition), None)
        state = fresh_state(self._source, topic, partition)
        if next_offset:
            checkpoint = self._models.checkpoints()[projection.name, partition]
            state.next_offset = next_offset
            state.term = checkpoint.term
            state.heads = self._models.heads(projection.name, partition)
        self._states[topic, partition] = state
        return state

    def _halt_all(self, topic: Topic, partition: int, reason: str) -> None:
        if self._halts.get((topic, partition)) == reason:
            return
        told = {"topic": topic, "partition": partition}
        _log.error("every reader halted: %s", reason, extra=told)
        for name in self.places(topic, partition):
            self._models.halt(name, topic, partition, reason)
        self._halts[topic, partition] = reason


class Delivered:
    """A log of which some records of one partition are at hand; all others are read from it."""

    def __init__(self, log: Log, records: Sequence[Record]) -> None:
        self._source = log
        self._records = records
        self.log_id = log.log_id
        self.partitions = log.partitions

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> Sequence[Record]:
        """Return up to `limit` records from an offset on, in order; none at the head."""
        first = self._records[0]
        start = from_offset - first.offset
        is_at_hand = (topic, partition) == (first.topic, first.partition)
        if is_at_hand and 0 <= start < len(self._records):
            return self._records[start : start + limit]
        return self._source.read(topic, partition, from_offset, limit)

    def heads(self, topic: Topic) -> list[int]:
        """Return, by partition, the offset that the next record will get."""
        return self._source.heads(topic)


def stamp(one: Recorded) -> Stamped:
    """Return a valid record as folds take it."""
    envelope = one.envelope
    return Stamped(
        event=one.event,
        key=envelope.stream or "",
        seq=envelope.seq,
        offset=one.offset,
        event_time=envelope.event_time,
        recorded_time=envelope.recorded_time,
        partition=one.partition,
        content_hash=envelope.command_hash,
        flags=envelope.flags,
    )


def rebuild(
    log: Log, models: ReadModels, projections: Iterable[Projection], *, batch: int = BATCH
) -> int:
    """Empty projections and fill them from the log's beginning; return how many records were read.

    Nobody else projects meanwhile; readers see the tables fill.
    """
    with models.projecting_lock():
        for projection in projections:
            models.empty(projection)
    return Projector(log, models, batch=batch).catch_up()


__all__ = ["CheckpointMoved", "Lag", "Projector", "rebuild", "stamp"]
