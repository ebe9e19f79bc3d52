"""Transfers on their way where the log is in Kafka.

No index of the deciders is at hand here, so the log is looked through for transfers that were sent,
each record once: how far, and what was found, is kept beside the read models. Whether a record
counts, and how its transfer stands, the owner of its account is asked.

All that is kept is of one log: in topics made anew the same transfers are others. Its tables stand
beside those of a Postgres log that was moved from there, which has its own of settled transfers.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from operator import attrgetter
from typing import Final

from domain.entities import Entity, Transfer
from domain.events import TransferSent
from infra import migrations, postgres
from infra.errors import ServerUnavailable
from infra.migrations import Migration
from infra.postgres import Connection
from schemas import codec
from schemas.codec import Undecodable
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams.deciding.front import KafkaLedger
from streams.log import TopicPartition
from streams.transfers import Sent

_log = logging.getLogger(__name__)
_OWNER: Final = "kafka_transfers"
_SQL: Final = """
CREATE TABLE kafka_transfers_read (
    log_id text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (log_id, partition)
);
CREATE TABLE kafka_transfers_sent (
    log_id text NOT NULL,
    key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (log_id, key, id, "offset")
);
CREATE TABLE kafka_transfers_settled (
    log_id text NOT NULL,
    key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (log_id, key, id)
);
"""
_MIGRATIONS: Final = (Migration(1, "transfers", _SQL),)
_UNSETTLED: Final = """
FROM kafka_transfers_sent LEFT JOIN kafka_transfers_settled s USING (log_id, key, id)
WHERE log_id = %s AND s.key IS NULL
"""
_CHUNK: Final = 5000
_AT_ONCE: Final = 500
_LAST_OFFSET: Final = 2**63 - 1
_MARK: Final = b'"type":"TransferSent"'
_MARK_BEFORE: Final = 200
"""Bytes of an envelope in which its type stands: the id is before it."""


_Place = tuple[str, str, int]
"""The account and the id of a transfer, and the offset at which it was sent."""


class KafkaBook:
    """The transfers of a Kafka ledger. `connection` is to the read models' schema."""

    def __init__(self, ledger: KafkaLedger, connection: Connection, schema: str) -> None:
        self._ledger = ledger
        self._connection = connection
        self._schema = schema
        self._log = ledger.log

    @classmethod
    @contextlib.contextmanager
    def of(cls, ledger: KafkaLedger, dsn: str, schema: str) -> Iterator["KafkaBook"]:
        """Yield the book of a ledger, with a connection of its own; raises ServerUnavailable."""
        store = "the read models' store"
        connection = postgres.connect(dsn, schema=schema, part=store)
        with contextlib.closing(connection), postgres.reporting_outage(store):
            migrations.apply(connection, _OWNER, _MIGRATIONS, schema=schema)
            yield cls(ledger, connection, schema)

    def is_idle(self) -> bool:
        """Tell whether none is on its way, by the log as it is now."""
        self._look_through()
        query = f"SELECT NOT EXISTS (SELECT 1 {_UNSETTLED})".encode()
        return self._connection.execute(query, (self._log.log_id,)).fetchone() == (True,)

    def alone(self) -> AbstractContextManager[None]:
        """Keep others from settling for a block."""
        return postgres.advisory_lock(self._connection, f"transfers {self._schema}")

    def check_alone(self) -> None:
        """Raise where the connection, and the lock with it, was lost."""
        self._connection.execute("SELECT 1")

    def mark(self, transfers: Sequence[tuple[str, str]]) -> None:
        """Mark transfers as settled."""
        if transfers:
            self._connection.execute(
                "INSERT INTO kafka_transfers_settled"
                " SELECT %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
                (self._log.log_id, *map(list, zip(*transfers, strict=True))),
            )

    def pending(self, after: tuple[str, str] = ("", "")) -> list[Sent]:
        """Return the next that were sent and are not settled; mark those that only look so.

        Those whose sender's partition stands still, or has no owner, are left for later.
        """
        self._look_through()
        last: _Place = (*after, _LAST_OFFSET)
        silent: set[TopicPartition] = set()
        while places := self._unsettled(last):
            last = places[-1]
            if found := self._still_sent(places, silent):
                return sorted(found, key=attrgetter("account", "transfer_id"))
        return []

    def _unsettled(self, after: _Place) -> list[_Place]:
        query = (
            f'SELECT key, id, "offset" {_UNSETTLED} AND (key, id, "offset") > (%s, %s, %s)'
            f' ORDER BY key, id, "offset" LIMIT {_AT_ONCE}'
        )
        return self._connection.execute(query.encode(), (self._log.log_id, *after)).fetchall()

    def _still_sent(self, places: Sequence[_Place], silent: set[TopicPartition]) -> list[Sent]:
        """Return the transfers that their senders' owners still have as sent.

        Partitions whose owner does not tell are added to the `silent` ones, which are not asked.
        """
        by_partition: dict[TopicPartition, list[_Place]] = {}
        for place in places:
            at: TopicPartition = ("events", partition_of(place[0], self._log.partitions))
            if at not in silent:
                by_partition.setdefault(at, []).append(place)
        if not by_partition:
            return []
        known = self._ledger.fetch_entities(
            {
                at: [(key, "transfer", name) for key, name, _ in of_partition]
                for at, of_partition in by_partition.items()
            }
        )
        found: list[Sent | None] = []
        for at, entities in known.items():
            if isinstance(entities, ServerUnavailable):
                _log.warning("transfers sent in %s/%d are left on their way: %s", *at, entities)
                silent.add(at)
                continue
            pairs = zip(by_partition[at], entities, strict=True)
            found += [self._sent(*place, at[1], entity) for place, entity in pairs]
        return [one for one in found if one is not None]

    def _sent(
        self, key: str, transfer_id: str, offset: int, partition: int, entity: Entity | None
    ) -> Sent | None:
        """Return a transfer that its sender's owner still has as sent, by this very record."""
        if not isinstance(entity, Transfer):
            # Its owner has not read it back yet, or it is void: it is looked at again.
            return None
        if entity.status == "sent" and entity.offset == offset:
            (record,) = self._log.read("events", partition, offset, 1)
            return Sent(key, transfer_id, codec.decode(record))
        if entity.status != "sent":
            self.mark([(key, transfer_id)])
        else:
            self._forget(key, transfer_id, offset)
        return None

    def _forget(self, key: str, transfer_id: str, offset: int) -> None:
        """Forget a void record beside one that counts."""
        self._connection.execute(
            "DELETE FROM kafka_transfers_sent"
            ' WHERE log_id = %s AND key = %s AND id = %s AND "offset" = %s',
            (self._log.log_id, key, transfer_id, offset),
        )

    # --- the log --------------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Note every transfer that was sent since the log was looked through last.

        Who comes second waits, and then has little left to read.
        """
        with postgres.advisory_lock(self._connection, f"transfers read {self._schema}"):
            self._read_on()

    def _read_on(self) -> None:
        told = self._connection.execute(
            "SELECT partition, next_offset FROM kafka_transfers_read WHERE log_id = %s",
            (self._log.log_id,),
        ).fetchall()
        read: dict[int, int] = dict(told)
        for partition, head in enumerate(self._log.heads("events")):
            offset = read.get(partition, 0)
            while offset < head:
                records = self._log.read("events", partition, offset, min(_CHUNK, head - offset))
                if not records:
                    break
                offset = records[-1].offset + 1
                self._note(partition, offset, records)

    def _note(self, partition: int, next_offset: int, records: Sequence[Record]) -> None:
        found = [told for record in records if (told := _transfer_of(record)) is not None]
        with self._connection.transaction():
            for key, transfer_id, offset in found:
                self._connection.execute(
                    "INSERT INTO kafka_transfers_sent VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT DO NOTHING",
                    (self._log.log_id, key, transfer_id, offset),
                )
            self._connection.execute(
                "INSERT INTO kafka_transfers_read VALUES (%s, %s, %s)"
                " ON CONFLICT (log_id, partition) DO UPDATE SET next_offset = excluded.next_offset",
                (self._log.log_id, partition, next_offset),
            )


def _transfer_of(record: Record) -> tuple[str, str, int] | None:
    """Return account, id and offset of a record that tells of a transfer sent."""
    if _MARK not in record.value[:_MARK_BEFORE]:
        return None
    try:
        event = codec.event_of(codec.envelope(record.value))
    except Undecodable:
        return None
    if record.key is None or not isinstance(event, TransferSent):
        return None
    return record.key, event.transfer_id, record.offset
