"""Catching up: from a log in Kafka into read models in Postgres.

Catching up is what a worker's thread does with history. Beside it stands the plain way to do it
with Faust: an agent that takes 1,000 events at a time, upserts each deal and its position and
commits. It keeps no lots, no realised P&L and does not validate the chain, so it has less to do,
and it loses events when Postgres fails. Live: `benchmarks.live_rows`.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from prometheus_client import CollectorRegistry

from api.wiring import running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.catch_up import _PLAIN_SQL
from benchmarks.kafka_servers import Servers, native_servers
from benchmarks.rows import Row, skipped
from domain.events import DealRecorded
from infra import postgres
from infra.servers.server import ProgramsMissing
from projections.positions.fold import PROJECTION as POSITIONS
from projections.registry import PROJECTIONS
from projections.rows import Projection
from schemas.codec import decode
from schemas.envelope import Record
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, Draft
from streams.read_models import ReadModels
from streams.working.consuming import quieten_libraries
from streams.working.keeping import Keeper
from streams.working.metrics import WorkerMetrics

DEALS: Final = {False: 30_000, True: 100_000}
PLAIN_EVENTS: Final = 10_000
_APPENDED: Final = 2_000


def main(*, full: bool = False) -> list[Row]:
    """Measure several times and give the medians."""
    try:
        with native_servers() as servers:
            return _catch_up_rows(servers, DEALS[full])
    except ProgramsMissing as missing:
        skipped("a log in Kafka", str(missing))
        return []


def _catch_up_rows(servers: Servers, deals: int) -> list[Row]:
    log = _told_log(servers, "catchup", deals, accounts=20)
    positions, every, plain = [], [], []
    for number in range(3):
        positions.append(_rate(servers, log, f"one_{number}", (POSITIONS,)))
        every.append(_rate(servers, log, f"all_{number}", PROJECTIONS))
        plain.append(asyncio.run(_Plain(servers, log, number).rate()))
    log.close()
    beside = "a Faust agent: take 1,000, an upsert of each deal and its position, commit"
    other = statistics.median(plain)
    what = f"{deals:,} deals from Kafka into"
    return [
        Row(
            what=f"{what} deals, lots and positions",
            unit="events/s",
            ours=statistics.median(positions),
            beside=beside,
            other=other,
            target=60_000,
        ),
        Row(
            what=f"{what} all read models",
            unit="events/s",
            ours=statistics.median(every),
            beside=beside,
            other=other,
            target=25_000,
        ),
    ]


def _told_log(servers: Servers, namespace: str, deals: int, accounts: int) -> KafkaLog:
    """Return a log in Kafka that holds what an embedded ledger decided."""
    with fresh_home() as home, running(home.settings) as parts:
        path = home.folder / "deals.csv"
        write_deals(path, deals, accounts)
        import_deals(parts, path, deals)
        log = KafkaLog.open(servers.hosts, namespace, clock=lambda: 1)
        for topic in TOPICS:
            for partition, head in enumerate(parts.log.heads(topic)):
                for start in range(1, head, _APPENDED):
                    records = parts.log.read(topic, partition, start, _APPENDED)
                    log.append(topic, partition, [Draft(one.key, one.value) for one in records])
    return log


def _rate(servers: Servers, log: KafkaLog, schema: str, projections: Sequence[Projection]) -> float:
    """Return records a second into the tables of a schema of their own."""
    models = ReadModels(servers.store_url, schema, log.log_id, projections)
    keeper = Keeper(log, models, WorkerMetrics(CollectorRegistry()))
    keeper.assign((topic, n) for topic in TOPICS for n in range(log.partitions))
    try:
        start = time.perf_counter()
        keeper.look()
        while keeper.catch_up():
            pass
        taken = time.perf_counter() - start
        return sum(keeper.next_offsets().values()) / taken
    finally:
        models.close()


class _Plain:
    """A plain Faust agent that upserts the first PLAIN_EVENTS deals."""

    def __init__(self, servers: Servers, log: KafkaLog, number: int) -> None:
        self._servers = servers
        self._topic = f"{log.place.namespace}.events"
        self._schema = f"plain_{number}"
        self._done = 0
        self._began = 0.0
        self._ended = asyncio.Event()

    async def rate(self) -> float:
        """Return events a second, from the first that came."""
        import faust

        quieten_libraries()
        connection = postgres.connect(self._servers.store_url)
        connection.execute(f"CREATE SCHEMA {self._schema}".encode())
        connection.execute(f"SET search_path = {self._schema}".encode())
        connection.execute(_PLAIN_SQL.encode())
        connection.close()
        with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
            app = faust.App(
                self._schema,
                broker=f"kafka://{self._servers.hosts}",
                datadir=folder,
                store="memory://",
                web_enabled=False,
                topic_allow_declare=False,
                topic_disable_leader=True,
                stream_wait_empty=False,
                consumer_auto_offset_reset="earliest",
            )
            topic = app.topic(self._topic, value_type=bytes, value_serializer="raw")
            app.agent(topic)(self._project)
            await app.start()
            await self._ended.wait()
            taken = time.perf_counter() - self._began
            await app.stop()
        return self._done / taken

    async def _project(self, stream: Any) -> None:
        options = f"-c search_path={self._schema}"
        connection = await psycopg.AsyncConnection.connect(self._servers.store_url, options=options)
        async for values in stream.take(1000, within=0.1):
            self._began = self._began or time.perf_counter()
            async with connection.transaction():
                for value in values:
                    await _upsert(connection, value)
            self._done += len(values)
            if self._done >= PLAIN_EVENTS:
                self._ended.set()


async def _upsert(connection: psycopg.AsyncConnection[Any], value: bytes) -> None:
    recorded = decode(Record("events", 0, 0, None, value))
    event, account = recorded.event, recorded.envelope.stream
    if not isinstance(event, DealRecorded):
        return
    deal = (
        *(account, event.deal_id, event.instrument, event.currency, event.side, event.quantity),
        *(event.price, sum(fee.amount for fee in event.fees), recorded.envelope.event_time),
        event.trade_date,
    )
    await connection.execute(
        "INSERT INTO plain_deals VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (account, deal_id) DO UPDATE SET quantity = excluded.quantity,"
        " price = excluded.price, fees = excluded.fees",
        deal,
    )
    sign = 1 if event.side == "buy" else -1
    await connection.execute(
        "INSERT INTO plain_positions AS p VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT (account, instrument, currency) DO UPDATE SET"
        " quantity = p.quantity + excluded.quantity, cost = p.cost + excluded.cost",
        (account, event.instrument, event.currency, sign * event.quantity, sign * event.cost),
    )
