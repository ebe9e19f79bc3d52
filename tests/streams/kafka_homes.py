"""Logs in Kafka for tests: namespaces of their own, and records that no Daybook wrote."""

import asyncio
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import Struct

from streams.kafka_log import KafkaLog

_NUMBERS = itertools.count(1)
_OPENED: list[KafkaLog] = []

T = TypeVar("T")


class KafkaHome(Struct, frozen=True):
    """A namespace of a cluster, and how many partitions its log has."""

    hosts: str
    namespace: str
    partitions: int = 2

    def open(self, **options: Any) -> KafkaLog:
        """Open its log, which is closed at the latest when the home is left."""
        opened = KafkaLog.open(
            self.hosts, self.namespace, **{"partitions": self.partitions} | options
        )
        _OPENED.append(opened)
        return opened

    def topic(self, name: str = "events") -> str:
        return f"{self.namespace}.{name}"

    def produce(self, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Append a record to events as any program could; return its offset."""

        async def send() -> int:
            producer = AIOKafkaProducer(bootstrap_servers=self.hosts)
            await producer.start()
            try:
                told = await producer.send_and_wait(
                    self.topic(), value, key, partition=partition, headers=[("by", b"hand")]
                )
            finally:
                await producer.stop()
            return told.offset

        return asyncio.run(send())

    def administer(self, work: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """Do something to the cluster."""

        async def administer() -> T:
            admin = AIOKafkaAdminClient(bootstrap_servers=self.hosts)
            await admin.start()
            try:
                return await work(admin)
            finally:
                await admin.close()

        return asyncio.run(administer())


def new_home(hosts: str, partitions: int = 2) -> KafkaHome:
    """Return a home that nobody has used."""
    return KafkaHome(hosts, f"test-{os.getpid()}-{next(_NUMBERS)}", partitions)


@pytest.fixture
def home(kafka_bootstrap: str) -> Iterator[KafkaHome]:
    """A namespace that is there for one test."""
    fresh = new_home(kafka_bootstrap)
    yield fresh
    forget(fresh)


def close_logs(home: KafkaHome) -> None:
    """Close what a test opened: one that fails must not make another fail, by what it left open."""
    for log in [one for one in _OPENED if one.place.namespace == home.namespace]:
        _OPENED.remove(log)
        log.close()


def forget(home: KafkaHome) -> None:
    """Close what a test opened, and delete what it made."""
    close_logs(home)

    async def delete(admin: AIOKafkaAdminClient) -> None:
        ours = [name for name in await admin.list_topics() if name.startswith(f"{home.namespace}.")]
        if ours:
            await admin.delete_topics(ours)

    home.administer(delete)
