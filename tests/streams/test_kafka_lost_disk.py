"""One of three brokers loses its disk: the others hold what was acknowledged, and give it back."""

import os
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.servers import processes
from infra.servers.native import look_at_servers, start_servers, stop_servers
from infra.servers.server import ProgramsMissing
from streams.kafka_log import KafkaLog
from streams.log import Draft
from tests import servers
from tests.streams.kafka_homes import KafkaHome, close_logs, new_home
from tests.streams.log_contract import whole
from tests.waiting import until

_PATIENCE_S = 120  # as long as a broker may take to be missed


class Brokers:
    """Three brokers of a home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def start(self) -> None:
        """Start those that do not run; returns when all of them serve."""
        start_servers(self._home, brokers=3, parts=["kafka"], say=lambda _: None)

    def kill(self, name: str) -> Path:
        """End one without a word; returns its folder."""
        folder = self._home / "servers" / name
        process = processes.running(folder)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: processes.running(folder) is None)
        return folder

    def hosts(self) -> str:
        url = look_at_servers(self._home).urls["DAYBOOK_LOG_URL"]
        return url.removeprefix("kafka://").partition("/")[0]


@pytest.fixture
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Brokers]:
    """Three native brokers for one test."""
    try:
        servers.lend_jars(tmp_path, request.config.cache.mkdir("kafka"))
        made = Brokers(tmp_path)
        made.start()
        yield made
    except ProgramsMissing as error:
        pytest.skip(str(error))
    finally:
        stop_servers(tmp_path, say=lambda _: None)


@pytest.fixture
def home(brokers: Brokers) -> Iterator[KafkaHome]:
    """A namespace of the three."""
    fresh = new_home(brokers.hosts())
    yield fresh
    close_logs(fresh)


def append(log: KafkaLog, told: list[bytes], more: int) -> None:
    """Append to both partitions of events, and note what was acknowledged."""
    for _ in range(more):
        value = b"%d" % len(told)
        for partition in range(2):
            log.append("events", partition, [Draft("A", value)])
        told.append(value)


def copies(home: KafkaHome) -> list[int]:
    """How many brokers hold all of each partition of events."""

    async def ask(admin: AIOKafkaAdminClient) -> list[int]:
        (topic,) = await admin.describe_topics([home.topic()])
        return [len(one["isr"]) for one in topic["partitions"]]

    return home.administer(ask)


@pytest.mark.timeout(900)
def test_a_broker_that_lost_its_disk_comes_back_and_nothing_is_lost(
    brokers: Brokers, home: KafkaHome
) -> None:
    told: list[bytes] = []
    log = home.open(timeout_s=_PATIENCE_S)
    append(log, told, 20)
    shutil.rmtree(brokers.kill("kafka-2") / "data")
    append(log, told, 20)
    brokers.start()
    append(log, told, 20)
    until(lambda: copies(home) == [3, 3], partial(copies, home))
    # Two must hold what is acknowledged: from here on one of them is the one that lost its disk.
    brokers.kill("kafka-1")
    append(log, told, 20)
    for opened in (log, home.open(timeout_s=_PATIENCE_S)):
        for partition in range(2):
            records = whole(opened, partition)[1:]
            assert [one.value for one in records] == told
            assert [one.offset for one in records] == list(range(1, len(told) + 1))
