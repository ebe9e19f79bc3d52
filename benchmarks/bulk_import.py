"""Deals from CSV to durable, hashed, acknowledged events, by the importer that users run.

Beside it the `eventsourcing` library's own Postgres recorder stores the bytes of the very same
events on the same server, 1,000 a transaction, by its database
function. That side neither reads a file, nor decides, hashes or looks for duplicates: it is what
storing alone costs by the usual means.
"""

import statistics
import time
from typing import Final
from uuid import NAMESPACE_OID, uuid5

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg.conninfo import conninfo_to_dict

from api.wiring import Parts, running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.rows import Row
from schemas.codec import decode

DEALS: Final = {False: 30_000, True: 100_000}
_TRANSACTION: Final = 1_000
_CHUNK: Final = 5_000


def main(*, full: bool = False) -> list[Row]:
    """Measure both sides in turn, each time in a fresh database; medians of the rounds."""
    deals, ours, theirs = DEALS[full], [], []
    for _ in range(3):
        with fresh_home() as home, running(home.settings) as parts:
            path = home.folder / "deals.csv"
            write_deals(path, deals)
            start = time.perf_counter()
            import_deals(parts, path, deals)
            ours.append(deals / (time.perf_counter() - start))
            theirs.append(_recorder_rate(parts, home.dsn))
    return [
        Row(
            what=f"import of {deals:,} deals, 20 accounts, 100 instruments",
            unit="deals/s",
            ours=statistics.median(ours),
            beside="eventsourcing's PostgresApplicationRecorder, storing the same bytes",
            other=statistics.median(theirs),
            target=20_000,
        )
    ]


def _recorder_rate(parts: Parts, dsn: str) -> float:
    """Return events a second through the library's recorder, batches made beforehand."""
    events = _stored_events(parts)
    told = conninfo_to_dict(dsn)
    # Its other way, a pipeline, stands still for ever once a batch outgrows the socket's buffer.
    datastore = PostgresDatastore(
        str(told["dbname"]),
        str(told["host"]),
        str(told["port"]),
        str(told["user"]),
        password="",
        enable_db_functions=True,
    )
    with datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        start = time.perf_counter()
        for first in range(0, len(events), _TRANSACTION):
            recorder.insert_events(events[first : first + _TRANSACTION])
        return len(events) / (time.perf_counter() - start)


def _stored_events(parts: Parts) -> list[StoredEvent]:
    events = []
    for partition, head in enumerate(parts.log.heads("events")):
        offset = 1
        while offset < head:
            for record in parts.log.read("events", partition, offset, _CHUNK):
                envelope = decode(record).envelope
                stream = uuid5(NAMESPACE_OID, envelope.stream or "")
                events.append(StoredEvent(stream, envelope.seq, envelope.type, record.value))
                offset = record.offset + 1
    return events
