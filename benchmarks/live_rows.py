"""From an event appended to Kafka to its row committed in Postgres, live, by `daybook worker`.

A native broker and PostgreSQL, the worker and the feeder (`benchmarks.live_feeder`) as processes of
their own. The time begins when a batch is handed to the broker's client, and ends when a listener
hears of the transaction that wrote its rows. A broker's first half minute under load is left out:
its compiler then takes more than a core, and every latency on a small machine is of that.
"""

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from api.wiring import running
from benchmarks.books import fresh_home, import_deals, write_deals
from benchmarks.kafka_servers import Servers, native_servers
from benchmarks.live_feeder import Appended, Phase, Task
from benchmarks.rows import Row, skipped
from infra import postgres
from infra.servers.server import ProgramsMissing
from projections.registry import PROJECTIONS
from schemas.codec import decode
from streams.kafka_log import KafkaLog
from streams.log import TOPICS
from streams.news import decode as decode_news
from streams.read_models import ReadModels
from streams.working.waiting import wait_for

NAMESPACE: Final = "live"
ACCOUNTS: Final = 20
RATES: Final = (500, 2000)
TARGET_MS: Final = {2000: 50}
SECONDS: Final = {False: 5, True: 20}
WARM_UP: Final = Phase(500, 15_000)
"""Half a minute: what a new broker's compiler needs to come to rest."""
_CHECKOUT: Final = Path(__file__).parents[1]
_PATIENCE_S: Final = 180
_SAMPLE_S: Final = 0.1


class Heard(Struct):
    """When a partition of `events` was heard to have come up to an offset."""

    at_ns: int
    partition: int
    next_offset: int


class Spent(Struct):
    """CPU time until a moment: of the worker, and of its session's process in Postgres."""

    at_ns: int
    worker_s: float
    session_s: float


def main(*, full: bool = False) -> list[Row]:
    """Feed at each rate, on one log, and tell what became of its events."""
    phases = [WARM_UP, *(Phase(rate, rate * SECONDS[full]) for rate in RATES)]
    try:
        with native_servers() as servers:
            appended, heard, spent = _run(servers, phases)
    except ProgramsMissing as missing:
        skipped("a log in Kafka", str(missing))
        return []
    later = range(1, len(phases))
    return [row for n in later for row in _rows(phases[n], _of(n, appended), heard, spent)]


def _of(phase: int, appended: Sequence[Appended]) -> list[Appended]:
    return [one for one in appended if one.phase == phase]


def _rows(
    phase: Phase, appended: list[Appended], heard: list[Heard], spent: list[Spent]
) -> list[Row]:
    latencies = sorted(_latencies_ms(appended, heard))
    durable = _percentiles([(one.acknowledged_ns - one.sent_ns) / 1e6 for one in appended])
    late = _percentiles([(one.sent_ns - one.due_ns) / 1e6 for one in appended])
    p50, p99 = _percentiles(latencies)
    what = f"event to committed row at {phase.rate:,}/s"
    note = (
        f"{ACCOUNTS} accounts; of it p50 {durable[0]:.1f}, p99 {durable[1]:.1f} ms until durable in"
        f" Kafka; the feeder was late by p99 {late[1]:.1f} ms"
    )
    worker_us, session_us = _cpu_us(appended, spent)
    return [
        Row(what=f"{what}, p50", unit="ms", ours=p50, note=note),
        Row(what=f"{what}, p99", unit="ms", ours=p99, target=TARGET_MS.get(phase.rate)),
        Row(what=f"CPU of the worker an event at {phase.rate:,}/s", unit="us", ours=worker_us),
        Row(what=f"CPU of its Postgres session at {phase.rate:,}/s", unit="us", ours=session_us),
    ]


def _percentiles(values: list[float]) -> tuple[float, float]:
    quantiles = statistics.quantiles(values, n=100)
    return quantiles[49], quantiles[98]


def _latencies_ms(appended: list[Appended], heard: list[Heard]) -> Iterator[float]:
    """Yield for each event the time from its batch's sending until its rows were heard of."""
    for partition in {one.partition for one in appended}:
        news = iter([one for one in heard if one.partition == partition])
        now = next(news)
        for batch in (one for one in appended if one.partition == partition):
            for offset in range(batch.offset, batch.offset + batch.count):
                while now.next_offset <= offset:
                    now = next(news)
                yield (now.at_ns - batch.sent_ns) / 1e6


def _cpu_us(appended: list[Appended], spent: list[Spent]) -> tuple[float, float]:
    begin, end = appended[0].sent_ns, appended[-1].acknowledged_ns
    inside = [one for one in spent if begin <= one.at_ns <= end]
    first, last = inside[0], inside[-1]
    records = sum(one.count for one in appended if first.at_ns <= one.sent_ns <= last.at_ns)
    worker_s, session_s = last.worker_s - first.worker_s, last.session_s - first.session_s
    return 1e6 * worker_s / records, 1e6 * session_s / records


