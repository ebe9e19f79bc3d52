"""The worker process: projects what the deciders write, until it is told to end."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

import uvloop

from infra.embedded import embedded_server
from infra.errors import SettingsError
from infra.garbage import search_cycles_seldom
from infra.settings import Settings, load_settings
from infra.telemetry import new_registry, start_logging, start_metrics_server
from projections.registry import PROJECTIONS
from streams.hot_copy import CopiedReadModels, HotCopy, Renewing, generations
from streams.kafka_log import KafkaLog
from streams.read_models import ReadModels
from streams.rebuilding import open_read_models
from streams.working.consuming import quieten_libraries
from streams.working.metrics import WorkerMetrics
from streams.working.worker import Worker

_PATIENCE_S: Final = 1.0
"""After this long an ending is cut short: where it stands is in Postgres, not in the process."""
_LOG_TIMEOUT_S: Final = 10.0
_TURN_S: Final = 0.0005
"""For how long one thread keeps the others waiting: a record passes through three of them."""


def run_worker(home: Path | None, metrics_port: int | None, metrics_host: str) -> int:
    """Project until SIGTERM or SIGINT; raises what is not available at the start."""
    settings = load_settings(home)
    if settings.log_url.scheme != "kafka":
        expected = "kafka://HOST:PORT[,HOST:PORT...]/NAMESPACE: in Postgres, who asks projects"
        raise SettingsError("log_url", str(settings.log_url), expected)
    start_logging(level=settings.log_level)
    quieten_libraries()
    registry = new_registry()
    with contextlib.ExitStack() as stack:
        if metrics_port is not None:
            server = start_metrics_server(metrics_port, registry, metrics_host)
            stack.callback(server.close)
        log = KafkaLog.open(settings.log_url.text, timeout_s=_LOG_TIMEOUT_S)
        stack.callback(log.close)
        models = _models(settings, log, stack)
        search_cycles_seldom()
        sys.setswitchinterval(_TURN_S)
        # Also of the thread in which Faust reads: it makes a loop of its own.
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        asyncio.run(_until_told(Worker(log, models, WorkerMetrics(registry))))
    return 0


async def _until_told(worker: Worker) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        stopping.set()
        cut_short = threading.Timer(_PATIENCE_S, os._exit, (0,))
        cut_short.daemon = True
        cut_short.start()

    for ending in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(ending, stop)
    await worker.run(stopping)


def _models(settings: Settings, log: KafkaLog, stack: contextlib.ExitStack) -> ReadModels:
    """Return the read models, with a hot copy where there is a Redis."""
    dsn, schema = _store_dsn(settings, stack), log.place.schema
    models = open_read_models(log, dsn, schema, PROJECTIONS, CopiedReadModels)
    stack.callback(models.close)
    if settings.cache_url.scheme.startswith("redis"):
        ours = generations(log.log_id, PROJECTIONS)
        copy = HotCopy.open(settings.cache_url.text, log.place.namespace, ours, log.partitions)
        stack.callback(copy.close)
        stack.callback(Renewing(copy, dsn, schema).close)
        models.copy = copy
    return models


def _store_dsn(settings: Settings, stack: contextlib.ExitStack) -> str:
    if settings.store_url.scheme == "embedded":
        return stack.enter_context(embedded_server(settings.home))
    return settings.store_url.text
