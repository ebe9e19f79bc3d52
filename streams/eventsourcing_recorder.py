"""The `eventsourcing` library's recorders over a Daybook log of one partition.

An application of that library is pointed here by PERSISTENCE_MODULE=streams.eventsourcing_recorder.
A notification's id is its record's offset: LogCreated has offset 0, so ids start at 1 and have no
gaps. That an aggregate's version is recorded once is the log's rule that a command ref is.

A log appends events and nothing beside them, so what the library wants to write in the same
transaction as events - tracking records - cannot be had here: no tracking and process recorders.
"""

import base64
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any, Final, Never
from uuid import UUID

import msgspec
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    InfrastructureFactoryError,
    IntegrityError,
    Notification,
    ProcessRecorder,
    StoredEvent,
    Subscription,
    TrackingRecorder,
)
from eventsourcing.utils import Environment, EnvType
from msgspec import Struct

from schemas.envelope import Record
from streams.log import CommandTaken, Draft, Log, command_ref
from streams.postgres_log import PostgresLog

_CHUNK: Final = 1000
_SHORTEST_WAIT_S: Final = 0.005
_LONGEST_WAIT_S: Final = 0.2
_NO_TRACKING: Final = (
    "a log holds events alone: a tracking record cannot be written in their transaction"
)


class _Kept(Struct, frozen=True, omit_defaults=True):
    """A stored event as the log keeps it; state that is text stays legible."""

    originator_id: str
    originator_version: int
    topic: str
    text: str | None = None
    base64: str | None = None
    is_uuid: bool = True


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(_Kept)


class LogAggregateRecorder(AggregateRecorder):
    """Records aggregates in a log of one partition."""

    def __init__(self, log: Log) -> None:
        if log.partitions != 1:
            raise InfrastructureFactoryError(
                f"a log of 1 partition is needed, not of {log.partitions}"
            )
        self.log = log

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ARG002 - the library's signature
    ) -> Sequence[int] | None:
        """Record events, all or none. Raises IntegrityError for a version that is there."""
        self._insert(stored_events)
        return None

    def _insert(self, stored_events: Sequence[StoredEvent]) -> list[int]:
        if not stored_events:
            return []
        try:
            first = self.log.append("events", 0, [_draft(event) for event in stored_events])
        except CommandTaken as error:
            raise IntegrityError(str(error)) from error
        return list(range(first, first + len(stored_events)))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """Return an aggregate's events with versions above `gt` and up to `lte`, by version."""
        head = self.log.heads("events")[0]
        events = [
            event
            for record in self.log.read_stream("events", str(originator_id), head)
            if (event := _stored_event(record)).originator_id == originator_id
            and (gt is None or event.originator_version > gt)
            and (lte is None or event.originator_version <= lte)
        ]
        events.sort(key=lambda event: event.originator_version, reverse=desc)
        return events[:limit]


class LogApplicationRecorder(LogAggregateRecorder, ApplicationRecorder):
    """Records an application's events in a log of one partition; its notifications are the log."""

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        **kwargs: Any,  # noqa: ARG002 - the library's signature
    ) -> Sequence[int] | None:
        """Record events, all or none; return their notification ids, in order."""
        return self._insert(stored_events)

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return up to `limit` notifications from `start` to `stop`, of some topics or of all."""
        first = 1 if start is None else max(start + (not inclusive_of_start), 1)
        found: list[Notification] = []
        for record in self._records(first, min(limit, _CHUNK) if not topics else _CHUNK):
            if len(found) == limit or (stop is not None and record.offset > stop):
                break
            event = _stored_event(record)
            if not topics or event.topic in topics:
                found.append(_notification(event, record.offset))
        return found

    def _records(self, offset: int, chunk: int) -> Iterator[Record]:
        while records := self.log.read("events", 0, offset, chunk):
            yield from records
            offset = records[-1].offset + 1

    def max_notification_id(self) -> int | None:
        """Return the last notification's id, None before the first."""
        return (self.log.heads("events")[0] - 1) or None

    def subscribe(
        self, gt: int | None = None, topics: Sequence[str] = ()
    ) -> "Subscription[ApplicationRecorder]":
        """Return notifications above `gt` as an iterator that waits for more at the end."""
        return LogSubscription(self, gt, topics)


