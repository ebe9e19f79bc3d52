"""The runner: reads each partition once, through the validity rules, and feeds the projections.

Folds are kept between batches; one whose write failed is thrown away. A record that halts stops
every projection of its partition, a fold that fails only its own. Far behind, a batch is written
while the next one is read and folded; at the head, what came of several partitions is folded and
written together.
"""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from domain.commands import Topic
from infra.garbage import no_cycle_search
from projections.rows import Projection
from schemas.envelope import Record
from schemas.validity import Head, PartitionState
from streams.delivered import Delivered
from streams.folding import Folds, Work
from streams.lags import Lag, lags_of
from streams.log import TOPICS, Log, LogHalted, TopicPartition, all_heads, read_several
from streams.read_ahead import ReadAhead, reading_ahead, short_turns
from streams.read_models import (
    Advance,
    Checkpoint,
    CheckpointMoved,
    ReadModels,
    RowsRefused,
)
from streams.reader import FoldedBatch, fresh_state, read_folded, stamp
from streams.write_behind import RefusedBehind, WriteBehind

_log = logging.getLogger(__name__)
BATCH: Final = 5000
_BULK_BATCHES: Final = 2
SCANS_FROM: Final = 20_000
"""So far behind, plain deals are recognised instead of decoded: to load what does it pays then."""


