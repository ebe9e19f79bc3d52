"""The `eventsourcing` library's own recorder test cases, against a Daybook log."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from eventsourcing.utils import Environment

from streams.eventsourcing_recorder import (
    Factory,
    LogAggregateRecorder,
    LogApplicationRecorder,
)
from streams.postgres_log import PostgresLog

cases = pytest.importorskip(
    "eventsourcing.tests.persistence",
    reason="the library's own test cases need pycryptodome: pip install eventsourcing[crypto]",
    exc_type=ImportError,
)

_NO_TRACKING = "a log holds events alone, so tracking cannot be written in their transaction"


class OnLog:
    """Gives each test case a log of one partition."""

    @pytest.fixture(autouse=True)
    def _one_partition(self, dsn: str, schema: str) -> Iterator[None]:
        self.log = PostgresLog.open(dsn, schema, partitions=1)
        yield
        self.log.close()


class TestAggregateRecorder(OnLog, cases.AggregateRecorderTestCase):  # type: ignore[misc]
    def create_recorder(self) -> LogAggregateRecorder:
        return LogAggregateRecorder(self.log)


class TestApplicationRecorder(OnLog, cases.ApplicationRecorderTestCase):  # type: ignore[misc]
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.log)

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderWithTextIds(TestApplicationRecorder):
    def new_originator_id(self) -> str:
        return f"order-{uuid.uuid4()}"


class TestNonInterleaving(
    OnLog,
    cases.NonInterleavingNotificationIDsBaseCase,  # type: ignore[misc]
):
    def create_recorder(self) -> LogApplicationRecorder:
        return LogApplicationRecorder(self.log)


class TestFactory(cases.InfrastructureFactoryTestCase):  # type: ignore[misc]
    @pytest.fixture(autouse=True)
    def _environment(self, dsn: str, schema: str) -> None:
        self.env = Environment("App1", _environment(dsn, schema))

    def setUp(self) -> None:
        self.env  # noqa: B018 - the fixture has run
        super().setUp()

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_aggregate_recorder_class(self) -> type[LogAggregateRecorder]:
        return LogAggregateRecorder

    def expected_application_recorder_class(self) -> type[LogApplicationRecorder]:
        return LogApplicationRecorder

    def expected_tracking_recorder_class(self) -> Any:
        pytest.skip(_NO_TRACKING)

    tracking_recorder_subclass = expected_tracking_recorder_class
    expected_process_recorder_class = expected_tracking_recorder_class

    @pytest.mark.skip(reason=_NO_TRACKING)
    def test_create_tracking_recorder(self) -> None:
        """Not honoured."""

    @pytest.mark.skip(reason=_NO_TRACKING)
    def test_create_process_recorder(self) -> None:
        """Not honoured."""


@pytest.mark.skip(reason=_NO_TRACKING)
class TestTrackingRecorder:
    def test_insert_tracking(self) -> None:
        """Not honoured."""

    def test_wait(self) -> None:
        """Not honoured."""


@pytest.mark.skip(reason=_NO_TRACKING)
class TestProcessRecorder:
    def test_insert_select(self) -> None:
        """Not honoured."""

    def test_has_tracking_id(self) -> None:
        """Not honoured."""

    def test_raises_when_lower_inserted_later(self) -> None:
        """Not honoured."""


def _environment(dsn: str, schema: str) -> dict[str, str]:
    return {
        "PERSISTENCE_MODULE": "streams.eventsourcing_recorder",
        "DAYBOOK_LOG_URL": dsn,
        "DAYBOOK_LOG_SCHEMA": schema,
    }
