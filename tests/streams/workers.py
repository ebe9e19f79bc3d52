"""`daybook worker` as a process of its own, that tests may kill; and the books that it keeps."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import postgres
from projections.registry import PROJECTIONS
from streams.kafka_client import KafkaPlace
from streams.kafka_log import KafkaLog
from streams.read_models import ReadModels
from tests import waiting
from tests.servers import free_port
from tests.streams.kafka_homes import KafkaHome

PATIENCE_S = waiting.PATIENCE_S
_CHECKOUT = Path(__file__).parents[2]
_DAYBOOK = (sys.executable, "-m", "api.cli.main")


class WorkerProcess:
    """A worker that runs, its log in a file, its metrics on a port."""

    def __init__(self, place: KafkaPlace, store_url: str, folder: Path, name: str) -> None:
        self.log_file = folder / f"{name}.log"
        self.port = free_port()
        self._environ = {
            **os.environ,
            "DAYBOOK_HOME": str(folder / "home"),
            "DAYBOOK_LOG_URL": f"kafka://{place.hosts}/{place.namespace}",
            "DAYBOOK_STORE_URL": store_url,
        }
        command = [*_DAYBOOK, "worker", "--metrics", str(self.port)]
        with self.log_file.open("ab") as stream:
            self.process = subprocess.Popen(
                command, env=self._environ, cwd=_CHECKOUT, stdout=stream, stderr=stream
            )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command with the same settings."""
        return subprocess.run(
            [*_DAYBOOK, *arguments],
            env=self._environ,
            cwd=_CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        told = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in told if line.startswith("{")]

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines() if line["event"] == event]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over what the labels leave open; 0 where it is not told (yet)."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
                body = answer.read().decode()
        except urllib.error.URLError:
            return 0.0
        told = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", body, re.MULTILINE)
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for had, value in told if all(one in had for one in wanted))

    def terminate(self) -> None:
        """End it by SIGTERM, which it must take well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log_file.read_text()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def worker(
    place: KafkaPlace, store_url: str, folder: Path, name: str = "worker"
) -> Iterator[WorkerProcess]:
    """A worker for the length of a block."""
    running = WorkerProcess(place, store_url, folder, name)
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
def log(home: KafkaHome) -> Iterator[KafkaLog]:
    """A fresh log, older than any history."""
    opened = home.open(clock=lambda: 1)
    yield opened
    opened.close()


@pytest.fixture
def models(log: KafkaLog, dsn: str) -> Iterator[ReadModels]:
    """The read models of the log; no trace of them is left."""
    with books(log, dsn) as opened:
        yield opened
    connection = postgres.connect(dsn)
    connection.execute(f"DROP SCHEMA {log.place.schema} CASCADE".encode())
    connection.close()


@contextlib.contextmanager
def books(log: KafkaLog, store_url: str) -> Iterator[ReadModels]:
    """The read models that a log's workers keep."""
    opened = ReadModels(store_url, log.place.schema, log.log_id, PROJECTIONS)
    try:
        yield opened
    finally:
        opened.close()


def until(holds: Callable[[], bool], running: WorkerProcess | None = None) -> None:
    """Wait until something holds: fail after two minutes, or when the worker has ended."""

    def told() -> str:
        return "" if running is None else running.log_file.read_text()

    def is_met() -> bool:
        if holds():
            return True
        assert running is None or running.process.poll() is None, f"the worker ended: {told()}"
        return False

    waiting.until(is_met, told)