class _Step(Struct, frozen=True):
    """Records of a partition, read and judged, for the projections that go on with them."""

    topic: Topic
    from_offset: int
    reached: PartitionState
    batch: FoldedBatch
    running: list[Projection]
    places: Mapping[str, int]

    @property
    def partition(self) -> int:
        return self.reached.partition


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
        scans_from: int = SCANS_FROM,
    ) -> None:
        self._source = log
        self._reading: Log | ReadAhead = log
        self._models = WriteBehind(models)
        self._batch = batch
        self._watch = watch
        self._scans_from = scans_from
        self._folds = Folds(self._models.fetch, self._halt)
        self._states: dict[TopicPartition, PartitionState] = {}
        self._by_topic: dict[Topic, list[Projection]] = {}
        self._failed: dict[tuple[str, int], int] = {}
        self._places: dict[TopicPartition, dict[str, int]] = {}
        self._halts: dict[TopicPartition, str] = {}
        self._scans = False
        self._up_to_date: tuple[Any, dict[Topic, list[int]]] | None = None
        """Checkpoints and heads as they stood when nothing was behind: most who ask find them."""

    def catch_up(self) -> int:
        """Project to the head of every partition as it is now; return how many records were read.

        A process that is projecting already is waited for. Halts are written down, not raised:
        `status` tells them.
        """
        heads = all_heads(self._source)
        if self._is_up_to_date(heads):
            return 0
        done = 0
        with self._models.projecting_lock():
            behind = self._behind(heads)
            is_far = sum(behind.values()) > self._batch and self._watch is None
            self._scans = sum(behind.values()) >= self._scans_from
            try:
                with self._overlapping() if is_far else contextlib.nullcontext():
                    for read in self._steps(behind):
                        done += read
            except BaseException as error:
                # What was folded ahead of what is written may be of any partition.
                for place in behind:
                    self.forget(*place)
                if not isinstance(error, RefusedBehind):
                    raise
                # Whose rows they were is found a step at a time, from where all was written.
                for read in self._steps(self._behind(all_heads(self._source))):
                    done += read
        return done

    def _is_up_to_date(self, heads: dict[Topic, list[int]]) -> bool:
        """Tell whether nothing was written, to the log or the read models, since all was read."""
        known = self._up_to_date
        return known is not None and known[1] == heads and known[0] == self._models.checkpoints()

    @contextlib.contextmanager
    def _overlapping(self) -> Iterator[None]:
        """For a block, let the database read what comes next and write what was folded last."""
        with short_turns(), reading_ahead(self._source) as reading:
            self._reading = reading
            try:
                with self._models.overlapping():
                    yield
            finally:
                self._reading = self._source

    def _steps(self, behind: Mapping[TopicPartition, int]) -> Iterator[int]:
        """Project partitions to their heads, yielding how many records each step has read.

        What is a little behind goes in one transaction, as each costs as much as its rows.
        """
        heads = {at: min(self.places(*at).values()) + count for at, count in behind.items()}
        if len(behind) > 1 and sum(behind.values()) <= self._batch:
            with contextlib.suppress(LogHalted):
                spans = {at: (head - behind[at], head) for at, head in heads.items()}
                found = read_several(self._source, spans)
                yield self.step_together({at: found.get(at, ()) for at in behind})
        for (topic, partition), head in heads.items():
            with contextlib.suppress(LogHalted):
                while min(self.places(topic, partition).values(), default=head) < head and (
                    read := self.step(topic, partition)
                ):
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
            with no_cycle_search():
                read = self._read(topic, partition, delivered)
                self._project([] if read is None else [read])
        except LogHalted as halted:
            self._halt_all(topic, partition, str(halted))
            raise
        except BaseException:
            self.forget(topic, partition)
            raise
        return 0 if read is None else read.reached.next_offset - read.from_offset

    def step_together(self, delivered: Mapping[TopicPartition, Sequence[Record]]) -> int:
        """Project what came of several partitions in one transaction, each as `step` does.

        Returns how many records were read. Raises what `step` raises for any of them: what it did
        is not known then, but to the store, and `step` tells for each by itself.
        """
        try:
            with no_cycle_search():
                read = [self._read(*place, records) for place, records in delivered.items()]
                steps = [one for one in read if one is not None]
                self._project(steps)
        except BaseException:
            for place in delivered:
                self.forget(*place)
            raise
        return sum(one.reached.next_offset - one.from_offset for one in steps)

    def read_on(
        self, topic: Topic, partition: int, steps: int, head: int, *, scans: bool = True
    ) -> int:
        """Project up to so many batches of a partition; return how many records were read.

        No more are begun once it has come up to `head`. Each is folded while the one before is
        written; all are written at the end. With `scans` plain deals are recognised, which is for
        who is far behind. Raises what `step` raises.
        """
        done, self._scans = 0, scans
        try:
            with self._overlapping():
                for _ in range(steps):
                    read = self.step(topic, partition)
                    done += read
                    places = self.places(topic, partition).values()
                    if not read or all(place >= head for place in places):
                        break
        except RefusedBehind:
            # Whose rows they were is found a step at a time, from where all was written.
            self.forget(topic, partition)
            return self.step(topic, partition)
        except BaseException:
            self.forget(topic, partition)
            raise
        finally:
            self._scans = False
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
            self._folds.forget(projection, partition)
        self._states.pop((topic, partition), None)
        self._places.pop((topic, partition), None)
        self._halts.pop((topic, partition), None)

    def status(self, heads: Mapping[Topic, Sequence[int]] | None = None) -> list[Lag]:
        """Return where every projection stands in every partition of the topics in `heads`.

        `heads` has where the partitions end; without it the log is asked.
        """
        if heads is None:
            heads = {topic: self._source.heads(topic) for topic in TOPICS}
        return lags_of(self._models.projections, self._models.checkpoints(), heads)

    def _of_topic(self, topic: Topic) -> list[Projection]:
        found = self._by_topic.get(topic)
        if found is None:
            found = [one for one in self._models.projections if one.topic == topic]
            self._by_topic[topic] = found
        return found

    def _behind(self, all_heads_then: dict[Topic, list[int]]) -> dict[TopicPartition, int]:
        """Return the partitions that are behind where the log ended, and by how many records."""
        checkpoints = self._models.checkpoints()
        behind: dict[TopicPartition, int] = {}
        for topic, heads in all_heads_then.items():
            names = [one.name for one in self._of_topic(topic)]
            for partition, head in enumerate(heads):
                self._places.pop((topic, partition), None)
                found = [checkpoints.get((name, partition)) for name in names]
                if all(one is not None and one.next_offset >= head for one in found):
                    continue
                places = self._stored_places(checkpoints, topic, partition)
                self._places[topic, partition] = places
                if any(place < head for place in places.values()):
                    behind[topic, partition] = head - min(places.values())
        self._up_to_date = None if behind else (checkpoints, all_heads_then)
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

    def _read(self, topic: Topic, partition: int, delivered: Sequence[Record]) -> _Step | None:
        """Read what comes next for those that are furthest behind; None at the head."""
        places = self.places(topic, partition)
        if not places:
            return None
        offset = min(places.values())
        group = [one for one in self._of_topic(topic) if places.get(one.name) == offset]
        ahead = [place - offset for place in places.values() if place > offset]
        state = self._state(topic, partition, offset, group[0])
        source: Any = Delivered(self._source, delivered) if delivered else self._reading
        # A long batch writes what its events change over and over only once.
        limit = min([self._batch * (_BULK_BATCHES if self._scans else 1), *ahead])
        batch = read_folded(source, topic, partition, state, limit, scans=self._scans)
        if batch.is_empty:
            return None
        return _Step(topic, offset, copy.copy(state), batch, group, places)

    def _project(self, steps: Sequence[_Step]) -> None:
        """Fold what was read and write it; note which projections go on from where."""
        running = {(one.projection.name, one.partition) for one in self._written(steps)}
        for step in steps:
            topic, partition = step.topic, step.partition
            self._places[topic, partition] = {
                name: place if place > step.from_offset else step.reached.next_offset
                for name, place in step.places.items()
                if place > step.from_offset or (name, partition) in running
            }
            self._halts.pop((topic, partition), None)

    def _written(self, steps: Sequence[_Step]) -> list[Advance]:
        """Fold steps and write what changed; return what could be folded and written."""
        of_partition = {(one.topic, one.partition): one for one in steps}
        heads = {place: _heads(step) for place, step in of_partition.items()}
        advances = []
        for work, changed in self._folds.fold([work for step in steps for work in _works(step)]):
            place = (work.projection.topic, work.partition)
            step = of_partition[place]
            told = (len(step.batch.voids), heads[place], changed)
            advances.append(
                Advance(work.projection, work.partition, step.from_offset, step.reached, *told)
            )
        written = self._write(advances) if advances else []
        if self._watch is not None:
            for advance in written:
                self._watch(advance)
        return written

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
            # With the rows of who was faster they are refused before it is seen who that was.
            self._halt(
                Work(advance.projection, advance.partition, advance.from_offset, ()), refused
            )
            return False
        return True

    def _halt(self, work: Work, error: Exception) -> None:
        """Halt a projection whose fold failed, unless it was given rows of who is further."""
        projection, partition = work.projection, work.partition
        reason = f"the fold failed: {type(error).__name__}: {error}"
        place = (projection.name, projection.topic, partition, work.from_offset)
        if not self._models.halt(*place, reason):
            name = f"{projection.name} {partition}:{work.from_offset}"
            raise CheckpointMoved(f"no longer at {name}") from error
        told = {"projection": projection.name, "topic": projection.topic, "partition": partition}
        _log.error(
            "%s halted in partition %d", projection.name, partition, exc_info=error, extra=told
        )
        self._folds.forget(projection, partition)
        self._failed[projection.name, partition] = work.from_offset

    def _state(
        self, topic: Topic, partition: int, next_offset: int, projection: Projection
    ) -> PartitionState:
        """Return the reader's state at an offset: the one kept, or as it was stored there."""
        kept = self._states.get((topic, partition))
        if kept is not None and kept.next_offset == next_offset:
            return kept
        for one in self._of_topic(topic):
            self._folds.forget(one, partition)
        state = fresh_state(self._source, topic, partition)
        if next_offset:
            checkpoint = self._models.checkpoints()[projection.name, partition]
            state.next_offset = next_offset
            state.term = checkpoint.term
            state.heads = self._models.heads(projection.name, partition)
        self._states[topic, partition] = state
        return state

    def _halt_all(self, topic: Topic, partition: int, reason: str) -> None:
        """Halt the projections of a partition, unless somebody else has gone on with one."""
        if self._halts.get((topic, partition)) == reason:
            return
        told = {"topic": topic, "partition": partition}
        places = self.places(topic, partition)
        moved = [
            f"{name} {partition}:{place}"
            for name, place in places.items()
            if not self._models.halt(name, topic, partition, place, reason)
        ]
        if moved:
            self.forget(topic, partition)
            raise CheckpointMoved(f"no longer all at {', '.join(moved)}")
        _log.error("every reader halted: %s", reason, extra=told)
        self._halts[topic, partition] = reason


def _works(step: _Step) -> list[Work]:
    batch = step.batch
    return [Work(one, step.partition, step.from_offset, batch.of(one)) for one in step.running]


def _heads(step: _Step) -> dict[str, Head]:
    return {stream: step.reached.heads[stream] for stream in step.batch.streams}


__all__ = ["CheckpointMoved", "Lag", "Projector", "stamp"]
