"""Checkpoints, heads and News as a write moves them: one statement for all of its partitions."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import Struct

from infra.postgres import Connection
from projections.rows import Changed
from streams.news import encode, news_of

if TYPE_CHECKING:
    from streams.read_models import Advance

MADE: Final = "name, version || ' ' || log_id || ' ' || xmin"
"""Of `projections`: by projection, what changes when its tables are made anew, by whomever."""
_MOVES: Final = """json_to_recordset(%s::json) AS w (projection text, topic text, partition int,
    from_offset bigint, next_offset bigint, term bigint, voids bigint)"""
_BEGIN: Final = f"""
INSERT INTO projection_checkpoints
SELECT projection, topic, partition, next_offset, term, voids, NULL FROM {_MOVES}
ON CONFLICT (projection, partition) DO UPDATE SET
    next_offset = excluded.next_offset, term = excluded.term, voids = excluded.voids, halted = NULL
WHERE projection_checkpoints.next_offset = 0
""".encode()
_GO_ON: Final = f"""
WITH moved AS (
    UPDATE projection_checkpoints AS c
    SET next_offset = w.next_offset, term = w.term, voids = c.voids + w.voids, halted = NULL
    FROM {_MOVES}
    WHERE c.projection = w.projection AND c.partition = w.partition
        AND c.next_offset = w.from_offset
    RETURNING 1
), heads AS (
    INSERT INTO projection_heads
    SELECT w.projection, w.partition, h.stream, h.seq, h.hash
    FROM {_MOVES} JOIN json_to_recordset(%s::json)
        AS h (topic text, partition int, stream text, seq bigint, hash text)
        USING (topic, partition)
    ON CONFLICT (projection, partition, stream)
        DO UPDATE SET seq = excluded.seq, hash = excluded.hash
), told AS MATERIALIZED (
    SELECT pg_notify(%s, news) FROM json_array_elements_text(%s::json) AS news
)
SELECT {MADE}, (SELECT count(*) FROM moved), (SELECT count(*) FROM told) FROM projections
""".encode()
"""Moves checkpoints, writes the heads and tells the News, by one statement: each is a round trip.

What it returns, read first, tells whether the tables are still those that were folded from.
"""


class _Move(Struct, frozen=True):
    """A checkpoint that goes on, and from where."""

    projection: str
    topic: str
    partition: int
    from_offset: int
    next_offset: int
    term: int
    voids: int


class _HeadAt(Struct, frozen=True):
    """Where a stream stands in its partition."""

    topic: str
    partition: int
    stream: str
    seq: int
    hash: str


def ask_moves(
    connection: Connection, schema: str, advances: Sequence["Advance"]
) -> Callable[[], tuple[dict[str, str], bool]]:
    """Move the checkpoints that stand where advances start, write their heads, tell the News.

    What is returned waits for it, and returns what says of which tables (`MADE`), by projection,
    and whether all have moved; else the transaction is to be given up.
    """
    moves = [_move(one) for one in advances]
    first = [one for one in moves if not one.from_offset]
    later = [one for one in moves if one.from_offset]
    begun = connection.execute(_BEGIN, (_told(first),)) if first else None
    news = [encode(one).decode() for one in news_of(advances)]
    told = (_told(later), _told(moves), _told(_heads(advances)), schema, _told(news))
    gone_on = connection.execute(_GO_ON, told)

    def taken() -> tuple[dict[str, str], bool]:
        rows = gone_on.fetchall()
        moved = (rows[0][2] if rows else 0) + (0 if begun is None else begun.rowcount)
        return {row[0]: row[1] for row in rows}, moved == len(moves)

    return taken


def _move(one: "Advance") -> _Move:
    state = one.state
    place = (one.projection.name, state.topic, one.partition)
    return _Move(*place, one.from_offset, state.next_offset, state.term, one.voids)


def _heads(advances: Sequence["Advance"]) -> list[_HeadAt]:
    """Return where the streams stand that advances have gone past: the same for each projection."""
    heads = {
        (one.state.topic, one.partition, stream): head
        for one in advances
        for stream, head in one.heads.items()
    }
    return [_HeadAt(*place, *head) for place, head in heads.items()]


def _told(rows: Sequence[Any]) -> str:
    return msgspec.json.encode(rows).decode()


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
