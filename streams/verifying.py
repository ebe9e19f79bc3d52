"""The full check: the chain of every stream, and every read model against a fresh fold.

Each part is read up to where the read models have projected it; what was recorded since is checked
as a record only. One partition is folded, compared and forgotten before the next. Where one cannot
be read to its end, the rows of its streams are passed over: the record that breaks it is the
difference to look at.
"""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct
from psycopg import sql

from domain.commands import Topic
from infra.garbage import no_cycle_search
from projections.rows import CHANGED_OFFSET, Fold, Projection, Table
from schemas.envelope import Record
from schemas.partitioning import partition_of
from schemas.validity import PartitionState
from streams.log import TOPICS, Log, LogHalted, TopicPartition
from streams.postgres_log import PostgresLog
from streams.projecting import stamp
from streams.read_models import Checkpoint, ReadModels
from streams.reader import ValidBatch, fresh_state, read_valid

_CHUNK: Final = 5000
Progress = Callable[[int], None]


class Difference(Struct, frozen=True):
    """Something that is not as it must be: where, and what was expected there."""

    where: str
    what: str


class Verdict(Struct, frozen=True):
    """What a check went through, and the first difference of each part, if there is any."""

    records: int
    streams: int
    voids: int
    rows: int
    differences: list[Difference]

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing differs."""
        return not self.differences


def verify(log: Log, models: ReadModels, progress: Progress = lambda _: None) -> Verdict:
    """Check every record of the log, and every row against a fold of the log from its beginning.

    The first difference in each partition, and in each table, is named: records before rows.
    """
    check = _Check(log, models, progress)
    with models.projecting_lock():
        checkpoints = models.checkpoints()
        for topic in TOPICS:
            for partition in range(log.partitions):
                check.read((topic, partition), checkpoints)
        rows = check.finish()
    return Verdict(check.records, check.streams, check.voids, rows, check.differences)


class _Audited:
    """A log that stops before a record with which its table's columns do not agree."""

    def __init__(self, log: PostgresLog) -> None:
        self._log = log
        self.log_id = log.log_id
        self.partitions = log.partitions
        self.heads = log.heads

    def read(self, topic: Topic, partition: int, from_offset: int, limit: int) -> Sequence[Record]:
        records: list[Record] = []
        for kept in self._log.read_kept(topic, partition, from_offset, limit):
            altered = kept.altered()
            if altered is None:
                records.append(kept.record)
            elif records:
                break
            else:
                raise LogHalted(topic, partition, kept.record.offset, altered)
        return records


