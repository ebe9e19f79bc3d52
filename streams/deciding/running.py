"""Running a decider in a process of its own, from the settings to the signal that ends it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry

from infra.garbage import search_cycles_seldom
from infra.telemetry import new_registry, start_metrics_server
from streams.deciding.index import IndexDamaged, RocksStore
from streams.deciding.metrics import DeciderMetrics
from streams.deciding.service import Decider, LogPlace
from streams.deciding.slots import Slot
from streams.kafka_log import KafkaLog

_log = logging.getLogger(__name__)


def decide_until_told(url: str, home: Path, metrics_port: int | None, metrics_host: str) -> None:
    """Decide until SIGTERM or SIGINT, then hand over.

    Raises ServerUnavailable, LogError or TopicsRefused when the log cannot be had.
    """
    log = KafkaLog.open(url)
    place = LogPlace(log.place, log.log_id, log.partitions)
    log.close()
    slot = Slot.take(home)
    registry = new_registry()
    name = f"{socket.gethostname()}/{os.getpid()}/{slot.folder.name}"
    with contextlib.ExitStack() as stack:
        stack.callback(slot.close)
        if metrics_port is not None:
            server = start_metrics_server(metrics_port, registry, metrics_host)
            stack.callback(server.close)
        search_cycles_seldom()
        uvloop.run(_decide(place, slot.folder / place.log_id, name, registry))


async def _decide(place: LogPlace, folder: Path, name: str, registry: CollectorRegistry) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stopping.set)
    metrics = DeciderMetrics(registry)
    while not stopping.is_set():
        store = RocksStore.open(folder)
        try:
            _log.info("deciding", extra={"log": place.place.namespace, "owner": name})
            await Decider(place, store, name, metrics).run(stopping)
        except IndexDamaged as damaged:
            _log.error("the index is made again: %s", damaged)
            store.destroy()
        else:
            store.close()
    _log.info("handed over")
