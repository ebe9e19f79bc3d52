"""Transfers on their way where the log is in Kafka.

No index of the deciders is at hand here, so the log is looked through for transfers that were sent,
each record once: how far, and what was found, is kept beside the read models. Whether a record
counts, and how its transfer stands, the owner of its account is asked.
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final

from domain.entities import Transfer
from domain.events import TransferSent
from infra import migrations, postgres
from infra.migrations import Migration
from infra.postgres import Connection
from schemas import codec
from schemas.codec import Undecodable
from schemas.envelope import Record
from schemas.partitioning import partition_of
from streams.deciding.front import KafkaLedger
from streams.transfers import Sent, mark_settled

_OWNER: Final = "transfers"
_SQL: Final = """
CREATE TABLE transfers_read (
    log_id text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (log_id, partition)
);
CREATE TABLE transfers_sent (
    log_id text NOT NULL,
    key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    "offset" bigint NOT NULL,
    PRIMARY KEY (log_id, key, id, "offset")
);
CREATE TABLE transfers_settled (
    key text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    PRIMARY KEY (key, id)
);
"""
_MIGRATIONS: Final = (Migration(1, "transfers", _SQL),)
_CHUNK: Final = 5000
_AT_ONCE: Final = 500
_MARK: Final = b'"type":"TransferSent"'
_MARK_BEFORE: Final = 200
"""Bytes of an envelope in which its type stands: the id is before it."""


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
        """Tell nothing: whether any is on its way shows once the log was looked through."""
        return False

    def alone(self) -> AbstractContextManager[None]:
        """Keep others from settling for a block."""
        return postgres.advisory_lock(self._connection, f"transfers {self._schema}")

    def check_alone(self) -> None:
        """Raise where the connection, and the lock with it, was lost."""
        self._connection.execute("SELECT 1")

    def mark(self, transfers: Sequence[tuple[str, str]]) -> None:
        """Mark transfers as settled."""
        mark_settled(self._connection, transfers)

    def pending(self) -> list[Sent]:
        """Return some that were sent and are not settled; mark those that only look so."""
        self._look_through()
        rows = self._connection.execute(
            'SELECT key, id, "offset" FROM transfers_sent LEFT JOIN transfers_settled'
            " USING (key, id) WHERE log_id = %s AND transfers_settled.key IS NULL"
            ' ORDER BY key, id, "offset"',
            (self._log.log_id,),
        ).fetchall()
        found = (self._sent(*row) for row in rows)
        return list(islice((one for one in found if one is not None), _AT_ONCE))

    def _sent(self, key: str, transfer_id: str, offset: int) -> Sent | None:
        """Return a transfer that its sender's owner still has as sent, by this very record."""
        partition = partition_of(key, self._log.partitions)
        entity = self._ledger.fetch_entity(("events", partition), (key, "transfer", transfer_id))
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
            "DELETE FROM transfers_sent"
            ' WHERE log_id = %s AND key = %s AND id = %s AND "offset" = %s',
            (self._log.log_id, key, transfer_id, offset),
        )

    # --- the log --------------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Note every transfer that was sent since the log was looked through last."""
        told = self._connection.execute(
            "SELECT partition, next_offset FROM transfers_read WHERE log_id = %s",
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
                    "INSERT INTO transfers_sent VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    (self._log.log_id, key, transfer_id, offset),
                )
            self._connection.execute(
                "INSERT INTO transfers_read VALUES (%s, %s, %s) ON CONFLICT (log_id, partition)"
                " DO UPDATE SET next_offset = excluded.next_offset",
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
