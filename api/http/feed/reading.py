"""Reads what changed since a position, with the checkpoints, from one consistent moment.

Rows carry the offset of their last change, and nothing in the tables of the feed's topics is ever
deleted. So what changed since a position is a read of rows, however long ago that was.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

from api.http.feed.frames import Frame, SharedRows
from api.http.feed.sources import SOURCES, Found, Place, Source, today
from api.http.feed.tokens import Offsets, is_behind, offsets_of, position_of, stamp_of
from api.tables import json_row
from infra import postgres
from infra.postgres import Connection
from projections.registry import PROJECTIONS
from schemas.partitioning import partition_of
from streams.log import Log
from streams.read_models import holding

ALERTS: Final = "alerts"
PIECE_BYTES: Final = 900_000
"""What the rows of a piece may have: clients take frames of 2^20 bytes, if not told otherwise."""
_HOLD: Final = holding(PROJECTIONS)
_PART: Final = "the read models' store"
_encode: Final = msgspec.json.Encoder().encode
_stamp: Final = lru_cache(maxsize=1 << 14)(stamp_of)


class Ask(Struct, frozen=True):
    """What is asked for: the rows of an account (None: of all) that changed since a position.

    Without a position all rows. `is_live` waits for read models that are filled anew, instead of
    beginning again with them.
    """

    topic: str
    account: str | None
    position: str | None
    is_live: bool = False


class ChangedRow(Struct, frozen=True, gc=False):
    """A row as it is shown, as JSON, with its key and where it was changed last."""

    key: tuple[Any, ...]
    partition: int
    offset: int
    json: bytes


class Piece(Struct, frozen=True, dict=True):
    """What was found: all that changed from `previous` on, up to `position`.

    All rows there are, or the first of them, where `previous` is None. `is_whole` says that
    nothing else had changed at that moment.
    """

    stamp: str
    previous: str | None
    position: str
    reached: Offsets
    rows: Sequence[ChangedRow]
    is_whole: bool

    def frame(self, told_id: int | str, previous: str | None) -> Frame:
        """Return the frame for a subscription, a snapshot where `previous` is None."""
        return self._encoded.frame(told_id, previous)

    @cached_property
    def _encoded(self) -> SharedRows:
        return SharedRows((row.json for row in self.rows), self.position)


class Checkpoint(Struct, frozen=True):
    """How far a read model is in a partition; `halted` says why no further."""

    topic: str
    next_offset: int
    voids: int
    halted: str | None


class Moment(Struct, frozen=True):
    """What was committed when it was read: versions, checkpoints, and the answer to each ask.

    An answer is None where a live one had nothing to tell.
    """

    versions: Mapping[str, tuple[int, str]]
    checkpoints: Mapping[str, Mapping[int, Checkpoint]]
    pieces: Sequence[Piece | None]

    def reached(self) -> str:
        """Return the position in the log that all read models of accounts have come to."""
        least: dict[int, int] = {}
        for places in self.checkpoints.values():
            for partition, one in places.items():
                if one.topic == "events":
                    least[partition] = min(least.get(partition, one.next_offset), one.next_offset)
        told = [f"{place}:{offset - 1}" for place, offset in sorted(least.items()) if offset > 1]
        return ",".join(told) or "0:0"


class _Asked(Struct):
    """An ask, with what its position says and the places that it is asked of."""

    ask: Ask
    stamp: str
    previous: str | None
    since: Offsets
    places: list[Place]


class Reader:
    """Reads for one thread. `connection` returns its own, opened anew after an outage."""

    def __init__(self, connection: Callable[[], Connection], log: Log) -> None:
        self._connection = connection
        self._records = log

    def read(self, asks: Sequence[Ask]) -> Moment:
        """Answer all asks as of one moment; raises ServerUnavailable and psycopg.Error."""
        connection = self._connection()
        one_moment = postgres.sent_together(connection, isolation="REPEATABLE READ")
        with postgres.reporting_outage(_PART), one_moment:
            connection.execute(_HOLD)
            moment = _moment(connection)
            asked = [self._understand(ask, moment) for ask in asks]
            pieces = _alerts(moment, asks) | self._answers(connection, asked)
        answers = [pieces.get(number) for number in range(len(asks))]
        return Moment(moment.versions, moment.checkpoints, answers)

    def _understand(self, ask: Ask, moment: Moment) -> _Asked | None:
        """Return what to read for an ask; None where there is nothing to be read."""
        if ask.topic == ALERTS:
            return None
        source = SOURCES[ask.topic]
        checkpoints = moment.checkpoints.get(source.projection, {})
        ends = self._ends(ask.account, checkpoints)
        stamp = _stamp_of(source, ask.account, moment)
        told = None if ask.position is None else offsets_of(ask.position, stamp)
        is_known = told is not None and told.keys() == ends.keys()
        since = told if told is not None and is_known else dict.fromkeys(ends, 0)
        # Ahead of the read models: they are filled anew, or an older copy was put back.
        is_ahead = is_behind(ends, since)
        if is_known and ask.is_live and (is_ahead or not is_behind(since, ends)):
            return None
        if is_ahead:
            is_known, since = False, dict.fromkeys(ends, 0)
        places = [
            Place(0, 0, ask.account, partition, since[partition], end, checkpoints[partition].voids)
            for partition, end in ends.items()
            if since[partition] < end
        ]
        return _Asked(ask, stamp, ask.position if is_known else None, since, places)

    def _ends(self, account: str | None, checkpoints: Mapping[int, Checkpoint]) -> dict[int, int]:
        if account is None:
            return {place: one.next_offset for place, one in sorted(checkpoints.items())}
        partition = partition_of(account, self._records.partitions)
        found = checkpoints.get(partition)
        return {partition: 0 if found is None else found.next_offset}

    def _answers(self, connection: Connection, asked: Sequence[_Asked | None]) -> dict[int, Piece]:
        """Return the answers by the asks' numbers; each topic is read once."""
        pieces: dict[int, Piece] = {}
        by_topic: dict[str, list[tuple[int, _Asked]]] = defaultdict(list)
        for number, one in enumerate(asked):
            if one is not None:
                by_topic[one.ask.topic].append((number, one))
        for topic, group in by_topic.items():
            source = SOURCES[topic]
            places = [
                msgspec.structs.replace(place, number=index, ask=number)
                for index, (number, place) in enumerate(
                    (number, place) for number, one in group for place in one.places
                )
            ]
            fetched = source.fetch(connection, self._records, places)
            by_place: dict[int, list[Found]] = defaultdict(list)
            for found in fetched.rows:
                by_place[found.number].append(found)
            rest = iter(places)
            for number, one in group:
                own = [next(rest) for _ in one.places]
                pieces[number] = _piece(source, one, own, by_place, fetched.reached)
        return pieces


