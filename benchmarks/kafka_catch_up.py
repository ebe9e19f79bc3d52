"""From a log in Kafka into read models in Postgres: catching up, and live.

Catching up is what a worker's thread does with history. Beside it stands the plain way to do it
with Faust: an agent that takes 1,000 events at a time, upserts each deal and its position and
commits. It keeps no lots, no realised P&L and does not validate the chain, so it has less to do,
and it loses events when Postgres fails. Live is `daybook worker` as a process, told by NOTIFY when
the rows of an event are committed.
"""

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import psycopg
from msgspec import Struct
from prometheus_client import CollectorRegistry

from api.wiring import Parts, running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.catch_up import _PLAIN_SQL
from benchmarks.rows import Row, skipped
from domain.events import DealRecorded
from infra import postgres
from infra.servers.native import look_at_servers, start_servers, stop_servers
from infra.servers.server import ProgramsMissing
from projections.positions.fold import PROJECTION as POSITIONS
from projections.registry import PROJECTIONS
from projections.rows import Projection
from schemas.codec import decode
from schemas.envelope import Record
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, Draft
from streams.news import decode as decode_news
from streams.read_models import ReadModels
from streams.working.consuming import quieten_libraries
from streams.working.keeping import Keeper
from streams.working.metrics import WorkerMetrics

DEALS: Final = {False: 30_000, True: 100_000}
PLAIN_EVENTS: Final = 10_000
LIVE_PER_S: Final = 2_000
LIVE_S: Final = {False: 5, True: 20}
WARM_UP_S: Final = 3
_APPENDED: Final = 2_000
_TICK_S: Final = 0.02
_LIVE_ACCOUNTS: Final = 4
_PATIENCE_S: Final = 60


class Servers(Struct, frozen=True):
    """Servers of this run: the brokers as HOST:PORT, and the URL of Postgres."""

    hosts: str
    store_url: str


def main(*, full: bool = False) -> list[Row]:
    """Measure catching up several times (medians), and one live run."""
    try:
        with _servers() as servers:
            return [*_catch_up_rows(servers, DEALS[full]), *_live_rows(servers, LIVE_S[full])]
    except ProgramsMissing as missing:
        skipped("a log in Kafka", str(missing))
        return []


@contextlib.contextmanager
def _servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as folder:
        home = Path(folder)
        try:
            start_servers(home, parts=["kafka", "postgres"], say=lambda _: None)
            urls = look_at_servers(home).urls
            hosts = urls["DAYBOOK_LOG_URL"].removeprefix("kafka://").partition("/")[0]
            yield Servers(hosts, urls["DAYBOOK_STORE_URL"])
        finally:
            stop_servers(home, say=lambda _: None)


# --- catching up ---------------------------------------------------------------------------------


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
        return sum(keeper.checkpoints().values()) / taken
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


# --- live ----------------------------------------------------------------------------------------


def _live_rows(servers: Servers, seconds: int) -> list[Row]:
    deals = LIVE_PER_S * (seconds + WARM_UP_S)
    with _live_parts(deals) as parts:
        log = KafkaLog.open(servers.hosts, "live", clock=lambda: 1)
        with _worker_process(servers, log):
            latencies = _Live(servers, log, parts).measure()
        log.close()
    kept = sorted(latencies[WARM_UP_S * LIVE_PER_S :])
    what = f"event to committed row at {LIVE_PER_S:,} a second"
    quantiles = statistics.quantiles(kept, n=100)
    return [
        Row(
            what=f"{what}, p50",
            unit="ms",
            ours=quantiles[49],
            note=f"{_LIVE_ACCOUNTS} accounts, appended every {1000 * _TICK_S:.0f} ms",
        ),
        Row(what=f"{what}, p99", unit="ms", ours=quantiles[98], target=50),
    ]


@contextlib.contextmanager
def _live_parts(deals: int) -> Iterator[Parts]:
    with fresh_home() as home, running(home.settings) as parts:
        path = home.folder / "deals.csv"
        write_deals(path, deals, _LIVE_ACCOUNTS)
        import_deals(parts, path, deals)
        yield parts


