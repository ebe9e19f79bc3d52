"""Rows of the read models, as they are, as of a past time, or as the ledger knew them.

`as_of` asks what was true then: facts of later times are left out. `known_at` asks what the ledger
knew then: records after a vector of positions are left out, and the rows are folded again from
the log, by the folds that make the read models.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from psycopg import sql

from domain.commands import Topic
from domain.deal_chains import has_effect
from domain.decisions import Stamped
from domain.events import AccountOpened, CommandRefused, DealBusted, DealRecorded
from domain.times import Day, Instant, local_day, to_ns
from projections.rows import Projection, Table
from schemas.partitioning import partition_of
from streams.log import Log
from streams.positions import KnownAt
from streams.read_models import ReadModels
from streams.reader import read_valid_stream, stamp

_EVENT_DATED: Final = ("trade_date", "booked_date", "business_date", "price_date", "from_date")


class AsOf(Struct, frozen=True):
    """A past time: a date compares business dates, an instant compares instants."""

    day: Day | None = None
    instant: Instant | None = None

    @property
    def ns(self) -> int | None:
        """Return the instant as nanoseconds since 1970, or None for a date."""
        return None if self.instant is None else to_ns(self.instant)

    def includes(self, event_time_ns: int, business_date: str) -> bool:
        """Tell whether a fact had happened."""
        if self.day is not None:
            return business_date <= self.day
        return self.ns is None or event_time_ns <= self.ns

    def includes_event(self, one: Stamped, zone_name: str) -> bool:
        """Tell whether an event had happened, by its own dates where it tells any."""
        if self.instant is not None:
            return one.event_time <= self.instant
        if self.day is None:
            return True
        told = (getattr(one.event, name, None) for name in _EVENT_DATED)
        date = next(filter(None, told), None) or local_day(one.event_time, zone_name)
        return bool(date <= self.day)


NOW: Final = AsOf()


def stream_events(log: Log, topic: Topic, stream: str, end: int) -> Iterator[Stamped]:
    """Yield a stream's events that count, at offsets below `end`; raises LogHalted."""
    return map(stamp, read_valid_stream(log, topic, stream, end))


def happened_by(told: Iterable[Stamped], as_of: AsOf) -> list[Stamped]:
    """Return those of a stream's events that had happened by a time, in their order.

    A bust or a correction changes what is true of the past: what is told of a deal had happened
    when the deal had, by its date as it is known last. An account was there when anything of it had
    happened, whenever it was opened.
    """
    if as_of is NOW:
        return list(told)
    zone_name = "UTC"
    dated: list[tuple[Stamped, bool]] = []
    deals: dict[str, bool] = {}
    for one in told:
        zone_name = getattr(one.event, "time_zone", None) or zone_name
        had_happened = as_of.includes_event(one, zone_name)
        dated.append((one, had_happened))
        if isinstance(one.event, DealRecorded) and has_effect(one.flags):
            deals[_chain_of(one.event)] = had_happened
    was_there = any(had for one, had in dated if not isinstance(one.event, CommandRefused))

    def counts(one: Stamped, had_happened: bool) -> bool:
        match one.event:
            case AccountOpened():
                return was_there
            case DealRecorded() | DealBusted() as about_deal:
                return deals.get(_chain_of(about_deal), had_happened)
            case _:
                return had_happened

    return [one for one, had_happened in dated if counts(one, had_happened)]


def _chain_of(event: DealRecorded | DealBusted) -> str:
    return getattr(event, "chain_id", event.deal_id)


class Past:
    """Reads rows of accounts, instruments and prices from the tables, or folds them again."""

    def __init__(self, log: Log, models: ReadModels) -> None:
        self._source = log
        self._models = models

    def rows(
        self,
        table: Table,
        streams: Sequence[str] | None = None,
        known_at: KnownAt | None = None,
        as_of: AsOf = NOW,
        refold: bool = False,
    ) -> list[Any]:
        """Return rows of the given streams, of all when None, in the order of their key.

        `as_of` is applied by folding only what had happened, where `refold` says so; else it is
        the caller's to apply to the rows.
        """
        projection = self._projection_of(table)
        if known_at is None and not refold:
            return list(self._stored(table, streams))
        names = streams if streams is not None else self._streams(projection.topic)
        rows = [
            row
            for name in names
            for row in self._folded(projection, table, name, known_at, as_of if refold else NOW)
        ]
        return sorted(rows, key=lambda row: tuple(getattr(row, name) for name in table.key))

    def accounts_with_movements(self, accounts: Sequence[str] | None) -> list[str]:
        """Return the accounts, of those given or of all, in which units moved without a deal."""
        execute = self._models.connection.execute
        if accounts is None:
            rows = execute("SELECT DISTINCT account FROM movements").fetchall()
        else:
            rows = execute(
                "SELECT account FROM unnest(%s::text[]) AS asked (account)"
                " WHERE EXISTS (SELECT FROM movements AS m WHERE m.account = asked.account)",
                (list(accounts),),
            ).fetchall()
        return [account for (account,) in rows]

    def end_of(self, topic: Topic, stream: str, known_at: KnownAt | None) -> int:
        """Return the offset at which what is known of a stream's partition ends."""
        return self.ends_of(topic, [stream], known_at)[0]

    def ends_of(self, topic: Topic, streams: Sequence[str], known_at: KnownAt | None) -> list[int]:
        """Return, for each stream, the offset at which what is known of its partition ends."""
        heads = self._source.heads(topic)
        partitions = [partition_of(stream, self._source.partitions) for stream in streams]
        if known_at is None:
            return [heads[partition] for partition in partitions]
        return [known_at.end(topic, partition, heads[partition]) for partition in partitions]

    def _projection_of(self, table: Table) -> Projection:
        return next(one for one in self._models.projections if table in one.tables)

    def _stored(self, table: Table, streams: Sequence[str] | None) -> Iterable[Any]:
        if streams is None:
            return self._models.scan(table, sql.SQL(""), ())
        where = sql.SQL(" WHERE t.{} = ANY(%s)").format(sql.Identifier(table.key[0]))
        return self._models.scan(table, where, (list(streams),))

    def _reached(self, projection: Projection, stream: str) -> int:
        """Return the offset that a projection reads next in a stream's partition."""
        row = self._models.connection.execute(
            "SELECT next_offset FROM projection_checkpoints"
            " WHERE projection = %s AND partition = %s",
            (projection.name, partition_of(stream, self._source.partitions)),
        ).fetchone()
        return 0 if row is None else row[0]

    def _streams(self, topic: Topic) -> list[str]:
        """Return the names of all streams of a topic, as the read models know them."""
        projection = next(one for one in self._models.projections if one.topic == topic)
        rows = self._models.connection.execute(
            "SELECT stream FROM projection_heads WHERE projection = %s ORDER BY stream",
            (projection.name,),
        ).fetchall()
        return [name for (name,) in rows]

    def _folded(
        self,
        projection: Projection,
        table: Table,
        stream: str,
        known_at: KnownAt | None,
        as_of: AsOf,
    ) -> Iterable[Any]:
        fold = projection.make(fresh=True)
        # What is known now is what the rows beside these are made of.
        end = (
            self._reached(projection, stream)
            if known_at is None
            else self.end_of(projection.topic, stream, known_at)
        )
        told = stream_events(self._source, projection.topic, stream, end)
        happened = happened_by(told, as_of)
        fold.apply([one for one in happened if type(one.event) in projection.handles])
        return fold.rows(table)
