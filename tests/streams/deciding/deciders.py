"""Deciders for tests: in a thread of this process, or in a process of their own to be killed."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from schemas import codec
from schemas.envelope import Envelope
from streams.deciding.index import RocksStore, Store
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.service import Decider, LogPlace
from streams.kafka_log import KafkaLog
from streams.log import TOPICS, Log
from streams.reader import fresh_state, read_valid
from tests.streams.kafka_homes import KafkaHome
from tests.waiting import until as wait_for

DAYBOOK = Path(sys.executable).with_name("daybook")


class ThreadDecider:
    """A decider in a thread. `stop` hands over as SIGTERM does.

    Where it is given no index, it has one that it throws away.
    """

    def __init__(
        self, log: KafkaLog, name: str = "tester", store: Store | None = None, **options: Any
    ) -> None:
        self.registry = CollectorRegistry()
        self.decider: Decider | None = None
        self.error: BaseException | None = None
        self._place = LogPlace(log.place, log.log_id, log.partitions)
        self._name = name
        self._store = store
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            try:
                asyncio.run(self._decide(self._store or stack.enter_context(_index())))
            except BaseException as error:
                self.error = error

    async def _decide(self, store: Store) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        metrics = DeciderMetrics(self.registry)
        self.decider = Decider(self._place, store, self._name, metrics, **self._options)
        await self.decider.run(self._stopping)

    def owned(self) -> set[int]:
        """The partitions of which it owns all three logs, by what it has read."""
        if self.decider is None:
            return set()
        return {
            number
            for number, owned in list(self.decider.owned.items())
            if all(lane.owns for lane in owned.lanes.values())
        }

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric, 0 where it was never touched."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def wait(self) -> None:
        """Wait until it has ended by itself, and raise what it ended with."""
        self._thread.join()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """Hand over, and raise what went wrong."""
        wait_for(lambda: self._stopping is not None or self.error is not None)
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self.wait()


@contextlib.contextmanager
def _index() -> Iterator[RocksStore]:
    with tempfile.TemporaryDirectory() as folder:
        store = RocksStore.open(Path(folder, "index"))
        try:
            yield store
        finally:
            store.close()


@contextlib.contextmanager
def deciding(log: KafkaLog, name: str = "tester", **told: Any) -> Iterator[ThreadDecider]:
    """A decider in a thread for the length of a block."""
    running = ThreadDecider(log, name, **told)
    try:
        yield running
    finally:
        running.stop()


class ProcessDecider:
    """`daybook decider`, to be sent signals."""

    def __init__(self, home: KafkaHome, folder: Path) -> None:
        kept = {name: text for name, text in os.environ.items() if not name.startswith("DAYBOOK_")}
        told = {
            "DAYBOOK_HOME": str(folder),
            "DAYBOOK_LOG_URL": f"kafka://{home.hosts}/{home.namespace}",
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.said = folder / f"said-{time.monotonic_ns()}"
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [DAYBOOK, "decider"],
                env={**kept, **told},
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=said,
            )

    def has_partitions(self) -> bool:
        """Tell whether the group has given it partitions."""
        assert self.process.poll() is None, self.said.read_text()
        return "assigned partitions" in self.said.read_text()

    def end(self) -> None:
        """End it, however it stands."""
        self.process.kill()
        self.process.wait()


def events_of(log: Log) -> dict[str, list[Envelope]]:
    """Return the valid events of all logs by topic and stream: `events/A1`."""
    found: dict[str, list[Envelope]] = {}
    for topic in TOPICS:
        for partition in range(log.partitions):
            state = fresh_state(log, topic, partition)
            while not (batch := read_valid(log, topic, partition, state, 1000)).is_empty:
                for one in batch.records:
                    if one.envelope.stream is not None:
                        found.setdefault(f"{topic}/{one.envelope.stream}", []).append(one.envelope)
    return found


def told(envelope: Envelope) -> dict[str, object]:
    """Return what two back ends must agree on: no ids made here, times recorded, terms, hashes."""
    data = bytes(envelope.data)
    if envelope.type == "CommandRefused":
        event = codec.event_of(envelope)
        numbers = {name: one for name, one in event.numbers.items() if name != "first_offset"}
        data = repr((event.reason, event.command_type, event.asked, numbers)).encode()
    return {
        "type": envelope.type,
        "seq": envelope.seq,
        "event_time": envelope.event_time,
        "command_id": envelope.command_id,
        "command_hash": envelope.command_hash,
        "actor": envelope.actor,
        "source": envelope.source,
        "flags": envelope.flags,
        "reads": sorted(envelope.basis),
        "data": data,
    }


__all__ = [
    "ProcessDecider",
    "RocksStore",
    "ThreadDecider",
    "deciding",
    "events_of",
    "told",
    "wait_for",
]
