"""The full check: the chain of every stream, and every read model against a fresh fold."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Struct
from psycopg import sql

from projections.rows import CHANGED_OFFSET, Fold, Projection, Table
from schemas.validity import Void
from streams.log import TOPICS, LogHalted
from streams.postgres_log import PostgresLog
from streams.projecting import stamp
from streams.read_models import ReadModels
from streams.reader import fresh_state, read_valid

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


def verify(log: PostgresLog, models: ReadModels, progress: Progress = lambda _: None) -> Verdict:
    """Check every record of the log, and every row against a fold of the log from its beginning.

    The first difference in each partition, and in each table, is named. The read models must have
    been brought to the head before.
    """
    records, streams, voids = 0, 0, 0
    differences: list[Difference] = []
    folds: dict[str, list[Fold]] = {one.name: [] for one in models.projections}
    with models.projecting_lock():
        for topic in TOPICS:
            projections = [one for one in models.projections if one.topic == topic]
            for partition in range(log.partitions):
                made = [one.make(fresh=True) for one in projections]
                for projection, fold in zip(projections, made, strict=True):
                    folds[projection.name].append(fold)
                state = fresh_state(log, topic, partition)
                try:
                    for read, void in _partition(log, state, projections, made):
                        records += read
                        voids += len(void)
                        progress(read)
                except LogHalted as halted:
                    where = f"{topic}/{partition}:{halted.offset}"
                    differences.append(Difference(where, halted.reason))
                streams += len(state.heads)
        rows = 0
        for projection in models.projections:
            for table in projection.tables:
                count, difference = _compare(models, table, folds[projection.name])
                rows += count
                differences.extend(difference)
    return Verdict(records, streams, voids, rows, differences)


def _partition(
    log: PostgresLog, state: Any, projections: list[Projection], folds: list[Fold]
) -> Iterator[tuple[int, list[Void]]]:
    """Read a partition from its beginning, checking every record, and fold what is valid."""
    topic, partition = state.topic, state.partition
    while True:
        for kept in log.read_kept(topic, partition, state.next_offset, _CHUNK):
            altered = kept.altered()
            if altered is not None:
                raise LogHalted(topic, partition, kept.record.offset, altered)
        batch = read_valid(log, topic, partition, state, _CHUNK)
        if batch.is_empty:
            return
        stamped = [stamp(one) for one in batch.records]
        for projection, fold in zip(projections, folds, strict=True):
            fold.apply([one for one in stamped if type(one.event) in projection.handles])
        yield len(batch.records) + len(batch.voids), batch.voids


def _compare(models: ReadModels, table: Table, folds: list[Fold]) -> tuple[int, list[Difference]]:
    """Return how many rows a table holds, and its first difference from what folds made."""
    expected = {
        tuple(getattr(row, name) for name in table.key): row
        for fold in folds
        for row in fold.rows(table)
    }
    count = 0
    for stored in models.scan(table, sql.SQL(""), ()):
        count += 1
        key = tuple(getattr(stored, name) for name in table.key)
        where = f"{table.name} {'/'.join(map(str, key))}"
        made = expected.pop(key, None)
        if made is None:
            return count, [Difference(where, "the row is stored, but no event makes it")]
        for name in table.columns:
            if name == CHANGED_OFFSET:
                continue
            there, fresh = _text(getattr(stored, name)), _text(getattr(made, name))
            if there != fresh:
                what = f"{name} is stored as {there}, the events make it {fresh}"
                return count, [Difference(where, what)]
    if expected:
        where = f"{table.name} {'/'.join(map(str, min(expected)))}"
        return count, [Difference(where, "the events make this row, but it is not stored")]
    return count, []


def _text(value: Any) -> str:
    """Return a value as it is compared: decimals with their scale, JSON by content."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict | list | tuple):
        return json.dumps(msgspec.to_builtins(value), sort_keys=True)
    return str(value)
