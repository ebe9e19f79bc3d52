"""Owners of one partition on a real broker, and a broker that dies or stands still under them."""

import contextlib
import gc
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection

from domain.commands import OpenAccount, Request
from domain.times import from_ns
from infra.errors import ServerUnavailable
from infra.servers import processes
from infra.servers.native import start_servers
from schemas.envelope import Record, Recorded
from schemas.validity import Void
from streams.deciding import front
from streams.deciding.front import KafkaLedger
from streams.kafka_log import KafkaLog
from streams.kafka_writing import AppendUnknown
from streams.log import Draft, LogError, LogHalted
from tests import servers
from tests.beside import beside
from tests.streams.kafka_homes import KafkaHome, close_logs, home, new_home
from tests.streams.log_contract import whole
from tests.streams.owner import Deposed
from tests.streams.test_kafka_bad_records import PARTITION, Follower, cash, read_all
from tests.waiting import until

__all__ = ["home"]


@pytest.fixture
def log(home: KafkaHome) -> Iterator[KafkaLog]:
    opened = home.open()
    yield opened
    opened.close()


def test_an_owner_writes_what_counts(log: KafkaLog) -> None:
    follower = Follower(log)
    assert follower.owner.term is None
    assert follower.owner.take() == 1
    follower.owner.write([cash("1"), cash("2", account="C"), cash("3")])
    follower.owner.write([cash("4")])
    assert read_all(log) == (["1", "2", "3", "4"], [])
    assert [told.offset for told in follower.learnt] == list(range(6))


def test_the_last_to_claim_owns_and_the_other_stands_down(home: KafkaHome, log: KafkaLog) -> None:
    other_log = home.open()
    first, second = Follower(log, "first"), Follower(other_log, "second")
    assert first.owner.take() == 1
    first.owner.write([cash("1")])
    assert second.owner.take() == 2
    with pytest.raises(Deposed):
        first.owner.write([cash("lost")])
    assert first.owner.term is None
    with pytest.raises(LogError, match="owner writes"):
        first.owner.write([cash("not even tried")])
    second.owner.write([cash("2")])
    assert first.owner.take() == 3
    first.owner.write([cash("3")])
    with pytest.raises(Deposed):
        second.owner.follow()
    other_log.close()
    ids, voids = read_all(log)
    assert ids == ["1", "2", "3"]
    assert [void.reason for void in voids] == ["term 1, where 2 is the partition's"]


class Fighter:
    """Takes the partition whenever it has lost it, and writes the numbers not there yet."""

    def __init__(self, log: KafkaLog, name: str) -> None:
        self.acknowledged: set[tuple[int, str]] = set()
        self.deposed = 0
        self._follower = Follower(log, name)
        self._rng = random.Random(name)

    def fight(self, over: threading.Event) -> None:
        """Fight until it is over, whatever a busy broker answers: `take` finds out what landed."""
        while not over.is_set():
            try:
                self._follower.owner.take()
                while not over.is_set():
                    self._write()
            except LogHalted:
                raise
            except (ServerUnavailable, LogError) as error:
                self.deposed += isinstance(error, Deposed)
                time.sleep(self._rng.uniform(0, 0.1))

    def has_fought(self) -> bool:
        return self.deposed >= 3 and len(self.acknowledged) >= 20

    def _write(self) -> None:
        learnt = self._follower.learnt
        first, before = len(events_in(learnt)), len(learnt)
        names = [f"n{number}" for number in range(first, first + 4)]
        self._follower.owner.write([cash(name) for name in names])
        acknowledged = events_in(learnt[before:])
        assert [name for _, name in acknowledged] == names
        self.acknowledged.update(acknowledged)


def events_in(learnt: Sequence[Recorded | Void]) -> list[tuple[int, str]]:
    """Return offset and id of the events that count."""
    return [
        (one.offset, one.envelope.id)
        for one in learnt
        if isinstance(one, Recorded) and one.envelope.seq
    ]