# --- running -------------------------------------------------------------------------------------


def _run(servers: Servers, phases: list[Phase]) -> tuple[list[Appended], list[Heard], list[Spent]]:
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name:
        folder = Path(name)
        log = KafkaLog.open(servers.hosts, NAMESPACE, clock=lambda: 1)
        records = _records(sum(one.records for one in phases))
        task = Task(servers.hosts, NAMESPACE, phases, records)
        (folder / "task").write_bytes(msgspec.msgpack.encode(task))
        ends = {n: 1 + len(list(some)) for n, some in groupby(sorted(one[0] for one in records))}
        try:
            with _worker(servers, log, folder) as worker:
                return _feed(servers, log, folder, worker, ends)
        finally:
            log.close()


def _feed(
    servers: Servers, log: KafkaLog, folder: Path, worker: int, ends: dict[int, int]
) -> tuple[list[Appended], list[Heard], list[Spent]]:
    """Listen while another process appends, until the rows of all records are committed."""
    heard: list[Heard] = []
    spent: list[Spent] = []
    with contextlib.closing(postgres.connect(servers.store_url)) as connection:
        connection.execute(f'LISTEN "{log.place.schema}"'.encode())
        sessions = _sessions(connection)
        with (folder / "told").open("wb") as told:
            command = [sys.executable, "-m", "benchmarks.live_feeder", str(folder / "task")]
            feeder = subprocess.Popen(command, stdout=told, cwd=_CHECKOUT)
        missing = set(ends)
        deadline = time.monotonic() + _PATIENCE_S
        while missing or feeder.poll() is None:
            if time.monotonic() > deadline or feeder.poll() not in (None, 0):
                feeder.kill()
                raise RuntimeError(f"not all events were committed within {_PATIENCE_S} s")
            for notice in connection.notifies(timeout=_SAMPLE_S):
                news = decode_news(notice.payload)
                if news.topic == "events":
                    now_ns = time.monotonic_ns()
                    heard.append(Heard(now_ns, news.partition, news.next_offset))
                    if news.next_offset == ends[news.partition]:
                        missing.discard(news.partition)
            cpu_s = [_cpu_s(pid) for pid in (worker, *sessions)]
            spent.append(Spent(time.monotonic_ns(), cpu_s[0], sum(cpu_s[1:])))
    appended = msgspec.json.decode((folder / "told").read_bytes(), type=list[Appended])
    return appended, heard, spent


def _sessions(connection: postgres.Connection) -> list[int]:
    """Return the processes of Postgres that serve the worker."""
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return [pid for (pid,) in rows]


def _cpu_s(pid: int) -> float:
    """Return the CPU time that a process has taken, as Linux tells it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _worker(servers: Servers, log: KafkaLog, folder: Path) -> Iterator[int]:
    """Run `daybook worker`, and give its process id once it has projected what is there."""
    environ = {
        "DAYBOOK_HOME": str(folder),
        "DAYBOOK_LOG_URL": f"kafka://{log.place.hosts}/{log.place.namespace}",
        "DAYBOOK_STORE_URL": servers.store_url,
    }
    command = [sys.executable, "-m", "api.cli.main", "worker"]
    said = folder / "worker.log"
    with said.open("wb") as stream:
        worker = subprocess.Popen(
            command, env={**os.environ, **environ}, cwd=_CHECKOUT, stderr=stream
        )
    try:
        with contextlib.closing(
            ReadModels(servers.store_url, log.place.schema, log.log_id, PROJECTIONS)
        ) as models:
            missed = wait_for(models, {topic: log.heads(topic) for topic in TOPICS}, _PATIENCE_S)
        if missed or worker.poll() is not None:
            raise RuntimeError(f"the worker does not get going: {said.read_text()}")
        yield worker.pid
    finally:
        worker.terminate()
        worker.wait()


def _records(count: int) -> list[tuple[int, str, bytes]]:
    """Return the records of so many deals and of what they need, by the time they were recorded."""
    with fresh_home() as home, running(home.settings) as parts:
        path = home.folder / "deals.csv"
        write_deals(path, count, ACCOUNTS)
        import_deals(parts, path, count)
        told = [
            (decode(record).envelope.recorded_time, partition, record)
            for partition, head in enumerate(parts.log.heads("events"))
            for record in parts.log.read("events", partition, 1, head)
        ]
    told.sort(key=lambda one: one[:2])
    return [(partition, record.key or "", record.value) for _, partition, record in told[:count]]