def _moment(connection: Connection) -> Moment:
    made = connection.execute("SELECT name, version, log_id FROM projections")
    reached = connection.execute(
        "SELECT projection, partition, topic, next_offset, voids, halted"
        " FROM projection_checkpoints"
    )
    versions = {name: (version, log_id) for name, version, log_id in made.fetchall()}
    checkpoints: dict[str, dict[int, Checkpoint]] = defaultdict(dict)
    for name, partition, *told in reached.fetchall():
        checkpoints[name][partition] = Checkpoint(*told)
    return Moment(versions, checkpoints, ())


def _stamp_of(source: Source, account: str | None, moment: Moment) -> str:
    version, log_id = moment.versions.get(source.projection, (0, ""))
    # A balance settles by the date alone: positions of another day get a snapshot.
    topic = f"{source.topic}/{today()}" if source.changes_daily else source.topic
    return _stamp(log_id, topic, version, account)


def _piece(
    source: Source,
    asked: _Asked,
    places: Sequence[Place],
    by_place: Mapping[int, Sequence[Found]],
    left_off: Mapping[int, int],
) -> Piece:
    reached = dict(asked.since)
    rows: list[ChangedRow] = []
    size, is_whole = 0, True
    for place in places:
        shown = list(_shown(source, place.partition, by_place.get(place.number, ())))
        fitting, size = _fitting(shown, size)
        end = left_off.get(place.number, place.end)
        reached[place.partition] = end if fitting == len(shown) else shown[fitting].offset
        rows += shown[:fitting]
        is_whole = is_whole and fitting == len(shown) and place.number not in left_off
    if is_whole and asked.previous is None:
        rows.sort(key=attrgetter("key"))
    return Piece(
        stamp=asked.stamp,
        previous=asked.previous,
        position=position_of(asked.stamp, reached),
        reached=reached,
        rows=rows,
        is_whole=is_whole,
    )


def _fitting(rows: Sequence[ChangedRow], size: int) -> tuple[int, int]:
    """Return how many rows fit behind so many bytes, and how many bytes there are with them.

    Rows of one offset stay together, and the first ones of a piece always fit.
    """
    count = 0
    for _, changed in groupby(rows, attrgetter("offset")):
        together = [len(one.json) + 1 for one in changed]
        if size and size + sum(together) > PIECE_BYTES:
            break
        count += len(together)
        size += sum(together)
    return count, size


def _shown(source: Source, partition: int, found: Sequence[Found]) -> Iterator[ChangedRow]:
    columns = source.columns
    if columns is None:
        for one in found:
            yield ChangedRow((partition, one.offset), partition, one.offset, one.values)
        return
    indexes = [columns.index(name) for name in source.key]
    for one in sorted(found, key=attrgetter("offset")):
        key = tuple(one.values[index] for index in indexes)
        yield ChangedRow(key, partition, one.offset, json_row(columns, one.values))


def _alerts(moment: Moment, asks: Sequence[Ask]) -> dict[int, Piece]:
    """Return what stands still, whole whenever it has changed: there is hardly ever any."""
    rows = [
        ChangedRow((name, partition), partition, 0, _alert(name, partition, one))
        for name, places in sorted(moment.checkpoints.items())
        for partition, one in sorted(places.items())
        if one.halted is not None
    ]
    log_ids = sorted({log_id for _, log_id in moment.versions.values()})
    digest = zlib.crc32(b",".join(row.json for row in rows))
    stamp = _stamp(",".join(log_ids), f"{ALERTS}/{digest}", 1, None)
    reached = {0: 0}
    position = position_of(stamp, reached)
    pieces = {}
    for number, ask in enumerate(asks):
        is_known = ask.position == position
        if ask.topic == ALERTS and not (is_known and ask.is_live):
            previous, told = (position, []) if is_known else (None, rows)
            pieces[number] = Piece(stamp, previous, position, reached, told, is_whole=True)
    return pieces


def _alert(projection: str, partition: int, one: Checkpoint) -> bytes:
    place = f"{partition}:{one.next_offset}"
    return _encode(
        {
            "alert": f"halted/{projection}/{partition}",
            "kind": "halted",
            "projection": projection,
            "topic": one.topic,
            "position": place if one.topic == "events" else f"{one.topic}/{place}",
            "reason": one.halted,
        }
    )