def test_owners_that_fight_lose_nothing_and_double_nothing(home: KafkaHome) -> None:
    fighters = [Fighter(home.open(), f"owner-{number}") for number in range(2)]
    over = threading.Event()
    with beside(*(partial(one.fight, over) for one in fighters), over=over):
        until(lambda: all(one.has_fought() for one in fighters))
    reader = Follower(home.open(), "reader")
    reader.owner.follow()
    found = events_in(reader.learnt)
    assert [name for _, name in found] == [f"n{number}" for number in range(len(found))]
    for one in fighters:
        assert one.acknowledged <= set(found)
    assert any(isinstance(one, Void) for one in reader.learnt)


class OwnBroker:
    """A broker that a test may kill."""

    def __init__(self, hosts: str, home: Path) -> None:
        self.hosts = hosts
        self.home = home

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that stops it has stopped all of its threads on return."""
        process = processes.running(self.home / "servers" / "kafka-1")
        assert process is not None
        os.kill(process.pid, number)
        if number == signal.SIGSTOP:
            until(lambda: _stands_still(process.pid))

    def start_again(self) -> None:
        start_servers(self.home, parts=["kafka"], say=lambda _: None)


@pytest.fixture(scope="module")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnBroker]:
    """A native broker for this module alone."""
    home = tmp_path_factory.mktemp("broker")
    with servers.native("kafka", home, request.config.cache.mkdir("kafka")) as url:
        yield OwnBroker(url.removeprefix("kafka://").partition("/")[0], home)


@pytest.fixture
def own_home(broker: OwnBroker) -> Iterator[KafkaHome]:
    """A namespace of the broker that may be killed."""
    fresh = new_home(broker.hosts)
    yield fresh
    close_logs(fresh)


@contextlib.contextmanager
def standing_still(broker: OwnBroker, log: KafkaLog) -> Iterator[None]:
    """Have the broker stand still, and the log's patience end after a second for so long.

    Before and after, on a busy machine, an answer may take longer than that.
    """
    patience_s, broken = 1.0, (log, log._reading, log._writing)
    usual_s = [part._timeout_s for part in broken]
    broker.signal(signal.SIGSTOP)
    try:
        for part in broken:
            part._timeout_s = patience_s
        yield
    finally:
        for part, seconds in zip(broken, usual_s, strict=True):
            part._timeout_s = seconds
        broker.signal(signal.SIGCONT)


def test_a_broker_killed_under_appends_loses_nothing_acknowledged(
    broker: OwnBroker, own_home: KafkaHome
) -> None:
    log = own_home.open(timeout_s=120)  # as long as a broker may take to come back
    acknowledged: list[int] = []
    stopping = threading.Event()

    def write() -> None:
        number = 0
        while not stopping.is_set():
            value = b"%d" % number
            acknowledged.append(log.append("events", 0, [Draft("A", value)] * 3))
            number += 1

    with beside(write, over=stopping):
        until(lambda: len(acknowledged) > 20)
        broker.signal(signal.SIGKILL)
        before = len(acknowledged)
        broker.start_again()
        until(lambda: len(acknowledged) > before + 20)
    records = whole(log, 0)
    assert [record.offset for record in records] == list(range(len(records)))
    values = [record.value for record in records[1:]]
    assert values == [b"%d" % number for number in range(len(acknowledged)) for _ in range(3)]
    assert acknowledged == list(range(1, len(records), 3))


def test_an_owner_survives_a_broker_that_stands_still(
    broker: OwnBroker, own_home: KafkaHome
) -> None:
    """What was written in the meantime may land late: it counts once or is void, and is known."""
    log = own_home.open()
    follower = Follower(log)
    follower.owner.take()
    follower.owner.write([cash("1")])
    with standing_still(broker, log):
        with pytest.raises(ServerUnavailable, match=r"no answer in 1 s .*events/\d"):
            follower.owner.write([cash("2")])
        assert follower.owner.term is None
        with pytest.raises(ServerUnavailable, match="no answer in time"):
            follower.owner.take()
        with pytest.raises(ServerUnavailable, match="while opening"):
            own_home.open(timeout_s=1)
    until(lambda: _taken(follower))
    known = {told.envelope.id for told in follower.learnt if isinstance(told, Recorded)}
    follower.owner.write([cash("2 again")] if "2" not in known else [cash("3")])
    ids, voids = read_all(log)
    assert ids in (["1", "2", "3"], ["1", "2 again"])
    assert all(isinstance(void, Void) for void in voids)
    assert follower.owner.ownership.partition.partition == PARTITION


def test_nothing_stays_open_when_a_broker_stands_still(
    broker: OwnBroker, own_home: KafkaHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not where more waits to be sent than the connection takes, or opening fails half-way."""
    monkeypatch.setattr(front, "_REQUEST_S", 1.0)
    log = own_home.open()
    ledger, connected = KafkaLedger(log), KafkaLedger(log, patience_s=1)
    asked = Request(
        command_id="c", key="A", event_time=from_ns(0), command=OpenAccount(base_currency="USD")
    )
    with pytest.raises(ServerUnavailable):
        connected.submit([asked])
    log.append("events", 0, [Draft("A", b"small")])
    with standing_still(broker, log):
        with pytest.raises(AppendUnknown):
            log.append("events", 0, [Draft("A", b"x" * 7_000_000)])
        for _ in range(2):
            with pytest.raises(ServerUnavailable):
                ledger.submit([asked])
        with beside(partial(_read_until_closed, log)):
            ledger.close()
            connected.close()
            log.close()
        assert still_open(own_home.hosts) == []


