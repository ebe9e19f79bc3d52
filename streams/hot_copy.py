"""Positions in Redis: a disposable copy that is right, or absent.

Losing all of it, or any key, at any moment costs a read of Postgres and nothing else. What makes it
so, with `next` the offset up to which a copy holds everything:

- A *mark* for each partition says that every change in [`since`, `next`) was copied. A commit that
  goes on where the mark ends moves it; one that does not (a writer was away) starts it anew.
- An account's copy counts when its own `next` is not before the mark's `since`: nothing was missed.
- A commit changes a copy that counts and is older than it; one that does not count it deletes.
- A reader that finds nothing reads Postgres, and puts back what it read, with the offset it read it
  at, unless the mark is further already, or is not there.
- Marks fade after `MARK_TTL_S` unless they are renewed, so that a writer that is cut off from here
  cannot keep an old copy alive for those who are not.

A copy has a *generation*: the projection's version, the log's id, and what made the tables that its
rows are from. Of another than the mark's it does not count, so none outlives a rebuild.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
import psycopg
from msgspec import Struct

from infra import postgres, redis_client
from infra.errors import ServerUnavailable
from infra.postgres import Connection
from projections.positions.tables import POSITIONS, PositionRow
from projections.rows import Projection
from schemas.partitioning import partition_of
from streams.checkpoint_moves import MADE
from streams.hot_scripts import COMMIT, FILL, READ
from streams.news import NEWS_CHANNEL, encode, news_of
from streams.read_models import Advance, ReadModels

if TYPE_CHECKING:
    from redis import Redis

_log = logging.getLogger(__name__)
MARK_TTL_S: Final = 10
RENEW_S: Final = 3.0
ACCOUNT_TTL_S: Final = 24 * 3600
MOST_COPIED: Final = 1000
"""Positions of an account that is copied: to read more of them for a page takes longer than it."""
PAUSE_S: Final = 1.0
"""How long nobody asks a Redis that did not answer."""
_BULK: Final = 1000
"""A commit over more records starts the mark anew: to catch up, copies are not worth their cost."""
_PROJECTION: Final = "positions"
_CHANNELS: Final = ("orders", "deals", "positions")
ALERTS: Final = "pubsub:alerts"
_ODD_NUMBER: Final = re.compile(rb'":"-0|[0-9]E[+]')
_DECODER: Final = msgspec.json.Decoder(list[PositionRow])


class HotPositions(Struct, frozen=True):
    """An account's positions in the order of their key, as all records below `next_offset` are.

    `made` says from whose tables they are (`checkpoint_moves.MADE`).
    """

    made: str
    next_offset: int
    rows: list[PositionRow]


def generations(log_id: str, projections: Iterable[Projection]) -> str:
    """Return how the generations begin that this program reads: those of its log and version."""
    version = next(one.version for one in projections if one.name == _PROJECTION)
    return f"{version} {log_id} "


class HotCopy:
    """The copy of one namespace. Nothing here raises because Redis is away. For any thread."""

    def __init__(
        self,
        client: "Redis",
        namespace: str,
        generations: str,
        partitions: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._reader: Redis | None = None
        self._namespace = namespace
        self._generations = generations
        self.partitions = partitions
        self._clock = clock
        self._quiet_until = 0.0
        self._turn = threading.Lock()
        self._commit = client.register_script(COMMIT)
        self._fill = client.register_script(FILL)
        self._read = client.register_script(READ)

    @classmethod
    def open(cls, url: str, namespace: str, generations: str, partitions: int) -> "HotCopy":
        """Return the copy in the Redis of a URL; nothing is asked yet."""
        return cls(redis_client.connect(url), namespace, generations, partitions)

    def close(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            self._reader.close()
        self._client.close()

    # --- writing -------------------------------------------------------------------------------

    def commit(self, advances: Sequence[Advance], made: str) -> None:
        """Copy what was committed, and tell the News. To be called after each commit.

        `made` says whose tables the positions were written to.
        """
        self._asked(lambda: self._send(advances, made))

    def renew(self, checkpoints: Iterable[tuple[str, int, int]]) -> None:
        """Renew the marks by checkpoints in Postgres: who made, the partition, what comes next.

        What could not be copied while Redis was away is thereby known to be missing.
        """
        self._asked(lambda: self._mark(checkpoints))

    def alert(self, text: str) -> None:
        """Tell persons that something stands still."""
        self._asked(lambda: self._client.publish(self._key(ALERTS), text))

    def clear(self) -> None:
        """Delete every copy, for rows that were made anew."""

        def clear() -> None:
            for pattern in ("cache:positions:*", "cache:positions-mark:*"):
                for key in self._client.scan_iter(self._key(pattern), count=1000):
                    self._client.unlink(key)

        self._asked(clear)

    def _send(self, advances: Sequence[Advance], made: str) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for advance in advances:
                if advance.projection.name == _PROJECTION:
                    keys, arguments = self._copied(advance, made)
                    self._commit(keys, arguments, client=pipeline)
            for advance in advances:
                names = {one.table.name for one in advance.changed if _is_told(one)}
                for news in news_of([advance]):
                    for name in sorted(names.intersection(_CHANNELS)):
                        pipeline.publish(self._key(f"pubsub:{name}"), encode(news))
            for news in news_of(advances):
                pipeline.publish(self._key(NEWS_CHANNEL), encode(news))
            pipeline.execute()

    def _mark(self, checkpoints: Iterable[tuple[str, int, int]]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for made, partition, offset in sorted(checkpoints):
                arguments: list[Any] = [made, offset, offset, MARK_TTL_S, ACCOUNT_TTL_S]
                self._commit([self._mark_key(partition)], arguments, client=pipeline)
            pipeline.execute()

    def _copied(self, advance: Advance, made: str) -> tuple[list[str], list[Any]]:
        """Return the keys and arguments of COMMIT for a step of the positions.

        Accounts whose positions did not change are as they were: the mark alone says so.
        """
        first, last = advance.from_offset, advance.state.next_offset
        arguments: list[Any] = [made, first, last, MARK_TTL_S, ACCOUNT_TTL_S]
        keys = [self._mark_key(advance.partition)]
        if last - first > _BULK:
            arguments[1] = last
            return keys, arguments
        puts: dict[str, list[Any]] = {}
        deletes: dict[str, list[Any]] = {}
        for changed in advance.changed:
            if changed.table is not POSITIONS:
                continue
            for row in (*changed.inserts, *changed.upserts):
                puts.setdefault(row.account, []).extend((_field(row), _encoded(row)))
            for account, instrument, currency in changed.deletes:
                deletes.setdefault(account, []).append(_field_of(instrument, currency))
        for account in puts.keys() | deletes.keys():
            put, gone = puts.get(account, []), deletes.get(account, [])
            keys.append(self._account_key(account))
            arguments += [len(gone), *gone, len(put), *put]
        return keys, arguments

    # --- reading -------------------------------------------------------------------------------

    def positions(self, account: str, at_least: int = -1) -> HotPositions | None:
        """Return an account's positions if the copy holds the record at offset `at_least`.

        None when it does not, or is not there, or Redis does not answer: then Postgres knows. By
        default whatever is copied will do, which may lag by `MARK_TTL_S` where a writer died.
        """
        partition = partition_of(account, self.partitions)
        keys = [self._mark_key(partition), self._account_key(account)]
        wanted: list[Any] = [self._generations, at_least + 1]
        answer = self._asked(lambda: self._read(keys, wanted, client=self._connected()))
        if not answer:
            return None
        try:
            rows = _DECODER.decode(answer[2])
        except msgspec.DecodeError:
            _log.warning("the hot copy of %s holds what no Daybook wrote", account)
            return None
        return HotPositions(answer[0].decode(), answer[1], sorted(rows, key=_key_of))

    def fill(self, account: str, read: HotPositions) -> None:
        """Put back an account's positions, all of them, as they were read from Postgres."""
        if not read.made.startswith(self._generations):
            return  # tables of another version, read by a program that is on its way out
        partition = partition_of(account, self.partitions)
        keys = [self._mark_key(partition), self._account_key(account)]
        arguments: list[Any] = [read.made, read.next_offset, ACCOUNT_TTL_S]
        arguments += [part for row in read.rows for part in (_field(row), _encoded(row))]
        self._asked(lambda: self._fill(keys, arguments))

    # --- asking --------------------------------------------------------------------------------

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """Return what Redis answers; None where it does not, and for a while nobody asks again."""
        from redis.exceptions import RedisError

        if self._clock() < self._quiet_until:
            return None
        try:
            return ask()
        except (RedisError, OSError) as error:
            with self._turn:
                is_first = self._clock() >= self._quiet_until
                self._quiet_until = self._clock() + PAUSE_S
            if is_first:
                reason = " ".join(str(error).split()) or type(error).__name__
                _log.warning("Redis does not answer, Postgres is read instead: %s", reason)
            return None

    def _connected(self) -> "Redis":
        # A connection of its own: to take one from the pool costs as much again as the read.
        if self._reader is None:
            self._reader = self._client.client()  # type: ignore[no-untyped-call]
        return self._reader

    def _key(self, name: str) -> str:
        return f"{self._namespace}:{name}"

    def _account_key(self, account: str) -> str:
        return self._key(f"cache:positions:{account}")

    def _mark_key(self, partition: int) -> str:
        return self._key(f"cache:positions-mark:{partition}")


