"""Checkpoints and heads as a write moves them: one statement for all partitions that it is of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from infra.postgres import Connection
from projections.rows import Changed

if TYPE_CHECKING:
    from streams.read_models import Advance

_BEGIN: Final = """
INSERT INTO projection_checkpoints
SELECT projection, topic, partition, next_offset, term, voids, NULL
FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[]) AS w (projection, topic, partition, from_offset, next_offset, term, voids)
ON CONFLICT (projection, partition) DO UPDATE SET
    next_offset = excluded.next_offset, term = excluded.term, voids = excluded.voids, halted = NULL
WHERE projection_checkpoints.next_offset = 0
"""
_GO_ON: Final = """
UPDATE projection_checkpoints AS c
SET next_offset = w.next_offset, term = w.term, voids = c.voids + w.voids, halted = NULL
FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[]) AS w (projection, topic, partition, from_offset, next_offset, term, voids)
WHERE c.projection = w.projection AND c.partition = w.partition AND c.next_offset = w.from_offset
"""
_HEADS: Final = """
INSERT INTO projection_heads
SELECT p.projection, p.partition, h.stream, h.seq, h.hash
FROM unnest(%s::text[], %s::text[], %s::int[]) AS p (projection, topic, partition)
JOIN unnest(%s::text[], %s::int[], %s::text[], %s::bigint[], %s::text[])
    AS h (topic, partition, stream, seq, hash) USING (topic, partition)
ON CONFLICT (projection, partition, stream) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
"""


def move_checkpoints(connection: Connection, advances: Sequence["Advance"]) -> bool:
    """Move the checkpoints that stand where advances start; tell whether all of them did."""
    for sql, some in (
        (_BEGIN, [one for one in advances if one.from_offset == 0]),
        (_GO_ON, [one for one in advances if one.from_offset > 0]),
    ):
        if some and connection.execute(sql.encode(), _columns(_moves(some))).rowcount < len(some):
            return False
    return True


def write_heads(connection: Connection, advances: Sequence["Advance"]) -> None:
    """Write where the streams stand that advances have gone past, for each of the projections."""
    heads = {
        (one.state.topic, one.partition, stream): head
        for one in advances
        for stream, head in one.heads.items()
    }
    if not heads:
        return
    places = [(one.projection.name, one.state.topic, one.partition) for one in advances]
    told = [(*place, *head) for place, head in heads.items()]
    connection.execute(_HEADS.encode(), [*_columns(places), *_columns(told)])


def merged(advances: Sequence["Advance"]) -> list[Changed]:
    """Return what advances change, table by table: rows of partitions are never the same."""
    tables: dict[str, list[Changed]] = {}
    for one in advances:
        for changed in one.changed:
            tables.setdefault(changed.table.name, []).append(changed)
    return [some[0] if len(some) == 1 else _joined(some) for some in tables.values()]


def _joined(some: list[Changed]) -> Changed:
    joined = Changed(some[0].table, [], [], [], [])
    for one in some:
        joined.inserts += one.inserts
        joined.upserts += one.upserts
        joined.deletes += one.deletes
        joined.lines += one.lines
    return joined


def _moves(advances: Sequence["Advance"]) -> list[tuple[Any, ...]]:
    return [
        (
            *(one.projection.name, one.state.topic, one.partition, one.from_offset),
            *(one.state.next_offset, one.state.term, one.voids),
        )
        for one in advances
    ]


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]
