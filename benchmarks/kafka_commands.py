"""Commands decided, durable in Kafka and acknowledged: how long it takes, and how many a second.

One native broker, one decider in a process of its own, asked from here. Beside it a bare client of
aiokafka sends as many bytes to the same broker and reads them back: no command is decoded, decided,
hashed or looked up there, and nobody is answered.

A broker that has just begun compiles its own code for most of its first half minute, on the same
cores. So each side first works at the same pace, turn after turn, until a turn is hardly faster
than the one before. What is asked in those turns is not counted.
"""

import asyncio
import itertools
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final

from aiokafka import (  # type: ignore[import-untyped]
    AIOKafkaConsumer,
    AIOKafkaProducer,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from msgspec import Struct

from benchmarks.rows import Row
from domain import commands
from domain.commands import Command, Request
from domain.times import Day, Instant, from_ns, to_ns
from infra.servers.native import look_at_servers, start_servers, stop_servers
from streams.answers import Answer
from streams.deciding.front import KafkaLedger
from streams.kafka_log import KafkaLog

RATE: Final = 500
SECONDS: Final = {False: 6, True: 20}
BULK: Final = {False: 20_000, True: 100_000}
_ACCOUNTS: Final = 20
_INSTRUMENTS: Final = 100
_DEALT_NS: Final = to_ns(Instant("2024-01-02T15:00:00.000000000Z"))
_NAMESPACE: Final = "bench"
_DAYBOOK: Final = Path(sys.executable).with_name("daybook")
_TURNS: Final = 3
_PERCENT: Final = 99
_BARE_VALUE: Final = b"x" * 800
_WARM_S: Final = 5
_WARM_TURNS: Final = {False: 4, True: 12}
"""How many turns there are at most before what counts."""
_STILL_FASTER: Final = 0.9


class Figures(Struct, frozen=True):
    """Latencies in milliseconds, and a rate a second."""

    p50_ms: float
    p99_ms: float
    rate: float


def main(*, full: bool = False) -> list[Row]:
    """Measure on a fresh broker; the bare client takes its turn first."""
    with _broker() as (hosts, folder):
        bare = asyncio.run(_bare(hosts, _WARM_TURNS[full], SECONDS[full] * RATE, BULK[full]))
        log = KafkaLog.open(hosts, _NAMESPACE, partitions=4)
        ledger = KafkaLedger(log)
        decider = _Decider(hosts, folder)
        try:
            ours = _decided(ledger, _WARM_TURNS[full], SECONDS[full] * RATE, BULK[full])
            handed_over, failed_over = _replaced(hosts, folder, ledger, decider)
        finally:
            decider.end()
            ledger.close()
            log.close()
    beside = "aiokafka alone: sent with acks=all and read back"
    return [
        _row(f"command acknowledged at {RATE}/s, p50", "ms", ours.p50_ms, beside, bare.p50_ms, 3),
        _row(f"command acknowledged at {RATE}/s, p99", "ms", ours.p99_ms, beside, bare.p99_ms, 10),
        _row("commands in bulk, one owner", "commands/s", ours.rate, beside, bare.rate, 20_000),
        _row("hand-over on SIGTERM: longest wait for an answer", "s", handed_over, target=1),
        _row("fail-over on SIGKILL: longest wait for an answer", "s", failed_over, target=3),
    ]


def _row(
    what: str,
    unit: str,
    ours: float,
    beside: str = "",
    other: float | None = None,
    target: float | None = None,
) -> Row:
    return Row(what=what, unit=unit, ours=ours, beside=beside, other=other, target=target)


@contextmanager
def _broker() -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(prefix="daybook-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        try:
            start_servers(folder, parts=["kafka"], say=lambda _: None)
            (url,) = look_at_servers(folder).urls.values()
            yield url.removeprefix("kafka://").partition("/")[0], folder
        finally:
            stop_servers(folder, say=lambda _: None)


class _Decider:
    """`daybook decider` in a process of its own."""

    def __init__(self, hosts: str, folder: Path) -> None:
        told = {"DAYBOOK_HOME": str(folder), "DAYBOOK_LOG_URL": f"kafka://{hosts}/{_NAMESPACE}"}
        self._said = folder / f"decider-{time.monotonic_ns()}.log"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [_DAYBOOK, "decider"], env={**os.environ, **told}, stderr=said
            )
        while "assigned partitions" not in self._said.read_text():
            if self.process.poll() is not None:
                raise RuntimeError(self._said.read_text())
            time.sleep(0.02)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


# --- ours ---------------------------------------------------------------------------------------


def _openings() -> list[Request]:
    opening, definition = (
        commands.OpenAccount(base_currency="USD"),
        commands.DefineInstrument(currency="USD"),
    )
    opened: list[tuple[str, Command]] = [(f"A{n}", opening) for n in range(_ACCOUNTS)]
    defined: list[tuple[str, Command]] = [(f"I{n}", definition) for n in range(_INSTRUMENTS)]
    return [
        Request(command_id=f"first-{key}", key=key, event_time=from_ns(_DEALT_NS), command=command)
        for key, command in [*opened, *defined]
    ]


def _deal(number: int) -> Request:
    return Request(
        command_id=f"deal-{number}",
        key=f"A{number % _ACCOUNTS}",
        event_time=from_ns(_DEALT_NS + number * 1_000_000),
        command=commands.RecordDeal(
            deal_id=f"D{number}",
            instrument=f"I{number * 7 % _INSTRUMENTS}",
            side="sell" if number % 3 == 0 else "buy",
            quantity=Decimal(number % 90 + 1),
            price=Decimal(10_000 + number % 500).scaleb(-2),
            currency="USD",
            settlement_date=Day("2024-01-04"),
        ),
    )


def _decided(ledger: KafkaLedger, warm_turns: int, paced: int, bulk: int) -> Figures:
    ledger.submit(_openings())
    numbers = itertools.count()
    warming = _Warming(warm_turns)
    while warming.goes_on:
        warming.note(_paced(ledger, numbers, _WARM_S * RATE))
    waits_ms = _paced(ledger, numbers, paced)
    rates = []
    for _ in range(_TURNS):
        deals = [_deal(number) for number in itertools.islice(numbers, bulk)]
        begin = time.perf_counter()
        answers = ledger.submit(deals)
        rates.append(bulk / (time.perf_counter() - begin))
        assert all(answer.status == "accepted" for answer in answers)
    return Figures(*_percentiles(waits_ms), statistics.median(rates))


def _paced(ledger: KafkaLedger, numbers: Iterator[int], count: int) -> list[float]:
    """Ask at the rate, and return how long each answer was waited for, in milliseconds."""
    waits_ms: list[float] = []
    asked: list[Future[Answer]] = []
    begin = time.perf_counter()
    for index, number in enumerate(itertools.islice(numbers, count)):
        due = begin + index / RATE
        if (early := due - time.perf_counter()) > 0:
            time.sleep(early)
        future = ledger.submit_soon(_deal(number))
        future.add_done_callback(partial(_note_wait, waits_ms, due))
        asked.append(future)
    for future in asked:
        future.result()
    return waits_ms


class _Warming:
    """Tells whether a side still gets faster."""

    def __init__(self, turns: int) -> None:
        self._rest = turns
        self._last_ms = float("inf")
        self.goes_on = turns > 0

    def note(self, waits_ms: Sequence[float]) -> None:
        """Take a turn."""
        median_ms = statistics.median(waits_ms)
        self._rest -= 1
        self.goes_on = self._rest > 0 and median_ms < _STILL_FASTER * self._last_ms
        self._last_ms = median_ms


def _note_wait(waits_ms: list[float], due: float, _: Future[Answer]) -> None:
    waits_ms.append(_since_ms(due))


def _since_ms(due: float) -> float:
    return (time.perf_counter() - due) * 1000


def _percentiles(waits_ms: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(waits_ms)
    return ordered[len(ordered) // 2], ordered[len(ordered) * _PERCENT // 100]


def _replaced(
    hosts: str, folder: Path, ledger: KafkaLedger, first: _Decider
) -> tuple[float, float]:
    """Return how long answers were waited for when a decider handed over, and when one died."""
    waits = []
    numbers = iter(range(10_000_000, 20_000_000))
    for ending in (signal.SIGTERM, signal.SIGKILL):
        second = _Decider(hosts, folder)
        _longest_wait(ledger, numbers, 2.0)
        first.process.send_signal(ending)
        waits.append(_longest_wait(ledger, numbers, 5.0))
        first.process.wait()
        first = second
    first.end()
    return waits[0], waits[1]


def _longest_wait(ledger: KafkaLedger, numbers: Iterator[int], seconds: float) -> float:
    longest, end = 0.0, time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        # One for each account: every partition is asked.
        ledger.submit([_deal(next(numbers)) for _ in range(_ACCOUNTS)])
        longest = max(longest, time.perf_counter() - begin)
    return longest


# --- the bare client ----------------------------------------------------------------------------


async def _bare(hosts: str, warm_turns: int, paced: int, bulk: int) -> Figures:
    at = TopicPartition("bare", 0)
    producer = AIOKafkaProducer(
        bootstrap_servers=hosts, acks="all", enable_idempotence=True, linger_ms=0
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=hosts)
    await _make_topic(hosts, at.topic)
    await producer.start()
    await consumer.start()
    try:
        consumer.assign([at])
        await consumer.seek_to_end(at)
        warming = _Warming(warm_turns)
        while warming.goes_on:
            warming.note(await _bare_paced(producer, consumer, at, _WARM_S * RATE))
        waits_ms = await _bare_paced(producer, consumer, at, paced)
        begin = time.perf_counter()
        reading = asyncio.create_task(_read_back(consumer, bulk, None, []))
        for _ in range(bulk):
            await producer.send(at.topic, _BARE_VALUE, partition=at.partition)
        await reading
        rate = bulk / (time.perf_counter() - begin)
    finally:
        await producer.stop()
        await consumer.stop()
    return Figures(*_percentiles(waits_ms), rate)


async def _bare_paced(
    producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, at: TopicPartition, count: int
) -> list[float]:
    sent_at: list[float] = []
    waits_ms: list[float] = []
    reading = asyncio.create_task(_read_back(consumer, count, sent_at, waits_ms))
    begin = time.perf_counter()
    for index in range(count):
        due = begin + index / RATE
        await asyncio.sleep(max(0, due - time.perf_counter()))
        sent_at.append(due)
        await producer.send(at.topic, _BARE_VALUE, partition=at.partition)
    await reading
    return waits_ms


async def _make_topic(hosts: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=hosts)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    finally:
        await admin.close()


async def _read_back(
    consumer: AIOKafkaConsumer, count: int, sent_at: list[float] | None, waits_ms: list[float]
) -> None:
    read = 0
    while read < count:
        for records in (await consumer.getmany(timeout_ms=1000)).values():
            for _ in records:
                if sent_at is not None:
                    waits_ms.append(_since_ms(sent_at[read]))
                read += 1