class LogSubscription(Subscription[ApplicationRecorder]):
    """Follows the log by asking it: soon after something came, less often while nothing does."""

    def __init__(
        self, recorder: ApplicationRecorder, gt: int | None = None, topics: Sequence[str] = ()
    ) -> None:
        super().__init__(recorder, gt, topics)
        self._stopped = Event()
        self._fetched: Iterator[Notification] = iter(())

    def stop(self) -> None:
        """End the iteration, also of another thread that waits in it."""
        super().stop()
        self._stopped.set()

    def __next__(self) -> Notification:
        """Return the next notification, waiting for it; raises StopIteration once stopped."""
        wait_s = _SHORTEST_WAIT_S
        while not self._stopped.is_set():
            for notification in self._fetched:
                self._last_notification_id = notification.id
                return notification
            fetched = self._recorder.select_notifications(
                self._last_notification_id, _CHUNK, topics=self._topics, inclusive_of_start=False
            )
            self._fetched = iter(fetched)
            if not fetched:
                self._stopped.wait(wait_s)
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        raise StopIteration


class Factory(InfrastructureFactory[TrackingRecorder]):
    """Opens the log that DAYBOOK_LOG_URL (`postgresql://...`) and DAYBOOK_LOG_SCHEMA name.

    Snapshots have a log of their own, in a second schema.
    """

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self._logs: list[PostgresLog] = []

    def aggregate_recorder(self, purpose: str = "events") -> LogAggregateRecorder:
        """Return a recorder of aggregates, or of their snapshots."""
        return LogAggregateRecorder(self._log("" if purpose == "events" else f"_{purpose}"))

    def application_recorder(self) -> LogApplicationRecorder:
        """Return a recorder of an application."""
        return LogApplicationRecorder(self._log(""))

    def tracking_recorder(
        self,
        tracking_recorder_class: type[TrackingRecorder] | None = None,  # noqa: ARG002 - likewise
    ) -> Never:
        """Refuse: raises InfrastructureFactoryError."""
        raise InfrastructureFactoryError(_NO_TRACKING)

    def process_recorder(self) -> ProcessRecorder:
        """Refuse: raises InfrastructureFactoryError."""
        raise InfrastructureFactoryError(_NO_TRACKING)

    def _log(self, suffix: str) -> PostgresLog:
        url = self.env.get("DAYBOOK_LOG_URL")
        if not url:
            raise InfrastructureFactoryError("DAYBOOK_LOG_URL is not set: postgresql://...")
        schema = self.env.get("DAYBOOK_LOG_SCHEMA", "") or "eventsourcing"
        log = PostgresLog.open(url, schema + suffix, partitions=1)
        self._logs.append(log)
        return log

    def close(self) -> None:
        """Close the logs that were opened."""
        for log in self._logs:
            log.close()


def _draft(event: StoredEvent) -> Draft:
    key = str(event.originator_id)
    is_uuid = isinstance(event.originator_id, UUID)
    try:
        text, encoded = event.state.decode(), None
    except UnicodeDecodeError:
        text, encoded = None, base64.b64encode(event.state).decode()
    kept = _Kept(key, event.originator_version, event.topic, text, encoded, is_uuid)
    version = f"{event.originator_version}{'' if is_uuid else ' of text'}"
    return Draft(key, _ENCODER.encode(kept), 0, command_ref("events", key, version))


def _stored_event(record: Record) -> StoredEvent:
    kept = _DECODER.decode(record.value)
    state = base64.b64decode(kept.base64 or "") if kept.text is None else kept.text.encode()
    originator_id = UUID(kept.originator_id) if kept.is_uuid else kept.originator_id
    return StoredEvent(originator_id, kept.originator_version, kept.topic, state)


def _notification(event: StoredEvent, notification_id: int) -> Notification:
    return Notification(
        event.originator_id, event.originator_version, event.topic, event.state, notification_id
    )