@contextlib.contextmanager
def _worker_process(servers: Servers, log: KafkaLog) -> Iterator[None]:
    """Run `daybook worker` until the end of the block; it has projected what was there."""
    environ = {
        "DAYBOOK_LOG_URL": f"kafka://{log.place.hosts}/{log.place.namespace}",
        "DAYBOOK_STORE_URL": servers.store_url,
    }
    command = [sys.executable, "-m", "api.cli.main", "worker"]
    with subprocess.Popen(command, env={**os.environ, **environ}, stderr=subprocess.DEVNULL) as one:
        try:
            models = ReadModels(servers.store_url, log.place.schema, log.log_id, PROJECTIONS)
            deadline = time.monotonic() + _PATIENCE_S
            while len(models.checkpoints()) < len(PROJECTIONS) * log.partitions:
                if time.monotonic() > deadline or one.poll() is not None:
                    raise RuntimeError("the worker does not get going")
                time.sleep(0.1)
            models.close()
            yield
        finally:
            one.terminate()


class _Live:
    """Appends a history at a steady rate, and hears when each of its events is committed."""

    def __init__(self, servers: Servers, log: KafkaLog, parts: Parts) -> None:
        self._source = log
        self._connection = postgres.connect(servers.store_url)
        self._connection.execute(f'LISTEN "{log.place.schema}"'.encode())
        self._told: list[tuple[int, Draft]] = _by_time(parts)
        self._appended: dict[int, list[float]] = {n: [] for n in range(log.partitions)}
        self._latencies_ms: dict[tuple[int, int], float] = {}

    def measure(self) -> list[float]:
        """Return the latency of each event in ms, in the order in which they were appended."""
        listening = threading.Thread(target=self._listen)
        listening.start()
        begin = time.perf_counter()
        a_tick = round(LIVE_PER_S * _TICK_S)
        order: list[tuple[int, int]] = []
        for number, start in enumerate(range(0, len(self._told), a_tick)):
            time.sleep(max(0.0, begin + number * _TICK_S - time.perf_counter()))
            order += self._append(self._told[start : start + a_tick])
        listening.join()
        if len(self._latencies_ms) < len(self._told):
            raise RuntimeError(f"not all events were committed within {_PATIENCE_S} s")
        return [self._latencies_ms[place] for place in order]

    def _append(self, some: list[tuple[int, Draft]]) -> list[tuple[int, int]]:
        by_partition: dict[int, list[Draft]] = {}
        for partition, draft in some:
            by_partition.setdefault(partition, []).append(draft)
        places = []
        for partition, drafts in by_partition.items():
            appended = self._appended[partition]
            for _ in drafts:
                appended.append(time.perf_counter())
                places.append((partition, len(appended)))
            self._source.submit("events", partition, drafts)
        return places

    def _listen(self) -> None:
        """Note when events were committed, until all are; each partition begins at offset 1."""
        heard = dict.fromkeys(self._appended, 1)
        for notice in self._connection.notifies(timeout=_PATIENCE_S):
            now = time.perf_counter()
            news = decode_news(notice.payload)
            if news.topic != "events":
                continue
            for offset in range(heard[news.partition], news.next_offset):
                began = self._appended[news.partition][offset - 1]
                self._latencies_ms[news.partition, offset] = 1000 * (now - began)
            heard[news.partition] = max(heard[news.partition], news.next_offset)
            if len(self._latencies_ms) == len(self._told):
                return


def _by_time(parts: Parts) -> list[tuple[int, Draft]]:
    """Return a history's events with their partitions, by the time they were recorded."""
    told = [
        (decode(record).envelope.recorded_time, partition, Draft(record.key, record.value))
        for partition, head in enumerate(parts.log.heads("events"))
        for record in parts.log.read("events", partition, 1, head)
    ]
    return [(partition, draft) for _, partition, draft in sorted(told, key=lambda one: one[:2])]
