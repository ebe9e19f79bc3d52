"""Servers that go away under a worker: it waits and says so, loses nothing, doubles nothing."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import postgres
from infra.servers import processes
from infra.servers.native import start_servers
from infra.settings import redacted
from streams.kafka_log import KafkaLog
from streams.log import TOPICS
from streams.verifying import verify
from streams.working.waiting import wait_for
from tests import servers
from tests.streams.kafka_history import History, Told, history, tell
from tests.streams.kafka_homes import new_home
from tests.streams.read_rows import all_rows
from tests.streams.workers import PATIENCE_S, WorkerProcess, books, until, worker

__all__ = ["history"]

RECORDS = "daybook_records_projected_total"
FULL_DISK = """
CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
CREATE TRIGGER full_disk BEFORE UPDATE ON projection_checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION full_disk()
"""
AWAY, BACK = "a server is away: waiting for it", "the servers are back"


class OwnServer:
    """A server that a test may kill."""

    def __init__(self, part: str, name: str, url: str, home: Path) -> None:
        self.url = url
        self._part = part
        self._folder = home / "servers" / name
        self._home = home

    def send(self, number: signal.Signals) -> None:
        process = processes.running(self._folder)
        assert process is not None
        os.kill(process.pid, number)

    def stop(self, number: signal.Signals) -> None:
        self.send(number)
        until(lambda: processes.running(self._folder) is None)

    def start_again(self) -> None:
        start_servers(self._home, parts=[self._part], say=lambda _: None)


@pytest.fixture(scope="module")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    """A native broker for this module alone."""
    home, kept = tmp_path_factory.mktemp("broker"), request.config.cache.mkdir("kafka")
    with servers.native("kafka", home, kept) as url:
        yield OwnServer("kafka", "kafka-1", url, home)


@pytest.fixture(scope="module")
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnServer]:
    """A native PostgreSQL for this module alone."""
    home, kept = tmp_path_factory.mktemp("store"), request.config.cache.mkdir("postgres")
    with servers.native("postgres", home, kept) as url:
        yield OwnServer("postgres", "postgres", url, home)


@pytest.fixture
def log(broker: OwnServer) -> Iterator[KafkaLog]:
    """A fresh log, older than any history."""
    home = new_home(broker.url.removeprefix("kafka://").partition("/")[0])
    opened = home.open(clock=lambda: 1)
    yield opened
    opened.close()


def parts(told: list[Told], count: int) -> Iterator[list[Told]]:
    """Cut a history into parts, to be told one after the other."""
    size = -(-len(told) // count)
    return (told[start : start + size] for start in range(0, len(told), size))


def check_books(log: KafkaLog, store: OwnServer, running: WorkerProcess, told: History) -> None:
    """Wait until all is projected, and compare it with an embedded ledger's books."""
    heads = {topic: log.heads(topic) for topic in TOPICS}
    with books(log, store.url) as models:
        assert wait_for(models, heads, PATIENCE_S) == [], running.log_file.read_text()
        assert all_rows(models) == told.rows
        assert verify(log, models).differences == []


def test_postgres_that_restarts_crashes_refuses_writes_and_is_full_is_waited_for(
    history: History, log: KafkaLog, store: OwnServer, tmp_path: Path
) -> None:
    with worker(log.place, store.url, tmp_path) as running:
        later = parts(history.told, 5)
        tell(log, next(later))
        until(lambda: running.metric(RECORDS) > 0, running)
        for ending in (signal.SIGINT, signal.SIGQUIT):
            store.stop(ending)
            tell(log, next(later))
            until(lambda: is_waiting(running), running)
            assert running.metric("daybook_waiting_for_servers") == 1
            store.start_again()
            until(lambda: not is_waiting(running), running)
        _refuse_writes(store, "on")
        tell(log, next(later))
        until(lambda: "read-only" in running.said(AWAY)[-1]["reason"], running)
        _refuse_writes(store, "off")
        until(lambda: not is_waiting(running), running)
        _execute(log, store, FULL_DISK)
        tell(log, next(later))
        until(lambda: "no space left" in running.said(AWAY)[-1]["reason"], running)
        _execute(log, store, "DROP TRIGGER full_disk ON projection_checkpoints")
        check_books(log, store, running, history)
        until(lambda: running.metric("daybook_waiting_for_servers") == 0, running)
        assert redacted(store.url) != store.url
        assert store.url.split(":")[2].split("@")[0] not in running.log_file.read_text()


def is_waiting(running: WorkerProcess) -> bool:
    """Tell which it has said last: that a server is away, or that all are back."""
    said = [line["event"] for line in running.lines() if line["event"] in (AWAY, BACK)]
    return said[-1:] == [AWAY]


def _refuse_writes(store: OwnServer, value: str) -> None:
    connection = postgres.connect(store.url)
    connection.execute("SET default_transaction_read_only = off")
    connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
    connection.execute("SELECT pg_reload_conf()")
    connection.close()


def _execute(log: KafkaLog, store: OwnServer, statements: str) -> None:
    connection = postgres.connect(store.url, schema=log.place.schema)
    connection.execute(statements.encode())
    connection.close()


def test_a_broker_that_crashes_or_stands_still_is_waited_for(
    history: History, broker: OwnServer, log: KafkaLog, store: OwnServer, tmp_path: Path
) -> None:
    first, second = parts(history.told, 2)
    with worker(log.place, store.url, tmp_path) as running:
        tell(log, first)
        until(lambda: running.metric(RECORDS) > 0, running)
        broker.stop(signal.SIGKILL)
        until(lambda: is_waiting(running), running)
        broker.start_again()
        until(lambda: not is_waiting(running), running)
        tell(log, second)
        check_books(log, store, running, history)
        broker.send(signal.SIGSTOP)
        try:
            until(lambda: is_waiting(running), running)
            running.terminate()
        finally:
            broker.send(signal.SIGCONT)
