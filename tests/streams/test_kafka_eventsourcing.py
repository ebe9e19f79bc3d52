"""The `eventsourcing` library's own recorder test cases, as far as a log in Kafka honours them."""

import os
import time
from collections.abc import Iterator

import pytest

from streams.eventsourcing_recorder import LogAggregateRecorder, LogApplicationRecorder
from streams.kafka_log import KafkaLog
from tests.streams.kafka_homes import KafkaHome, forget

cases = pytest.importorskip(
    "eventsourcing.tests.persistence",
    reason="the library's own test cases need pycryptodome: pip install eventsourcing[crypto]",
    exc_type=ImportError,
)

_NO_CONDITION = (
    "asks for IntegrityError when a version is there already: Kafka has no conditional append"
)


class OnKafka:
    """Gives each test case a log of one partition."""

    log: KafkaLog

    @pytest.fixture(autouse=True)
    def _one_partition(self, kafka_bootstrap: str) -> Iterator[None]:
        home = KafkaHome(kafka_bootstrap, f"test-{os.getpid()}-{time.time_ns()}", 1)
        self.log = home.open()
        yield
        self.log.close()
        forget(home)


class TestAggregateRecorder(OnKafka, cases.AggregateRecorderTestCase):  # type: ignore[misc]
    def create_recorder(self) -> LogAggregateRecorder:
        return LogAggregateRecorder(self.log)

    @pytest.mark.skip(reason=_NO_CONDITION)
    def test_insert_and_select(self) -> None:
        """Not honoured."""


class TestApplicationRecorder(OnKafka, cases.ApplicationRecorderTestCase):  # type: ignore[misc]
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.log)

    @pytest.mark.skip(reason=_NO_CONDITION)
    def test_insert_select(self) -> None:
        """Not honoured."""

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestNonInterleaving(
    OnKafka,
    cases.NonInterleavingNotificationIDsBaseCase,  # type: ignore[misc]
):
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.log)
