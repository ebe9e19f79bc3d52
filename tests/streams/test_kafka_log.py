"""The Kafka log on a real broker: the contract of every log, and what only Kafka can get wrong."""

import itertools
import os

import pytest
from msgspec import Struct

from streams.kafka_log import KafkaLog
from tests.streams.log_contract import LogContract

_NUMBERS = itertools.count(1)


class KafkaHome(Struct, frozen=True):
    """A namespace of a cluster."""

    hosts: str
    namespace: str

    def open(self) -> KafkaLog:
        return KafkaLog.open(self.hosts, self.namespace)


@pytest.fixture
def kafka_bootstrap() -> str:
    return "127.0.0.1:19091"


@pytest.fixture
def namespace() -> str:
    return f"test-{os.getpid()}-{next(_NUMBERS)}"


class TestKafkaLog(LogContract):
    @pytest.fixture
    def log_home(self, kafka_bootstrap: str, namespace: str) -> KafkaHome:
        return KafkaHome(kafka_bootstrap, namespace)
