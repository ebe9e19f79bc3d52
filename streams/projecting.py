"""The runner: reads each partition once, through the validity rules, and feeds the projections.

Folds are kept between batches; one whose write failed is thrown away. A record that halts stops
every projection of its partition, a fold that fails only its own.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from domain.commands import Topic
from domain.decisions import Stamped
from projections.rows import Changed, Fold, Projection, Wanted
from schemas.envelope import Recorded
from schemas.validity import PartitionState
from streams.log import TOPICS, Log, LogHalted
from streams.read_models import (
    Advance,
    Checkpoint,
    CheckpointMoved,
    ReadModels,
    RowsRefused,
)
from streams.reader import ValidBatch, fresh_state, read_valid

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
    """Brings the read models of a log to its head."""

    def __init__(self, log: Log, models: ReadModels, *, batch: int = BATCH) -> None:
        self._source = log
        self._models = models
        self._batch = batch
        self._folds: dict[tuple[str, int], Fold] = {}
        self._states: dict[tuple[Topic, int], PartitionState] = {}
        self._failed: dict[tuple[str, int], int] = {}

    def catch_up(self) -> int:
        """Project to the head of every partition as it is now; return how many records were read.

        A process that is projecting already is waited for. Halts are written down, not raised:
        `status` tells them.
        """
        if not self._behind():
            return 0
        done = 0
        with self._models.projecting_lock():
            for topic, partition in self._behind():
                try:
                    done += self._catch_up(topic, partition)
                except LogHalted as halted:
                    self._halt_all(topic, partition, str(halted))
        return done

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

    def _behind(self) -> list[tuple[Topic, int]]:
        checkpoints = self._models.checkpoints()
        behind: list[tuple[Topic, int]] = []
        for topic in TOPICS:
            for partition, head in enumerate(self._source.heads(topic)):
                places = self._places(checkpoints, topic, partition)
                if any(place < head for place in places.values()):
                    behind.append((topic, partition))
        return behind

    def _catch_up(self, topic: Topic, partition: int) -> int:
        """Bring the projections of a partition to its head, those at the same offset together."""
        groups: dict[int, list[Projection]] = defaultdict(list)
        places = self._places(self._models.checkpoints(), topic, partition)
        for projection in self._of_topic(topic):
            if projection.name in places:
                groups[places[projection.name]].append(projection)
        return sum(
            self._run(topic, partition, next_offset, group)
            for next_offset, group in sorted(groups.items())
        )

    def _places(
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

    def _run(self, topic: Topic, partition: int, next_offset: int, group: list[Projection]) -> int:
        state = self._state(topic, partition, next_offset, group[0])
        done = 0
        running = list(group)
        while running:
            from_offset = state.next_offset
            try:
                batch = read_valid(self._source, topic, partition, state, self._batch)
            except LogHalted:
                self._states.pop((topic, partition), None)
                raise
            if batch.is_empty:
                break
            running = self._step(partition, from_offset, state, batch, running)
            done += state.next_offset - from_offset
        return done

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
        advances = []
        for projection in running:
            changed = self._fold(projection, partition, from_offset, stamped)
            if changed is not None:
                advances.append(
                    Advance(
                        projection, partition, from_offset, state, len(batch.voids), heads, changed
                    )
                )
        try:
            written = self._write(advances)
        except BaseException:
            self._forget(state.topic, partition)
            raise
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
        _log.error("%s halted in partition %d", projection.name, partition, exc_info=error)
        del self._folds[projection.name, partition]
        self._failed[projection.name, partition] = from_offset
        reason = f"the fold failed: {type(error).__name__}: {error}"
        self._models.halt(projection.name, projection.topic, partition, reason)

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

    def _forget(self, topic: str, partition: int) -> None:
        for name, folded in list(self._folds):
            if folded == partition:
                del self._folds[name, folded]
        for kept in list(self._states):
            if kept == (topic, partition):
                del self._states[kept]

    def _halt_all(self, topic: Topic, partition: int, reason: str) -> None:
        _log.error("every reader halted: %s", reason)
        for projection in self._of_topic(topic):
            self._models.halt(projection.name, topic, partition, reason)


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
