"""Faust as a library: one agent a topic, which hands on raw records as they come.

Nothing here is relied on for what counts as projected. Offsets of the group are our checkpoints,
written for lag dashboards and never read: Faust acknowledges events whose handler raised, and
undoes a seek made in `on_partitions_assigned`. So nothing is acknowledged, and the place to start
from is asked for where Faust itself would seek.

A message is what one read brought of a topic, and what came of all is handed on together.
`noack_take` would look at each agent's buffer fifty times a second, and let records wait although
nobody is busy.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from msgspec import Struct

from schemas.envelope import Record
from streams.kafka_client import KafkaPlace, Security
from streams.kafka_reading import record_of
from streams.kafka_topics import topic_name
from streams.log import TOPICS, TopicPartition

TAKEN: Final = 4000
"""While so many records wait to be handed on, no more are taken."""
WITHIN_S: Final = 0.005
"""How long a record waits for others: what is handed on together costs little more than one."""
_BETWEEN_S: Final = 0.035
"""From one read to the next: a broker that is asked again at once answers for each record."""
SESSION_S: Final = 2.0
"""A worker that is silent for so long is taken for dead, unless the brokers allow only more."""
_BEATS: Final = 5

Places = Mapping[TopicPartition, int]

# Faust and its libraries tell each step of theirs as news. What matters is told in our own words.
_LIBRARIES: Final = ("faust", "mode", "aiokafka")
_LOGGER: Final = logging.getLogger("faust.daybook")


class Handlers(Struct, frozen=True):
    """What is to be done with what Faust tells, in its event loop.

    `take` is given records in order, of one topic and any of its partitions; `start_at` is given
    where partitions end and returns where to start in them.
    """

    take: Callable[[list[Record]], Awaitable[None]]
    start_at: Callable[[Places], Awaitable[Places]]
    assigned: Callable[[set[TopicPartition]], Awaitable[None]]
    revoked: Callable[[set[TopicPartition]], Awaitable[None]]


class _Consumer(driver.Consumer):
    """A consumer that starts where we say, and not where its group has committed."""

    app: "Consuming"
    logger = _LOGGER
    _read_at = 0.0

    async def perform_seek(self) -> None:
        """Seek every partition to its place. Faust asks for it last, before records flow."""
        ends = await self.highwaters(*self.assignment())
        places = {self.app.place(tp): offset for tp, offset in ends.items()}
        for place, offset in (await self.app.handlers.start_at(places)).items():
            tp = self.app.tp(place)
            await self.seek(tp, offset)
            self._committed_offset[tp] = offset

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109
        """Let what one read brought of a topic be one message: Faust works as long on each."""
        rest_s = self._read_at + _BETWEEN_S - time.monotonic()
        if rest_s > 0:
            await asyncio.sleep(rest_s)
        read, active = await super()._wait_next_records(timeout)
        self._read_at = time.monotonic()
        of_topic: dict[str, tuple[TP, list[Any]]] = {}
        for tp, records in (read or {}).items():
            if records:
                of_topic.setdefault(tp.topic, (tp, []))[1].append(records)
        # It stands where its first partition's records end.
        return {tp: [runs] for tp, runs in of_topic.values()}, active

    def _to_message(self, tp: TP, record: Any) -> Any:
        message: Any = super()._to_message(tp, record[0][-1])
        message.value = [one for records in record for one in records]
        return message


class _Transport(driver.Transport):
    Consumer = _Consumer


class Consuming(faust.App):
    """Reads the topics of a namespace as one of its workers. Started and stopped by hand."""

    logger = _LOGGER

    def __init__(self, place: KafkaPlace, handlers: Handlers, session_s: float = SESSION_S) -> None:
        self.handlers = handlers
        self._arrived: list[Record] = []
        self._arrived_at = 0.0
        self._has_arrived = asyncio.Event()
        self._has_room = asyncio.Event()
        self._topics = {topic_name(place.namespace, topic): topic for topic in TOPICS}
        self._names = {topic: name for name, topic in self._topics.items()}
        super().__init__(
            group_id(place.namespace),
            broker=[f"kafka://{host}" for host in place.hosts.split(",")],
            broker_credentials=_credentials(place.security, place.client_options()["ssl_context"]),
            broker_client_id=f"daybook-{place.namespace}-worker",
            broker_session_timeout=session_s,
            broker_heartbeat_interval=session_s / _BEATS,
            consumer_auto_offset_reset="earliest",
            store="memory://",
            web_enabled=False,
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
        )
        for name in self._topics:
            self._add_agent(name)
        self.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self.on_partitions_revoked.connect(self._on_revoked, weak=False)

    def place(self, tp: Any) -> TopicPartition:
        """Return a partition of Kafka as the ledger names it."""
        return self._topics[tp.topic], tp.partition

    def tp(self, place: TopicPartition) -> TP:
        """Return a partition as Kafka names it."""
        topic, partition = place
        return TP(self._names[topic], partition)

    async def commit_places(self, places: Places) -> None:
        """Tell the group where we stand, for whoever looks at its lag."""
        consumer: Any = self.consumer
        told = {self.tp(place): offset for place, offset in places.items()}
        assigned = consumer.assignment()
        here = {tp: offset for tp, offset in told.items() if tp in assigned}
        await consumer._commit(here)  # noqa: SLF001 - `commit` has what was acknowledged: nothing

    def _add_agent(self, name: str) -> None:
        topic = self.topic(
            name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )

        async def project(stream: Any) -> None:
            stream.enable_acks = False
            async for event in stream.events():
                await self._arrive(map(self._record, event.message.value))

        self.agent(topic, name=name, concurrency=1)(project)

    async def _arrive(self, records: Iterable[Record]) -> None:
        if not self._arrived:
            self._arrived_at = time.monotonic()
        self._arrived.extend(records)
        self._has_arrived.set()
        while len(self._arrived) >= TAKEN:
            self._has_room.clear()
            await self._has_room.wait()

    async def hand_on(self) -> None:
        """Hand on what has arrived, for as long as it is run."""
        while True:
            await self._has_arrived.wait()
            # What came while others were projected has waited already.
            await asyncio.sleep(self._arrived_at + WITHIN_S - time.monotonic())
            records, self._arrived = self._arrived, []
            self._has_arrived.clear()
            self._has_room.set()
            await self.handlers.take(records)

    def _record(self, told: Any) -> Record:
        return record_of(self._topics[told.topic], told.partition, told)

    async def _on_assigned(self, _app: Any, /, *told: Iterable[TP], **_: Any) -> None:
        (assigned,) = told
        await self.handlers.assigned({self.place(tp) for tp in assigned})

    async def _on_revoked(self, _app: Any, /, *told: Iterable[TP], **_: Any) -> None:
        (revoked,) = told
        await self.handlers.revoked({self.place(tp) for tp in revoked})

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    def _create_directories(self) -> None:
        """Make none: nothing is kept in files."""


def group_id(namespace: str) -> str:
    """Return the consumer group of a namespace's workers."""
    return f"{namespace}.worker"


def quieten_libraries() -> None:
    """Let Faust and what it stands on speak of nothing but what they cannot go on with."""
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.CRITICAL)


async def run_consuming(app: Consuming) -> None:
    """Run until Faust gives up; raises what it gave up for. Cancelled, it leaves the group."""
    handing_on = asyncio.create_task(app.hand_on())
    try:
        await app.start()
        await app.wait_until_stopped()
    finally:
        handing_on.cancel()
        await asyncio.shield(app.stop())
    if app.crash_reason is not None:
        raise app.crash_reason


def _credentials(told: Security, ssl_context: Any) -> Any:
    match told.security_protocol:
        case "PLAINTEXT":
            return None
        case "SSL":
            return faust.SSLCredentials(context=ssl_context)
        case _:
            return faust.SASLCredentials(
                username=told.sasl_username,
                password=told.sasl_password,
                mechanism=told.sasl_mechanism,
                ssl_context=ssl_context,
            )
