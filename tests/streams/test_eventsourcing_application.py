"""An application of the `eventsourcing` library on a Daybook log, and what it is refused."""

from uuid import UUID

import pytest
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import (
    InfrastructureFactory,
    InfrastructureFactoryError,
    StoredEvent,
)

from streams.eventsourcing_recorder import Factory, LogApplicationRecorder
from streams.postgres_log import PostgresLog


def test_tracking_is_refused_with_its_reason(dsn: str, schema: str) -> None:
    with Factory(_environment(dsn, schema)) as factory:
        with pytest.raises(InfrastructureFactoryError, match="tracking"):
            factory.tracking_recorder()
        with pytest.raises(InfrastructureFactoryError, match="tracking"):
            factory.process_recorder()


def test_a_log_of_many_partitions_is_refused(log: PostgresLog) -> None:
    with pytest.raises(InfrastructureFactoryError, match="not of 16"):
        LogApplicationRecorder(log)


def test_without_a_url_it_says_what_is_missing() -> None:
    with pytest.raises(InfrastructureFactoryError, match="DAYBOOK_LOG_URL"):
        Factory({}).application_recorder()


def test_state_that_is_not_text_comes_back_to_the_byte(dsn: str, schema: str) -> None:
    log = PostgresLog.open(dsn, schema, partitions=1)
    recorder = LogApplicationRecorder(log)
    stored = [StoredEvent(UUID(int=1), n, "t", state) for n, state in enumerate((b"\xff", b""))]
    recorder.insert_events(stored)
    assert recorder.select_events(UUID(int=1)) == stored
    log.close()


class Dog(Aggregate):
    """A small aggregate of the library's kind."""

    @event("Named")
    def __init__(self, name: str) -> None:
        self.name = name
        self.tricks: list[str] = []

    @event("TrickAdded")
    def add_trick(self, trick: str) -> None:
        self.tricks.append(trick)


class Kennel(Application[UUID]):
    """A small application of the library's kind."""

    is_snapshotting_enabled = True

    def register(self, name: str) -> UUID:
        dog = Dog(name)
        self.save(dog)
        return dog.id

    def teach(self, dog_id: UUID, trick: str) -> None:
        dog: Dog = self.repository.get(dog_id)
        dog.add_trick(trick)
        self.save(dog)


def test_an_application_of_the_library_lives_on_a_daybook_log(dsn: str, schema: str) -> None:
    kennel = Kennel(env=_environment(dsn, schema))
    dog_id = kennel.register("Fido")
    kennel.teach(dog_id, "roll over")
    kennel.take_snapshot(dog_id)
    kennel.teach(dog_id, "fetch")
    kennel.close()

    again = Kennel(env=_environment(dsn, schema))
    dog: Dog = again.repository.get(dog_id)
    assert (dog.name, dog.tricks, dog.version) == ("Fido", ["roll over", "fetch"], 3)
    notifications = again.notification_log.select(start=1, limit=10)
    assert [notification.id for notification in notifications] == [1, 2, 3]
    again.close()
    assert isinstance(InfrastructureFactory.construct(_environment(dsn, schema)), Factory)


def _environment(dsn: str, schema: str) -> dict[str, str]:
    return {
        "PERSISTENCE_MODULE": "streams.eventsourcing_recorder",
        "DAYBOOK_LOG_URL": dsn,
        "DAYBOOK_LOG_SCHEMA": schema,
    }