def _read_until_closed(log: KafkaLog) -> None:
    with contextlib.suppress(ServerUnavailable, LogError):
        while True:
            log.heads("events")


def still_open(hosts: str) -> list[object]:
    """Return what aiokafka holds open to a broker."""
    host, _, port = hosts.partition(":")
    gc.collect()
    return [
        one
        for one in gc.get_objects()
        if (
            isinstance(one, AIOKafkaConnection)
            and (one.host, one.port) == (host, int(port))
            and one.connected()
        )
        or (
            isinstance(one, AIOKafkaProducer) and one.client.hosts[0][1] == port and not one._closed
        )
    ]


def test_an_owner_that_cannot_read_back_what_it_wrote_gives_up_its_term(log: KafkaLog) -> None:
    """What landed is known after the next term is taken, as after an append without an answer."""
    unsteady = Unsteady(log)
    follower = Follower(unsteady)
    assert follower.owner.take() == 1
    unsteady.is_away = True
    with pytest.raises(ServerUnavailable, match="away"):
        follower.owner.write([cash("1")])
    assert follower.owner.term is None
    unsteady.is_away = False
    assert follower.owner.take() == 2
    assert [told.envelope.id for told in follower.learnt if isinstance(told, Recorded)][2] == "1"
    follower.owner.write([cash("2")])
    assert read_all(log) == (["1", "2"], [])


class Unsteady:
    """A log whose records cannot be read while it is away, though it takes new ones."""

    def __init__(self, log: KafkaLog) -> None:
        self.is_away = False
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def read(self, *asked: Any) -> list[Record]:
        if self.is_away:
            raise ServerUnavailable("the log", "it is away", "wait")
        return self._log.read(*asked)


def _stands_still(pid: int) -> bool:
    """Tell whether no thread of a process runs: the first of them passes the signal on."""
    states = {
        stat.read_text(errors="replace").rpartition(")")[2].split()[0]
        for stat in Path("/proc", str(pid), "task").glob("*/stat")
    }
    return states <= {"T"}


def _taken(follower: Follower) -> bool:
    try:
        return follower.owner.take() > 1
    except ServerUnavailable:
        return False