class Renewing:
    """Renews a copy's marks from a thread of its own, until it is closed."""

    def __init__(self, copy: HotCopy, dsn: str, schema: str, *, every_s: float = RENEW_S) -> None:
        self._copy = copy
        self._dsn = dsn
        self._schema = schema
        self._every_s = every_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="hot-copy", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it. A second call does nothing."""
        self._is_over.set()
        self._thread.join()

    def _serve(self) -> None:
        connection: Connection | None = None
        while not self._is_over.wait(self._every_s):
            try:
                if connection is None or connection.closed:
                    connection = postgres.connect(self._dsn, schema=self._schema)
                self._copy.renew(connection.execute(CHECKPOINTS).fetchall())
            except (ServerUnavailable, psycopg.Error) as error:
                _log.warning("the hot copy fades until Postgres answers: %s", error)
        if connection is not None:
            connection.close()


class CopiedReadModels(ReadModels):
    """Read models whose commits are copied, and told, as soon as they are durable."""

    copy: HotCopy | None = None

    def write(self, advances: Sequence[Advance]) -> None:
        """Write as ReadModels does, then copy."""
        super().write(advances)
        if self.copy is not None:
            ours = (one.partition for one in advances if one.projection.name == _PROJECTION)
            self.copy.commit(advances, self.made_of(_PROJECTION, next(ours, 0)))

    def halt(
        self, projection: str, topic: str, partition: int, next_offset: int, reason: str
    ) -> bool:
        """Write down why a projection stands still, and tell persons."""
        is_halted = super().halt(projection, topic, partition, next_offset, reason)
        if is_halted and self.copy is not None:
            self.copy.alert(f"{projection} halted in {topic}/{partition}: {reason}")
        return is_halted


def positions_of_account(
    copy: HotCopy,
    connection: Connection,
    account: str,
    at_least: int = -1,
    limit: int = MOST_COPIED + 1,
) -> HotPositions:
    """Return an account's first positions from the copy, or from Postgres, which then fills it.

    From the copy come all, from Postgres at most `limit`: what is fewer than that is the whole
    account, and copied. What Postgres answers may be older than `at_least`: to wait for it is the
    caller's.
    """
    found = copy.positions(account, at_least)
    if found is None:
        found = stored_positions(connection, account, copy.partitions, limit)
        # Of accounts that nobody has heard of there is nothing to keep.
        if 0 < len(found.rows) < min(limit, MOST_COPIED + 1):
            copy.fill(account, found)
    return found


def stored_positions(
    connection: Connection, account: str, partitions: int, limit: int | None = None
) -> HotPositions:
    """Return an account's first positions as they are stored, with the checkpoint of that moment.

    All of them without a `limit`. Raises ServerUnavailable where nobody has made the tables yet.
    """
    told = account, limit, partition_of(account, partitions)
    try:
        rows = connection.execute(_STORED, told).fetchall()
    except psycopg.errors.UndefinedTable as error:
        reason, hint = "nobody has made their tables yet", "start `daybook worker`"
        raise ServerUnavailable("the read models", reason, hint) from error
    if not rows:
        return HotPositions("", 0, [])
    stored = [PositionRow(*row[2:]) for row in rows if row[2] is not None]
    return HotPositions(rows[0][0], rows[0][1], stored)


_MADE: Final = f"(SELECT {MADE} AS made FROM projections) AS m"
CHECKPOINTS: Final = (
    f"SELECT m.made, c.partition, c.next_offset FROM projection_checkpoints c JOIN {_MADE}"
    " ON m.name = c.projection WHERE c.projection = 'positions'"
).encode()
"""What `HotCopy.renew` takes, as Postgres has it."""
_COLUMNS: Final = ", ".join(f't."{name}"' for name in POSITIONS.columns)
_STORED: Final = (
    f"SELECT m.made, c.next_offset, {_COLUMNS} FROM projection_checkpoints c"
    f" JOIN {_MADE} ON m.name = c.projection LEFT JOIN (SELECT * FROM positions"
    " WHERE account = %s ORDER BY instrument, currency LIMIT %s) t ON true"
    " WHERE c.projection = 'positions' AND c.partition = %s"
    " ORDER BY t.instrument, t.currency"
).encode()


def _is_told(changed: Any) -> bool:
    return bool(changed.inserts or changed.upserts or changed.deletes or changed.lines)


def _field(row: PositionRow) -> str:
    return _field_of(row.instrument, row.currency)


def _field_of(instrument: str, currency: str) -> str:
    return f"{instrument}\n{currency}"


def _encoded(row: PositionRow) -> bytes:
    encoded = msgspec.json.encode(row)
    if _ODD_NUMBER.search(encoded) is None:
        return encoded
    # Postgres has no negative zero and no exponents, and the copy is to be what Postgres has.
    plain = {
        name: Decimal(format(value or value.copy_abs(), "f"))
        for name in POSITIONS.columns
        if isinstance(value := getattr(row, name), Decimal)
    }
    return msgspec.json.encode(msgspec.structs.replace(row, **plain))


def _key_of(row: PositionRow) -> tuple[str, str]:
    return row.instrument, row.currency