class _Check:
    """A check on its way: what was read, what was folded, what differs."""

    def __init__(self, log: Log, models: ReadModels, progress: Progress) -> None:
        self.records = self.streams = self.voids = 0
        self.differences: list[Difference] = []
        self._log: Any = _Audited(log) if isinstance(log, PostgresLog) else log
        self._models = models
        self._progress = progress
        self._streams: dict[str, set[str]] = {topic: set() for topic in TOPICS}
        self._broken: set[TopicPartition] = set()
        self._first: dict[str, tuple[tuple[Any, ...], Difference]] = {}

    def read(self, place: TopicPartition, checkpoints: dict[tuple[str, int], Checkpoint]) -> None:
        """Read a partition from its beginning, and fold it as far as it was projected."""
        topic, partition = place
        state = fresh_state(self._log, topic, partition)
        running = []
        for projection in self._models.projections:
            if projection.topic != topic:
                continue
            found = checkpoints.get((projection.name, partition))
            if found is not None and found.halted is not None:
                where = f"{projection.name} {topic}/{partition}:{found.next_offset}"
                self._differs(where, f"it stands still: {found.halted}")
            fold = projection.make(fresh=True)
            running.append((found.next_offset if found else 0, projection, fold))
        try:
            self._read(state, running)
        except LogHalted as halted:
            self._broken.add(place)
            self._differs(f"{topic}/{partition}:{halted.offset}", halted.reason)
        else:
            self._compare_rows(running, sorted(state.heads))
        self.streams += len(state.heads)
        self._streams[topic].update(state.heads)

    def _read(self, state: PartitionState, running: list[tuple[int, Projection, Fold]]) -> None:
        topic: Topic = state.topic  # type: ignore[assignment]
        while True:
            ahead = [end - state.next_offset for end, _, _ in running if end > state.next_offset]
            limit = min([_CHUNK, *ahead])
            with no_cycle_search():
                batch = read_valid(self._log, topic, state.partition, state, limit)
                if batch.is_empty:
                    break
                self._fold(state, batch, running)
        for end, projection, _ in running:
            if end > state.next_offset:
                where = f"{projection.name} {topic}/{state.partition}:{end}"
                self._differs(where, f"projected beyond the log, which ends at {state.next_offset}")

    def _fold(
        self,
        state: PartitionState,
        batch: ValidBatch,
        running: list[tuple[int, Projection, Fold]],
    ) -> None:
        count = len(batch.records) + len(batch.voids)
        self.records += count
        self.voids += len(batch.voids)
        self._progress(count)
        stamped = [stamp(one) for one in batch.records]
        for end, projection, fold in running:
            if state.next_offset <= end:
                fold.apply([one for one in stamped if type(one.event) in projection.handles])
            if state.next_offset == end:
                self._compare_heads(state, projection)

    def _compare_heads(self, state: PartitionState, projection: Projection) -> None:
        stored = self._models.heads(projection.name, state.partition)
        for stream in sorted(stored.keys() | state.heads.keys()):
            there, read = stored.get(stream), state.heads.get(stream)
            if there != read:
                where = f"projection_heads {projection.name}/{state.partition}/{stream}"
                self._differs(where, f"the head is stored as {there}, the log makes it {read}")
                return

    def _compare_rows(
        self, running: list[tuple[int, Projection, Fold]], streams: Sequence[str]
    ) -> None:
        for _, projection, fold in running:
            for table in projection.tables:
                self._compare(table, fold, streams)

    def _compare(self, table: Table, fold: Fold, streams: Sequence[str]) -> None:
        """Compare the rows of some streams with those that their fold made."""
        expected = {
            tuple(getattr(row, name) for name in table.key): row for row in fold.rows(table)
        }
        only = sql.SQL(" WHERE t.{} = ANY(%s)").format(sql.Identifier(table.key[0]))
        for stored in self._models.scan(table, only, (list(streams),)):
            key = tuple(getattr(stored, name) for name in table.key)
            made = expected.pop(key, None)
            if (found := _difference(table, key, stored, made)) is not None:
                self._note(table, key, found)
        if expected:
            key = min(expected)
            where = f"{table.name} {'/'.join(map(str, key))}"
            what = "the events make this row, but it is not stored"
            self._note(table, key, Difference(where, what))

    def _note(self, table: Table, key: tuple[Any, ...], found: Difference) -> None:
        """Keep the first difference of a table, by the rows' keys."""
        first = self._first.get(table.name)
        if first is None or key < first[0]:
            self._first[table.name] = key, found

    def finish(self) -> int:
        """Look for rows of streams that the log does not have; return how many rows there are."""
        rows = 0
        for projection in self._models.projections:
            for table in projection.tables:
                ((count,),) = self._ask(sql.SQL("SELECT count(*) FROM {table}"), table)
                rows += count
                self._find_strays(projection, table)
                if (first := self._first.get(table.name)) is not None:
                    self.differences.append(first[1])
        return rows

    def _find_strays(self, projection: Projection, table: Table) -> None:
        known = self._streams[projection.topic]
        for (stream,) in self._ask(sql.SQL("SELECT DISTINCT {stream} FROM {table}"), table):
            if stream in known or self._is_broken(projection, (stream,)):
                continue
            only = sql.SQL(" WHERE t.{} = %s").format(sql.Identifier(table.key[0]))
            for stored in self._models.scan(table, only, (stream,)):
                key = tuple(getattr(stored, name) for name in table.key)
                found = _difference(table, key, stored, None)
                assert found is not None
                self._note(table, key, found)

    def _ask(self, query: sql.SQL, table: Table) -> list[tuple[Any, ...]]:
        names = {"table": sql.Identifier(table.name), "stream": sql.Identifier(table.key[0])}
        return self._models.connection.execute(query.format(**names)).fetchall()

    def _is_broken(self, projection: Projection, key: tuple[Any, ...]) -> bool:
        """Tell whether a row is of a stream whose partition could not be read to its end."""
        if not self._broken:
            return False
        return (projection.topic, partition_of(key[0], self._log.partitions)) in self._broken

    def _differs(self, where: str, what: str) -> None:
        self.differences.append(Difference(where, what))


def _difference(table: Table, key: tuple[Any, ...], stored: Any, made: Any) -> Difference | None:
    where = f"{table.name} {'/'.join(map(str, key))}"
    if made is None:
        return Difference(where, "the row is stored, but no event makes it")
    for name in table.columns:
        if name == CHANGED_OFFSET:
            continue
        there, fresh = _text(getattr(stored, name)), _text(getattr(made, name))
        if there != fresh:
            return Difference(where, f"{name} is stored as {there}, the events make it {fresh}")
    return None


def _text(value: Any) -> str:
    """Return a value as it is compared: decimals with their scale, JSON by content."""
    if isinstance(value, Decimal):
        # Postgres knows no negative zero.
        return format(value or value.copy_abs(), "f")
    if isinstance(value, dict | list | tuple):
        return json.dumps(msgspec.to_builtins(value), sort_keys=True)
    return str(value)
